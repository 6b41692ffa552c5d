//! The register of terminals.

use super::Gateway;
use super::act::{Act, Write};
use super::error::GatewayError;
use super::request::Actor;
use crate::crypto::Digest;
use crate::domain::id::TerminalId;
use crate::domain::time::UnixMillis;
use crate::store::TerminalKeyRow;

/// Signs the certificates that terminals ask for.
pub trait CertificateAuthority: Send + Sync + std::fmt::Debug {
    /// A certificate for the key of a PKCS #10 request, in the name of this terminal.
    ///
    /// # Errors
    ///
    /// [`IssueError`] when the request cannot be signed.
    fn issue(
        &self,
        csr_pem: &str,
        terminal: &TerminalId,
        now: UnixMillis,
    ) -> Result<TerminalCertificate, IssueError>;
}

/// A terminal's certificate.
#[derive(Clone, Debug)]
pub struct TerminalCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// The authorities above it.
    pub chain_pem: Vec<String>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest,
}

/// A request that is not signed.
#[derive(Debug, thiserror::Error)]
#[error("the certificate signing request cannot be used")]
pub struct IssueError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl Gateway {
    /// Registers a terminal by the key in its request.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Exists`] when the terminal has a key that is not revoked: rotate it.
    pub async fn register_terminal(
        &self,
        actor: &Actor,
        terminal: &TerminalId,
        csr_pem: &str,
    ) -> Result<TerminalCertificate, GatewayError> {
        let write = |row| vec![Write::InsertFirstTerminalKey(row)];
        self.certify(actor, "terminal_registered", terminal, csr_pem, write).await
    }

    /// Gives a terminal another key; the former ones stop at once.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the terminal has no key that is not revoked.
    pub async fn rotate_terminal(
        &self,
        actor: &Actor,
        terminal: &TerminalId,
        csr_pem: &str,
    ) -> Result<TerminalCertificate, GatewayError> {
        let write = |row| vec![Write::RevokeKeys(terminal.clone()), Write::InsertTerminalKey(row)];
        self.certify(actor, "terminal_rotated", terminal, csr_pem, write).await
    }

    /// Revokes every key of a terminal.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when it has none that is not revoked.
    pub async fn revoke_terminal(
        &self,
        actor: &Actor,
        terminal: &TerminalId,
    ) -> Result<(), GatewayError> {
        let act = Act {
            act: "terminal_revoked",
            actor,
            subject: Some(terminal.to_string()),
            terminal: Some(terminal.clone()),
        };
        self.perform(act, vec![Write::RevokeKeys(terminal.clone())]).await.map(drop)
    }

    /// Registered keys, revoked ones too.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn terminals(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<TerminalKeyRow>, GatewayError> {
        Ok(self.store.terminal_keys(after, limit).await?)
    }

    /// Whether a terminal may speak with this key; asked once a call, before anything is read of it.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Rate`] when it speaks too often, or what the store cannot do; nobody is admitted
    /// then.
    pub async fn admits_terminal(
        &self,
        terminal: &TerminalId,
        spki: &Digest,
    ) -> Result<bool, GatewayError> {
        let row = self.store.terminal_key(spki).await?;
        let is_known = row.is_some_and(|row| row.terminal == *terminal && row.revoked_at.is_none());
        if is_known {
            // Not before: a key that was stolen and revoked must not use up the terminal's allowance.
            self.rate.check_key(terminal).map_err(|_| GatewayError::Rate)?;
        }
        Ok(is_known)
    }

    async fn certify(
        &self,
        actor: &Actor,
        word: &'static str,
        terminal: &TerminalId,
        csr_pem: &str,
        write: impl FnOnce(TerminalKeyRow) -> Vec<Write>,
    ) -> Result<TerminalCertificate, GatewayError> {
        let now = self.clock.now();
        let issued = self.authority.issue(csr_pem, terminal, now).map_err(|error| {
            tracing::info!(error = %error, "a certificate signing request was refused");
            GatewayError::Invalid {
                field: "csr_pem",
                problem: "it is not a signed PKCS #10 request with a usable key",
            }
        })?;
        let row = TerminalKeyRow {
            spki: issued.spki,
            terminal: terminal.clone(),
            registered_at: now,
            revoked_at: None,
        };
        let act = Act {
            act: word,
            actor,
            subject: Some(terminal.to_string()),
            terminal: Some(terminal.clone()),
        };
        self.perform(act, write(row)).await?;
        Ok(issued)
    }
}
