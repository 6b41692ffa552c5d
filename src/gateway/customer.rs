//! A customer's keys, captures and template, opened for one use.

use std::sync::RwLockReadGuard;
use std::time::Instant;

use super::Gateway;
use super::error::GatewayError;
use crate::domain::embedding::FaceEmbedding;
use crate::domain::id::CustomerId;
use crate::matching::{Gallery, Template};
use crate::policy::CustomerStanding;
use crate::store::{CaptureRow, CustomerStatus};
use crate::vault::{CustomerKeys, Place};

/// What a verification is compared with.
pub(super) struct EnrolledTemplate {
    pub standing: CustomerStanding,
    /// The pseudonym for the receipt; none for nobody.
    pub subject: Option<String>,
    /// The customer's keys; none for nobody.
    pub keys: Option<CustomerKeys>,
    pub template: Option<Template>,
}

impl Gateway {
    /// The template of a customer, or what takes its place for nobody.
    pub(super) async fn enrolled_template(
        &self,
        customer: Option<&CustomerId>,
    ) -> Result<EnrolledTemplate, GatewayError> {
        const NOBODY: EnrolledTemplate = EnrolledTemplate {
            standing: CustomerStanding::Unknown,
            subject: None,
            keys: None,
            template: None,
        };
        let Some(id) = customer else { return Ok(NOBODY) };
        let Some(row) = self.store.customer(id).await? else { return Ok(NOBODY) };
        let standing = standing_of(row.status);
        let Some(keys) = self.customer_keys(id).await? else { return Ok(NOBODY) };
        let captures = self.open_captures(&keys, &self.store.captures(id).await?)?;
        let template = self.template(&captures)?;
        let standing = match (standing, &template) {
            (CustomerStanding::Active, None) => CustomerStanding::NotEnrolled,
            (standing, _) => standing,
        };
        let subject = Some(keys.pseudonym(&self.settings.tenant, id));
        Ok(EnrolledTemplate { standing, subject, keys: Some(keys), template })
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
    ) -> Result<Vec<FaceEmbedding>, GatewayError> {
        rows.iter()
            .map(|row| {
                let plain = keys.open(&self.capture_place(row), &row.sealed)?;
                FaceEmbedding::from_bytes(&plain).map_err(|cause| {
                    GatewayError::internal("a sealed capture does not parse", cause)
                })
            })
            .collect()
    }

    /// The template that captures make; none of no captures.
    pub(super) fn template(
        &self,
        captures: &[FaceEmbedding],
    ) -> Result<Option<Template>, GatewayError> {
        if captures.is_empty() {
            return Ok(None);
        }
        let template = Template::from_captures(captures);
        template.map(Some).map_err(|cause| GatewayError::internal("template", cause))
    }

    /// Where a capture is sealed to.
    pub(super) fn capture_place(&self, row: &CaptureRow) -> Place {
        let tenant = self.settings.tenant.as_str();
        Place::of_customer("captures", "sealed", tenant, &row.customer, row.id.as_bytes())
            .with_modality(row.modality.as_str())
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
                if let Some(template) = self.template(&captures)? {
                    self.gallery_insert(customer.id, &template)?;
                }
            }
            pages += 1;
            if pages.is_multiple_of(PAGES_A_LOG_LINE) {
                let templates = self.gallery()?.len();
                tracing::info!(templates, seconds = begun.elapsed().as_secs(), "loading templates");
            }
        }
        let templates = self.gallery()?.len();
        tracing::info!(templates, seconds = begun.elapsed().as_secs(), "templates are loaded");
        Ok(())
    }

    /// The gallery, to look at or to take a snapshot of: whoever inserts waits meanwhile.
    pub(super) fn gallery(&self) -> Result<RwLockReadGuard<'_, Gallery<CustomerId>>, GatewayError> {
        self.gallery.read().map_err(|_| GatewayError::broken("gallery lock"))
    }

    pub(super) fn gallery_insert(
        &self,
        id: CustomerId,
        template: &Template,
    ) -> Result<(), GatewayError> {
        let mut gallery = self.gallery.write().map_err(|_| GatewayError::broken("gallery lock"))?;
        gallery.insert(id, template).map_err(|cause| GatewayError::internal("gallery", cause))
    }

    pub(super) fn gallery_remove(&self, id: &CustomerId) -> Result<(), GatewayError> {
        self.gallery.write().map_err(|_| GatewayError::broken("gallery lock"))?.remove(id);
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
        CustomerStatus::Erased => CustomerStanding::Unknown,
    }
}
