//! Who a certificate speaks for.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::crypto::{Digest, sha256};
use crate::domain::id::{InvalidId, PrincipalName, TenantId};

/// What the holder of a certificate may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// A cash terminal.
    Terminal,
    /// Somebody who enrols customers.
    Enroller,
    /// Somebody who registers terminals, and may enrol.
    Admin,
    /// Somebody who reads receipts and proofs.
    Auditor,
    /// The bank's host, which redeems receipts.
    Host,
    /// The back end of the bank's mobile application, which answers for customers.
    AppBackend,
    /// Somebody who reports to the regulators: reports, and nothing else.
    Oversight,
    /// Somebody who writes packs of rules and proposes them.
    PolicyAuthor,
    /// Somebody who approves and activates the packs that others wrote.
    PolicyApprover,
    /// Somebody who changes the gateway's keys.
    KeyCustodian,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 10] = [
        Self::Terminal,
        Self::Enroller,
        Self::Admin,
        Self::Auditor,
        Self::Host,
        Self::AppBackend,
        Self::Oversight,
        Self::PolicyAuthor,
        Self::PolicyApprover,
        Self::KeyCustodian,
    ];

    /// The word in a certificate's URI and in file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Enroller => "enroller",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Host => "host",
            Self::AppBackend => "app-backend",
            Self::Oversight => "oversight",
            Self::PolicyAuthor => "policy-author",
            Self::PolicyApprover => "policy-approver",
            Self::KeyCustodian => "key-custodian",
        }
    }

    /// Whether its holders sign what they decide with their certificate's key, which must then be an
    /// Ed25519 key.
    #[must_use]
    pub const fn signs(self) -> bool {
        matches!(self, Self::PolicyAuthor | Self::PolicyApprover)
    }

    /// The role that [`Role::as_str`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// The holder of a certificate: `spiffe://<tenant>/<role>/<name>`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Principal {
    /// The bank.
    pub tenant: TenantId,
    /// What the holder may do.
    pub role: Role,
    /// The holder's own name; a terminal's id.
    pub name: PrincipalName,
}

/// The scheme of a principal's URI.
const SCHEME: &str = "spiffe://";

impl TryFrom<&str> for Principal {
    type Error = InvalidPrincipal;

    fn try_from(uri: &str) -> Result<Self, Self::Error> {
        let path = uri.strip_prefix(SCHEME).ok_or(InvalidPrincipal::Shape)?;
        let mut parts = path.split('/');
        let (Some(tenant), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidPrincipal::Shape);
        };
        Ok(Self {
            tenant: TenantId::try_from(tenant).map_err(InvalidPrincipal::Tenant)?,
            role: Role::from_word(role).ok_or(InvalidPrincipal::Role)?,
            name: PrincipalName::try_from(name).map_err(InvalidPrincipal::Name)?,
        })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.tenant, self.role.as_str(), self.name)
    }
}

/// A URI that names no principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrincipal {
    /// Not of the shape `spiffe://<tenant>/<role>/<name>`.
    #[error("it is not of the shape spiffe://<tenant>/<role>/<name>")]
    Shape,
    /// A tenant that cannot be.
    #[error("its tenant cannot be")]
    Tenant(#[source] InvalidId),
    /// A role that does not exist.
    #[error("its role does not exist")]
    Role,
    /// A name that cannot be.
    #[error("its name cannot be")]
    Name(#[source] InvalidId),
}

/// What a certificate says, once TLS has verified its chain and that the peer holds its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// Who.
    pub principal: Principal,
    /// SHA-256 of the certificate's public key (`SubjectPublicKeyInfo`, DER).
    pub spki: Digest,
}

/// Reads who a certificate speaks for. It verifies no signature: TLS has done that.
///
/// # Errors
///
/// [`IdentityError`] for what is no X.509 certificate, and for one whose subject alternative names
/// hold another number of URIs than one, or a URI that names no principal.
pub fn identify(certificate_der: &[u8]) -> Result<PeerIdentity, IdentityError> {
    let (rest, certificate) =
        X509Certificate::from_der(certificate_der).map_err(|_| IdentityError::Certificate)?;
    if !rest.is_empty() {
        return Err(IdentityError::Certificate);
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Certificate)?
        .ok_or(IdentityError::NotOneUri)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    // Two names would leave it to the reader which one counts.
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(IdentityError::NotOneUri);
    };
    let principal = Principal::try_from(uri).map_err(IdentityError::Principal)?;
    Ok(PeerIdentity { principal, spki: sha256(certificate.tbs_certificate.subject_pki.raw) })
}

/// Reads who a certificate in PEM speaks for, as [`identify`] does: the first one of several.
///
/// # Errors
///
/// [`IdentityError`] for what is no certificate in PEM, and whatever [`identify`] refuses.
pub fn identify_pem(certificate_pem: &str) -> Result<PeerIdentity, IdentityError> {
    let first = Pem::iter_from_buffer(certificate_pem.as_bytes()).next();
    let pem = first.and_then(Result::ok).filter(|pem| pem.label == "CERTIFICATE");
    identify(&pem.ok_or(IdentityError::Certificate)?.contents)
}

/// A certificate that says nobody's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No X.509 certificate.
    #[error("it is no X.509 certificate")]
    Certificate,
    /// None or several URIs among the subject alternative names.
    #[error("it does not have exactly one URI among its subject alternative names")]
    NotOneUri,
    /// A URI that names no principal.
    #[error("its URI names no principal")]
    Principal(#[source] InvalidPrincipal),
}

impl IdentityError {
    /// The reason of the error table.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "DEV_UNKNOWN"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_survives_its_uri() {
        for role in Role::ALL {
            let uri = format!("spiffe://bank-a/{}/ATM-004211", role.as_str());
            let principal = Principal::try_from(uri.as_str()).unwrap();
            assert_eq!(principal.role, role);
            assert_eq!(principal.to_string(), uri);
        }
    }

    #[test]
    fn a_uri_refuses_each_bad_neighbour() {
        use InvalidPrincipal as Bad;
        for (uri, bad) in [
            ("", Bad::Shape),
            ("https://bank-a/terminal/ATM-1", Bad::Shape),
            ("SPIFFE://bank-a/terminal/ATM-1", Bad::Shape),
            ("spiffe://bank-a/terminal", Bad::Shape),
            ("spiffe://bank-a/terminal/ATM-1/", Bad::Shape),
            ("spiffe://bank-a/terminal/ATM-1/admin/x", Bad::Shape),
            ("spiffe:///terminal/ATM-1", Bad::Tenant(InvalidId::Empty)),
            ("spiffe://bank-a/Terminal/ATM-1", Bad::Role),
            ("spiffe://bank-a/root/ATM-1", Bad::Role),
            ("spiffe://bank-a/terminal/", Bad::Name(InvalidId::Empty)),
            ("spiffe://bank-a/terminal/ATM%2F1", Bad::Name(InvalidId::Character)),
        ] {
            assert_eq!(Principal::try_from(uri), Err(bad), "{uri}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_identity() {
        for bytes in [&b""[..], b"0", b"-----BEGIN CERTIFICATE-----", &[0x30, 0x82, 0xff, 0xff]] {
            assert_eq!(identify(bytes), Err(IdentityError::Certificate));
        }
    }
}
