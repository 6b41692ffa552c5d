//! Evidence: each decision's captures under a key of their own, so that destroying the key destroys them.

use zeroize::Zeroizing;

use super::{Place, Vault};
use crate::crypto::{AeadError, Entropy, EntropyError, SealingKey};
use crate::domain::id::{ReceiptId, TenantId};

/// Sealed captures and their wrapped key; they are kept apart.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedEvidence {
    /// Their key, wrapped under a key-encryption key.
    pub wrapped: Vec<u8>,
    /// Which one; none where rows did not say so yet.
    pub kek_id: Option<String>,
    /// The captures.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedEvidence({} bytes)", self.sealed.len())
    }
}

impl Vault {
    /// Seals a decision's captures under a fresh key.
    ///
    /// # Errors
    ///
    /// [`AeadError::Seal`] when the source of chance fails.
    pub fn seal_evidence(
        &self,
        tenant: &TenantId,
        receipt: &ReceiptId,
        captures: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<SealedEvidence, AeadError> {
        let key = SealingKey::generate(entropy).map_err(|EntropyError| AeadError::Seal)?;
        let aad = place("wrapped", tenant, receipt).aad();
        let ring = self.ring();
        Ok(SealedEvidence {
            wrapped: ring.current().wrap.seal(&aad, key.expose(), entropy)?,
            kek_id: Some(ring.current().name.id.clone()),
            sealed: key.seal(&place("picture", tenant, receipt).aad(), captures, entropy)?,
        })
    }

    /// Opens what [`Vault::seal_evidence`] sealed for the same decision.
    ///
    /// # Errors
    ///
    /// [`AeadError::Open`] for another decision's key or captures, or altered bytes.
    pub fn open_evidence(
        &self,
        tenant: &TenantId,
        receipt: &ReceiptId,
        evidence: &SealedEvidence,
    ) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        let aad = place("wrapped", tenant, receipt).aad();
        let plain = self.ring().unwrap(evidence.kek_id.as_deref(), &aad, &evidence.wrapped)?;
        let key = <[u8; 32]>::try_from(plain.as_slice()).map_err(|_| AeadError::Open)?;
        let key = SealingKey::new(*Zeroizing::new(key));
        key.open(&place("picture", tenant, receipt).aad(), &evidence.sealed)
    }
}

pub(super) fn place(column: &'static str, tenant: &TenantId, receipt: &ReceiptId) -> Place {
    Place::system("evidence", column, tenant.as_str(), receipt.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;

    #[test]
    fn a_picture_opens_for_its_decision_with_its_own_key_only() {
        let chance = SeededEntropy::new(1);
        let vault = Vault::new([7; 32]);
        let tenant = TenantId::try_from("bank-a").unwrap();
        let (one, other) = (ReceiptId::new([1; 16]), ReceiptId::new([2; 16]));
        let kept = vault.seal_evidence(&tenant, &one, b"picture", &chance).unwrap();
        let opened = vault.open_evidence(&tenant, &one, &kept).unwrap();
        assert_eq!(opened.as_slice(), b"picture");
        assert!(!kept.sealed.windows(7).any(|window| window == b"picture"));
        assert!(vault.open_evidence(&tenant, &other, &kept).is_err());
        let second = vault.seal_evidence(&tenant, &one, b"picture", &chance).unwrap();
        let mixed = SealedEvidence { wrapped: second.wrapped, ..kept };
        assert!(vault.open_evidence(&tenant, &one, &mixed).is_err());
    }
}
