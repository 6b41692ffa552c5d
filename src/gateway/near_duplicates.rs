//! Near duplicates: a picture of a face that differs by little from one that was shown for the same customer a
//! short while ago.
//!
//! The very same bytes are refused ([`super::envelope`]); somebody who encodes, scales or brightens them anew
//! sends other bytes of the same picture. That raises an incident and is a fact for the rules; by itself it
//! denies nothing, since a person who stands very still before a good camera looks alike twice. What is
//! compared, faces that matched and no others, is kept sealed under the customer's key, for as long as captures
//! are known again, and goes with them.

use super::Gateway;
use super::decoy::Decoy;
use super::error::GatewayError;
use super::verification_job::Seen;
use crate::crypto::random_bytes;
use crate::domain::face_print::FacePrint;
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::modality::Modality;
use crate::store::FacePrintRow;
use crate::vault::{CustomerKeys, Place};

/// The word in incidents.
pub(super) const NEAR_DUPLICATE: &str = "DEV_NEAR_DUPLICATE";

/// Most earlier faces that one is compared with: the newest.
const EARLIER_MAX: u32 = 8;

impl Gateway {
    /// The prints of a customer's faces that were shown a short while ago. As often something sealed is
    /// opened for nobody, and for somebody who was not here.
    pub(super) async fn earlier_prints(
        &self,
        customer: Option<&CustomerId>,
        keys: Option<&CustomerKeys>,
        asked: &[Modality],
    ) -> Result<Vec<FacePrint>, GatewayError> {
        if self.settings.capture_seen_ms == 0 || !asked.contains(&Modality::Face) {
            return Ok(Vec::new());
        }
        let id = customer.unwrap_or(&Decoy::ID);
        let rows = self.store.face_prints(id, self.clock.now(), EARLIER_MAX).await?;
        let mut prints = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(keys) = keys else { break };
            let plain = keys.open(&self.print_place(&row.customer, &row.id), &row.sealed)?;
            let print = FacePrint::try_from(plain.as_slice())
                .map_err(|cause| GatewayError::internal("a face's print", cause))?;
            prints.push(print);
        }
        let most = usize::try_from(EARLIER_MAX).unwrap_or(usize::MAX);
        self.decoy.open_captures(most.saturating_sub(prints.len()))?;
        Ok(prints)
    }

    /// The print of what was seen, to be kept with the decision; as much is sealed for nobody.
    pub(super) fn sealed_print(
        &self,
        customer: Option<CustomerId>,
        keys: Option<&CustomerKeys>,
        seen: &Seen,
    ) -> Result<Option<FacePrintRow>, GatewayError> {
        let Some(print) = seen.print.filter(|_| self.settings.capture_seen_ms > 0) else {
            return Ok(None);
        };
        let (Some(customer), Some(keys)) = (customer, keys) else {
            self.decoy.seal_print(&*self.entropy)?;
            return Ok(None);
        };
        let id = CaptureId::new(random_bytes(&*self.entropy)?);
        let at = self.clock.now();
        let place = self.print_place(&customer, &id);
        Ok(Some(FacePrintRow {
            id,
            customer,
            sealed: keys.seal(&place, print.as_bytes(), &*self.entropy)?,
            at,
            until: at.plus_millis(self.settings.capture_seen_ms),
        }))
    }

    fn print_place(&self, customer: &CustomerId, id: &CaptureId) -> Place {
        let tenant = self.settings.tenant.as_str();
        Place::of_customer("face_prints", "sealed", tenant, customer, id.as_bytes())
    }
}
