//! The authority: it issues certificates for keys that it makes, or that a terminal made.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SubjectPublicKeyInfo,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedSpki;
use zeroize::Zeroizing;

use super::identity::{Principal, Role};
use crate::crypto::{Digest, sha256};
use crate::domain::id::{PrincipalName, TenantId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::gateway::{self, CertificateAuthority, TerminalCertificate};

/// Largest certificate signing request taken, in bytes of PEM.
const CSR_BYTES_MAX: usize = 16 * 1024;

/// Shortest RSA modulus taken, in bits (NIST SP 800-57).
const RSA_BITS_MIN: usize = 2048;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The last instant that a certificate can name without a year of five digits: 2200-01-01.
const LATEST_MS: i64 = 7_258_118_400_000;

/// From when to when a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Not before.
    pub from: UnixMillis,
    /// Not after.
    pub until: UnixMillis,
}

impl Validity {
    /// From an hour ago, so that clocks may differ, for `days` days.
    #[must_use]
    pub fn days(now: UnixMillis, days: u16) -> Self {
        Self {
            from: now.plus_millis(-HOUR_MS),
            until: now.plus_millis(i64::from(days).saturating_mul(DAY_MS)),
        }
    }

    /// An authority's ten years.
    #[must_use]
    pub fn of_authority(now: UnixMillis) -> Self {
        Self::days(now, 3652)
    }

    /// A server's or a client's year.
    #[must_use]
    pub fn of_leaf(now: UnixMillis) -> Self {
        Self::days(now, 365)
    }

    fn write_to(self, params: &mut CertificateParams) {
        let at = |instant: UnixMillis| {
            let millis = u64::try_from(instant.get().clamp(0, LATEST_MS)).unwrap_or(0);
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(millis)
        };
        params.not_before = at(self.from);
        params.not_after = at(self.until);
    }
}

/// A certificate and the key that was made for it.
pub struct KeyedCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The private key, PKCS #8 PEM.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCertificate").finish_non_exhaustive()
    }
}

/// A certificate for a key that somebody else holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The authorities above it, nearest first, PEM.
    pub chain_pem: Vec<String>,
    /// SHA-256 of the certified public key (`SubjectPublicKeyInfo`, DER).
    pub spki: Digest,
}

