//! Guests: somebody whom the bank does not know pays in to another's account, is enrolled on the spot for that
//! alone, and is known again by number and face.
//!
//! A guest is a customer without an IIN index: they never stand in the way of the number's owner, are not
//! searched for duplicates, and are never promoted. Several may have given one number; whose face is among
//! theirs is that guest, and whose is not is another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Gateway;
use super::consent::consent_row;
use super::customer::TemplateCapture;
use super::enrollment::consent_json;
use super::error::GatewayError;
use super::kept_captures::ComparedWith;
use super::look::{Looked, face_measures, face_scores, refused_face};
use super::request::{Capture, Consent};
use super::sequencer::Slot;
use super::session::digest_from_hex;
use super::verification_job::Seen;
use super::vision::Faces;
use crate::capture::DecodedImage;
use crate::crypto::{Digest, random_bytes};
use crate::domain::embedding::FaceEmbedding;
use crate::domain::id::{CaptureId, CustomerId, TerminalId};
use crate::domain::iin::Iin;
use crate::domain::modality::Modality;
use crate::domain::time::UnixMillis;
use crate::domain::turnover::{BankZone, Window};
use crate::face::{Acquisition, Probe};
use crate::matching::{Matcher, Template, WeighedFace};
use crate::policy::CustomerStanding;
use crate::store::{
    CaptureRow, ConsentRow, CustomerKeyRow, CustomerRow, CustomerStatus, GuestRow, UnitOfWork,
};
use crate::vault::Place;

/// A depositor who would be a guest, as the sealed session keeps them.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptGuest {
    /// Keyed hash of the number, as hexadecimal digits.
    number_index: String,
    /// The number and the consent, as they are sealed with the guest.
    record: String,
}

impl KeptGuest {
    /// The keyed hash of the number.
    pub fn number_index(&self) -> Result<Digest, GatewayError> {
        digest_from_hex(&self.number_index)
    }
}

/// A guest who may stand there again.
struct KnownGuest {
    id: CustomerId,
    subject: String,
    template: Template,
    captures: Vec<TemplateCapture>,
}

/// A guest before they are written.
#[derive(Clone)]
pub(super) struct NewGuest {
    pub id: CustomerId,
    pub subject: String,
    customer: CustomerRow,
    key: CustomerKeyRow,
    capture: CaptureRow,
    guest: GuestRow,
    consent: ConsentRow,
}

/// What a picture shows of a guest.
struct GuestSeen {
    seen: Seen,
    /// Which of the known guests it is.
    known: Option<usize>,
    /// The face, where it can be compared.
    embedding: Option<FaceEmbedding>,
}

impl Gateway {
    /// What the session keeps of a depositor who would be a guest.
    pub(super) fn kept_guest(
        &self,
        iin: &Iin,
        consent: &Consent,
    ) -> Result<KeptGuest, GatewayError> {
        let number = std::str::from_utf8(iin.expose())
            .map_err(|cause| GatewayError::internal("IIN", cause))?;
        Ok(KeptGuest {
            number_index: self.vault.guest_index(&self.settings.tenant, iin).hex(),
            record: json!({ "iin": number, "consent": consent_json(consent) }).to_string(),
        })
    }

    /// Looks whether one of the guests with the number stands there, or somebody new.
    pub(super) async fn look_for_guest(
        &self,
        kept: KeptGuest,
        may_compare: bool,
        terminal: &TerminalId,
        capture: Capture,
    ) -> Result<Looked, GatewayError> {
        let known = if may_compare { self.known_guests(&kept).await? } else { Vec::new() };
        let known = Arc::new(known);
        let matcher = self.matcher.clone();
        let pack = self.packs.current(self.clock.now()).await?;
        let required_db = pack.bars().required_db;
        let candidates = Arc::clone(&known);
        let seen = self.vision.look_at_face(capture, move |faces, picture| {
            compare_guests(faces, &matcher, picture, &candidates, required_db)
        });
        let GuestSeen { seen, known: place, embedding } = seen.await?;
        let guest = match (place.and_then(|place| known.get(place)), &embedding) {
            (Some(KnownGuest { id, subject, .. }), _) => {
                Some(GuestIs::Known { id: *id, subject: subject.clone() })
            }
            (None, Some(embedding)) => {
                let now = self.clock.now();
                Some(GuestIs::New(Box::new(self.new_guest(&kept, embedding, terminal, now)?)))
            }
            (None, None) => None,
        };
        let standing = match guest {
            Some(_) => CustomerStanding::Guest,
            None => CustomerStanding::Unknown,
        };
        let subject = guest.as_ref().map(|guest| guest.subject().to_owned());
        let face = embedding.filter(|_| may_compare);
        let compared_with = place.and_then(|place| known.get(place));
        let compared_with =
            compared_with.map(|it| ComparedWith { customer: it.id, captures: it.captures.clone() });
        Ok(Looked { seen, standing, subject, keys: None, guest, face, compared_with })
    }

