//! Evidence: the capture of a decision, kept for as long as the pack says.
//!
//! A picture is sealed under a key of its own and lies in a file that is written before the sequencer;
//! its key comes into the database with the decision. A file whose decision was never made has no key
//! anywhere, and the retention clerk removes it.

use std::sync::Arc;

use bytes::Bytes;

use super::Gateway;
use super::act::receipt_actor;
use super::error::GatewayError;
use super::request::{Actor, Logged};
use super::verification_job::Seen;
use crate::capture::{FingerImageKind, MediaType};
use crate::crypto::{length_prefixed, sha256};
use crate::domain::id::{CaseReference, ReceiptId};
use crate::domain::time::UnixMillis;
use crate::receipt::{Administration, Content};
use crate::store::{EvidenceRow, StoreError, shelf_of};
use crate::vault::SealedEvidence;

/// A picture that lies on its shelf, and its key.
pub(super) struct KeptEvidence {
    shelf: String,
    media_type: &'static str,
    wrapped: Vec<u8>,
}

impl KeptEvidence {
    /// The row that makes it readable.
    pub fn row(&self, index: u64, receipt: ReceiptId, keep_until: UnixMillis) -> EvidenceRow {
        EvidenceRow {
            index,
            receipt,
            shelf: self.shelf.clone(),
            media_type: self.media_type.to_owned(),
            wrapped: Some(self.wrapped.clone()),
            keep_until,
        }
    }
}

/// A picture that was kept, and the entry that says that it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The encoded picture as it was received.
    pub image: Vec<u8>,
    /// What it is.
    pub media_type: String,
    /// Until when it is kept.
    pub keep_until: UnixMillis,
    /// The entry of its reading.
    pub read: Logged,
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evidence({} bytes)", self.image.len())
    }
}

impl Gateway {
    /// Puts a picture with a face in it on its shelf, where the pack has it kept. It does so whoever the
    /// face is compared with, or the time taken would tell who is enrolled.
    pub(super) async fn keep_evidence(
        &self,
        receipt: &ReceiptId,
        image: Bytes,
        seen: &Seen,
    ) -> Result<Option<KeptEvidence>, GatewayError> {
        let pack = self.packs.current(self.clock.now()).await?;
        if pack.retention().evidence_days == 0 || !seen.is_usable() {
            return Ok(None);
        }
        // The picture was decoded: what begins like no file is a finger's bare pixels.
        let of_face = MediaType::of(&image).map(MediaType::as_str);
        let of_finger = || FingerImageKind::of(&image).map(FingerImageKind::as_str);
        let media_type = of_face.or_else(of_finger).unwrap_or(FingerImageKind::Raw.as_str());
        let (vault, entropy) = (Arc::clone(&self.vault), Arc::clone(&self.entropy));
        let (tenant, receipt) = (self.settings.tenant.clone(), *receipt);
        let (shelves, day) = (Arc::clone(&self.shelves), shelf_of(self.clock.now()));
        let on = day.clone();
        let put = tokio::task::spawn_blocking(move || {
            let evidence = vault.seal_evidence(&tenant, &receipt, &image, &*entropy)?;
            shelves.put(&on, &receipt, &evidence.sealed).map_err(unavailable)?;
            Ok::<_, GatewayError>(evidence.wrapped)
        });
        let wrapped = put.await.map_err(|cause| GatewayError::internal("evidence", cause))??;
        Ok(Some(KeptEvidence { shelf: day, media_type, wrapped }))
    }

    /// The capture that a decision was made on. Its reading is entered in the ledger before it is shown.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when none was kept, or it was destroyed.
    pub async fn evidence(
        &self,
        actor: &Actor,
        place: u64,
        case: &CaseReference,
    ) -> Result<Evidence, GatewayError> {
        const NONE: GatewayError = GatewayError::NotFound("evidence");
        let position = self.entry(place).await?.position;
        let row = self.store.evidence(place).await?.ok_or(NONE)?;
        let wrapped = row.wrapped.ok_or(NONE)?;
        let (shelves, on, receipt) = (Arc::clone(&self.shelves), row.shelf, row.receipt);
        let read = tokio::task::spawn_blocking(move || shelves.get(&on, &receipt));
        let sealed = read.await.map_err(|cause| GatewayError::internal("evidence", cause))?;
        let sealed = sealed.map_err(unavailable)?;
        let sealed = SealedEvidence { wrapped, sealed };
        let image = self.vault.open_evidence(&self.settings.tenant, &row.receipt, &sealed)?;
        let details = length_prefixed(&[
            b"tulga-evidence-read-v1",
            &position.index.to_be_bytes(),
            case.as_str().as_bytes(),
        ]);
        let content = Content::Administration(Administration {
            act: "evidence_read".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(Administration::entry_subject(&position)),
            details: Some(sha256(&details).labelled()),
        });
        let read = self.perform_as(content, None, Vec::new()).await?;
        Ok(Evidence {
            image: image.to_vec(),
            media_type: row.media_type,
            keep_until: row.keep_until,
            read,
        })
    }
}

/// The disk refuses: no decision is made, and nothing is shown.
pub(super) fn unavailable(cause: std::io::Error) -> GatewayError {
    GatewayError::Store(StoreError::Unavailable(Box::new(cause)))
}
