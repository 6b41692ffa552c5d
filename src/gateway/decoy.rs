//! What is opened in place of a customer's keys and captures, so that as much is opened for nobody, and for
//! somebody with one capture, as for somebody with the most.

use std::sync::{Mutex, PoisonError};

use super::error::GatewayError;
use crate::crypto::Entropy;
use crate::domain::face_print::FacePrint;
use crate::domain::id::{CustomerId, TenantId};
use crate::store::CustomerKeyRow;
use crate::vault::{CustomerKeys, Place, Vault};

/// About as long as a sealed face.
const CAPTURE_BYTES: usize = 1_100;

/// Keys and a capture of nobody, made at each start and stored nowhere.
#[derive(Debug)]
pub(super) struct Decoy {
    /// Wrapped under the key-encryption key that is current, or was when it was last opened.
    row: Mutex<CustomerKeyRow>,
    keys: CustomerKeys,
    place: Place,
    sealed: Vec<u8>,
}

impl Decoy {
    /// Nobody's: no customer has it, since customers' ids are drawn by chance.
    pub const ID: CustomerId = CustomerId::new([0; 16]);

    pub fn new(
        vault: &Vault,
        tenant: &TenantId,
        entropy: &dyn Entropy,
    ) -> Result<Self, GatewayError> {
        let (keys, row) = vault.new_customer(tenant, &Self::ID, entropy)?;
        let place = Place::of_customer("captures", "sealed", tenant.as_str(), &Self::ID, b"decoy");
        let sealed = keys.seal(&place, &[0; CAPTURE_BYTES], entropy)?;
        Ok(Self { row: Mutex::new(row), keys, place, sealed })
    }

    /// Opens keys, as a customer's are opened.
    pub fn open_keys(
        &self,
        vault: &Vault,
        tenant: &TenantId,
        entropy: &dyn Entropy,
    ) -> Result<(), GatewayError> {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if row.kek_id != vault.current_kek().id {
            // What is kept nowhere is not wrapped anew with the rest, and old keys are destroyed.
            *row = vault.new_customer(tenant, &Self::ID, entropy)?.1;
        }
        std::hint::black_box(vault.open_keys(tenant, &row)?);
        Ok(())
    }

    /// Seals as much as is sealed of a face that is to be known again.
    pub fn seal_print(&self, entropy: &dyn Entropy) -> Result<(), GatewayError> {
        std::hint::black_box(self.keys.seal(&self.place, &[0; FacePrint::BYTES], entropy)?);
        Ok(())
    }

    /// Opens so many captures, as a customer's are opened.
    pub fn open_captures(&self, count: usize) -> Result<(), GatewayError> {
        for _ in 0..count {
            std::hint::black_box(self.keys.open(&self.place, &self.sealed)?);
        }
        Ok(())
    }
}
