//! SHA-256 and HMAC-SHA-256.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::ZeroizeOnDrop;

/// 32 bytes of SHA-256, or of HMAC over it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            for digit in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
            hex
        })
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`InvalidDigest`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| InvalidDigest)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }

    /// As receipts write it: `sha-256:` and unpadded base64url.
    #[must_use]
    pub fn labelled(&self) -> String {
        format!("{LABEL}{}", URL_SAFE_NO_PAD.encode(self.0))
    }

    /// Reads what [`Self::labelled`] writes.
    ///
    /// # Errors
    ///
    /// [`InvalidDigest`] for anything else.
    pub fn from_labelled(text: &str) -> Result<Self, InvalidDigest> {
        let encoded = text.strip_prefix(LABEL).ok_or(InvalidDigest)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidDigest)?;
        Self::try_from(bytes.as_slice())
    }
}

/// What stands before a digest in receipts.
const LABEL: &str = "sha-256:";

impl TryFrom<&[u8]> for Digest {
    type Error = InvalidDigest;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.hex())
    }
}

/// Something that is not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest has 32 bytes, 64 hexadecimal digits")]
pub struct InvalidDigest;

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::default();
    hash.update(bytes);
    hash.finish()
}

/// SHA-384 of `bytes`.
#[must_use]
pub fn sha384(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA384, bytes).as_ref().to_vec()
}

/// SHA-256 of what comes in pieces.
#[derive(Clone)]
pub struct Sha256(ring::digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Sha256 {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut bytes = [0u8; 32];
        for (to, from) in bytes.iter_mut().zip(self.0.finish().as_ref()) {
            *to = *from;
        }
        Digest(bytes)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256")
    }
}

/// A key for HMAC-SHA-256: pseudonyms and keyed indices.
#[derive(Clone, ZeroizeOnDrop)]
pub struct MacKey([u8; 32]);

impl MacKey {
    /// The key made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, for sealing only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA-256 of the length-prefixed fields.
    #[must_use]
    pub fn mac(&self, fields: &[&[u8]]) -> Digest {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.0);
        let tag = ring::hmac::sign(&key, &super::length_prefixed(fields));
        let mut bytes = [0u8; 32];
        for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Digest(bytes)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_fips_180_4() {
        let abc = sha256(b"abc").hex();
        assert_eq!(abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::from_hex(&abc), Ok(sha256(b"abc")));
        assert_eq!(Digest::from_hex("ba78"), Err(InvalidDigest));
    }

    #[test]
    fn a_digest_survives_its_label() {
        let digest = sha256(b"abc");
        assert_eq!(Digest::from_labelled(&digest.labelled()), Ok(digest));
        for bad in ["", "sha-256:", "sha-256:AAAA", &digest.hex(), &digest.labelled()[8..]] {
            assert_eq!(Digest::from_labelled(bad), Err(InvalidDigest), "{bad}");
        }
    }

    #[test]
    fn a_mac_depends_on_key_and_fields() {
        let mac = MacKey::new([1; 32]).mac(&[b"a", b"b"]);
        assert_ne!(mac, MacKey::new([2; 32]).mac(&[b"a", b"b"]));
        assert_ne!(mac, MacKey::new([1; 32]).mac(&[b"ab"]));
        assert_eq!(mac, MacKey::new([1; 32]).mac(&[b"a", b"b"]));
    }
}
