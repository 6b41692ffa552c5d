//! One receipt with its proof, verified alone.

use crate::ledger::{
    Checkpoint, CheckpointError, Origin, ProofTextError, TlogProof, WitnessPolicy,
};
use crate::receipt::{
    KeyRegister, KeyRegisterError, ReceiptError, TrustFingerprint, VerifiedReceipt, verify,
};

use super::Established;
use super::heads::open_checkpoint;

/// What is known of one receipt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SingleReport {
    /// The receipt.
    pub receipt: VerifiedReceipt,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
    /// What was established.
    pub established: Established,
}

/// Verifies that trusted keys signed a receipt, and that it is in the ledger that its proof's
/// checkpoint is of; and says whether enough witnesses of a policy cosigned that checkpoint.
///
/// # Errors
///
/// [`SingleError`] names the first thing that is wrong.
pub fn verify_single(
    jws: &str,
    proof_text: &str,
    keys_json: &[u8],
    keys_signature: &str,
    trust: &TrustFingerprint,
    policy: Option<&WitnessPolicy>,
) -> Result<SingleReport, SingleError> {
    let register = KeyRegister::verify(keys_json, keys_signature, trust)?;
    let receipt = verify(jws, &register)?;
    let log = &receipt.body().log;
    let origin = Origin::try_from(log.origin.as_str()).map_err(CheckpointError::Origin)?;
    let proof = TlogProof::parse(proof_text)?;
    if proof.index() != log.index {
        return Err(SingleError::OtherIndex);
    }
    let checkpoint = open_checkpoint(proof.checkpoint(), &origin, &register)?;
    proof.verify_path(jws, &checkpoint)?;
    if let Some(policy) = policy {
        let names_it = policy.logs().iter().any(|log| *log.origin() == origin);
        if !(policy.logs().is_empty() || names_it) {
            return Err(SingleError::OtherLedger);
        }
        policy.witnessed_at(proof.checkpoint()).ok_or(SingleError::NotWitnessed)?;
    }
    let witnessed = policy.is_some();
    let established = Established { signed: true, logged: true, witnessed };
    Ok(SingleReport { receipt, checkpoint, established })
}

/// A receipt that is not proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SingleError {
    /// The register.
    #[error("the key register is not to be believed")]
    Register(#[from] KeyRegisterError),
    /// The receipt.
    #[error("the receipt does not verify")]
    Receipt(#[from] ReceiptError),
    /// The proof's checkpoint.
    #[error("the proof's checkpoint does not verify")]
    Checkpoint(#[from] CheckpointError),
    /// The proof.
    #[error("the proof does not verify")]
    Proof(#[from] ProofTextError),
    /// A proof of something else.
    #[error("the proof is of another index than the receipt's")]
    OtherIndex,
    /// The policy's witnesses did not cosign the proof's checkpoint, or a line in their name is forged.
    #[error("the proof's checkpoint does not have the cosignatures that the policy wants")]
    NotWitnessed,
    /// A policy for other ledgers.
    #[error("the policy is for other ledgers than the receipt's")]
    OtherLedger,
}

impl SingleError {
    /// The word in machine-readable output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Register(fault) => fault.code(),
            Self::Receipt(fault) => fault.code(),
            Self::Checkpoint(fault) => fault.code(),
            Self::Proof(fault) => fault.code(),
            Self::OtherIndex => "LOG_PROOF",
            Self::NotWitnessed | Self::OtherLedger => "LOG_WITNESS",
        }
    }
}
