//! `ReportService`: reports to the regulators.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::{answer, noun};
use super::peer::ReporterPermit;
use super::status::InvalidField;
use crate::gateway::{Gateway, MakeReport, ReportFormat, ReportKind, ReportPiece, SealedReport};
use crate::proto;
use crate::proto::report_service_server::ReportService;

/// Pieces of a report that may wait for a slow caller; then the report waits too.
const PIECES_MAX: usize = 4;

/// The service over a gateway.
#[derive(Debug)]
pub struct Reports(pub Arc<Gateway>);

#[tonic::async_trait]
impl ReportService for Reports {
    type MakeReportStream = ReceiverStream<Result<proto::MakeReportResponse, Status>>;

    async fn make_report(
        &self,
        request: Request<proto::MakeReportRequest>,
    ) -> Result<Response<Self::MakeReportStream>, Status> {
        let permit = ReporterPermit::of(request.extensions())?;
        let asked = asked(request.into_inner())?;
        let actor = permit.actor().clone();
        let gateway = Arc::clone(&self.0);
        let (answers, stream) = mpsc::channel(PIECES_MAX);
        tokio::spawn(async move {
            let (pieces, made) = mpsc::channel(1);
            let report = async {
                let ended = gateway.report(&actor, &asked, &pieces).await;
                drop(pieces);
                ended
            };
            let (ended, ()) = tokio::join!(report, forward(made, answers.clone()));
            let last = ended.map(sealed).map_err(Status::from);
            // If nobody listens, nobody takes a piece for the whole.
            drop(answers.send(last).await);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn asked(wire: proto::MakeReportRequest) -> Result<MakeReport, InvalidField> {
    use proto::{ReportFormat as WireFormat, ReportKind as WireKind};
    let proto::MakeReportRequest { kind, format, from, to } = wire;
    Ok(MakeReport {
        kind: match noun::named("kind", kind)? {
            WireKind::Unspecified => return Err(InvalidField::missing("kind")),
            WireKind::Suspicious => ReportKind::Suspicious,
            WireKind::Totals => ReportKind::Totals,
            WireKind::Failures => ReportKind::Failures,
        },
        format: match noun::named("format", format)? {
            WireFormat::Unspecified => return Err(InvalidField::missing("format")),
            WireFormat::Csv => ReportFormat::Csv,
            WireFormat::Json => ReportFormat::Json,
            WireFormat::Xml => ReportFormat::Xml,
        },
        from: noun::text("from", &from)?,
        to: noun::text("to", &to)?,
    })
}

/// Sends pieces on. It takes the receiver along: when the caller is gone, the report ends too.
async fn forward(
    mut made: mpsc::Receiver<ReportPiece>,
    answers: mpsc::Sender<Result<proto::MakeReportResponse, Status>>,
) {
    while let Some(ReportPiece { content, days_done, days }) = made.recv().await {
        let answer = proto::MakeReportResponse { content, days_done, days, seal: None };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
    }
}

fn sealed(report: SealedReport) -> proto::MakeReportResponse {
    let SealedReport { seal, entry, rows, bytes, sha256, days } = report;
    proto::MakeReportResponse {
        content: Vec::new(),
        days_done: days,
        days,
        seal: Some(proto::ReportSeal {
            seal,
            position: Some(answer::position(&entry)),
            rows,
            bytes,
            sha256: sha256.as_bytes().to_vec(),
        }),
    }
}
