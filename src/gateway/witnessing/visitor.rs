//! One witness, as the gateway speaks to it (c2sp.org/tlog-witness).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Due, Offer, Office, Report};
use crate::crypto::Digest;
use crate::domain::time::UnixMillis;
use crate::gateway::error::GatewayError;
use crate::gateway::ledger_view::load_tree;
use crate::gateway::postbox::{Postbox, PostboxAnswer, PostboxError};
use crate::ledger::{
    Cosignature, CosignatureError, Origin, OutsideTree, SignedNote, Submission, Tree, WitnessKey,
};

/// What a witness said.
#[derive(Debug)]
pub(super) enum Visit {
    /// It cosigned; whether its clock agrees with this gateway's.
    Cosigned(Cosignature, bool),
    /// It has cosigned more than this ledger holds.
    Ahead(u64),
    /// It has cosigned another history.
    Conflict,
}

/// Speaks to one witness.
pub(super) struct Visitor {
    place: usize,
    pub(super) key: WitnessKey,
    postbox: Arc<dyn Postbox>,
    office: Arc<Office>,
    /// The ledger shown last.
    origin: Origin,
    /// The size of it that was cosigned last, as far as is known.
    known: u64,
    /// Whether the last visit failed: said once.
    failing: bool,
}

impl Visitor {
    pub(super) fn new(
        office: &Arc<Office>,
        place: usize,
        postbox: Arc<dyn Postbox>,
    ) -> Result<Self, GatewayError> {
        let witnesses = office.witnessing.witnesses.as_ref();
        let record = witnesses.and_then(|it| it.policy.witnesses().get(place));
        let record = record.ok_or(GatewayError::broken("a witness without a record"))?;
        Ok(Self {
            place,
            key: record.key.clone(),
            postbox,
            office: Arc::clone(office),
            origin: office.view.read(|open, _, _| open.clone())?,
            known: 0,
            failing: false,
        })
    }

    /// Shows each offer; one that failed again after a while, unless another has come meanwhile.
    pub(super) async fn attend(
        mut self,
        mut offers: watch::Receiver<Offer>,
        reports: mpsc::Sender<Report>,
    ) {
        let mut pause = self.office.interval;
        loop {
            if self.failing {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            } else {
                pause = self.office.interval;
                if offers.changed().await.is_err() {
                    return;
                }
            }
            let offer = offers.borrow_and_update().clone();
            match self.visit(&offer).await {
                Ok(visit) => {
                    if self.failing {
                        tracing::info!(witness = %self.key.name(), "a witness answers again");
                    }
                    self.failing = false;
                    if reports.send(self.report(&offer, visit)).await.is_err() {
                        return;
                    }
                }
                Err(fault) => self.complain(&fault),
            }
        }
    }

    pub(super) fn report(&self, offer: &Offer, visit: Visit) -> Report {
        Report { place: self.place, offer: offer.clone(), visit, at: self.office.clock.now() }
    }

    /// Says it once, until the witness answers again.
    pub(super) fn complain(&mut self, fault: &VisitError) {
        let (witness, address) = (self.key.name(), self.postbox.address());
        if self.failing {
            tracing::debug!(%witness, %address, error = ?fault, "a witness still fails");
        } else {
            tracing::warn!(%witness, %address, error = ?fault, "a witness did not cosign");
        }
        self.failing = true;
    }

