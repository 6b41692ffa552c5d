//! A customer's keys, captures and template, opened for one use.

use std::collections::BTreeMap;
use std::sync::RwLockReadGuard;
use std::time::Instant;

use super::Gateway;
use super::decoy::Decoy;
use super::error::GatewayError;
use crate::crypto::{Digest, sha256};
use crate::domain::embedding::FaceEmbedding;
use crate::domain::finger::{FingerPosition, FingerView};
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::modality::Modality;
use crate::fingerprint::FingerprintPipeline;
use crate::matching::{FingerGallery, FingerTemplate, Gallery, TEMPLATE_CAPTURES_MAX, Template};
use crate::policy::CustomerStanding;
use crate::store::{CaptureRow, CustomerStatus};
use crate::vault::{CustomerKeys, Place};

/// Whom a verification is about, and what it is compared with.
pub(super) struct Enrolled {
    /// Where they stand, whatever of them is enrolled.
    pub standing: CustomerStanding,
    /// The pseudonym for the receipt; none for nobody.
    pub subject: Option<String>,
    /// The customer's keys; none for nobody.
    pub keys: Option<CustomerKeys>,
    pub templates: Templates,
    /// What the templates were made of.
    pub captures: Vec<TemplateCapture>,
}

/// A person's captures, opened.
#[derive(Default)]
pub(super) struct OpenedCaptures {
    pub faces: Vec<FaceEmbedding>,
    pub fingers: BTreeMap<FingerPosition, Vec<FingerView>>,
    /// All of them, in their order.
    pub captures: Vec<TemplateCapture>,
}

/// One capture of a template: with all of them it is known what a person was compared with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TemplateCapture {
    pub modality: Modality,
    pub id: CaptureId,
    /// SHA-256 of what its row seals. It tells whether a face is the one, so it is kept sealed only.
    pub hash: Digest,
}

/// What a person is compared with, by characteristic.
#[derive(Default)]
pub(super) struct Templates {
    pub face: Option<Template>,
    pub fingers: BTreeMap<FingerPosition, FingerTemplate>,
}

impl Templates {
    /// Whether there is one of this characteristic.
    pub fn has(&self, modality: Modality) -> bool {
        match modality {
            Modality::Face => self.face.is_some(),
            Modality::Finger(position) => self.fingers.contains_key(&position),
        }
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.face.is_none() && self.fingers.is_empty()
    }
}

/// Everybody's templates, for the search for duplicates.
#[derive(Debug)]
pub(super) struct Everybody {
    pub faces: Gallery<CustomerId>,
    /// None where the gateway has no model for fingers.
    pub fingers: Option<FingerGallery<(CustomerId, FingerPosition)>>,
}

impl Gateway {
    /// What is enrolled of a customer of these characteristics, or what takes its place for nobody: the same
    /// is asked of the store, and as often something sealed is opened, whoever it is.
    pub(super) async fn enrolled(
        &self,
        customer: Option<&CustomerId>,
        of: &[Modality],
    ) -> Result<Enrolled, GatewayError> {
        const NOBODY: Enrolled = Enrolled {
            standing: CustomerStanding::Unknown,
            subject: None,
            keys: None,
            templates: Templates { face: None, fingers: BTreeMap::new() },
            captures: Vec::new(),
        };
        let captures_max = of.len() * TEMPLATE_CAPTURES_MAX;
        let id = customer.unwrap_or(&Decoy::ID);
        let row = self.store.customer(id).await?;
        // Nothing of them is opened whose consent does not hold: they are nobody.
        let keys = if self.consents(id, self.clock.now()).await? {
            self.customer_keys(id).await?
        } else {
            None
        };
        let mut captures = self.store.captures(id).await?;
        captures.retain(|row| of.contains(&row.modality));
        let (Some(row), Some(keys)) = (row, keys) else {
            self.decoy.open_keys(&self.vault, &self.settings.tenant, &*self.entropy)?;
            self.decoy.open_captures(captures_max)?;
            return Ok(NOBODY);
        };
        self.decoy.open_captures(captures_max.saturating_sub(captures.len()))?;
        let captures = self.open_captures(&keys, &captures)?;
        let subject = Some(keys.pseudonym(&self.settings.tenant, id));
        Ok(Enrolled {
            standing: standing_of(row.status),
            subject,
            keys: Some(keys),
            templates: self.templates(&captures)?,
            captures: captures.captures,
        })
    }

    /// A customer's keys; none after erasure.
    pub(super) async fn customer_keys(
        &self,
        id: &CustomerId,
    ) -> Result<Option<CustomerKeys>, GatewayError> {
        match self.store.customer_key(id).await? {
            Some(row) => Ok(Some(self.vault.open_keys(&self.settings.tenant, &row)?)),
            None => Ok(None),
        }
    }

