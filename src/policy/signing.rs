//! What people sign when they propose or approve a pack.

use super::PolicyPack;
use crate::crypto::{Digest, length_prefixed};
use crate::domain::id::TenantId;

/// What a signature says about a pack. One cannot be taken for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackConsent {
    /// Its author wants it to decide.
    Propose,
    /// A second person agrees.
    Approve,
}

impl PackConsent {
    /// The message to sign about a pack of this name, version and hash.
    #[must_use]
    pub fn message(self, tenant: &TenantId, id: &str, version: u32, hash: &Digest) -> Vec<u8> {
        let context: &[u8] = match self {
            Self::Propose => b"tulga-policy-propose-v1",
            Self::Approve => b"tulga-policy-approve-v1",
        };
        length_prefixed(&[
            context,
            tenant.as_str().as_bytes(),
            id.as_bytes(),
            &version.to_be_bytes(),
            hash.as_bytes(),
        ])
    }

    /// The message to sign about this pack.
    #[must_use]
    pub fn message_about(self, tenant: &TenantId, pack: &PolicyPack) -> Vec<u8> {
        self.message(tenant, pack.id().as_str(), pack.version(), &pack.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_message() {
        let tenant = |name| TenantId::try_from(name).unwrap();
        let (one, other) = (Digest::new([1; 32]), Digest::new([2; 32]));
        let messages = [
            PackConsent::Propose.message(&tenant("bank-a"), "kz", 1, &one),
            PackConsent::Approve.message(&tenant("bank-a"), "kz", 1, &one),
            PackConsent::Propose.message(&tenant("bank-b"), "kz", 1, &one),
            PackConsent::Propose.message(&tenant("bank-a"), "ru", 1, &one),
            PackConsent::Propose.message(&tenant("bank-a"), "kz", 2, &one),
            PackConsent::Propose.message(&tenant("bank-a"), "kz", 1, &other),
        ];
        let different: std::collections::BTreeSet<_> = messages.iter().collect();
        assert_eq!(different.len(), messages.len());
    }
}
