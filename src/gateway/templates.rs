//! Templates: captures that agree with each other, one characteristic at a time, and the search for whoever else
//! has the like.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{Act, Write, receipt_actor};
use super::customer::{OpenedCaptures, Templates};
use super::enrolment_capture::Offered;
use super::envelope::SignedBy;
use super::error::GatewayError;
use super::finger_records::HAS_CAPTURES;
use super::proposal::Content as Proposed;
use super::request::{Actor, Capture, CaptureAnswer, Logged, OfferedCapture, QualityComponent};
use crate::crypto::{Digest, random_bytes};
use crate::domain::embedding::FaceEmbedding;
use crate::domain::finger::FingerView;
use crate::domain::finger_quality::FingerQualityReport;
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::{CaptureId, CustomerId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::quality::{Bar, QualityReport};
use crate::domain::reason::Reason;
use crate::face::Acquisition;
use crate::fingerprint::{FingerAcquisition, FingerProbe, FingerprintPipeline};
use crate::matching::{
    FingerGallery, FingerMatcher, Hit, Matcher, PreparedView, Scratch, TEMPLATE_CAPTURES_MAX,
    Template,
};
use crate::receipt::{Administration, Content};
use crate::store::{CaptureRow, CustomerStatus};
use crate::vault::CustomerKeys;

/// Most suspected duplicates that an activation reports.
const DUPLICATES_MAX: usize = 16;

/// Fewest impressions that make a finger's template: three that match each other halve the errors of one.
pub(super) const IMPRESSIONS_MIN: usize = 3;

/// What a capture offered for enrolment came to.
struct Considered {
    /// What is to be sealed; none when the capture is not taken.
    plain: Option<Zeroizing<Vec<u8>>>,
    quality: Vec<QualityComponent>,
    reasons: Vec<Reason>,
}

/// Captures that two people agreed on.
pub(super) struct Agreed {
    pub rows: Vec<CaptureRow>,
    /// Where they were taken, and what signed them there; none of what answered no challenge.
    pub desk: Option<(TerminalId, SignedBy)>,
    /// Whether they are another system's, in place of captures.
    pub is_import: bool,
    /// What closes their proposal.
    pub close: Write,
    /// What their entry commits to.
    pub commit: Digest,
}

impl Gateway {
    /// Offers a capture for the template; the answer says what was measured and why not, if not.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when the template has the most captures, and [`GatewayError::Invalid`] for a
    /// finger where the gateway has no model for fingers; [`GatewayError::Stale`] and [`GatewayError::Device`]
    /// for a challenge or an envelope that does not count, before anything is looked at.
    pub async fn add_capture(
        self: &Arc<Self>,
        actor: &Actor,
        customer: &CustomerId,
        modality: Modality,
        offered: OfferedCapture,
    ) -> Result<CaptureAnswer, GatewayError> {
        let subject = self.subject_of(customer).await?;
        self.require_consent(customer).await?;
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        // Two captures at once would each be compared without the other.
        let _turn = self.activation.lock().await;
        let mut rows = self.store.captures(customer).await?;
        rows.retain(|row| row.modality == modality);
        if rows.len() >= TEMPLATE_CAPTURES_MAX {
            return Err(GatewayError::State("the customer has the most captures a template takes"));
        }
        let Offered { capture, signed } =
            self.take_offered(actor, customer, modality, offered).await?;
        let earlier = self.open_captures(&keys, &rows)?;
        let considered = self.consider(modality, capture, earlier).await?;
        let Considered { plain, quality, reasons } = considered;
        let Some(plain) = plain else {
            return Ok(CaptureAnswer { capture: None, proposal: None, quality, reasons });
        };
        let row = self.sealed_capture(&keys, customer, modality, &plain)?;
        let id = row.id;
        let terminal = signed.as_ref().map(|signed| signed.terminal.clone());
        let envelope = signed.as_ref().and_then(|signed| signed.by.envelope());
        let beside = signed.iter().map(|it| Write::Signed(Box::new(self.signed_capture(it))));
        let mut writes: Vec<Write> = beside.collect();
        let act = TwoPersonAct::FurtherCapture;
        if self.settings.four_eyes.covers(act) && self.can_be_verified(customer).await? {
            let content = match signed {
                Some(at) => Proposed::AtDesk(Box::new(row), at.terminal, at.by),
                None => Proposed::Captures(vec![row]),
            };
            let asked =
                self.propose_act(actor, act, Some(*customer), subject, content, writes).await?;
            let proposal = Some(Box::new(asked));
            return Ok(CaptureAnswer { capture: None, proposal, quality, reasons });
        }
        let content = Content::Administration(Administration {
            act: "capture_added".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            // What the desk's sensor signed, where it did.
            details: envelope,
        });
        writes.push(Write::InsertCapture(Box::new(row), TEMPLATE_CAPTURES_MAX));
        let performed = self.perform_as(content, terminal, writes).await;
        self.refresh_gallery(customer).await?;
        performed?;
        Ok(CaptureAnswer { capture: Some(id), proposal: None, quality, reasons })
    }

    /// Whether what is added to somebody's template counts at once. Held with `activation`, so that nobody
    /// becomes active in between.
    async fn can_be_verified(&self, customer: &CustomerId) -> Result<bool, GatewayError> {
        let status = self.store.customer(customer).await?.map(|row| row.status);
        Ok(matches!(status, Some(CustomerStatus::Active | CustomerStatus::Suspended)))
    }

    /// Adds captures that two people agreed on, if what let them be proposed still stands: nobody else's template
    /// has taken the place of the one that they were compared with, and what signed them would do today.
    pub(super) async fn insert_agreed(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        agreed: Agreed,
    ) -> Result<Logged, GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let _turn = self.activation.lock().await;
        self.require_joinable(customer, &agreed).await?;
        let Agreed { rows, desk, is_import, close, commit } = agreed;
        let (terminal, signed_by) = desk.unzip();
        let signed = self.noted_capture(signed_by.unwrap_or_default());
        let mut writes = vec![close, Write::Signed(Box::new(signed))];
        let captures = rows.into_iter().map(Box::new);
        writes.extend(captures.map(|row| Write::InsertCapture(row, TEMPLATE_CAPTURES_MAX)));
        let word = if is_import { "template_imported" } else { "capture_added" };
        let content = Content::Administration(Administration {
            act: word.to_owned(),
            actor: receipt_actor(actor),
            subject,
            details: Some(commit.labelled()),
        });
        let performed = self.perform_as(content, terminal, writes).await;
        self.refresh_gallery(customer).await?;
        performed
    }

    /// A capture must agree with those that there are now, and an import finds none of its finger. Held with
    /// `activation`, so that they stay.
    async fn require_joinable(
        &self,
        customer: &CustomerId,
        agreed: &Agreed,
    ) -> Result<(), GatewayError> {
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let mut rows = self.store.captures(customer).await?;
        rows.retain(|held| agreed.rows.iter().any(|row| row.modality == held.modality));
        if agreed.is_import {
            return if rows.is_empty() { Ok(()) } else { Err(HAS_CAPTURES) };
        }
        if rows.is_empty() {
            return Err(GatewayError::State("the captures that it was compared with are gone"));
        }
        rows.extend(agreed.rows.iter().cloned());
        let OpenedCaptures { faces, fingers, .. } = self.open_captures(&keys, &rows)?;
        let (matcher, finger_matcher) = (self.matcher.clone(), self.finger_matcher.clone());
        let compared = spawn_blocking(move || {
            let mut agree = faces.is_empty() || faces_agree(&matcher, &faces)?;
            for views in fingers.values() {
                agree &= fingers_agree(finger_matcher.as_ref().ok_or(NO_FINGERS)?, views)?;
            }
            Ok::<_, GatewayError>(agree)
        });
        let agree =
            compared.await.map_err(|cause| GatewayError::internal("comparison", cause))??;
        if agree { Ok(()) } else { Err(GatewayError::State("it agrees with the captures no more")) }
    }

    /// Whether a capture can join the earlier ones: good enough, and of the same person.
    async fn consider(
        &self,
        modality: Modality,
        capture: Capture,
        earlier: OpenedCaptures,
    ) -> Result<Considered, GatewayError> {
        match modality {
            Modality::Face => {
                let matcher = self.matcher.clone();
                let seen = self.vision.look_at_face(capture, move |faces, picture| {
                    consider_face(&matcher, faces.enrol(picture)?, earlier.faces)
                });
                seen.await
            }
            Modality::Finger(position) => {
                let matcher = self.finger_matcher.clone().ok_or(NO_FINGERS)?;
                let mut earlier = earlier.fingers;
                let views = earlier.remove(&position).unwrap_or_default();
                let seen = self.vision.look_at_finger(capture, move |pipeline, picture| {
                    let acquired = pipeline.probe(picture);
                    let acquired = acquired
                        .map_err(|cause| GatewayError::internal("finger pipeline", cause))?;
                    consider_finger(&matcher, acquired, views)
                });
                seen.await
            }
        }
    }

    /// A capture's row, sealed to its place.
    pub(super) fn sealed_capture(
        &self,
        keys: &CustomerKeys,
        customer: &CustomerId,
        modality: Modality,
        plain: &[u8],
    ) -> Result<CaptureRow, GatewayError> {
        let mut row = CaptureRow {
            id: CaptureId::new(random_bytes(&*self.entropy)?),
            customer: *customer,
            modality,
            sealed: Vec::new(),
            created_at: self.clock.now(),
        };
        row.sealed = keys.seal(&self.capture_place(&row), plain, &*self.entropy)?;
        Ok(row)
    }

    /// Removes a capture from the template.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when the customer has no such capture.
    pub async fn remove_capture(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        capture: &CaptureId,
    ) -> Result<(), GatewayError> {
        let subject = Some(self.subject_of(customer).await?);
        let _turn = self.activation.lock().await;
        let act = Act { act: "capture_removed", actor, subject, terminal: None };
        let performed = self.perform(act, vec![Write::DeleteCapture(*capture, *customer)]).await;
        self.refresh_gallery(customer).await?;
        performed.map(drop)
    }

    pub(super) async fn templates_of(&self, id: &CustomerId) -> Result<Templates, GatewayError> {
        self.templates_made_of(id, &self.store.captures(id).await?).await
    }

    /// The templates of these captures of a customer's.
    pub(super) async fn templates_made_of(
        &self,
        id: &CustomerId,
        captures: &[CaptureRow],
    ) -> Result<Templates, GatewayError> {
        let Some(keys) = self.customer_keys(id).await? else { return Ok(Templates::default()) };
        self.templates(&self.open_captures(&keys, captures)?)
    }

    /// Brings the gallery in line with the store, whatever became of an act: one that is told to have
    /// failed may have been committed.
    pub(super) async fn refresh_gallery(&self, id: &CustomerId) -> Result<(), GatewayError> {
        self.gallery_remove(id)?;
        let status = self.store.customer(id).await?.map(|row| row.status);
        if !matches!(status, Some(CustomerStatus::Active | CustomerStatus::Suspended)) {
            return Ok(());
        }
        self.gallery_insert(*id, &self.templates_of(id).await?)
    }

    /// The enrolled whose face looks like this template, by the search's own, stricter threshold.
    pub(super) async fn search_faces(
        &self,
        template: Template,
    ) -> Result<Vec<Hit<CustomerId>>, GatewayError> {
        // The lock is held for the snapshot only, so that nobody waits for the scan.
        let everybody = self.gallery()?.faces.snapshot();
        spawn_blocking(move || {
            let hits = everybody.search(&template, DUPLICATES_MAX);
            hits.map_err(|cause| GatewayError::internal("gallery", cause))
        })
        .await
        .map_err(|cause| GatewayError::internal("search", cause))?
    }

    /// The enrolled who have a face or a finger like one of these, the most alike first.
    pub(super) async fn search(
        &self,
        templates: Templates,
    ) -> Result<Vec<Hit<CustomerId>>, GatewayError> {
        let Templates { face, fingers } = templates;
        let mut hits = match face {
            Some(face) => self.search_faces(face).await?,
            None => Vec::new(),
        };
        let own = self.vision.fingers().map(FingerprintPipeline::model);
        let prints = self.gallery()?.fingers.as_ref().map(FingerGallery::snapshot);
        if let Some(prints) = prints {
            let searched = spawn_blocking(move || {
                let comparable = fingers.values().filter(|finger| finger.model() == own);
                let found = comparable.map(|finger| prints.search(finger, DUPLICATES_MAX));
                found.collect::<Result<Vec<_>, _>>()
            });
            let found = searched.await.map_err(|cause| GatewayError::internal("search", cause))?;
            let found = found.map_err(|cause| GatewayError::internal("gallery", cause))?;
            let of_whom = |hit: Hit<(CustomerId, _)>| Hit {
                key: hit.key.0,
                score: hit.score,
                strength: hit.strength,
            };
            hits.extend(found.into_iter().flatten().map(of_whom));
        }
        Ok(strongest_of_each(hits))
    }
}

