//! How faces looked that were shown for a customer a short while ago.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::time::UnixMillis;

/// One face as it looked, sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FacePrintRow {
    /// Tells it apart.
    pub id: CaptureId,
    /// For whom it was shown.
    pub customer: CustomerId,
    /// The print, sealed under the customer's data key and bound to this row.
    pub sealed: Vec<u8>,
    /// When it was shown.
    pub at: UnixMillis,
    /// Until when it is compared with.
    pub until: UnixMillis,
}

/// Prints from committed state.
#[async_trait]
pub trait PrintReads: Send + Sync {
    /// A customer's prints that count at `now`, the newest first.
    async fn face_prints(
        &self,
        customer: &CustomerId,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<FacePrintRow>, StoreError>;
}

/// Prints inside a write transaction.
#[async_trait]
pub trait Prints: Send {
    /// Adds a print.
    async fn insert_face_print(&mut self, row: &FacePrintRow) -> Result<(), StoreError>;

    /// Destroys prints that count no more at `now`; how many.
    async fn forget_face_prints(&mut self, now: UnixMillis) -> Result<u64, StoreError>;
}
