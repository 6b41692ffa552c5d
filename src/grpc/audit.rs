//! `AuditService`: what an auditor or a regulator calls.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::{answer, noun};
use super::peer::{AuditorPermit, EvidencePermit};
use super::status::InvalidField;
use crate::domain::id::ReceiptId;
use crate::gateway::{
    AuditRecord, Entry, EntryFilter, Evidence, ExportFile, ExportOptions, Gateway,
};
use crate::proto;
use crate::proto::audit_service_server::AuditService;

/// Pieces of an export that may wait for a slow caller; then the export waits too.
const EXPORT_PIECES_MAX: usize = 4;

/// Largest piece of a file in one message, in bytes.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// The service over a gateway.
#[derive(Debug)]
pub struct Audit(pub Arc<Gateway>);

#[tonic::async_trait]
impl AuditService for Audit {
    type ExportLedgerStream = ReceiverStream<Result<proto::ExportLedgerResponse, Status>>;

    async fn get_receipt(
        &self,
        request: Request<proto::GetReceiptRequest>,
    ) -> Result<Response<proto::Receipt>, Status> {
        use proto::get_receipt_request::Selector;
        AuditorPermit::of(request.extensions())?;
        let proto::GetReceiptRequest { selector, origin } = request.into_inner();
        let entry = match noun::present("selector", selector)? {
            Selector::Index(index) => self.0.entry(self.place(&origin, index)?).await?,
            Selector::Rid(rid) => self.0.entry_of(&receipt_id(&rid)?).await?,
        };
        Ok(Response::new(receipt(entry)))
    }

    async fn get_proof(
        &self,
        request: Request<proto::GetProofRequest>,
    ) -> Result<Response<proto::GetProofResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::GetProofRequest { index, origin } = request.into_inner();
        let proof = self.0.proof(self.place(&origin, index)?).await?;
        Ok(Response::new(proto::GetProofResponse { proof }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<proto::GetConsistencyProofRequest>,
    ) -> Result<Response<proto::GetConsistencyProofResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::GetConsistencyProofRequest { old_size, new_size, origin } = request.into_inner();
        let origin = noun::origin("origin", &origin)?;
        let hashes = self.0.consistency(origin.as_ref(), old_size, new_size).await?;
        let hashes = hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect();
        Ok(Response::new(proto::GetConsistencyProofResponse { hashes }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<proto::GetCheckpointRequest>,
    ) -> Result<Response<proto::GetCheckpointResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::GetCheckpointRequest { origin } = request.into_inner();
        let origin = noun::origin("origin", &origin)?;
        let checkpoint = self.0.checkpoint(origin.as_ref()).await?;
        Ok(Response::new(proto::GetCheckpointResponse { checkpoint }))
    }

    async fn list_receipts(
        &self,
        request: Request<proto::ListReceiptsRequest>,
    ) -> Result<Response<proto::ListReceiptsResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::ListReceiptsRequest { from, to, terminal_id, page_size, page_token } =
            request.into_inner();
        let is_of_all = terminal_id.is_empty();
        let filter = EntryFilter {
            from: noun::instant_or_empty("from", &from)?,
            until: noun::instant_or_empty("to", &to)?,
            terminal: if is_of_all { None } else { Some(noun::terminal_id(&terminal_id)?) },
        };
        let limit = noun::page_size(page_size)?;
        let begin = noun::page_after(&page_token, |token| token.parse::<u64>().ok())?.unwrap_or(0);
        let page = self.0.entries(begin, &filter, limit).await?;
        let next_page_token =
            noun::next_page(&page, limit, |entry| entry.place.saturating_add(1).to_string());
        Ok(Response::new(proto::ListReceiptsResponse {
            receipts: page.into_iter().map(receipt).collect(),
            next_page_token,
        }))
    }

