//! Reads and verifies a receipt. Bounded, and closed at each step: nothing is guessed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::body::InvalidBody;
use super::{
    JWS_BYTES_MAX, KeyAlgorithm, KeyRegister, KeyUse, ReceiptBody, header, is_key_id, strict_json,
};
use crate::crypto::Digest;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::{LeafHash, leaf_hash};

/// Verifies a receipt by a register whose own signature was verified.
///
/// # Errors
///
/// [`ReceiptError`] names the first thing that is wrong.
pub fn verify(jws: &str, keys: &KeyRegister) -> Result<VerifiedReceipt, ReceiptError> {
    parse(jws)?.verify(keys)
}

/// Reads a receipt; its signature is not checked yet.
///
/// # Errors
///
/// [`ReceiptError`] for anything that no gateway writes.
pub fn parse(jws: &str) -> Result<UnverifiedReceipt<'_>, ReceiptError> {
    if jws.len() > JWS_BYTES_MAX {
        return Err(ReceiptError::TooLong);
    }
    let mut parts = jws.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ReceiptError::Malformed);
    };
    let signed_bytes = header.len() + 1 + payload.len();
    let (alg, kid) = named_key(&decode(header)?)?;
    let value = strict_json::parse(&decode(payload)?).map_err(ReceiptError::Json)?;
    let body = ReceiptBody::from_json(&value).map_err(|fault| match fault {
        InvalidBody::Version => ReceiptError::Version,
        InvalidBody::Kind => ReceiptError::Kind,
        InvalidBody::Shape(source) => ReceiptError::Json(source),
    })?;
    let (id, time, prior_root) = checked_fields(&body)?;
    let signature = decode(signature)?;
    Ok(UnverifiedReceipt { jws, signed_bytes, alg, kid, signature, body, id, time, prior_root })
}

/// A receipt that is well formed; nobody has vouched for it.
#[derive(Clone, Debug)]
pub struct UnverifiedReceipt<'a> {
    jws: &'a str,
    signed_bytes: usize,
    alg: String,
    kid: String,
    signature: Vec<u8>,
    body: ReceiptBody,
    id: ReceiptId,
    time: UnixMillis,
    prior_root: Digest,
}

impl UnverifiedReceipt<'_> {
    /// What it claims.
    #[must_use]
    pub const fn unverified_body(&self) -> &ReceiptBody {
        &self.body
    }

    /// The id it claims.
    #[must_use]
    pub const fn unverified_id(&self) -> ReceiptId {
        self.id
    }

    /// The time it claims.
    #[must_use]
    pub const fn unverified_time(&self) -> UnixMillis {
        self.time
    }

    /// The root it claims the ledger had when its batch began.
    #[must_use]
    pub const fn unverified_prior_root(&self) -> Digest {
        self.prior_root
    }

    /// The key it claims to be signed with.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks the signature, and that the key might sign at this place and time.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`] names the first thing that is wrong.
    pub fn verify(self, keys: &KeyRegister) -> Result<VerifiedReceipt, ReceiptError> {
        let key = keys.key(&self.kid).ok_or(ReceiptError::UnknownKey)?;
        if key.usage != KeyUse::Receipt {
            return Err(ReceiptError::KeyUse);
        }
        // The register says how a key signs; a header that says otherwise is nobody's.
        if !key.algorithm.is_called(&self.alg) {
            return Err(ReceiptError::Algorithm);
        }
        let signed = self.jws.get(..self.signed_bytes).ok_or(ReceiptError::Malformed)?;
        key.public_key
            .verify(signed.as_bytes(), &self.signature)
            .map_err(|_| ReceiptError::Signature)?;
        if !key.covers(&self.body.log.origin, self.body.log.index) {
            return Err(ReceiptError::OutsideKeyRange);
        }
        if !key.valid_at(self.time) {
            return Err(ReceiptError::OutsideKeyTime);
        }
        let leaf = leaf_hash(self.jws);
        let Self { kid, body, id, time, prior_root, .. } = self;
        Ok(VerifiedReceipt { kid, body, id, time, prior_root, leaf })
    }
}

/// A receipt that its key signed, at a place and time at which it might.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedReceipt {
    kid: String,
    body: ReceiptBody,
    id: ReceiptId,
    time: UnixMillis,
    prior_root: Digest,
    leaf: LeafHash,
}

impl VerifiedReceipt {
    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &ReceiptBody {
        &self.body
    }

    /// Its own id.
    #[must_use]
    pub const fn id(&self) -> ReceiptId {
        self.id
    }

    /// When it was issued.
    #[must_use]
    pub const fn time(&self) -> UnixMillis {
        self.time
    }

