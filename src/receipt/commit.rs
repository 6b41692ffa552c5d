//! Salted commitments: what a receipt binds to without telling it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::ZeroizeOnDrop;

use crate::crypto::{Entropy, EntropyError, Sha256, length_prefixed, random_bytes, sha256};
use crate::domain::footage::Footage;
use crate::domain::id::Attempt;

/// 32 random bytes that keep a commitment from being guessed open.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Salt([u8; 32]);

impl Salt {
    /// The salt made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh salt.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source of chance fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random_bytes(entropy).map(Self)
    }

    /// Its bytes, for whoever may open the commitment.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its bytes as unpadded base64url.
    #[must_use]
    pub fn to_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads what [`Salt::to_base64url`] writes.
    ///
    /// # Errors
    ///
    /// [`InvalidSalt`] for anything but 32 bytes.
    pub fn from_base64url(text: &str) -> Result<Self, InvalidSalt> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidSalt)?;
        Self::try_from(bytes.as_slice())
    }
}

impl TryFrom<&[u8]> for Salt {
    type Error = InvalidSalt;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| InvalidSalt)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

/// Something that is not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a salt has 32 bytes")]
pub struct InvalidSalt;

/// What names a transaction to its host.
#[derive(Clone, Copy)]
pub struct TransactionFields<'a> {
    /// The host's number of it.
    pub host_transaction_id: &'a str,
    /// `YYYY-MM-DD`.
    pub business_date: &'a str,
    /// Which try, from 1.
    pub attempt: Attempt,
    /// The account's token.
    pub account: &'a str,
    /// The other side's token; none is the empty text.
    pub counterparty: Option<&'a str>,
}

impl fmt::Debug for TransactionFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionFields({} of {})", self.host_transaction_id, self.business_date)
    }
}

/// `txn.commit`: SHA-256 over salt, host transaction id, business date, attempt (decimal), account
/// and counterparty, each behind its length as eight big-endian bytes; as unpadded base64url.
#[must_use]
pub fn transaction_commit(salt: &Salt, fields: &TransactionFields<'_>) -> String {
    let attempt = fields.attempt.get().to_string();
    let bytes = length_prefixed(&[
        &salt.0,
        fields.host_transaction_id.as_bytes(),
        fields.business_date.as_bytes(),
        attempt.as_bytes(),
        fields.account.as_bytes(),
        fields.counterparty.unwrap_or_default().as_bytes(),
    ]);
    URL_SAFE_NO_PAD.encode(sha256(&bytes).as_bytes())
}

/// `audit`: SHA-256 over the salt's 32 bytes and the audit record's exact bytes; as unpadded
/// base64url.
#[must_use]
pub fn audit_commit(salt: &Salt, audit_json: &[u8]) -> String {
    let mut hash = Sha256::default();
    hash.update(&salt.0);
    hash.update(audit_json);
    URL_SAFE_NO_PAD.encode(hash.finish().as_bytes())
}

/// `footage`: SHA-256 over salt, camera, beginning and end (RFC 3339 in UTC with three fractional
/// digits) and the 32 bytes of the clip's SHA-256, each behind its length as eight big-endian bytes; as
/// unpadded base64url.
#[must_use]
pub fn footage_commit(salt: &Salt, footage: &Footage) -> String {
    let bytes = length_prefixed(&[
        &salt.0,
        footage.camera().as_str().as_bytes(),
        footage.from().rfc3339().as_bytes(),
        footage.to().rfc3339().as_bytes(),
        footage.clip().as_bytes(),
    ]);
    URL_SAFE_NO_PAD.encode(sha256(&bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{CameraId, ClipHash};
    use crate::domain::time::UnixMillis;

    #[test]
    fn a_clips_commitment_opens_with_exactly_its_camera_span_and_hash() {
        let footage = |camera: &str, from, to, clip| {
            let camera = CameraId::try_from(camera).unwrap();
            let (from, to) = (UnixMillis::new(from), UnixMillis::new(to));
            Footage::new(camera, from, to, ClipHash::new([clip; 32])).unwrap()
        };
        let salt = Salt::new([7; 32]);
        let commit = footage_commit(&salt, &footage("CAM-1", 1_000, 2_000, 3));
        // Frozen: other programs compute it.
        assert_eq!(commit, "-Z07yzGIi7NwRuOuU0xnNcT9cdLdgNkHTiemj-Foq64");
        for other in [
            footage("CAM-2", 1_000, 2_000, 3),
            footage("CAM-1", 1_001, 2_000, 3),
            footage("CAM-1", 1_000, 2_001, 3),
            footage("CAM-1", 1_000, 2_000, 4),
        ] {
            assert_ne!(footage_commit(&salt, &other), commit);
        }
        assert_ne!(footage_commit(&Salt::new([8; 32]), &footage("CAM-1", 1_000, 2_000, 3)), commit);
    }

    #[test]
    fn a_commitment_opens_with_exactly_its_fields() {
        let salt = Salt::new([7; 32]);
        let fields = TransactionFields {
            host_transaction_id: "417",
            business_date: "2026-11-21",
            attempt: Attempt::try_from(1).unwrap(),
            account: "acct-1",
            counterparty: None,
        };
        let commit = transaction_commit(&salt, &fields);
        assert_eq!(commit.len(), 43);
        let others = [
            TransactionFields { host_transaction_id: "418", ..fields },
            TransactionFields { business_date: "2026-11-22", ..fields },
            TransactionFields { attempt: Attempt::try_from(2).unwrap(), ..fields },
            TransactionFields { account: "acct-2", ..fields },
            TransactionFields { counterparty: Some("x"), ..fields },
        ];
        for other in others {
            assert_ne!(transaction_commit(&salt, &other), commit);
        }
        assert_ne!(transaction_commit(&Salt::new([8; 32]), &fields), commit);
        assert_ne!(audit_commit(&salt, b"{}"), audit_commit(&Salt::new([8; 32]), b"{}"));
    }

    #[test]
    fn a_salt_survives_its_text() {
        let salt = Salt::new([0xa5; 32]);
        assert_eq!(Salt::from_base64url(&salt.to_base64url()), Ok(salt));
        assert_eq!(Salt::from_base64url("AAAA"), Err(InvalidSalt));
    }
}
