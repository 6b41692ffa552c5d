//! Certificates of time-stamping authorities: whether one leads to a trusted authority, is for
//! time-stamps alone, and signed what it is said to have signed.

use std::fmt;
use std::time::Duration;

use pki_types::pem::PemObject as _;
use pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithms};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::domain::time::UnixMillis;

/// A hash that a signature of a time-stamp may be over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StampDigest {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-1: only to tell certificates apart, where old authorities write it; never under a signature.
    Sha1,
}

impl StampDigest {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &ring::digest::SHA256,
            Self::Sha384 => &ring::digest::SHA384,
            Self::Sha512 => &ring::digest::SHA512,
            Self::Sha1 => &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        };
        ring::digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// What kind of key a signature is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StampKey {
    /// RSA with PKCS #1 v1.5 padding, 2048 to 8192 bits.
    Rsa,
    /// ECDSA on P-256 or P-384.
    Ecdsa,
}

/// A signature, with how it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StampSignature<'a> {
    /// By what kind of key.
    pub key: StampKey,
    /// Over which hash.
    pub digest: StampDigest,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// The authorities that certificates must lead to.
#[derive(Clone)]
pub struct StampAuthorities {
    anchors: Vec<TrustAnchor<'static>>,
}

impl StampAuthorities {
    /// Reads one or more certificates in PEM.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Authority`] when there is none, or one that cannot be used.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| CertificateError::Authority)?;
            let anchor = anchor_from_trusted_cert(&certificate);
            anchors.push(anchor.map_err(|_| CertificateError::Authority)?.to_owned());
        }
        if anchors.is_empty() { Err(CertificateError::Authority) } else { Ok(Self { anchors }) }
    }

    /// Checks that `signer` led to one of these authorities at an instant, perhaps over some of the
    /// `others`, that it may make time-stamps and nothing else, and that its key made the signature of
    /// `message`. Whether it was revoked is not asked.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] otherwise.
    pub fn verify(
        &self,
        signer: &[u8],
        others: &[&[u8]],
        at: UnixMillis,
        message: &[u8],
        signature: StampSignature<'_>,
    ) -> Result<(), CertificateError> {
        is_for_stamps_alone(signer)?;
        let others: Vec<CertificateDer<'_>> =
            others.iter().map(|der| CertificateDer::from(*der)).collect();
        let der = CertificateDer::from(signer);
        let signer = EndEntityCert::try_from(&der).map_err(CertificateError::Chain)?;
        let since_epoch = u64::try_from(at.get()).map_err(|_| CertificateError::Malformed)?;
        let time = UnixTime::since_unix_epoch(Duration::from_millis(since_epoch));
        // Authorities in between need not say what they are for.
        let usage = KeyUsage::required_if_present(TIME_STAMPING);
        signer
            .verify_for_usage(ALL, &self.anchors, &others, time, usage, None, None)
            .map_err(CertificateError::Chain)?;
        let is_its = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            signer.verify_signature(*algorithm, message, signature.bytes).is_ok()
        };
        let possible = algorithms_of(signature.key, signature.digest);
        if possible.iter().any(is_its) { Ok(()) } else { Err(CertificateError::Signature) }
    }
}

impl fmt::Debug for StampAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StampAuthorities({})", self.anchors.len())
    }
}

/// RFC 3161, 2.3: the extended key usage is critical and names time-stamping alone.
fn is_for_stamps_alone(der: &[u8]) -> Result<(), CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed);
    }
    let usage = certificate.extended_key_usage().map_err(|_| CertificateError::Malformed)?;
    let usage = usage.filter(|usage| usage.critical).ok_or(CertificateError::Purpose)?.value;
    let others = usage.any
        || usage.server_auth
        || usage.client_auth
        || usage.code_signing
        || usage.email_protection
        || usage.ocsp_signing
        || !usage.other.is_empty();
    if usage.time_stamping && !others { Ok(()) } else { Err(CertificateError::Purpose) }
}

fn algorithms_of(
    key: StampKey,
    digest: StampDigest,
) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    match (key, digest) {
        (StampKey::Rsa, StampDigest::Sha256) => vec![algorithms::RSA_PKCS1_2048_8192_SHA256],
        (StampKey::Rsa, StampDigest::Sha384) => vec![algorithms::RSA_PKCS1_2048_8192_SHA384],
        (StampKey::Rsa, StampDigest::Sha512) => vec![algorithms::RSA_PKCS1_2048_8192_SHA512],
        (StampKey::Ecdsa, StampDigest::Sha256) => {
            vec![algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256]
        }
        (StampKey::Ecdsa, StampDigest::Sha384) => {
            vec![algorithms::ECDSA_P256_SHA384, algorithms::ECDSA_P384_SHA384]
        }
        (StampKey::Ecdsa, StampDigest::Sha512) | (_, StampDigest::Sha1) => Vec::new(),
    }
}

/// A certificate that does not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The trusted authorities.
    #[error("the authority is no certificate in PEM that can be one")]
    Authority,
    /// Not a certificate, or a time that none has.
    #[error("the certificate cannot be read")]
    Malformed,
    /// Not for time-stamps, or for something else too.
    #[error("the certificate is not for time-stamps alone")]
    Purpose,
    /// It leads to no trusted authority, or did not hold at that time.
    #[error("the certificate does not lead to a trusted authority")]
    Chain(#[source] webpki::Error),
    /// Not over this.
    #[error("the signature is not the certificate's over this message")]
    Signature,
}

/// `id-kp-timeStamping`, 1.3.6.1.5.5.7.3.8.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// What authorities may have signed certificates with.
static ALL: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose as Purpose, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_that_does_not_say_critically_that_it_is_for_stamps_alone_is_refused() {
        let key = KeyPair::generate().unwrap();
        let purpose = |purposes: &[Purpose]| {
            let mut params = CertificateParams::default();
            params.extended_key_usages = purposes.to_vec();
            is_for_stamps_alone(params.self_signed(&key).unwrap().der())
        };
        // rcgen writes this extension as one that may be ignored.
        for purposes in
            [&[][..], &[Purpose::TimeStamping], &[Purpose::TimeStamping, Purpose::ServerAuth]]
        {
            let refused = purpose(purposes);
            assert!(matches!(refused, Err(CertificateError::Purpose)), "{refused:?}");
        }
        assert!(matches!(is_for_stamps_alone(b"rubbish"), Err(CertificateError::Malformed)));
    }
}
