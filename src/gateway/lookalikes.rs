//! One face under several numbers, at transactions: whom else the person in front of the terminal looks like.
//!
//! To search everybody for a face is biometric identification. It is done only where a rule in force asks for
//! it, only with a face that stands there by right, and whom it finds counts only if they had to do with the
//! transaction. What comes of it is a fact for the rules and a case for people, never a name for a terminal.

use super::Gateway;
use super::act::DIFFERENT_PEOPLE;
use super::consent::holds;
use super::error::GatewayError;
use super::look::Looked;
use super::sequencer::Slot;
use super::verification_job::VerificationJob;
use crate::domain::id::CustomerId;
use crate::matching::Template;
use crate::policy::{Bars, CustomerStanding, Facts, PolicyPack};
use crate::store::{CustomerStatus, Links, UnitOfWork};

/// How long ago somebody may have moved cash here to be looked at: 30 days. A borrowed card goes from hand to
/// hand within days, and the longer the time, the more people pass by a terminal who are alike by chance.
const LINKED_WITHIN_MS: i64 = 30 * 24 * 3_600_000;

impl Gateway {
    /// Looks whom else the face belongs to, perhaps, if a rule asks and the person stands there by right.
    pub(super) async fn look_for_others(
        &self,
        mut looked: Looked,
        customer: Option<CustomerId>,
        pack: &PolicyPack,
    ) -> Result<Looked, GatewayError> {
        let is_asked = pack.asks(Facts::FACE_OF_ANOTHER) && may_be_searched(&looked, pack.bars());
        let Some(face) = looked.face.take().filter(|_| is_asked) else { return Ok(looked) };
        let template = Template::from_captures(&[face]);
        let template = template.map_err(|cause| GatewayError::internal("template", cause))?;
        let hits = self.search_faces(template).await?.into_iter().map(|hit| hit.key);
        looked.seen.found(hits.filter(|other| Some(*other) != customer));
        Ok(looked)
    }
}

/// A face that is not the customer's, or not alive, is refused anyway: whom it belongs to must not be found out
/// through it. A guest has nothing to be compared with.
fn may_be_searched(looked: &Looked, bars: &Bars) -> bool {
    let seen = &looked.seen;
    let is_live = seen.liveness_e4.is_none_or(|score_e4| score_e4 >= bars.liveness_min_e4);
    let is_theirs = match looked.standing {
        CustomerStanding::Guest => true,
        CustomerStanding::Active => seen.strength_db.is_some_and(|db| db >= bars.required_db),
        _ => false,
    };
    is_live && is_theirs
}

impl VerificationJob {
    /// Of those whom the face looks like, the active ones who moved cash on the account, with the card or at
    /// the terminal lately, and whom nobody has told apart from this person.
    pub(super) async fn lookalikes(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Vec<CustomerId>, GatewayError> {
        let mut found = Vec::new();
        let Some(customer) = self.session.customer()? else { return Ok(found) };
        if !self.pack.asks(Facts::FACE_OF_ANOTHER) {
            return Ok(found);
        }
        let links = Links {
            account: self.session.account_index()?,
            card: self.session.card()?,
            terminal: self.terminal.id.clone(),
        };
        let since = slot.now.plus_millis(-LINKED_WITHIN_MS);
        for other in self.seen.others()? {
            let status = unit.customer(&other).await?.map(|row| row.status);
            if status == Some(CustomerStatus::Active)
                && holds(unit, &other, slot.now).await?
                && unit.is_linked(&other, &links, since).await?
                && !are_told_apart(unit, &customer, &other).await?
            {
                found.push(other);
            }
        }
        Ok(found)
    }
}

/// Whether people found that these are two: at an enrolment, or by releasing a case about one of them in which
/// the other stands.
async fn are_told_apart(
    unit: &mut dyn UnitOfWork,
    one: &CustomerId,
    other: &CustomerId,
) -> Result<bool, GatewayError> {
    for (of, suspected) in [(one, other), (other, one)] {
        let pairs = unit.duplicates(of).await?;
        let mut pairs = pairs.iter().filter(|row| row.other == *suspected);
        if pairs.any(|row| row.resolution.as_deref() == Some(DIFFERENT_PEOPLE)) {
            return Ok(true);
        }
    }
    Ok(unit.was_lookalike_released(one, other).await?)
}

#[cfg(test)]
mod tests {
    use CustomerStanding::{Active, Guest, NotActive, NotEnrolled, Suspended, Unknown};

    use super::*;
    use crate::gateway::verification_job::Seen;

    /// As it was kept before there was a search.
    const KEPT: &str = r#"{"refused":[],"strength_db":40,"strength_tenth_db":400,"liveness_e4":null,"quality":null}"#;

    fn kept() -> Seen {
        serde_json::from_str(KEPT).unwrap()
    }

    #[test]
    fn whom_a_search_found_is_kept_for_the_final_decision() {
        let mut seen = kept();
        assert!(!seen.was_searched() && seen.others().unwrap().is_empty());
        let others = [CustomerId::new([7; 16]), CustomerId::new([1; 16])];
        seen.found(others.into_iter());
        let again: Seen = serde_json::from_str(&serde_json::to_string(&seen).unwrap()).unwrap();
        assert!(again.was_searched());
        assert_eq!(again.others().unwrap(), others);
        // That nobody was found is something else than that nobody was searched.
        seen.found([].into_iter());
        assert!(seen.was_searched() && seen.others().unwrap().is_empty());
    }

    #[test]
    fn only_a_living_face_of_the_customers_or_a_guests_may_be_searched() {
        let pack = PolicyPack::embedded_dev().unwrap();
        let may = |standing, strength_db, liveness_e4| {
            let mut seen = kept();
            (seen.strength_db, seen.liveness_e4) = (strength_db, liveness_e4);
            let looked = Looked {
                seen,
                standing,
                subject: None,
                keys: None,
                guest: None,
                face: None,
                compared_with: None,
            };
            may_be_searched(&looked, pack.bars())
        };
        assert!(may(Active, Some(40), None) && may(Active, Some(40), Some(5_000)));
        assert!(!may(Active, Some(39), None) && !may(Active, None, None));
        assert!(!may(Active, Some(60), Some(4_999)));
        assert!(may(Guest, None, None) && !may(Guest, Some(60), Some(4_999)));
        for standing in [Unknown, NotActive, NotEnrolled, Suspended] {
            assert!(!may(standing, Some(60), None), "{standing:?}");
        }
    }
}
