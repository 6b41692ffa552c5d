//! Replay: a decision is made once more, from the captures that were kept of it, and compared with what the
//! ledger says of it.
//!
//! Each step rests on the one before: the ledger has the receipt, the receipt commits to the audit record, the
//! record to the captures, the captures name the template that they were compared with. Whatever of these was
//! altered is a finding; whatever is rightly no longer there ends the replay, which then says nothing of the
//! decision. Models and rules run by the code that decides about customers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Gateway;
use super::audit::Entry;
use super::confirming::refused_for;
use super::customer::Templates;
use super::error::GatewayError;
use super::evidence::EvidenceIs;
use super::kept_captures::KeptCaptures;
use super::packs::PackIs;
use super::record::{LookedBy, Recorded};
use super::request::{Actor, Logged};
use super::verification_job::{Seen, audit_place};
use crate::crypto::{Digest, sha256};
use crate::domain::id::{CaseReference, CustomerId};
use crate::domain::modality::{Captured, Modality};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::words::words;
use crate::ledger::{LogPosition, Origin};
use crate::policy::{CustomerStanding, Facts, PolicyPack, decide};
use crate::receipt::{Content, Salt, Verification, audit_commit, rid_text, verify};
use crate::store::CustomerStatus;
use crate::vault::CustomerKeys;

/// How far apart similarities and probabilities may lie where another build or other instructions look: rounding,
/// carried through the models. A fused score lies as much farther apart as it weighs its similarities.
const DIFFERENCE_MAX: f64 = 1e-4;

/// The same of a finger's score. Its minutiae are kept in whole steps, and rounding moves one to the next: of
/// quality, which is a byte, by 1/255 of what that minutia weighs.
const FINGER_DIFFERENCE_MAX: f64 = 1e-3;

words! {
    /// How what was found agrees with what was recorded.
    Agreement {
        /// To the last bit.
        Same = "same",
        /// As near as another build or other instructions come.
        Within = "within",
        /// It does not: a finding.
        Different = "different",
    }
}

words! {
    /// What a replay came to.
    Verdict {
        /// The same decision, from the same scores.
        Same = "same",
        /// The same decision, from scores within the tolerance.
        Within = "within",
        /// Something is not as it was recorded.
        Different = "different",
        /// It could not be run to its end, and nothing was found until then.
        Ended = "ended",
    }
}

words! {
    /// Why a replay ended before the decision was made again.
    ReplayEnd {
        /// The entry is of something else.
        NoDecision = "no_decision",
        /// The decision was made without a capture.
        NoCapture = "no_capture",
        /// No captures were kept: the pack had none kept, they could not be used, or they were compared with
        /// nobody.
        NeverKept = "never_kept",
        /// The captures' time was over, and they were destroyed.
        Expired = "expired",
        /// The customer was erased, and the template with them.
        CustomerErased = "customer_erased",
        /// Captures of the template were removed.
        TemplateGone = "template_gone",
        /// The pack of rules is not here any more.
        PackGone = "pack_gone",
        /// Other models look here now, or the same ones with other parameters.
        ModelsGone = "models_gone",
        /// An older version kept the captures, without what is needed to run the models again.
        Older = "older",
    }
}

/// One thing that was compared. It holds scores: never to be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// What was recorded.
    pub recorded: String,
    /// What was found.
    pub found: String,
    /// How the two agree.
    pub agreement: Agreement,
}

/// What a replay found.
#[derive(Clone, PartialEq, Eq)]
pub struct Replay {
    /// Why it ended early, if it did.
    pub end: Option<ReplayEnd>,
    /// What was compared, in that order.
    pub compared: Vec<Compared>,
    /// What looked when the decision was made, as far as it is known.
    pub then: Option<LookedBy>,
    /// What looked now.
    pub now: LookedBy,
    /// What was taken as it was recorded: it was not found out again.
    pub as_recorded: Vec<String>,
    /// The entry that says that the captures were read; none where they were not.
    pub read: Option<Logged>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replay({}, {} compared)", self.verdict().as_str(), self.compared.len())
    }
}

