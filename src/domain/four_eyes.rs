//! Acts that take two people, and the people who may be one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::words::words;

words! {
    /// A role that people have, whose keys must be registered; terminals and other systems have others.
    StaffRole {
        /// Enrols customers.
        Enroller = "enroller",
        /// Administers.
        Admin = "admin",
        /// Reads receipts, proofs and evidence.
        Auditor = "auditor",
        /// Reports to the regulators.
        Oversight = "oversight",
        /// Writes packs of rules.
        PolicyAuthor = "policy-author",
        /// Approves the packs that others wrote.
        PolicyApprover = "policy-approver",
        /// Changes the gateway's keys.
        KeyCustodian = "key-custodian",
    }
}

words! {
    /// What one person proposes and another one approves.
    TwoPersonAct {
        /// Erasing a customer.
        Erasure = "erasure",
        /// A further capture of somebody who can be verified already.
        FurtherCapture = "further_capture",
        /// Another system's finger templates in place of captures.
        TemplateImport = "template_import",
        /// Registering somebody's key.
        PrincipalRegistration = "principal_registration",
        /// Revoking somebody's key.
        PrincipalRevocation = "principal_revocation",
        /// Activating somebody of whom one person cannot be sure.
        Activation = "activation",
        /// Unlocking a biometric that failures locked.
        Unlock = "unlock",
    }
}

impl TwoPersonAct {
    /// Whether it takes two people whatever is configured: who could register people alone would be two
    /// people whenever they liked, and an activation is proposed only where there is a doubt.
    #[must_use]
    pub const fn always_takes_two(self) -> bool {
        match self {
            Self::PrincipalRegistration
            | Self::PrincipalRevocation
            | Self::Activation
            | Self::Unlock => true,
            Self::Erasure | Self::FurtherCapture | Self::TemplateImport => false,
        }
    }
}

words! {
    /// Where a proposal stands.
    ProposalState {
        /// It waits.
        Open = "open",
        /// It was approved, and what it proposed is done.
        Done = "done",
        /// Somebody took it back.
        Withdrawn = "withdrawn",
        /// Nobody approved it in time.
        Expired = "expired",
    }
}

/// Which acts take two people, and in which time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FourEyes {
    /// Those that do, beside those that always do.
    pub acts: BTreeSet<TwoPersonAct>,
    /// How long after its proposal an act may be approved at the earliest, in milliseconds; at once where
    /// nothing is said.
    pub delay_ms: BTreeMap<TwoPersonAct, i64>,
    /// How long a proposal waits, in milliseconds; longer than any delay.
    pub expires_ms: i64,
}

impl FourEyes {
    /// Whether an act takes two people.
    #[must_use]
    pub fn covers(&self, act: TwoPersonAct) -> bool {
        act.always_takes_two() || self.acts.contains(&act)
    }

    /// How long after its proposal an act may be approved at the earliest, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, act: TwoPersonAct) -> i64 {
        self.delay_ms.get(&act).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_registered_and_biometrics_unlocked_by_two_whatever_is_configured() {
        let nothing = FourEyes { acts: BTreeSet::new(), delay_ms: BTreeMap::new(), expires_ms: 1 };
        for act in TwoPersonAct::ALL {
            let can_be_one_persons = ["erasure", "further_capture", "template_import"];
            assert_eq!(!nothing.covers(act), can_be_one_persons.contains(&act.as_str()), "{act:?}");
            assert_eq!(nothing.delay_ms(act), 0);
        }
        let all = FourEyes { acts: BTreeSet::from(TwoPersonAct::ALL), ..nothing };
        assert!(TwoPersonAct::ALL.into_iter().all(|act| all.covers(act)));
    }
}