    async fn get_audit_record(
        &self,
        request: Request<proto::GetAuditRecordRequest>,
    ) -> Result<Response<proto::GetAuditRecordResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::GetAuditRecordRequest { index, origin } = request.into_inner();
        let place = self.place(&origin, index)?;
        let AuditRecord { salt, record } = self.0.audit_record(place).await?;
        Ok(Response::new(proto::GetAuditRecordResponse { record, salt: salt.to_vec() }))
    }

    async fn get_evidence(
        &self,
        request: Request<proto::GetEvidenceRequest>,
    ) -> Result<Response<proto::GetEvidenceResponse>, Status> {
        let permit = EvidencePermit::of(request.extensions())?;
        let proto::GetEvidenceRequest { index, case_reference, origin } = request.into_inner();
        let case = noun::case_reference(&case_reference)?;
        let place = self.place(&origin, index)?;
        let evidence = self.0.evidence(permit.actor(), place, &case).await?;
        let Evidence { image, media_type, keep_until, read } = evidence;
        Ok(Response::new(proto::GetEvidenceResponse {
            image,
            media_type,
            keep_until: Some(keep_until.into()),
            read_position: Some(answer::position(&read)),
        }))
    }

    async fn export_ledger(
        &self,
        request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::ExportLedgerRequest { audit_records } = request.into_inner();
        let options = ExportOptions { audit_records };
        let (answers, stream) = mpsc::channel(EXPORT_PIECES_MAX);
        let gateway = Arc::clone(&self.0);
        tokio::spawn(async move {
            let (files, exported) = mpsc::channel(1);
            let export = async {
                let ended = gateway.export(options, &files).await;
                drop(files);
                ended
            };
            let (ended, ()) = tokio::join!(export, forward(exported, answers.clone()));
            if let Err(error) = ended {
                // An export that is cut short must not look whole. If nobody listens, nobody is misled.
                drop(answers.send(Err(error.into())).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Audit {
    fn place(&self, origin: &str, index: u64) -> Result<u64, Status> {
        let origin = noun::origin("origin", origin)?;
        Ok(self.0.place(origin.as_ref(), index)?)
    }
}

fn receipt(entry: Entry) -> proto::Receipt {
    let Entry { position, place: _, receipt, kind, terminal, time, jws, sealed_audit: _ } = entry;
    proto::Receipt {
        receipt_jws: jws.into_bytes(),
        position: Some(answer::log_position(position)),
        rid: URL_SAFE_NO_PAD.encode(receipt.as_bytes()),
        kind,
        time: Some(time.into()),
        terminal_id: terminal.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// Sends files on in pieces. It takes the receiver along: when the caller is gone, the export ends too.
async fn forward(
    mut exported: mpsc::Receiver<ExportFile>,
    answers: mpsc::Sender<Result<proto::ExportLedgerResponse, Status>>,
) {
    while let Some(ExportFile { path, bytes, entries_done, entries_total }) = exported.recv().await
    {
        for piece in pieces(&bytes) {
            let (path, content) = (path.clone(), piece.to_vec());
            let answer = proto::ExportLedgerResponse { path, content, entries_done, entries_total };
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

/// A file's bytes in pieces; one empty piece for an empty file, so that it exists.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.is_empty() { vec![bytes] } else { bytes.chunks(PIECE_BYTES_MAX).collect() }
}

/// A receipt's own id: 22 characters of unpadded base64url.
fn receipt_id(rid: &str) -> Result<ReceiptId, InvalidField> {
    let bytes = URL_SAFE_NO_PAD.decode(rid).ok();
    let id = bytes.and_then(|bytes| ReceiptId::try_from(bytes.as_slice()).ok());
    id.ok_or_else(|| InvalidField::wrong("rid", "it is no receipt's id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_in_pieces_and_an_empty_one_comes_too() {
        assert_eq!(pieces(b""), [b""]);
        let bytes = vec![7; PIECE_BYTES_MAX + 1];
        let lengths: Vec<_> = pieces(&bytes).iter().map(|piece| piece.len()).collect();
        assert_eq!(lengths, [PIECE_BYTES_MAX, 1]);
    }

    #[tokio::test]
    async fn an_export_ends_when_its_caller_is_gone() {
        let (files, exported) = mpsc::channel(1);
        let (answers, caller) = mpsc::channel(1);
        let forwarding = tokio::spawn(forward(exported, answers));
        drop(caller);
        let file = || ExportFile {
            path: "receipts.jws".into(),
            bytes: vec![7],
            entries_done: 0,
            entries_total: 0,
        };
        files.send(file()).await.unwrap();
        forwarding.await.unwrap();
        assert!(files.send(file()).await.is_err());
    }

    #[test]
    fn a_receipts_id_has_one_form() {
        assert!(receipt_id("5xxhIF3jy2RAFlNRHGdViw").is_ok());
        for bad in
            ["", "5xxhIF3jy2RAFlNRHGdVi", "5xxhIF3jy2RAFlNRHGdViw==", "5xxhIF3jy2RAFlNRHGdVi/"]
        {
            assert!(receipt_id(bad).is_err(), "{bad}");
        }
    }
}