    /// Until when it may be acted on, if at all.
    #[must_use]
    pub fn valid_until(&self) -> Option<UnixMillis> {
        UnixMillis::parse_rfc3339(self.body.valid_until.as_deref()?).ok()
    }

    /// The ledger's root when its batch began, at `body().log.prior_size` entries.
    #[must_use]
    pub const fn prior_root(&self) -> &Digest {
        &self.prior_root
    }

    /// Its leaf in the ledger.
    #[must_use]
    pub const fn leaf(&self) -> LeafHash {
        self.leaf
    }
}

/// A receipt that is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// More than [`JWS_BYTES_MAX`] bytes.
    #[error("the receipt is longer than 16 KiB")]
    TooLong,
    /// Not three parts of unpadded base64url.
    #[error("it is not a compact JWS")]
    Malformed,
    /// A header other than the one that receipts have.
    #[error("the receipt's header is not the one that receipts have")]
    Header,
    /// Not the JSON of a receipt: duplicate keys, floats, missing or malformed fields.
    #[error("the receipt's payload is not that of a receipt")]
    Json(#[source] serde_json::Error),
    /// A version other than 1.
    #[error("the receipt has a version that this verifier does not know")]
    Version,
    /// A kind that this verifier does not know.
    #[error("the receipt has a kind that this verifier does not know; a newer one may")]
    Kind,
    /// A field whose text is not what it must be.
    #[error("the receipt's field {0} is malformed")]
    Field(&'static str),
    /// No such key in the register.
    #[error("the receipt is signed with a key that the register does not name")]
    UnknownKey,
    /// The key is for something else.
    #[error("the receipt is signed with a key that is not for receipts")]
    KeyUse,
    /// The header names another algorithm than the key's.
    #[error("the receipt's header names another algorithm than its key's")]
    Algorithm,
    /// The signature does not verify.
    #[error("the receipt's signature does not verify")]
    Signature,
    /// The receipt's place is not one that its key might sign at.
    #[error("the receipt's index lies outside its key's range")]
    OutsideKeyRange,
    /// The receipt's time is not one that its key might sign at.
    #[error("the receipt's time lies outside its key's validity")]
    OutsideKeyTime,
}

impl ReceiptError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong | Self::Malformed | Self::Header | Self::Json(_) | Self::Field(_) => {
                "RCP_MALFORMED"
            }
            Self::Version | Self::Kind => "RCP_UNKNOWN_KIND",
            Self::UnknownKey | Self::KeyUse | Self::Algorithm => "RCP_KEY",
            Self::Signature => "RCP_SIGNATURE",
            Self::OutsideKeyRange | Self::OutsideKeyTime => "RCP_KEY_RANGE",
        }
    }
}

/// The algorithm and key id of a header that is byte for byte one that some key might have. RFC 9864
/// renames `EdDSA` with its curve to `Ed25519`.
fn named_key(bytes: &[u8]) -> Result<(String, String), ReceiptError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        kid: String,
    }
    let Header { alg, kid } = serde_json::from_slice(bytes).map_err(|_| ReceiptError::Header)?;
    let known = KeyAlgorithm::ALL.iter().any(|algorithm| algorithm.is_called(&alg));
    if known && is_key_id(&kid) && header(&alg, &kid).as_bytes() == bytes {
        Ok((alg, kid))
    } else {
        Err(ReceiptError::Header)
    }
}

fn checked_fields(body: &ReceiptBody) -> Result<(ReceiptId, UnixMillis, Digest), ReceiptError> {
    let rid = URL_SAFE_NO_PAD.decode(&body.rid).map_err(|_| ReceiptError::Field("rid"))?;
    let rid = ReceiptId::try_from(rid.as_slice()).map_err(|_| ReceiptError::Field("rid"))?;
    let time = instant(&body.time).ok_or(ReceiptError::Field("time"))?;
    if body.valid_until.as_deref().is_some_and(|text| instant(text).is_none()) {
        return Err(ReceiptError::Field("valid_until"));
    }
    if body.log.prior_size > body.log.index {
        return Err(ReceiptError::Field("log.prior_size"));
    }
    let root = STANDARD.decode(&body.log.prior_root).ok();
    let root = root.and_then(|bytes| Digest::try_from(bytes.as_slice()).ok());
    Ok((rid, time, root.ok_or(ReceiptError::Field("log.prior_root"))?))
}

/// An instant written in the one way that receipts write it.
fn instant(text: &str) -> Option<UnixMillis> {
    UnixMillis::parse_rfc3339(text).ok().filter(|time| time.rfc3339() == text)
}

fn decode(part: &str) -> Result<Vec<u8>, ReceiptError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| ReceiptError::Malformed)
}