    /// Opens sealed captures.
    pub(super) fn open_captures(
        &self,
        keys: &CustomerKeys,
        rows: &[CaptureRow],
    ) -> Result<OpenedCaptures, GatewayError> {
        const BROKEN: &str = "a sealed capture does not parse";
        let mut opened = OpenedCaptures::default();
        for row in rows {
            let plain = keys.open(&self.capture_place(row), &row.sealed)?;
            let (modality, id, hash) = (row.modality, row.id, sha256(&plain));
            opened.captures.push(TemplateCapture { modality, id, hash });
            match modality {
                Modality::Face => opened.faces.push(
                    FaceEmbedding::from_bytes(&plain)
                        .map_err(|cause| GatewayError::internal(BROKEN, cause))?,
                ),
                Modality::Finger(position) => opened.fingers.entry(position).or_default().push(
                    FingerView::from_bytes(&plain)
                        .map_err(|cause| GatewayError::internal(BROKEN, cause))?,
                ),
            }
        }
        Ok(opened)
    }

    /// The templates that captures make.
    pub(super) fn templates(&self, captures: &OpenedCaptures) -> Result<Templates, GatewayError> {
        let broken = |cause| GatewayError::internal("template", cause);
        let face = (!captures.faces.is_empty()).then(|| Template::from_captures(&captures.faces));
        let fingers = captures.fingers.iter().map(|(position, views)| {
            let template = FingerTemplate::from_views(views);
            Ok((*position, template.map_err(|cause| GatewayError::internal("template", cause))?))
        });
        Ok(Templates {
            face: face.transpose().map_err(broken)?,
            fingers: fingers.collect::<Result<_, GatewayError>>()?,
        })
    }

    /// Where a capture is sealed to.
    pub(super) fn capture_place(&self, row: &CaptureRow) -> Place {
        let tenant = self.settings.tenant.as_str();
        Place::of_customer("captures", "sealed", tenant, &row.customer, row.id.as_bytes())
            .with_modality(row.modality.characteristic())
    }

    /// Reads every template into memory, for the search for duplicates.
    pub(super) async fn load_gallery(&self) -> Result<(), GatewayError> {
        const PAGE: u32 = 1000;
        const PAGES_A_LOG_LINE: u32 = 100;
        let begun = Instant::now();
        let (mut after, mut pages) = (None, 0u32);
        loop {
            let customers = self.store.customers(after.as_ref(), PAGE).await?;
            let Some(last) = customers.last() else { break };
            after = Some(last.id);
            for customer in &customers {
                if !matches!(customer.status, CustomerStatus::Active | CustomerStatus::Suspended) {
                    continue;
                }
                let Some(keys) = self.customer_keys(&customer.id).await? else { continue };
                let captures =
                    self.open_captures(&keys, &self.store.captures(&customer.id).await?)?;
                self.gallery_insert(customer.id, &self.templates(&captures)?)?;
            }
            pages += 1;
            if pages.is_multiple_of(PAGES_A_LOG_LINE) {
                let templates = self.gallery()?.faces.len();
                tracing::info!(templates, seconds = begun.elapsed().as_secs(), "loading templates");
            }
        }
        let templates = self.gallery()?.faces.len();
        tracing::info!(templates, seconds = begun.elapsed().as_secs(), "templates are loaded");
        Ok(())
    }

    /// The gallery, to look at or to take a snapshot of: whoever inserts waits meanwhile.
    pub(super) fn gallery(&self) -> Result<RwLockReadGuard<'_, Everybody>, GatewayError> {
        self.gallery.read().map_err(|_| GatewayError::broken("gallery lock"))
    }

    pub(super) fn gallery_insert(
        &self,
        id: CustomerId,
        templates: &Templates,
    ) -> Result<(), GatewayError> {
        let mut gallery = self.gallery.write().map_err(|_| GatewayError::broken("gallery lock"))?;
        if let Some(face) = &templates.face {
            let inserted = gallery.faces.insert(id, face);
            inserted.map_err(|cause| GatewayError::internal("gallery", cause))?;
        }
        if let Some(fingers) = &mut gallery.fingers {
            let own = self.vision.fingers().map(FingerprintPipeline::model);
            // Records of other systems have no calibration among themselves: nobody is searched by them.
            let comparable = templates.fingers.iter().filter(|(_, finger)| finger.model() == own);
            for (position, template) in comparable {
                let inserted = fingers.insert((id, *position), template.clone());
                inserted.map_err(|cause| GatewayError::internal("gallery", cause))?;
            }
        }
        Ok(())
    }

    pub(super) fn gallery_remove(&self, id: &CustomerId) -> Result<(), GatewayError> {
        let mut gallery = self.gallery.write().map_err(|_| GatewayError::broken("gallery lock"))?;
        gallery.faces.remove(id);
        if let Some(fingers) = &mut gallery.fingers {
            for position in FingerPosition::ALL {
                fingers.remove(&(*id, position));
            }
        }
        Ok(())
    }
}

/// What a status means for somebody who has a template.
pub(super) const fn standing_of(status: CustomerStatus) -> CustomerStanding {
    match status {
        CustomerStatus::Active => CustomerStanding::Active,
        CustomerStatus::Suspended => CustomerStanding::Suspended,
        CustomerStatus::Pending | CustomerStatus::PendingDuplicate => CustomerStanding::NotActive,
        CustomerStatus::Guest => CustomerStanding::Guest,
        CustomerStatus::Withdrawn | CustomerStatus::Erased => CustomerStanding::Unknown,
    }
}