const NO_FINGERS: GatewayError =
    GatewayError::Invalid { field: "modality", problem: "fingers are not offered by this gateway" };

/// One hit a person, the strongest, and the most alike people first.
fn strongest_of_each(mut hits: Vec<Hit<CustomerId>>) -> Vec<Hit<CustomerId>> {
    hits.sort_by_key(|hit| (Reverse(hit.strength), hit.key));
    let mut known = BTreeSet::new();
    hits.retain(|hit| known.insert(hit.key));
    hits.truncate(DUPLICATES_MAX);
    hits
}

fn consider_face(
    matcher: &Matcher,
    acquired: Acquisition,
    mut embeddings: Vec<FaceEmbedding>,
) -> Result<Considered, GatewayError> {
    match acquired {
        Acquisition::Refused(refusal) => {
            let quality = refusal.quality.as_ref().map(face_components).unwrap_or_default();
            Ok(Considered::refused(refusal.cause.code(), quality))
        }
        Acquisition::Usable(probe) => {
            let plain = probe.embedding.to_bytes();
            embeddings.push(probe.embedding);
            let agree = faces_agree(matcher, &embeddings)?;
            Ok(Considered::agreeing(agree, plain, face_components(&probe.quality)))
        }
    }
}

fn consider_finger(
    matcher: &FingerMatcher,
    acquired: FingerAcquisition,
    mut views: Vec<FingerView>,
) -> Result<Considered, GatewayError> {
    match acquired {
        FingerAcquisition::Refused(refusal) => {
            let quality = finger_components(&refusal.quality);
            Ok(Considered::refused(refusal.cause.code(), quality))
        }
        FingerAcquisition::Usable(FingerProbe { view, quality }) => {
            let plain = view.to_bytes();
            views.push(view);
            let agree = fingers_agree(matcher, &views)?;
            Ok(Considered::agreeing(agree, plain, finger_components(&quality)))
        }
    }
}

