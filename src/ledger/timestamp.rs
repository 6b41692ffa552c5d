//! Time-stamps of checkpoints by an authority that has nothing to do with the ledger (RFC 3161): what is
//! asked, and what its answer must prove.

use super::der::{Der, INTEGER, Item, NotDer, OCTETS, OID, SEQUENCE, SET, encode};
use crate::crypto::{
    CertificateError, StampAuthorities, StampDigest, StampKey, StampSignature, sha256,
};
use crate::domain::time::UnixMillis;

/// Longest answer read, in bytes.
pub const TIMESTAMP_BYTES_MAX: usize = 64 * 1024;

/// A question that is asked once: without its nonce an older answer would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimestampRequest {
    der: Vec<u8>,
    nonce: Nonce,
}

/// A number that an answer must repeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce([u8; 16]);

impl TimestampRequest {
    /// Asks for a time-stamp of SHA-256 of a checkpoint's text, with the authority's certificates in it.
    #[must_use]
    pub fn new(text: &str, chance: [u8; 16]) -> Self {
        let nonce = Nonce::new(chance);
        let der = encode(
            SEQUENCE,
            &[
                encode(INTEGER, &[1]),
                imprint(text),
                encode(INTEGER, &nonce.0),
                encode(BOOLEAN, &[0xff]),
            ]
            .concat(),
        );
        Self { der, nonce }
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.der
    }

    /// What the answer must repeat.
    #[must_use]
    pub const fn nonce(&self) -> &Nonce {
        &self.nonce
    }
}

impl Nonce {
    const fn new(chance: [u8; 16]) -> Self {
        let mut bytes = chance;
        // A positive number of exactly 16 bytes: DER writes it as it stands.
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Self(bytes)
    }
}

/// What a time-stamp says that was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimestampToken {
    /// When the authority saw the checkpoint.
    pub time: UnixMillis,
    /// The authority's number of it, in hexadecimal.
    pub serial: String,
}

impl TimestampToken {
    /// Verifies an authority's answer (`TimeStampResp`, DER), such as an exported `tsa/<size>.tsr`, about
    /// the text of a checkpoint.
    ///
    /// Where the question is known, the answer must repeat its nonce. The certificate is judged as of the
    /// time in the token; whether it was revoked later is not asked.
    ///
    /// # Errors
    ///
    /// [`TimestampError`] when it proves nothing about this text, or nobody trusted says it.
    pub fn verify(
        answer: &[u8],
        text: &str,
        nonce: Option<&Nonce>,
        authorities: &StampAuthorities,
    ) -> Result<Self, TimestampError> {
        if answer.len() > TIMESTAMP_BYTES_MAX {
            return Err(TimestampError::TooLong);
        }
        let signed = Signed::read(token_of(answer)?)?;
        let stamp = Stamp::read(signed.content)?;
        if stamp.hash != sha256(text.as_bytes()).as_bytes() {
            return Err(TimestampError::OtherText);
        }
        if nonce.is_some_and(|nonce| stamp.nonce != Some(&nonce.0)) {
            return Err(TimestampError::Nonce);
        }
        let signer = signed.signer()?;
        let signature =
            StampSignature { key: signed.key, digest: signed.digest, bytes: signed.signature };
        let message = encode(SET, signed.attributes);
        authorities.verify(signer, &signed.certificates, stamp.time, &message, signature)?;
        let serial = stamp.serial.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { time: stamp.time, serial })
    }
}

/// `TimeStampResp`: the token, where it was granted.
fn token_of(answer: &[u8]) -> Result<&[u8], TimestampError> {
    let mut outer = Der::new(answer);
    let mut response = outer.inside(SEQUENCE)?;
    outer.end()?;
    // 0 is granted, 1 granted with changes; what follows in it are words.
    let status = response.inside(SEQUENCE)?.expect(INTEGER)?;
    if !matches!(status, [0 | 1]) {
        return Err(TimestampError::Refused);
    }
    let token = response.next()?.whole;
    response.end()?;
    Ok(token)
}