impl Replay {
    /// What it came to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let worst = self.compared.iter().map(|it| it.agreement).max();
        match (worst, self.end) {
            (Some(Agreement::Different), _) => Verdict::Different,
            (_, Some(_)) => Verdict::Ended,
            (Some(Agreement::Within), None) => Verdict::Within,
            (Some(Agreement::Same) | None, None) => Verdict::Same,
        }
    }

    /// Whether the scores must be the same bit for bit.
    fn is_exact(&self) -> bool {
        self.then.as_ref() == Some(&self.now)
    }

    fn note(&mut self, name: &str, recorded: String, found: String, agreement: Agreement) {
        self.compared.push(Compared { name: name.to_owned(), recorded, found, agreement });
    }

    /// What a step rests on is there, unaltered.
    fn holds(&mut self, name: &str, what: &str) {
        self.note(name, what.to_owned(), what.to_owned(), Agreement::Same);
    }

    /// What a step rests on is not; nothing can be run on it.
    fn fails(&mut self, name: &str, what: &str, found: &str) -> Stop {
        self.note(name, what.to_owned(), found.to_owned(), Agreement::Different);
        Stop::Finding
    }

    /// Two texts that must be the same, whatever looks.
    fn texts(&mut self, name: &str, recorded: impl Into<String>, found: impl Into<String>) {
        let (recorded, found) = (recorded.into(), found.into());
        let agreement = if recorded == found { Agreement::Same } else { Agreement::Different };
        self.note(name, recorded, found, agreement);
    }

    /// Two scores, which may lie so far apart where something else looks.
    fn scores(&mut self, name: &str, recorded: &str, found: &str, difference_max: f64) {
        let difference_max = if self.is_exact() { None } else { Some(difference_max) };
        let agreement = agreement_of_scores(recorded, found, difference_max);
        self.note(name, recorded.to_owned(), found.to_owned(), agreement);
    }

    /// Two whole numbers that were rounded down from scores, in steps.
    fn rounded(&mut self, name: &str, recorded: Option<i64>, found: Option<i64>, step: i64) {
        if recorded.is_none() && found.is_none() {
            return;
        }
        let agreement = match (recorded, found) {
            (Some(a), Some(b)) if a == b => Agreement::Same,
            // What lies at a step may fall on either side of it.
            (Some(a), Some(b)) if !self.is_exact() && a.abs_diff(b) <= step.unsigned_abs() => {
                Agreement::Within
            }
            _ => Agreement::Different,
        };
        let text = |number: Option<i64>| number.map(|it| it.to_string()).unwrap_or_default();
        self.note(name, text(recorded), text(found), agreement);
    }
}

/// Why a replay does not go on.
enum Stop {
    End(ReplayEnd),
    /// It is among what was compared.
    Finding,
    Failed(GatewayError),
}

impl<E: Into<GatewayError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A decision as the ledger and its audit record tell it.
struct Decided {
    receipt: Verification,
    time: UnixMillis,
    record: Recorded,
    facts: Facts,
}

impl Gateway {
    /// Makes a decision again, from the captures that were kept of it. Their reading is entered in the ledger
    /// before anything is made of them.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such entry, and [`GatewayError::Overloaded`] while another
    /// replay runs or the models have no place free: terminals need them more.
    pub async fn replay(
        &self,
        actor: &Actor,
        place: u64,
        case: &CaseReference,
    ) -> Result<Replay, GatewayError> {
        let _turn = self.replay.try_lock().map_err(|_| GatewayError::Overloaded)?;
        let _admitted = self.vision.admit()?;
        let entry = self.entry(place).await?;
        let mut replay = Replay {
            end: None,
            compared: Vec::new(),
            then: None,
            now: self.looked_by(),
            as_recorded: Vec::new(),
            read: None,
        };
        match self.run_again(&mut replay, &entry, actor, case).await {
            Ok(()) | Err(Stop::Finding) => {}
            Err(Stop::End(end)) => replay.end = Some(end),
            Err(Stop::Failed(error)) => return Err(error),
        }
        Ok(replay)
    }

