//! Who the witnesses are, and who said so.

use std::path::Path;

use super::AuditError;
use super::lines::read_bytes;
use super::report::{Findings, PolicySource};
use crate::ledger::{Origin, POLICY_BYTES_MAX, WitnessPolicy};
use crate::receipt::KeyRegister;

/// The policy by which cosignatures count.
pub(super) struct Witnesses {
    policy: Option<WitnessPolicy>,
    pub source: PolicySource,
}

impl Witnesses {
    /// The auditor's own policy, or else the one in the export.
    pub(super) fn choose(
        given: Option<&Path>,
        exported: Option<&[u8]>,
        findings: &mut Findings,
    ) -> Result<Self, AuditError> {
        let (source, bytes) = match (given, exported) {
            (Some(file), _) => (PolicySource::Auditor, read_bytes(file, POLICY_BYTES_MAX)?),
            (None, Some(bytes)) => (PolicySource::Export, bytes.to_vec()),
            (None, None) => return Ok(Self { policy: None, source: PolicySource::Nobody }),
        };
        match WitnessPolicy::parse(&bytes) {
            Ok(policy) => Ok(Self { policy: Some(policy), source }),
            Err(fault) => {
                let cause = std::error::Error::source(&fault);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                findings.add("policy", None, format!("{fault}{cause}"));
                Ok(Self { policy: None, source })
            }
        }
    }

    pub(super) const fn policy(&self) -> Option<&WitnessPolicy> {
        self.policy.as_ref()
    }

    /// Whether cosignatures are asked for.
    pub(super) fn asks(&self) -> bool {
        self.policy.as_ref().is_some_and(WitnessPolicy::asks)
    }

    /// A policy that names ledgers speaks of no others.
    pub(super) fn check_ledger(
        &self,
        origin: &Origin,
        register: &KeyRegister,
        findings: &mut Findings,
    ) {
        let Some(policy) = self.policy.as_ref().filter(|policy| !policy.logs().is_empty()) else {
            return;
        };
        let named = policy.logs().iter().filter(|log| log.origin() == origin).any(|log| {
            register.ledger_keys(origin.as_str()).any(|key| key.public_key == *log.key())
        });
        if !named {
            let text = "the policy names ledgers and their keys, and this one is not among them";
            findings.add("policy", None, text);
        }
    }
}
