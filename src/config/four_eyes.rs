//! Which acts take two people.

use std::collections::{BTreeMap, BTreeSet};

use super::ConfigFaults;
use super::raw::{RawDelays, RawFourEyes};
use crate::domain::four_eyes::{FourEyes, TwoPersonAct};

/// Longest time that a proposal waits, in hours: 30 days.
const EXPIRES_HOURS_MAX: u32 = 720;

pub(super) fn check(raw: &RawFourEyes, faults: &mut ConfigFaults) -> FourEyes {
    let RawFourEyes { acts, expires_hours, delay_s } = raw;
    let mut known = BTreeSet::new();
    for word in acts {
        if let Some(act) = TwoPersonAct::from_word(word) {
            known.insert(act);
        } else {
            let words = TwoPersonAct::ALL.map(TwoPersonAct::as_str).join(", ");
            faults.add("four_eyes.acts", format!("must be some of {words}"));
        }
    }
    let hours = faults.within("four_eyes.expires_hours", *expires_hours, 1, EXPIRES_HOURS_MAX);
    let RawDelays {
        erasure,
        further_capture,
        template_import,
        principal_registration,
        principal_revocation,
        activation,
        unlock,
    } = *delay_s;
    let delays = [
        (TwoPersonAct::Erasure, erasure),
        (TwoPersonAct::FurtherCapture, further_capture),
        (TwoPersonAct::TemplateImport, template_import),
        (TwoPersonAct::PrincipalRegistration, principal_registration),
        (TwoPersonAct::PrincipalRevocation, principal_revocation),
        (TwoPersonAct::Activation, activation),
        (TwoPersonAct::Unlock, unlock),
    ];
    if delays.iter().any(|(_, delay_s)| u64::from(*delay_s) >= u64::from(hours) * 3_600) {
        faults.add("four_eyes.delay_s", "each must be less than four_eyes.expires_hours");
    }
    FourEyes {
        acts: known,
        delay_ms: delays
            .into_iter()
            .map(|(act, delay_s)| (act, i64::from(delay_s) * 1_000))
            .collect::<BTreeMap<_, _>>(),
        expires_ms: i64::from(hours) * 3_600_000,
    }
}