    /// Whatever ends it without the captures does so before they are read.
    async fn run_again(
        &self,
        replay: &mut Replay,
        entry: &Entry,
        actor: &Actor,
        case: &CaseReference,
    ) -> Result<(), Stop> {
        let decided = self.decided_at(replay, entry).await?;
        replay.agree(&decided);
        let pack = self.pack_then(replay, &decided.record).await?;
        self.require_models(replay, &decided.record)?;
        let (position, plain) = self.captures_then(replay, entry, &decided).await?;
        replay.read = Some(self.note_reading(actor, &position, case).await?);
        let kept = KeptCaptures::parse(&plain)
            .map_err(|cause| GatewayError::internal("evidence", cause))?
            .ok_or(Stop::End(ReplayEnd::Older))?;
        let templates = self.template_then(replay, &decided, &kept).await?;
        let modalities = kept.captures.iter().map(|(modality, _)| *modality).collect::<Vec<_>>();
        let looked = self.look_beside(kept.captures, templates, pack.bars().required_db).await;
        let mut seen = match looked {
            Ok((seen, _)) => seen,
            Err(GatewayError::Unreadable(_) | GatewayError::UnreadableFinger(_)) => {
                return Err(replay.fails("captures", "decoded", "they cannot be decoded"));
            }
            Err(error) => return Err(error.into()),
        };
        if decided.record.is_suspected_by_sensor() {
            // Its word is taken as it was recorded: there is no sensor to ask again.
            seen.suspected_by_sensor();
        }
        self.compare_scores(replay, &decided.record, &seen);
        replay.compare(&decided, &pack, &seen, &modalities);
        Ok(())
    }

    /// The decision of an entry, once its receipt and its audit record are known to be the ones of the day.
    async fn decided_at(&self, replay: &mut Replay, entry: &Entry) -> Result<Decided, Stop> {
        const WHAT: &str = "signed, and in the ledger";
        let verified = verify(&entry.jws, &self.keyring.installed()?.register)
            .map_err(|error| replay.fails("receipt", WHAT, error.code()))?;
        let log = &verified.body().log;
        let LogPosition { origin, index } = &entry.position;
        let is_in_place = log.index == *index
            && log.origin == origin.as_str()
            && verified.id() == entry.receipt
            && self.with_tree(origin, |tree| tree.leaf(*index)).await? == Some(verified.leaf());
        if !is_in_place {
            return Err(replay.fails("receipt", WHAT, "not the ledger's"));
        }
        replay.holds("receipt", WHAT);
        let receipt = match &verified.body().content {
            Content::Verification(receipt) => receipt.clone(),
            Content::Exception(_) => return Err(Stop::End(ReplayEnd::NoCapture)),
            _ => return Err(Stop::End(ReplayEnd::NoDecision)),
        };
        let record = self.record_of(replay, entry, &receipt)?;
        let unknown =
            LookedBy { build: record.build.clone(), isa: String::new(), manifest: String::new() };
        replay.then = Some(record.looked_by.clone().unwrap_or(unknown));
        let facts = Facts::from_json(record.facts.clone());
        let facts = facts.map_err(|_| Stop::End(ReplayEnd::Older))?;
        Ok(Decided { receipt, time: verified.time(), record, facts })
    }