    /// The guests who gave this number, with their templates.
    async fn known_guests(&self, kept: &KeptGuest) -> Result<Vec<KnownGuest>, GatewayError> {
        let mut known = Vec::new();
        let now = self.clock.now();
        for id in self.store.guests(&kept.number_index()?).await? {
            if !self.consents(&id, now).await? {
                continue;
            }
            let Some(keys) = self.customer_keys(&id).await? else { continue };
            let captures = self.open_captures(&keys, &self.store.captures(&id).await?)?;
            if let Some(template) = self.templates(&captures)?.face {
                let subject = keys.pseudonym(&self.settings.tenant, &id);
                let mut captures = captures.captures;
                captures.retain(|capture| capture.modality == Modality::Face);
                known.push(KnownGuest { id, subject, template, captures });
            }
        }
        Ok(known)
    }

    /// A guest with this face, to be written if the deposit is approved.
    fn new_guest(
        &self,
        kept: &KeptGuest,
        embedding: &FaceEmbedding,
        terminal: &TerminalId,
        now: UnixMillis,
    ) -> Result<NewGuest, GatewayError> {
        let tenant = &self.settings.tenant;
        let id = CustomerId::new(random_bytes(&*self.entropy)?);
        let (keys, key) = self.vault.new_customer(tenant, &id, &*self.entropy)?;
        let place =
            Place::of_customer("customers", "sealed_record", tenant.as_str(), &id, id.as_bytes());
        let customer = CustomerRow {
            id,
            status: CustomerStatus::Guest,
            iin_index: None,
            sealed_record: keys.seal(&place, kept.record.as_bytes(), &*self.entropy)?,
            created_at: now,
            updated_at: now,
            activated_at: None,
        };
        let mut capture = CaptureRow {
            id: CaptureId::new(random_bytes(&*self.entropy)?),
            customer: id,
            modality: Modality::Face,
            sealed: Vec::new(),
            created_at: now,
        };
        capture.sealed =
            keys.seal(&self.capture_place(&capture), &embedding.to_bytes(), &*self.entropy)?;
        let guest = GuestRow {
            customer: id,
            number_index: kept.number_index()?,
            terminal: terminal.clone(),
            at: now,
        };
        let consent = consent_row(id, kept.record.as_bytes());
        let consent = consent.ok_or(GatewayError::broken("a guest's consent does not parse"))?;
        let subject = keys.pseudonym(tenant, &id);
        Ok(NewGuest { id, subject, customer, key, capture, guest, consent })
    }
}

impl NewGuest {
    /// Whether the terminal may enrol one more today.
    pub async fn has_place(
        &self,
        unit: &mut dyn UnitOfWork,
        zone: &BankZone,
        per_day: u32,
        slot: &Slot,
    ) -> Result<bool, GatewayError> {
        let since = zone.start(Window::Day, slot.now);
        let today = unit.guests_of_terminal(&self.guest.terminal, since).await?;
        Ok(today < i64::from(per_day))
    }

    /// Writes the guest.
    pub async fn insert(&self, unit: &mut dyn UnitOfWork) -> Result<(), GatewayError> {
        unit.insert_customer(&self.customer, &self.key).await?;
        unit.put_consent(&self.consent).await?;
        unit.insert_capture(&self.capture).await?;
        Ok(unit.insert_guest(&self.guest).await?)
    }
}

/// Looks for one of the known guests; the strength is that of the best match.
fn compare_guests(
    faces: &Faces,
    matcher: &Matcher,
    picture: &DecodedImage,
    known: &[KnownGuest],
    required_db: i64,
) -> Result<GuestSeen, GatewayError> {
    match faces.probe(picture)? {
        Acquisition::Refused(refusal) => {
            Ok(GuestSeen { seen: refused_face(&refusal), known: None, embedding: None })
        }
        Acquisition::Usable(Probe { embedding, quality, liveness, print: _ }) => {
            let mut best: Option<(usize, WeighedFace)> = None;
            for (place, guest) in known.iter().enumerate() {
                let weighed = matcher
                    .weigh(&embedding, &guest.template)
                    .map_err(|cause| GatewayError::internal("comparison", cause))?;
                if best.is_none_or(|(_, other)| weighed.strength > other.strength) {
                    best = Some((place, weighed));
                }
            }
            let best = best.filter(|(_, weighed)| weighed.strength.db() >= required_db);
            let mut seen = Seen::usable(liveness, face_measures(&quality));
            let scores = best.map(|(_, weighed)| face_scores(&weighed, liveness));
            let strength = best.map(|(_, weighed)| weighed.strength);
            seen.matched(strength, scores.unwrap_or_default());
            Ok(GuestSeen { seen, known: best.map(|(place, _)| place), embedding: Some(embedding) })
        }
    }
}

/// What the decision needs of a guest.
pub(super) enum GuestIs {
    Known { id: CustomerId, subject: String },
    New(Box<NewGuest>),
}

impl GuestIs {
    pub fn id(&self) -> CustomerId {
        match self {
            Self::Known { id, .. } => *id,
            Self::New(guest) => guest.id,
        }
    }

    pub fn subject(&self) -> &str {
        match self {
            Self::Known { subject, .. } => subject,
            Self::New(guest) => &guest.subject,
        }
    }

    /// The word of the receipt.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Known { .. } => "known",
            Self::New(_) => "enrolled",
        }
    }
}