/// An authority for one tenant: its key signs the certificates of the server and of all clients.
pub struct Authority {
    tenant: TenantId,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority with a new P-256 key.
    ///
    /// # Errors
    ///
    /// [`IssueError`] when no key can be made.
    pub fn generate(tenant: TenantId, validity: Validity) -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Key)?;
        let mut params = CertificateParams::default();
        validity.write_to(&mut params);
        params.distinguished_name = common_name(&format!("Tulga development CA of {tenant}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).map_err(IssueError::Certificate)?.pem();
        Ok(Self { tenant, issuer: Issuer::new(params, key), certificate_pem })
    }

    /// The authority whose certificate and key these are.
    ///
    /// # Errors
    ///
    /// [`IssueError`] when they cannot be read, or do not belong together.
    pub fn from_pem(
        tenant: TenantId,
        certificate_pem: &str,
        key_pem: &str,
    ) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key_pem).map_err(IssueError::Key)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|_| IssueError::Mismatch)?;
        let certificate = pem.parse_x509().map_err(|_| IssueError::Mismatch)?;
        if certificate.tbs_certificate.subject_pki.raw != key.subject_public_key_info() {
            return Err(IssueError::Mismatch);
        }
        let issuer =
            Issuer::from_ca_cert_pem(certificate_pem, key).map_err(IssueError::Certificate)?;
        Ok(Self { tenant, issuer, certificate_pem: certificate_pem.to_owned() })
    }

    /// The authority's own certificate, PEM: what both sides trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key, PKCS #8 PEM, for keeping it.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// The bank whose authority it is.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// A server certificate for `localhost`, 127.0.0.1, `::1` and `hosts` (names or addresses).
    ///
    /// # Errors
    ///
    /// [`IssueError`] when a host can stand in no certificate, or no key can be made.
    pub fn issue_server(
        &self,
        hosts: &[&str],
        validity: Validity,
    ) -> Result<KeyedCertificate, IssueError> {
        let mut params =
            leaf(&format!("Tulga gateway of {}", self.tenant), ExtendedKeyUsagePurpose::ServerAuth);
        validity.write_to(&mut params);
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().map_err(IssueError::Certificate)?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        for &host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.try_into().map_err(IssueError::Certificate)?),
            });
        }
        self.issue_keyed(&params, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A client certificate with a new key, for `role` and `name` at this authority's tenant.
    ///
    /// # Errors
    ///
    /// [`IssueError`] when no key can be made.
    pub fn issue_client(
        &self,
        role: Role,
        name: &PrincipalName,
        validity: Validity,
    ) -> Result<KeyedCertificate, IssueError> {
        let principal = Principal { tenant: self.tenant.clone(), role, name: name.clone() };
        let params = client(&principal, validity).map_err(IssueError::Certificate)?;
        if role.signs() {
            self.issue_keyed(&params, &rcgen::PKCS_ED25519)
        } else {
            self.issue_keyed(&params, &rcgen::PKCS_ECDSA_P256_SHA256)
        }
    }

    /// A terminal's certificate for the public key of a PKCS #10 request. Only the key is taken:
    /// the terminal's name comes from `terminal`, whatever the request asks for.
    ///
    /// # Errors
    ///
    /// [`CsrError`] when the request is too long, cannot be read, is not signed by its own key, or
    /// has a key other than P-256, P-384, Ed25519 or RSA of 2048 bits at least.
    pub fn issue_from_csr(
        &self,
        csr_pem: &str,
        terminal: &TerminalId,
        validity: Validity,
    ) -> Result<IssuedCertificate, CsrError> {
        let spki_der = verified_key(csr_pem)?;
        let key = SubjectPublicKeyInfo::from_der(&spki_der).map_err(|_| CsrError::Key)?;
        let name = PrincipalName::try_from(terminal.as_str()).map_err(|_| CsrError::Name)?;
        let principal = Principal { tenant: self.tenant.clone(), role: Role::Terminal, name };
        let params = client(&principal, validity).map_err(|_| CsrError::Name)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(CsrError::Certificate)?;
        // What was certified must be what was asked for, byte for byte.
        if key.subject_public_key_info() != spki_der {
            return Err(CsrError::Key);
        }
        Ok(IssuedCertificate {
            certificate_pem: certificate.pem(),
            chain_pem: vec![self.certificate_pem.clone()],
            spki: sha256(&spki_der),
        })
    }

    fn issue_keyed(
        &self,
        params: &CertificateParams,
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> Result<KeyedCertificate, IssueError> {
        let key = KeyPair::generate_for(algorithm).map_err(IssueError::Key)?;
        let certificate: Certificate =
            params.signed_by(&key, &self.issuer).map_err(IssueError::Certificate)?;
        Ok(KeyedCertificate {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

impl CertificateAuthority for Authority {
    fn issue(
        &self,
        csr_pem: &str,
        terminal: &TerminalId,
        now: UnixMillis,
    ) -> Result<TerminalCertificate, gateway::IssueError> {
        let issued = self
            .issue_from_csr(csr_pem, terminal, Validity::of_leaf(now))
            .map_err(|refused| gateway::IssueError(Box::new(refused)))?;
        let IssuedCertificate { certificate_pem, chain_pem, spki } = issued;
        Ok(TerminalCertificate { certificate_pem, chain_pem, spki })
    }
}

/// A certificate that cannot be issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A key can be neither made nor read.
    #[error("the private key can be neither made nor read")]
    Key(#[source] rcgen::Error),
    /// The certificate cannot be made or read.
    #[error("the certificate can be neither made nor read")]
    Certificate(#[source] rcgen::Error),
    /// The authority's certificate and key do not belong together.
    #[error("the authority's certificate and key do not belong together")]
    Mismatch,
}

impl IssueError {
    /// The reason of the error table.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }
}

/// A certificate signing request that is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// More than 16 KiB of PEM.
    #[error("the request is longer than 16 KiB")]
    TooLong,
    /// Not one PKCS #10 request in PEM.
    #[error("it is not a PKCS #10 request in PEM")]
    Malformed,
    /// Not signed with the key that it holds.
    #[error("the request is not signed with its own key")]
    Signature,
    /// A key that is not taken.
    #[error("the key must be P-256, P-384, Ed25519 or RSA of 2048 bits at least")]
    Key,
    /// A terminal's id that can stand in no certificate.
    #[error("the terminal's id can stand in no certificate")]
    Name,
    /// The certificate cannot be made.
    #[error("the certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
}

impl CsrError {
    /// The reason of the error table.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "SYS_INTERNAL",
            _ => "REQ_INVALID",
        }
    }
}

/// The public key of a request that is signed with it: `SubjectPublicKeyInfo`, DER.
fn verified_key(csr_pem: &str) -> Result<Vec<u8>, CsrError> {
    if csr_pem.len() > CSR_BYTES_MAX {
        return Err(CsrError::TooLong);
    }
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|_| CsrError::Malformed)?;
    if !matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(CsrError::Malformed);
    }
    let (rest, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let spki = &request.certification_request_info.subject_pki;
    if !is_strong(spki) {
        return Err(CsrError::Key);
    }
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(spki.raw.to_vec())
}

fn is_strong(spki: &ParsedSpki<'_>) -> bool {
    match spki.parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() >= RSA_BITS_MIN,
        // Which curve is checked by the reader that follows: it knows P-256, P-384 and Ed25519 only.
        Ok(PublicKey::EC(_)) => true,
        Ok(PublicKey::Unknown(_)) => {
            spki.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519
        }
        _ => false,
    }
}

fn client(principal: &Principal, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = leaf(principal.name.as_str(), ExtendedKeyUsagePurpose::ClientAuth);
    validity.write_to(&mut params);
    params.subject_alt_names = vec![SanType::URI(principal.to_string().try_into()?)];
    Ok(params)
}

fn leaf(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use super::super::identity::identify;
    use super::*;

    fn now() -> UnixMillis {
        UnixMillis::new(1_795_226_595_123)
    }

    fn authority() -> Authority {
        let tenant = TenantId::try_from("bank-a").unwrap();
        Authority::generate(tenant, Validity::of_authority(now())).unwrap()
    }

    fn terminal() -> TerminalId {
        TerminalId::try_from("ATM-004211").unwrap()
    }

    fn der(certificate_pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).unwrap().1.contents
    }

    fn csr(key: &KeyPair, asks: &CertificateParams) -> String {
        asks.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_client_certificate_says_tenant_role_and_name() {
        let authority = authority();
        for role in Role::ALL {
            let name = PrincipalName::try_from("desk-7").unwrap();
            let issued = authority.issue_client(role, &name, Validity::of_leaf(now())).unwrap();
            let peer = identify(&issued.certificate_der).unwrap();
            assert_eq!(
                peer.principal.to_string(),
                format!("spiffe://bank-a/{}/desk-7", role.as_str())
            );
            let key = KeyPair::from_pem(&issued.key_pem).unwrap();
            assert_eq!(peer.spki, sha256(&key.subject_public_key_info()));
        }
    }

    #[test]
    fn an_authority_that_was_kept_issues_for_the_same_trust() {
        let first = authority();
        let (pem, key) = (first.certificate_pem().to_owned(), first.key_pem());
        let second = Authority::from_pem(first.tenant().clone(), &pem, &key).unwrap();
        let name = PrincipalName::try_from("auditor-1").unwrap();
        let issued = second.issue_client(Role::Auditor, &name, Validity::of_leaf(now())).unwrap();
        let ca = der(&pem);
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&issued.certificate_der).unwrap();
        assert!(leaf.verify_signature(Some(ca.public_key())).is_ok());
        assert!(leaf.verify_signature(Some(leaf.public_key())).is_err());
        let other = authority();
        assert!(matches!(
            Authority::from_pem(first.tenant().clone(), &pem, &other.key_pem()),
            Err(IssueError::Mismatch)
        ));
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let authority = authority();
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let mut asks = CertificateParams::default();
            asks.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            asks.subject_alt_names =
                vec![SanType::URI("spiffe://bank-b/admin/root".try_into().unwrap())];
            let issued = authority
                .issue_from_csr(&csr(&key, &asks), &terminal(), Validity::of_leaf(now()))
                .unwrap();
            let certificate = der(&issued.certificate_pem);
            let peer = identify(&certificate).unwrap();
            assert_eq!(peer.principal.to_string(), "spiffe://bank-a/terminal/ATM-004211");
            assert_eq!(peer.spki, issued.spki);
            assert_eq!(peer.spki, sha256(&key.subject_public_key_info()));
            let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
            assert!(!parsed.is_ca());
        }
    }

    #[test]
    fn a_request_changed_in_any_byte_certifies_no_other_key() {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let good = CertificateParams::default().serialize_request(&key).unwrap();
        let own = sha256(&key.subject_public_key_info());
        let mut refused = 0;
        for place in 0..good.der().len() {
            let mut bytes = good.der().to_vec();
            bytes[place] ^= 1;
            let changed = pem_of(&bytes);
            match authority.issue_from_csr(&changed, &terminal(), Validity::of_leaf(now())) {
                Err(_) => refused += 1,
                // Bytes that nothing signs and nobody reads: the tag around the algorithm's parameters.
                Ok(issued) => assert_eq!(issued.spki, own, "byte {place}"),
            }
        }
        assert!(refused + 8 > good.der().len(), "{refused} of {}", good.der().len());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let authority = authority();
        let validity = Validity::of_leaf(now());
        let issue = |pem: &str| authority.issue_from_csr(pem, &terminal(), validity);
        assert!(matches!(issue(""), Err(CsrError::Malformed)));
        assert!(matches!(issue(&"-".repeat(CSR_BYTES_MAX + 1)), Err(CsrError::TooLong)));
        assert!(matches!(issue(authority.certificate_pem()), Err(CsrError::Malformed)));
        assert!(matches!(issue(&pem_of(&[0x30, 0])), Err(CsrError::Malformed)));
    }

    #[test]
    fn a_server_certificate_refuses_a_host_that_is_none() {
        let authority = authority();
        let validity = Validity::of_leaf(now());
        assert!(authority.issue_server(&["gw07.bank.example", "10.0.0.7"], validity).is_ok());
        assert!(authority.issue_server(&["банк"], validity).is_err());
    }

    fn pem_of(der: &[u8]) -> String {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            lines.join("\n")
        )
    }
}