    fn record_of(
        &self,
        replay: &mut Replay,
        entry: &Entry,
        receipt: &Verification,
    ) -> Result<Recorded, Stop> {
        const NAME: &str = "audit_record";
        const WHAT: &str = "as the receipt commits to it";
        let Some(sealed) = &entry.sealed_audit else {
            return Err(replay.fails(NAME, WHAT, "it is missing"));
        };
        let place = audit_place(self.settings.tenant.as_str(), &entry.position);
        let opened = self.vault.open_system(&place, sealed);
        let plain = opened.map_err(|_| replay.fails(NAME, WHAT, "it does not open"))?;
        let parts = plain.split_first_chunk::<32>();
        let (salt, record) = parts.ok_or_else(|| replay.fails(NAME, WHAT, "it is too short"))?;
        if audit_commit(&Salt::new(*salt), record) != receipt.audit {
            return Err(replay.fails(NAME, WHAT, "another one"));
        }
        replay.holds(NAME, WHAT);
        serde_json::from_slice(record).map_err(|_| Stop::End(ReplayEnd::Older))
    }

    /// The pack that decided.
    async fn pack_then(
        &self,
        replay: &mut Replay,
        record: &Recorded,
    ) -> Result<Arc<PolicyPack>, Stop> {
        const WHAT: &str = "the files that decided";
        let hash = Digest::from_labelled(&record.pack);
        let hash = hash.map_err(|_| replay.fails("pack", WHAT, "its hash is none"))?;
        match self.packs.by_hash(hash).await? {
            PackIs::Here(pack) => {
                replay.holds("pack", WHAT);
                Ok(pack)
            }
            PackIs::Gone => Err(Stop::End(ReplayEnd::PackGone)),
            PackIs::Altered => Err(replay.fails("pack", WHAT, "others are kept in their place")),
        }
    }

    /// Ends where other models look here than looked then.
    fn require_models(&self, replay: &Replay, record: &Recorded) -> Result<(), Stop> {
        let models = self.models_here().iter().map(Digest::labelled).collect::<Vec<_>>();
        let are_here = record.models.iter().all(|model| models.contains(model));
        let by = record.looked_by.as_ref();
        if are_here && by.is_none_or(|by| by.manifest == replay.now.manifest) {
            return Ok(());
        }
        Err(Stop::End(ReplayEnd::ModelsGone))
    }

    /// The captures that the record commits to, and the entry under which they are kept: for a final decision
    /// that of the first.
    async fn captures_then(
        &self,
        replay: &mut Replay,
        entry: &Entry,
        decided: &Decided,
    ) -> Result<(LogPosition, Bytes), Stop> {
        const NAME: &str = "captures";
        const WHAT: &str = "as the audit record commits to them";
        let hash = decided.record.evidence.as_ref();
        let (position, found) = match self.evidence_of(entry).await? {
            EvidenceIs::NeverKept => self.evidence_of_first(entry, decided).await?,
            found => (entry.position.clone(), found),
        };
        match (found, hash) {
            (EvidenceIs::NeverKept, None) => Err(Stop::End(ReplayEnd::NeverKept)),
            (EvidenceIs::NeverKept, Some(_)) => Err(replay.fails(NAME, WHAT, "they are missing")),
            (EvidenceIs::Destroyed(keep_until), _) if keep_until > self.clock.now() => {
                Err(replay.fails(NAME, WHAT, "they were destroyed before their time was over"))
            }
            (EvidenceIs::Destroyed(_), _) => Err(Stop::End(ReplayEnd::Expired)),
            (EvidenceIs::Missing, _) => Err(replay.fails(NAME, WHAT, "their file is missing")),
            (EvidenceIs::Altered, _) => Err(replay.fails(NAME, WHAT, "they do not open")),
            (EvidenceIs::Kept(..), None) => Err(Stop::End(ReplayEnd::Older)),
            (EvidenceIs::Kept(_, plain), Some(hash)) if sha256(&plain).labelled() == *hash => {
                replay.holds(NAME, WHAT);
                Ok((position, plain))
            }
            (EvidenceIs::Kept(..), Some(_)) => Err(replay.fails(NAME, WHAT, "others")),
        }
    }