/// What a `SignedData` (RFC 5652) with one signer holds.
struct Signed<'a> {
    /// The signed content, a `TSTInfo`.
    content: &'a [u8],
    certificates: Vec<&'a [u8]>,
    /// Who signed, as the signer says: issuer and serial number, or a key's identifier.
    names: Item<'a>,
    digest: StampDigest,
    key: StampKey,
    /// What was signed instead of the content: attributes, with the content's digest.
    attributes: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(token: &'a [u8]) -> Result<Self, TimestampError> {
        let mut outer = Der::new(token);
        let mut info = outer.inside(SEQUENCE)?;
        outer.end()?;
        if info.expect(OID)? != SIGNED_DATA {
            return Err(TimestampError::Malformed);
        }
        let mut data = info.inside(EXPLICIT_0)?.inside(SEQUENCE)?;
        data.expect(INTEGER)?;
        data.expect(SET)?;
        let mut enveloped = data.inside(SEQUENCE)?;
        if enveloped.expect(OID)? != TST_INFO {
            return Err(TimestampError::Malformed);
        }
        let content = enveloped.inside(EXPLICIT_0)?.expect(OCTETS)?;
        let mut certificates = Vec::new();
        let mut held = Der::new(data.optional(EXPLICIT_0)?.unwrap_or_default());
        while !held.is_empty() {
            let item = held.next()?;
            if item.tag == SEQUENCE {
                certificates.push(item.whole);
            }
        }
        data.optional(EXPLICIT_1)?;
        let mut signers = data.inside(SET)?;
        let mut signer = signers.inside(SEQUENCE)?;
        signers.end()?;
        signer.expect(INTEGER)?;
        let names = signer.next()?;
        let digest = digest_of(signer.inside(SEQUENCE)?)?;
        let attributes = signer.expect(EXPLICIT_0)?;
        let key = key_of(signer.inside(SEQUENCE)?.expect(OID)?, digest)?;
        let signature = signer.expect(OCTETS)?;
        Ok(Self { content, certificates, names, digest, key, attributes, signature })
    }

    /// The certificate whose key signed: the one that the signed attributes name by its hash. They must
    /// also hold the content's digest and say what the content is.
    fn signer(&self) -> Result<&'a [u8], TimestampError> {
        if self.attribute(CONTENT_TYPE)?.is_none_or(|it| it.tag != OID || it.content != TST_INFO) {
            return Err(TimestampError::Malformed);
        }
        let written = self.attribute(MESSAGE_DIGEST)?.filter(|it| it.tag == OCTETS);
        if written.map(|it| it.content) != Some(&*self.digest.of(self.content)) {
            return Err(TimestampError::Digest);
        }
        let (digest, hash) = match self.attribute(SIGNING_CERTIFICATE_V2)? {
            Some(value) => {
                let mut first = first_certificate(value)?;
                let digest = match first.optional(SEQUENCE)? {
                    Some(algorithm) => digest_of(Der::new(algorithm))?,
                    None => StampDigest::Sha256,
                };
                (digest, first.expect(OCTETS)?)
            }
            None => {
                let value = self.attribute(SIGNING_CERTIFICATE)?.ok_or(TimestampError::NoSigner)?;
                (StampDigest::Sha1, first_certificate(value)?.expect(OCTETS)?)
            }
        };
        let is_it = |der: &&&[u8]| digest.of(der) == hash;
        let found = self.certificates.iter().find(is_it).ok_or(TimestampError::NoSigner)?;
        self.check_name(found)?;
        Ok(found)
    }

    /// Where the signer is named by issuer and number, they are the certificate's.
    fn check_name(&self, certificate: &[u8]) -> Result<(), TimestampError> {
        if self.names.tag != SEQUENCE {
            return Ok(());
        }
        let mut names = Der::new(self.names.content);
        let (issuer, number) = (names.next()?.whole, names.expect(INTEGER)?);
        let mut fields = Der::new(certificate).inside(SEQUENCE)?.inside(SEQUENCE)?;
        fields.optional(EXPLICIT_0)?;
        let own_number = fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?;
        let is_same = own_number == number && fields.next()?.whole == issuer;
        if is_same { Ok(()) } else { Err(TimestampError::NoSigner) }
    }

    /// The one value of a signed attribute; none where it is missing.
    fn attribute(&self, wanted: &[u8]) -> Result<Option<Item<'a>>, TimestampError> {
        let mut attributes = Der::new(self.attributes);
        let mut found = None;
        while !attributes.is_empty() {
            let mut attribute = attributes.inside(SEQUENCE)?;
            if attribute.expect(OID)? != wanted {
                continue;
            }
            let mut values = attribute.inside(SET)?;
            let value = values.next()?;
            values.end()?;
            if found.replace(value).is_some() {
                return Err(TimestampError::Malformed);
            }
        }
        Ok(found)
    }
}