    /// Asks for a cosignature, twice where the witness had cosigned another size than was believed.
    pub(super) async fn visit(&mut self, offer: &Offer) -> Result<Visit, VisitError> {
        let Due { origin, row } = &*offer.due;
        if self.origin != *origin {
            (self.origin, self.known) = (origin.clone(), 0);
        }
        let size = row.size;
        for _ in 0..2 {
            if self.known > size {
                // Of another process's making, or of an offer that was over: the next one is larger.
                return Err(VisitError::Later);
            }
            let submission = Submission {
                old_size: self.known,
                proof: self.proof(self.known, size).await?,
                note: row.text.clone(),
            };
            let sent = self.office.clock.now();
            let answer = self.postbox.post(TEXT, submission.to_text().into_bytes()).await?;
            match (answer.status, size_of(&answer)) {
                (200, _) => {
                    let cosigned = self.cosignature(offer, &answer, sent)?;
                    self.known = size;
                    return Ok(cosigned);
                }
                (409, Some(theirs)) if theirs == self.known => {
                    // The same size: then the roots differ.
                    let is_same = self.known == size;
                    return if is_same { Ok(Visit::Conflict) } else { Err(VisitError::Unclear) };
                }
                (409, Some(theirs)) if theirs > self.committed()? => {
                    return Ok(Visit::Ahead(theirs));
                }
                (409, Some(theirs)) => self.known = theirs,
                // The proof is of this ledger's own tree: it is the witness's that is another.
                (422, _) if self.known > 0 => return Ok(Visit::Conflict),
                (status, _) => return Err(VisitError::Refused(status)),
            }
        }
        Err(VisitError::Unclear)
    }

    fn cosignature(
        &self,
        offer: &Offer,
        answer: &PostboxAnswer,
        sent: UnixMillis,
    ) -> Result<Visit, VisitError> {
        let note = SignedNote::parse(&offer.due.row.text).map_err(CosignatureError::from)?;
        let body = std::str::from_utf8(&answer.body).map_err(|_| CosignatureError::Missing)?;
        let cosignature = self.key.read_answer(note.unverified_text(), body)?;
        let (earliest, latest) = (
            // Cosignatures tell whole seconds.
            sent.plus_millis(-CLOCK_SKEW_MAX_MS - 1_000),
            self.office.clock.now().plus_millis(CLOCK_SKEW_MAX_MS),
        );
        let is_in_time = (earliest..=latest).contains(&cosignature.time);
        if !is_in_time {
            let (witness, theirs) = (self.key.name(), cosignature.time.rfc3339());
            tracing::error!(%witness, %theirs, ours = %latest.rfc3339(), "the clocks of a witness and of this gateway differ");
        }
        Ok(Visit::Cosigned(cosignature, is_in_time))
    }

    async fn proof(&self, old: u64, new: u64) -> Result<Vec<Digest>, VisitError> {
        let open = self
            .office
            .view
            .read(|open, tree, _| (*open == self.origin).then(|| tree.consistency(old, new)))?;
        if let Some(proof) = open {
            return Ok(proof?);
        }
        // Of a closed ledger the end is shown, once.
        let (tree, _) = load_tree(&*self.office.store, &self.origin).await?;
        Ok(tree.consistency(old, new)?)
    }

    /// How many entries the ledger has that is being shown.
    fn committed(&self) -> Result<u64, VisitError> {
        let open = |open: &Origin, _: &Tree, committed| (*open == self.origin).then_some(committed);
        if let Some(committed) = self.office.view.read(open)? {
            return Ok(committed);
        }
        let (ledgers, _) = self.office.view.recorded()?;
        let closed = ledgers.closed().iter().find(|shard| shard.origin == self.origin);
        Ok(closed.map_or(0, |shard| shard.size))
    }
}

/// The size in a conflict's answer.
fn size_of(answer: &PostboxAnswer) -> Option<u64> {
    if answer.content_type != "text/x.tlog.size" {
        return None;
    }
    let text = std::str::from_utf8(&answer.body).ok()?.strip_suffix('\n')?;
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}

/// No cosignature this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum VisitError {
    #[error("the witness cannot be asked")]
    Postbox(#[from] PostboxError),
    #[error("the witness answered with the status {0}")]
    Refused(u16),
    #[error("the witness's answer is no cosignature")]
    Answer(#[from] CosignatureError),
    #[error("the witness contradicts itself")]
    Unclear,
    #[error("the witness knows more than was offered")]
    Later,
    #[error("the ledger cannot be read")]
    Ledger(#[from] GatewayError),
    #[error("the ledger does not reach that far")]
    Outside(#[from] OutsideTree),
}

/// Longest pause before a witness that fails is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How far a witness's clock may stand from this gateway's: the skew of the published bound.
const CLOCK_SKEW_MAX_MS: i64 = 5_000;
const TEXT: &str = "text/plain; charset=utf-8";