    /// What is kept of the decision that asked for the confirmation, where this one came after it.
    async fn evidence_of_first(
        &self,
        entry: &Entry,
        decided: &Decided,
    ) -> Result<(LogPosition, EvidenceIs), GatewayError> {
        let Some(first) = &decided.receipt.refers else {
            return Ok((entry.position.clone(), EvidenceIs::NeverKept));
        };
        let nothing = || Ok((entry.position.clone(), EvidenceIs::NeverKept));
        let origin = match first.origin.as_deref().map(Origin::try_from) {
            None => entry.position.origin.clone(),
            Some(Ok(origin)) => origin,
            Some(Err(_)) => return nothing(),
        };
        let other = match self.place(Some(&origin), first.index) {
            Ok(place) => self.entry(place).await,
            Err(error) => Err(error),
        };
        match other {
            Ok(other) if rid_text(&other.receipt) == first.rid => {
                let found = self.evidence_of(&other).await?;
                Ok((other.position, found))
            }
            Ok(_) | Err(GatewayError::NotFound(_)) => nothing(),
            Err(error) => Err(error),
        }
    }

    /// The template as it was when the captures were compared with it.
    async fn template_then(
        &self,
        replay: &mut Replay,
        decided: &Decided,
        kept: &KeptCaptures,
    ) -> Result<Templates, Stop> {
        const NAME: &str = "template";
        const WHAT: &str = "as the captures were compared with it";
        let with = kept.compared_with.as_ref();
        let with = with.ok_or(GatewayError::broken("kept captures were compared with nobody"))?;
        let Some(row) = self.store.customer_key(&with.customer).await? else {
            let customer = self.store.customer(&with.customer).await?;
            return Err(match customer.map(|row| row.status) {
                Some(CustomerStatus::Erased) => Stop::End(ReplayEnd::CustomerErased),
                _ => replay.fails(NAME, WHAT, "the customer's keys are missing"),
            });
        };
        let keys = self.vault.open_keys(&self.settings.tenant, &row);
        let keys = keys.map_err(|_| replay.fails(NAME, WHAT, "the customer's keys do not open"))?;
        self.agree_on_subject(replay, decided, &keys, with.customer);
        let rows = self.store.captures(&with.customer).await?;
        let named = with.captures.iter().map(|of| {
            rows.iter().find(|row| row.id == of.id && row.modality == of.modality).cloned()
        });
        let named = named.collect::<Option<Vec<_>>>().ok_or(Stop::End(ReplayEnd::TemplateGone))?;
        let opened = self.open_captures(&keys, &named);
        let opened = opened.map_err(|_| replay.fails(NAME, WHAT, "it does not open"))?;
        if opened.captures != with.captures {
            return Err(replay.fails(NAME, WHAT, "another one"));
        }
        replay.holds(NAME, WHAT);
        Ok(self.templates(&opened)?)
    }

    fn compare_scores(&self, replay: &mut Replay, record: &Recorded, seen: &Seen) {
        let fusion = &self.matcher.parameters().fusion;
        let fused_max = DIFFERENCE_MAX * f64::from(fusion.sface.slope() + fusion.dlib.slope());
        let none = BTreeMap::new();
        let then = record.scores.as_ref().unwrap_or(&none);
        let now = seen.scores.as_ref().unwrap_or(&none);
        let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
        for name in names {
            let text = |of: &BTreeMap<String, String>| of.get(name).cloned().unwrap_or_default();
            let difference_max = match name.split_once('.') {
                Some(("face", "score")) => fused_max,
                Some(("face", _)) => DIFFERENCE_MAX,
                _ => FINGER_DIFFERENCE_MAX,
            };
            replay.scores(name, &text(then), &text(now), difference_max);
        }
    }

    /// Whoever the captures were compared with is whom the receipt names by their pseudonym.
    fn agree_on_subject(
        &self,
        replay: &mut Replay,
        Decided { receipt, facts, .. }: &Decided,
        keys: &CustomerKeys,
        customer: CustomerId,
    ) {
        // Of a guest who was refused the receipt tells nothing.
        if facts.customer != CustomerStanding::Guest || receipt.guest.is_some() {
            let subject = receipt.subject.clone().unwrap_or_default();
            let pseudonym = keys.pseudonym(&self.settings.tenant, &customer);
            replay.texts("receipt.subject", subject, pseudonym);
        }
    }
}