fn faces_agree(matcher: &Matcher, faces: &[FaceEmbedding]) -> Result<bool, GatewayError> {
    matcher.captures_agree(faces).map_err(|cause| GatewayError::internal("comparison", cause))
}

fn fingers_agree(matcher: &FingerMatcher, views: &[FingerView]) -> Result<bool, GatewayError> {
    let prepared = views.iter().map(PreparedView::new).collect::<Vec<_>>();
    matcher
        .captures_agree(&prepared, &mut Scratch::default())
        .map_err(|_| GatewayError::State("the finger has captures by another extractor"))
}

impl Considered {
    fn refused(code: &str, quality: Vec<QualityComponent>) -> Self {
        let reason = Reason::from_code(code).unwrap_or(Reason::CapLowQuality);
        Self { plain: None, quality, reasons: vec![reason] }
    }

    fn agreeing(agree: bool, plain: Zeroizing<Vec<u8>>, quality: Vec<QualityComponent>) -> Self {
        if agree {
            Self { plain: Some(plain), quality, reasons: Vec::new() }
        } else {
            Self { plain: None, quality, reasons: vec![Reason::CapCapturesDisagree] }
        }
    }
}

fn face_components(report: &QualityReport) -> Vec<QualityComponent> {
    let measures = report.measures().iter();
    measures.map(|m| component(m.component.as_str(), m.value, m.bar)).collect()
}

fn finger_components(report: &FingerQualityReport) -> Vec<QualityComponent> {
    let measures = report.measures().iter();
    measures.map(|m| component(m.component.as_str(), m.value, m.bar)).collect()
}

fn component(name: &'static str, value: f32, bar: Bar) -> QualityComponent {
    let nearest = if value > bar.max || bar.min == f32::NEG_INFINITY { bar.max } else { bar.min };
    QualityComponent { name, value, bar: nearest, ok: bar.is_met_by(value) }
}
