//! Whose templates they are: templates of two makers are never compared by one calibration.

use std::fmt;

use super::record::RecordFormat;
use crate::crypto::sha256;
use crate::domain::embedding::ModelId;

/// The name that a bank gives to the maker (and version) of another system's extractor, such as
/// `vendor-sdk-7`: 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`.
///
/// An ISO record does not say who made it, so the person who imports must.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Maker(String);

impl Maker {
    /// The maker of this name.
    ///
    /// # Errors
    ///
    /// [`InvalidMaker`] for an empty or long name, and for other characters: one maker must not
    /// become two by the way a name is typed.
    pub fn new(name: &str) -> Result<Self, InvalidMaker> {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidMaker)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that is none for a maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a maker's name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, such as vendor-sdk-7")]
pub struct InvalidMaker;

/// The model of templates that `maker` wrote in `format`: the SHA-256 of
///
/// ```text
/// "tulga-foreign-finger-v1", then each with its length as one byte before it:
///   the format's name, "iso-19794-2-2005" or "ansi-378-2004"
///   the CBEFF product identifier, owner then type, big-endian; empty where the format has none
///   the maker's name
/// ```
///
/// No file of ours has such a digest, so that foreign templates are compared only with those of
/// the same maker, and only by a calibration made for them.
#[must_use]
pub fn foreign_model(format: RecordFormat, maker: &Maker) -> ModelId {
    let product: Vec<u8> = match format {
        RecordFormat::Iso2005 => Vec::new(),
        RecordFormat::Ansi2004 { product } => {
            [product.owner.to_be_bytes(), product.kind.to_be_bytes()].concat()
        }
    };
    let mut hashed = CONTEXT.to_vec();
    for field in [format.as_str().as_bytes(), &product, maker.0.as_bytes()] {
        // Names of formats and makers are short by construction.
        hashed.push(u8::try_from(field.len()).unwrap_or(u8::MAX));
        hashed.extend_from_slice(field);
    }
    ModelId::new(*sha256(&hashed).as_bytes())
}

const CONTEXT: &[u8] = b"tulga-foreign-finger-v1";
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interchange::ProductId;

    fn maker(name: &str) -> Maker {
        Maker::new(name).unwrap()
    }

    #[test]
    fn a_name_that_can_be_typed_in_two_ways_is_no_makers() {
        for name in ["", "Vendor", "vendor sdk", "vendör", "a\n", &"a".repeat(65)] {
            assert_eq!(Maker::new(name), Err(InvalidMaker), "{name}");
        }
        assert_eq!(maker("vendor-sdk_7.2").to_string(), "vendor-sdk_7.2");
    }

    #[test]
    fn each_maker_product_and_format_is_a_model_of_its_own() {
        let ansi = |owner, kind| RecordFormat::Ansi2004 { product: ProductId { owner, kind } };
        let models = [
            foreign_model(RecordFormat::Iso2005, &maker("a")),
            foreign_model(RecordFormat::Iso2005, &maker("b")),
            foreign_model(ansi(0, 0), &maker("a")),
            foreign_model(ansi(1, 0), &maker("a")),
            foreign_model(ansi(0, 1), &maker("a")),
        ];
        let distinct: std::collections::BTreeSet<_> = models.iter().collect();
        assert_eq!(distinct.len(), models.len());
    }

    /// Stored templates carry it: it must never change.
    #[test]
    fn a_foreign_model_is_the_hash_that_is_documented() {
        let hashed = b"tulga-foreign-finger-v1\x10iso-19794-2-2005\x00\x0cvendor-sdk-7";
        let model = foreign_model(RecordFormat::Iso2005, &maker("vendor-sdk-7"));
        assert_eq!(model.as_bytes(), sha256(hashed).as_bytes());
    }
}
