//! Evidence: the captures of a decision, kept for as long as the pack says.
//!
//! They are sealed together under a key of their own and lie in a file that is written before the sequencer;
//! its key comes into the database with the decision. A file whose decision was never made has no key
//! anywhere, and the retention clerk removes it.

use std::sync::Arc;

use bytes::Bytes;

use super::Gateway;
use super::act::receipt_actor;
use super::audit::Entry;
use super::error::GatewayError;
use super::kept_captures::KeptCaptures;
use super::request::{Actor, Logged};
use super::verification_job::Seen;
use crate::capture::{FingerImageKind, MediaType};
use crate::crypto::{Digest, length_prefixed, random_bytes, sha256};
use crate::domain::id::{CaseReference, ReceiptId};
use crate::domain::time::UnixMillis;
use crate::ledger::LogPosition;
use crate::receipt::{Administration, Content};
use crate::store::{EvidenceRow, StoreError, shelf_of};
use crate::vault::SealedEvidence;

/// Captures that lie on their shelf, and their key.
pub(super) struct KeptEvidence {
    shelf: String,
    media_type: &'static str,
    wrapped: Vec<u8>,
    kek_id: Option<String>,
    hash: Digest,
}

impl KeptEvidence {
    /// The row that makes them readable.
    pub fn row(&self, index: u64, receipt: ReceiptId, keep_until: UnixMillis) -> EvidenceRow {
        EvidenceRow {
            index,
            receipt,
            shelf: self.shelf.clone(),
            media_type: self.media_type.to_owned(),
            wrapped: Some(self.wrapped.clone()),
            kek_id: self.kek_id.clone(),
            keep_until,
        }
    }

    /// SHA-256 of what is sealed, which has a salt in it: the audit record has it, so that the receipt commits
    /// to the very captures.
    pub const fn hash(&self) -> Digest {
        self.hash
    }
}

/// What became of a decision's captures.
pub(super) enum EvidenceIs {
    /// None were kept.
    NeverKept,
    /// Their key was destroyed; they were to be kept until then.
    Destroyed(UnixMillis),
    /// There is a key, and no file.
    Missing,
    /// The key opens nothing, or it is another decision's.
    Altered,
    /// They are there, opened.
    Kept(EvidenceRow, Bytes),
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
    /// Puts captures that could be compared on their shelf, where the pack has them kept. It does so whoever
    /// they are compared with, or the time taken would tell who is enrolled.
    pub(super) async fn keep_evidence(
        &self,
        receipt: &ReceiptId,
        kept: KeptCaptures,
        seen: &Seen,
    ) -> Result<Option<KeptEvidence>, GatewayError> {
        let pack = self.packs.current(self.clock.now()).await?;
        if pack.retention().evidence_days == 0 || !seen.is_usable() {
            return Ok(None);
        }
        let shown = kept.shown().map(|capture| capture.image.clone()).unwrap_or_default();
        // The picture was decoded: what begins like no file is a finger's bare pixels.
        let of_face = MediaType::of(&shown).map(MediaType::as_str);
        let of_finger = || FingerImageKind::of(&shown).map(FingerImageKind::as_str);
        let media_type = of_face.or_else(of_finger).unwrap_or(FingerImageKind::Raw.as_str());
        let (vault, entropy) = (Arc::clone(&self.vault), Arc::clone(&self.entropy));
        let (tenant, receipt) = (self.settings.tenant.clone(), *receipt);
        let (shelves, day) = (Arc::clone(&self.shelves), shelf_of(self.clock.now()));
        let on = day.clone();
        let put = tokio::task::spawn_blocking(move || {
            let plain = kept.to_bytes(&random_bytes(&*entropy)?);
            let hash = sha256(&plain);
            let evidence = vault.seal_evidence(&tenant, &receipt, &plain, &*entropy)?;
            shelves.put(&on, &receipt, &evidence.sealed).map_err(unavailable)?;
            Ok::<_, GatewayError>((evidence.wrapped, evidence.kek_id, hash))
        });
        let put = put.await.map_err(|cause| GatewayError::internal("evidence", cause))?;
        let (wrapped, kek_id, hash) = put?;
        Ok(Some(KeptEvidence { shelf: day, media_type, wrapped, kek_id, hash }))
    }

    /// What became of the captures of the decision at an entry.
    pub(super) async fn evidence_of(&self, entry: &Entry) -> Result<EvidenceIs, GatewayError> {
        let Some(mut row) = self.store.evidence(entry.place).await? else {
            return Ok(EvidenceIs::NeverKept);
        };
        let Some(wrapped) = row.wrapped.take() else {
            return Ok(EvidenceIs::Destroyed(row.keep_until));
        };
        if row.receipt != entry.receipt {
            return Ok(EvidenceIs::Altered);
        }
        let (shelves, on, receipt) = (Arc::clone(&self.shelves), row.shelf.clone(), row.receipt);
        let read = tokio::task::spawn_blocking(move || shelves.get(&on, &receipt));
        let sealed = read.await.map_err(|cause| GatewayError::internal("evidence", cause))?;
        let sealed = match sealed {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(EvidenceIs::Missing);
            }
            sealed => sealed.map_err(unavailable)?,
        };
        let sealed = SealedEvidence { wrapped, kek_id: row.kek_id.clone(), sealed };
        let opened = self.vault.open_evidence(&self.settings.tenant, &row.receipt, &sealed);
        Ok(match opened {
            Ok(plain) => EvidenceIs::Kept(row, Bytes::from_owner(plain)),
            Err(_) => EvidenceIs::Altered,
        })
    }

    /// The capture that a decision was made on: the face, or else the first. Its reading is entered in the
    /// ledger before it is shown.
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
        let entry = self.entry(place).await?;
        let (row, plain) = match self.evidence_of(&entry).await? {
            EvidenceIs::Kept(row, plain) => (row, plain),
            EvidenceIs::NeverKept | EvidenceIs::Destroyed(_) => {
                return Err(GatewayError::NotFound("evidence"));
            }
            EvidenceIs::Missing => return Err(unavailable(std::io::ErrorKind::NotFound.into())),
            EvidenceIs::Altered => return Err(GatewayError::broken("evidence does not open")),
        };
        let kept = KeptCaptures::parse(&plain)
            .map_err(|cause| GatewayError::internal("evidence", cause))?;
        // Older evidence is the picture itself.
        let image = kept.as_ref().map_or(Some(&plain), |kept| Some(&kept.shown()?.image));
        let image = image.ok_or(GatewayError::broken("evidence without a capture"))?.to_vec();
        let read = self.note_reading(actor, &entry.position, case).await?;
        Ok(Evidence { image, media_type: row.media_type, keep_until: row.keep_until, read })
    }

    /// Enters in the ledger who reads a decision's captures, and for which case.
    pub(super) async fn note_reading(
        &self,
        actor: &Actor,
        position: &LogPosition,
        case: &CaseReference,
    ) -> Result<Logged, GatewayError> {
        let details = length_prefixed(&[
            b"tulga-evidence-read-v1",
            &position.index.to_be_bytes(),
            case.as_str().as_bytes(),
        ]);
        let content = Content::Administration(Administration {
            act: "evidence_read".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(Administration::entry_subject(position)),
            details: Some(sha256(&details).labelled()),
        });
        self.perform_as(content, None, Vec::new()).await
    }
}

/// The disk refuses: no decision is made, and nothing is shown.
pub(super) fn unavailable(cause: std::io::Error) -> GatewayError {
    GatewayError::Store(StoreError::Unavailable(Box::new(cause)))
}