/// The first of the certificates that an attribute names: the signer's.
fn first_certificate(value: Item<'_>) -> Result<Der<'_>, TimestampError> {
    if value.tag != SEQUENCE {
        return Err(TimestampError::Malformed);
    }
    Ok(Der::new(value.content).inside(SEQUENCE)?.inside(SEQUENCE)?)
}

/// `TSTInfo`.
struct Stamp<'a> {
    /// SHA-256 of what it is of.
    hash: &'a [u8],
    serial: &'a [u8],
    time: UnixMillis,
    nonce: Option<&'a [u8]>,
}

impl<'a> Stamp<'a> {
    fn read(content: &'a [u8]) -> Result<Self, TimestampError> {
        let mut outer = Der::new(content);
        let mut info = outer.inside(SEQUENCE)?;
        outer.end()?;
        if info.expect(INTEGER)? != [1] {
            return Err(TimestampError::Malformed);
        }
        info.expect(OID)?;
        let mut imprint = info.inside(SEQUENCE)?;
        if digest_of(imprint.inside(SEQUENCE)?)? != StampDigest::Sha256 {
            return Err(TimestampError::Algorithm);
        }
        let hash = imprint.expect(OCTETS)?;
        let serial = info.expect(INTEGER)?;
        let time = generalized_time(info.expect(GENERALIZED_TIME)?)?;
        // How exact it is, and whether stamps are in order.
        info.optional(SEQUENCE)?;
        info.optional(BOOLEAN)?;
        let nonce = info.optional(INTEGER)?;
        info.optional(EXPLICIT_0)?;
        info.optional(EXPLICIT_1)?;
        info.end()?;
        Ok(Self { hash, serial, time, nonce })
    }
}

/// `MessageImprint` of SHA-256 over the text.
fn imprint(text: &str) -> Vec<u8> {
    let algorithm = encode(SEQUENCE, &[encode(OID, SHA256), encode(NULL, &[])].concat());
    let hash = encode(OCTETS, sha256(text.as_bytes()).as_bytes());
    encode(SEQUENCE, &[algorithm, hash].concat())
}

fn digest_of(mut algorithm: Der<'_>) -> Result<StampDigest, TimestampError> {
    match algorithm.expect(OID)? {
        SHA256 => Ok(StampDigest::Sha256),
        SHA384 => Ok(StampDigest::Sha384),
        SHA512 => Ok(StampDigest::Sha512),
        _ => Err(TimestampError::Algorithm),
    }
}

fn key_of(algorithm: &[u8], digest: StampDigest) -> Result<StampKey, TimestampError> {
    match (algorithm, digest) {
        (RSA, _)
        | (RSA_SHA256, StampDigest::Sha256)
        | (RSA_SHA384, StampDigest::Sha384)
        | (RSA_SHA512, StampDigest::Sha512) => Ok(StampKey::Rsa),
        (ECDSA_SHA256, StampDigest::Sha256) | (ECDSA_SHA384, StampDigest::Sha384) => {
            Ok(StampKey::Ecdsa)
        }
        _ => Err(TimestampError::Algorithm),
    }
}

