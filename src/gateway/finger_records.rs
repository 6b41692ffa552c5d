//! Finger templates from and for other systems: ISO/IEC 19794-2 records in, and out.

use std::sync::Arc;

use super::Gateway;
use super::act::{Act, Write, receipt_actor};
use super::error::GatewayError;
use super::proposal::{Acted, Content as Proposed};
use super::request::{Actor, Logged};
use crate::crypto::sha256;
use crate::domain::finger::{FingerPosition, FingerView, Minutia};
use crate::domain::four_eyes::TwoPersonAct;
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::modality::Modality;
use crate::interchange::{ExportedView, Maker, MinutiaeRecord, foreign_model};
use crate::matching::{PreparedView, Scratch, TEMPLATE_CAPTURES_MAX};
use crate::receipt::{Administration, Content};

/// Fewest minutiae of a view that is taken over: as many as a capture must have.
const MINUTIAE_MIN: usize = 12;

/// 500 pixels an inch, in whole pixels a centimetre.
const PER_CM: u16 = 197;

/// Room between the outermost minutia and the edge of the picture that a record tells of.
const MARGIN_PX: f32 = 16.0;

/// Another system's views stand in place of captures, not beside them.
pub(super) const HAS_CAPTURES: GatewayError =
    GatewayError::State("the finger has captures already");

/// A record given out, and the entry that says so.
#[derive(Clone, PartialEq, Eq)]
pub struct ExportedTemplate {
    /// ISO/IEC 19794-2:2005.
    pub record: Vec<u8>,
    /// The entry.
    pub entry: Logged,
}

impl std::fmt::Debug for ExportedTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExportedTemplate({} bytes)", self.record.len())
    }
}

impl Gateway {
    /// Takes another system's views of a finger over, in place of captures, or proposes it where that takes
    /// two people.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Record`] for what is no record of this finger, [`GatewayError::Invalid`] for a maker
    /// without a calibration, [`GatewayError::State`] when the finger has captures.
    pub async fn import_template(
        self: &Arc<Self>,
        actor: &Actor,
        customer: &CustomerId,
        position: FingerPosition,
        record: &[u8],
        maker: &str,
    ) -> Result<Acted<Vec<CaptureId>>, GatewayError> {
        // No sensor signed what another system extracted.
        self.require_unsigned_enrolment().await?;
        let views = self.foreign_views(position, record, maker)?;
        let subject = self.subject_of(customer).await?;
        self.require_consent(customer).await?;
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let _turn = self.activation.lock().await;
        let modality = Modality::Finger(position);
        let rows = self.store.captures(customer).await?;
        if rows.iter().any(|row| row.modality == modality) {
            return Err(HAS_CAPTURES);
        }
        let sealed = views
            .iter()
            .map(|view| self.sealed_capture(&keys, customer, modality, &view.to_bytes()));
        let rows = sealed.collect::<Result<Vec<_>, _>>()?;
        let act = TwoPersonAct::TemplateImport;
        if self.settings.four_eyes.covers(act) {
            let content = Proposed::Captures(rows);
            let asked =
                self.propose_act(actor, act, Some(*customer), subject, content, vec![]).await?;
            return Ok(Acted::Waits(Box::new(asked)));
        }
        let captures = rows.iter().map(|row| row.id).collect();
        let rows = rows.into_iter().map(Box::new);
        let writes = rows.map(|row| Write::InsertCapture(row, TEMPLATE_CAPTURES_MAX)).collect();
        let act = Act { act: "template_imported", actor, subject: Some(subject), terminal: None };
        let performed = self.perform(act, writes).await;
        self.refresh_gallery(customer).await?;
        performed?;
        Ok(Acted::Done(captures))
    }

    /// The views of a record, if all are of one finger and can be compared.
    fn foreign_views(
        &self,
        position: FingerPosition,
        record: &[u8],
        maker: &str,
    ) -> Result<Vec<FingerView>, GatewayError> {
        let refused =
            |fault: &dyn std::error::Error| GatewayError::Record { fault: fault.to_string() };
        let no_calibration = GatewayError::Invalid {
            field: "maker",
            problem: "the gateway's models have no calibration for it",
        };
        let record = MinutiaeRecord::parse(record).map_err(|fault| refused(&fault))?;
        let Ok(maker) = Maker::new(maker) else { return Err(no_calibration) };
        let matcher = self.finger_matcher.as_ref();
        let matcher = matcher.ok_or(GatewayError::Invalid {
            field: "finger_position",
            problem: "fingers are not offered by this gateway",
        })?;
        if !matcher.is_calibrated_for(foreign_model(record.format(), &maker)) {
            return Err(no_calibration);
        }
        let views = record.finger_views(&maker).map_err(|fault| refused(&fault))?;
        let fault = |fault: &str| GatewayError::Record { fault: fault.to_owned() };
        if views.is_empty() || views.len() > TEMPLATE_CAPTURES_MAX {
            return Err(fault("it must have one to five views"));
        }
        if views.iter().any(|view| view.position.is_some_and(|finger| finger != position)) {
            return Err(fault("it has a view of another finger"));
        }
        let prepared = views.iter().map(|view| PreparedView::new(&view.view)).collect::<Vec<_>>();
        let agree = matcher.captures_agree(&prepared, &mut Scratch::default());
        if !agree.map_err(|cause| GatewayError::internal("comparison", cause))? {
            return Err(fault("its views do not match each other"));
        }
        if views.iter().any(|view| view.view.minutiae().len() < MINUTIAE_MIN) {
            return Err(fault("a view has fewer than 12 minutiae: capture the finger again"));
        }
        Ok(views.into_iter().map(|view| view.view).collect())
    }

    /// Gives the enrolled views of a finger out.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when there is no such customer, or nothing of the finger.
    pub async fn export_template(
        &self,
        actor: &Actor,
        customer: &CustomerId,
        position: FingerPosition,
    ) -> Result<ExportedTemplate, GatewayError> {
        let subject = self.subject_of(customer).await?;
        self.require_consent(customer).await?;
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let rows = self.store.captures(customer).await?;
        let mut opened = self.open_captures(&keys, &rows)?;
        let views = opened.fingers.remove(&position).ok_or(GatewayError::NotFound("captures"))?;
        let written: Vec<_> = views
            .iter()
            .map(|view| ExportedView { position: Some(position), quality: None, view })
            .collect();
        let record = MinutiaeRecord::of_views(extent(&views), PER_CM, &written)
            .map_err(|cause| GatewayError::internal("a record", cause))?
            .to_bytes()
            .to_vec();
        // What left the vault can be told again by its digest; minutiae cannot be read from one.
        let content = Content::Administration(Administration {
            act: "template_exported".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(subject),
            details: Some(sha256(&record).labelled()),
        });
        let entry = self.perform_as(content, None, Vec::new()).await?;
        Ok(ExportedTemplate { record, entry })
    }
}

/// Width and height of a picture that holds all minutiae.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a minutia lies between 0 and 4095"
)]
fn extent(views: &[FingerView]) -> [u16; 2] {
    let furthest = |of: fn(&Minutia) -> f32| {
        views.iter().flat_map(FingerView::minutiae).map(of).fold(0.0, f32::max)
    };
    [Minutia::x, Minutia::y].map(|of| (furthest(of) + MARGIN_PX).ceil() as u16)
}