/// Facts that are compared, with the receipt or with what models find again.
const FACTS_COMPARED: [&str; 8] = [
    "operation",
    "amount_minor",
    "currency",
    "capture",
    "strength_db",
    "liveness",
    "liveness_score_e4",
    "modality",
];

impl Replay {
    /// Compares what receipt and audit record both say: the receipt's word counts as recorded.
    fn agree(&mut self, Decided { receipt, time, record, facts }: &Decided) {
        self.texts("receipt.time", time.rfc3339(), &record.time);
        self.texts("receipt.build", &receipt.build, &record.build);
        self.texts("receipt.policy", &receipt.policy.hash, &record.pack);
        self.texts("receipt.models", receipt.bio.models.join(" "), record.models.join(" "));
        self.texts("receipt.outcome", &receipt.outcome, &record.outcome);
        let (txn, amount) = (&receipt.txn, facts.amount.get());
        let asked = |op: &str, amount, currency: &str| format!("{op} {amount} {currency}");
        self.texts(
            "receipt.txn",
            asked(&txn.op, txn.amount_minor, &txn.currency),
            asked(facts.operation.as_str(), amount, facts.currency.as_str()),
        );
        let names = record.facts.as_object().into_iter().flat_map(|facts| facts.keys());
        let taken = names.filter(|name| !FACTS_COMPARED.contains(&name.as_str()));
        self.as_recorded = taken.cloned().collect();
        if record.searched {
            self.as_recorded.push("search_among_everybody".to_owned());
        }
        if facts.customer == CustomerStanding::Guest {
            self.as_recorded.push("other_guests_of_the_number".to_owned());
        }
    }

    /// Compares what models and rules say now with what they said then.
    fn compare(
        &mut self,
        Decided { receipt, time, record, facts }: &Decided,
        pack: &PolicyPack,
        seen: &Seen,
        modalities: &[Modality],
    ) {
        self.rounded("strength_tenth_db", record.strength_tenth_db, seen.strength_tenth_db, 1);
        self.rounded("strength_db", facts.strength_db, seen.strength_db, 1);
        self.rounded("liveness_e4", facts.liveness.score_e4(), seen.liveness_e4, 10);
        let modality = Captured::of(modalities);
        self.texts("modality", facts.modality.as_str(), modality.as_str());
        self.texts("receipt.bio.modality", &receipt.bio.modality, modality.as_str());
        let again = Facts {
            capture: seen.capture(),
            strength_db: seen.strength_db,
            liveness: seen.liveness(pack.bars()),
            modality,
            ..facts.clone()
        };
        let by_rules = decide(&again, pack, *time);
        self.texts("rules_outcome", &record.rules_outcome, by_rules.outcome().as_str());
        let refusal = record.refusal.as_deref().and_then(|code| Reason::from_code(code).ok());
        let decision = refused_for(by_rules, refusal);
        let rules = decision.rules().iter().map(ToString::to_string).collect::<Vec<_>>();
        self.texts("rules", record.rules.join(" "), rules.join(" "));
        let codes = |reasons: &[Reason]| {
            reasons.iter().map(|reason| reason.code()).collect::<Vec<_>>().join(" ")
        };
        self.texts("reasons", record.reasons.join(" "), codes(decision.reasons()));
        let outcome = decision.outcome();
        self.texts("outcome", &record.outcome, outcome.as_str());
        self.texts("receipt.reasons", receipt.reasons.join(" "), codes(&decision.public_reasons()));
        let cap = receipt.cap.as_ref().map(|cap| format!("{} {}", cap.amount_minor, cap.until));
        let again = outcome.cap_minor().zip(outcome.until());
        let again =
            again.map(|(amount_minor, until)| format!("{amount_minor} {}", until.rfc3339()));
        if cap.is_some() || again.is_some() {
            self.texts("receipt.cap", cap.unwrap_or_default(), again.unwrap_or_default());
        }
    }
}