/// `YYYYMMDDHHMMSS[.f…]Z`, to the millisecond below.
fn generalized_time(bytes: &[u8]) -> Result<UnixMillis, TimestampError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TimestampError::Malformed)?;
    let text = text.strip_suffix('Z').ok_or(TimestampError::Malformed)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(TimestampError::Malformed);
    }
    let part = |from: usize, to: usize| whole.get(from..to).unwrap_or_default();
    let (date, time) = (
        format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8)),
        format!("{}:{}:{}.{fraction}", part(8, 10), part(10, 12), part(12, 14)),
    );
    UnixMillis::parse_rfc3339(&format!("{date}T{time}Z")).map_err(|_| TimestampError::Malformed)
}

/// A time-stamp that proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// More bytes than are read.
    #[error("the time-stamp is longer than 64 KiB")]
    TooLong,
    /// Not a `TimeStampResp` with one signer.
    #[error("it is not a time-stamp as RFC 3161 has them")]
    Malformed,
    /// The authority did not grant it.
    #[error("the authority refused the time-stamp")]
    Refused,
    /// Hashes or signatures other than SHA-2 with RSA (PKCS #1 v1.5) or ECDSA.
    #[error("the time-stamp's algorithm is not one that is taken")]
    Algorithm,
    /// Of something else.
    #[error("the time-stamp is of another text")]
    OtherText,
    /// The answer to another question.
    #[error("the time-stamp does not repeat the nonce")]
    Nonce,
    /// The signed digest is not the content's.
    #[error("the time-stamp's content is not what was signed")]
    Digest,
    /// The signer's certificate is not in it, or it names another.
    #[error("the time-stamp does not hold the certificate of who signed it")]
    NoSigner,
    /// The certificate or its signature.
    #[error("the time-stamp is not signed by a trusted authority")]
    Certificate(#[from] CertificateError),
}

impl From<NotDer> for TimestampError {
    fn from(NotDer: NotDer) -> Self {
        Self::Malformed
    }
}

impl TimestampError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_TIMESTAMP"
    }
}

const BOOLEAN: u8 = 0x01;
const NULL: u8 = 0x05;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_1: u8 = 0xa1;

/// 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4.
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
/// 1.2.840.113549.1.9.3.
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// 1.2.840.113549.1.9.4.
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 1.2.840.113549.1.9.16.2.12, with SHA-1.
const SIGNING_CERTIFICATE: &[u8] =
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
/// 1.2.840.113549.1.9.16.2.47.
const SIGNING_CERTIFICATE_V2: &[u8] =
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];
/// 2.16.840.1.101.3.4.2.1 to .3.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
/// 1.2.840.113549.1.1.1, and .11 to .13.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
/// 1.2.840.10045.4.3.2 and .3.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

#[cfg(test)]
mod tests {
    use super::*;

    /// What tests/fixtures/timestamps/make.sh asked OpenSSL for a stamp of.
    const TEXT: &str =
        "cash.bank.example/gw07/2026h2\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    const RSA_STAMP: &[u8] = include_bytes!("../../tests/fixtures/timestamps/rsa.tsr");
    const EC_STAMP: &[u8] = include_bytes!("../../tests/fixtures/timestamps/ec.tsr");
    const SHA1_STAMP: &[u8] = include_bytes!("../../tests/fixtures/timestamps/ess-sha1.tsr");

    fn authorities() -> StampAuthorities {
        let pem = include_str!("../../tests/fixtures/timestamps/ca.pem");
        StampAuthorities::from_pem(pem).unwrap()
    }

