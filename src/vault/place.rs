//! Where a ciphertext belongs.

use crate::crypto::length_prefixed;
use crate::domain::id::CustomerId;

/// A place in the store; a ciphertext opens in the place it was sealed for and in no other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    table: &'static str,
    column: &'static str,
    tenant: String,
    customer: Option<CustomerId>,
    row: Vec<u8>,
    modality: &'static str,
}

impl Place {
    /// A column of one of a customer's rows.
    #[must_use]
    pub fn of_customer(
        table: &'static str,
        column: &'static str,
        tenant: &str,
        customer: &CustomerId,
        row: &[u8],
    ) -> Self {
        Self { customer: Some(*customer), ..Self::system(table, column, tenant, row) }
    }

    /// A column of a row that belongs to no customer.
    #[must_use]
    pub fn system(table: &'static str, column: &'static str, tenant: &str, row: &[u8]) -> Self {
        Self {
            table,
            column,
            tenant: tenant.to_owned(),
            customer: None,
            row: row.to_vec(),
            modality: "",
        }
    }

    /// The same place for rows of one modality.
    #[must_use]
    pub const fn with_modality(mut self, modality: &'static str) -> Self {
        self.modality = modality;
        self
    }

    /// The additional data.
    pub(super) fn aad(&self) -> Vec<u8> {
        length_prefixed(&[
            CONTEXT,
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.tenant.as_bytes(),
            self.customer.as_ref().map_or(&[], |id| id.as_bytes().as_slice()),
            &self.row,
            self.modality.as_bytes(),
        ])
    }
}

const CONTEXT: &[u8] = b"tulga-vault-v1";