/// How two scores agree, as records write them: to the last bit, or where that is allowed within a difference.
fn agreement_of_scores(recorded: &str, found: &str, difference_max: Option<f64>) -> Agreement {
    let (Ok(recorded), Ok(found)) = (recorded.parse::<f32>(), found.parse::<f32>()) else {
        return Agreement::Different;
    };
    if recorded.to_bits() == found.to_bits() {
        return Agreement::Same;
    }
    let apart = (f64::from(recorded) - f64::from(found)).abs();
    // A comparison with NaN is false, so it is a difference.
    match difference_max {
        Some(most) if apart <= most => Agreement::Within,
        _ => Agreement::Different,
    }
}

#[cfg(test)]
mod tests {
    use Agreement::{Different, Same, Within};

    use super::*;

    fn replay(isa: &str) -> Replay {
        let by = |isa: &str| LookedBy {
            build: "b".to_owned(),
            isa: isa.to_owned(),
            manifest: "m".to_owned(),
        };
        Replay {
            end: None,
            compared: Vec::new(),
            then: Some(by("avx2")),
            now: by(isa),
            as_recorded: Vec::new(),
            read: None,
        }
    }

    #[test]
    fn the_same_build_and_instructions_give_the_same_bits_or_a_finding() {
        let next = 7.1f32.next_up().to_string();
        let (exact, near) = (None, Some(DIFFERENCE_MAX));
        assert_eq!(agreement_of_scores("7.1", "7.1", exact), Same);
        assert_eq!(agreement_of_scores("7.1", &next, exact), Different);
        assert_eq!(agreement_of_scores("7.1", &next, near), Within);
        assert_eq!(agreement_of_scores("0", "-0", exact), Different, "another bit");
        assert_eq!(agreement_of_scores("0.5", "0.50009", near), Within);
        assert_eq!(agreement_of_scores("0.5", "0.50011", near), Different);
        for no_score in ["", "NaN", "inf", "much"] {
            assert_eq!(agreement_of_scores("7.1", no_score, near), Different, "{no_score}");
            assert_eq!(agreement_of_scores(no_score, "7.1", near), Different, "{no_score}");
        }
    }

    #[test]
    fn a_step_is_allowed_to_other_instructions_only() {
        let agreement = |isa, recorded, found| {
            let mut replay = replay(isa);
            replay.rounded("strength_tenth_db", recorded, found, 1);
            replay.compared.first().map(|it| it.agreement)
        };
        assert_eq!(agreement("avx2", Some(400), Some(400)), Some(Same));
        assert_eq!(agreement("avx2", Some(400), Some(399)), Some(Different));
        assert_eq!(agreement("avx512", Some(400), Some(399)), Some(Within));
        assert_eq!(agreement("avx512", Some(400), Some(398)), Some(Different));
        assert_eq!(agreement("avx512", Some(400), None), Some(Different));
        assert_eq!(agreement("avx512", None, Some(i64::MIN)), Some(Different));
        assert_eq!(agreement("avx2", None, None), None);
    }

    #[test]
    fn one_difference_makes_a_finding_whatever_else_there_is() {
        let mut found = replay("avx512");
        assert_eq!(found.verdict(), Verdict::Same);
        found.holds("receipt", "signed");
        found.scores("face.score", "7.1", "7.10001", DIFFERENCE_MAX);
        assert_eq!(found.verdict(), Verdict::Within);
        found.end = Some(ReplayEnd::Expired);
        assert_eq!(found.verdict(), Verdict::Ended, "what was not run is not the same");
        found.texts("outcome", "APPROVED", "DENIED");
        assert_eq!(found.verdict(), Verdict::Different);
        let debug = format!("{found:?}");
        assert!(!debug.contains("7.1"), "{debug}");
    }
}