    fn verify(answer: &[u8]) -> Result<TimestampToken, TimestampError> {
        TimestampToken::verify(answer, TEXT, None, &authorities())
    }

    #[test]
    fn stamps_of_openssl_verify_by_rsa_and_by_ecdsa() {
        for (stamp, serial) in [(RSA_STAMP, "01"), (EC_STAMP, "02"), (SHA1_STAMP, "03")] {
            let token = verify(stamp).unwrap();
            assert_eq!(token.serial, serial);
            assert!(token.time.get() > 1_700_000_000_000);
        }
    }

    #[test]
    fn no_bit_of_a_stamp_may_change_what_it_says() {
        for stamp in [RSA_STAMP, EC_STAMP] {
            let token = verify(stamp).unwrap();
            let mut refused = 0;
            for place in 0..stamp.len() * 8 {
                let mut altered = stamp.to_vec();
                altered[place / 8] ^= 1 << (place % 8);
                match verify(&altered) {
                    // Words and versions that nobody signs.
                    Ok(same) => assert_eq!(same, token, "{place}"),
                    Err(_) => refused += 1,
                }
            }
            assert!(refused * 10 > stamp.len() * 8 * 9, "{refused}");
            for cut in 0..stamp.len() {
                assert!(verify(&stamp[..cut]).is_err(), "{cut}");
            }
            assert!(verify(&[stamp, &[0]].concat()).is_err());
        }
    }

    #[test]
    fn a_stamp_is_of_its_text_and_of_an_authority_that_is_trusted() {
        let of_other =
            TimestampToken::verify(RSA_STAMP, &TEXT.replace('7', "8"), None, &authorities());
        assert!(matches!(of_other, Err(TimestampError::OtherText)));
        let stranger = include_str!("../../tests/fixtures/timestamps/other-ca.pem");
        let stranger = StampAuthorities::from_pem(stranger).unwrap();
        let by_stranger = TimestampToken::verify(RSA_STAMP, TEXT, None, &stranger);
        let fault = by_stranger.unwrap_err();
        assert!(
            matches!(fault, TimestampError::Certificate(CertificateError::Chain(_))),
            "{fault:?}"
        );
        assert!(StampAuthorities::from_pem("").is_err());
    }

    #[test]
    fn an_answer_repeats_the_nonce_of_its_question() {
        let question = include_bytes!("../../tests/fixtures/timestamps/rsa.tsq");
        let request = TimestampRequest::new(TEXT, CHANCE);
        assert_eq!(request.as_bytes(), question, "what was asked then");
        let asked = |nonce: &Nonce| {
            TimestampToken::verify(RSA_STAMP, TEXT, Some(nonce), &authorities()).map(|it| it.serial)
        };
        assert_eq!(asked(request.nonce()).unwrap(), "01");
        let another = TimestampRequest::new(TEXT, [9; 16]);
        assert!(matches!(asked(another.nonce()), Err(TimestampError::Nonce)));
        let none = TimestampToken::verify(EC_STAMP, TEXT, Some(request.nonce()), &authorities());
        assert!(matches!(none, Err(TimestampError::Nonce)), "a stamp without one");
    }

    #[test]
    fn instants_are_read_with_and_without_fractions() {
        let read = |text: &str| generalized_time(text.as_bytes()).ok().map(UnixMillis::rfc3339);
        assert_eq!(read("20261121020314Z").as_deref(), Some("2026-11-21T02:03:14.000Z"));
        assert_eq!(read("20261121020314.5Z").as_deref(), Some("2026-11-21T02:03:14.500Z"));
        assert_eq!(read("20261121020314.123456Z").as_deref(), Some("2026-11-21T02:03:14.123Z"));
        for bad in [
            "",
            "20261121020314",
            "2026112102031Z",
            "20261321020314Z",
            "20261121020314.Z",
            "2026-1121020314Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    /// Of the question in the fixtures.
    const CHANCE: [u8; 16] = *b"0123456789abcdef";
}
