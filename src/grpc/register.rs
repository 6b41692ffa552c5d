//! `RegisterService`: what the bank's administrators call.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{noun, register};
use super::peer::AdminPermit;
use super::status;
use super::status::InvalidField;
use crate::domain::register::Register;
use crate::gateway::RegisterRow;
use crate::gateway::request::Actor;
use crate::gateway::{Gateway, GatewayError, RegisterDraft};
use crate::proto;
use crate::proto::import_register_request::Part;
use crate::proto::import_register_response::Answer;
use crate::proto::register_service_server::RegisterService;

/// Answers that may wait for a slow caller; then the import waits too.
const ANSWERS_MAX: usize = 64;

/// Most rows in one message.
const ROWS_MAX: usize = 1_000;

/// Most bad rows that are told one by one.
const BAD_ROWS_TOLD_MAX: u64 = 1_000;

/// The service over a gateway.
#[derive(Debug)]
pub struct RegisterDesk(pub Arc<Gateway>);

type Answers = mpsc::Sender<Result<proto::ImportRegisterResponse, Status>>;

#[tonic::async_trait]
impl RegisterService for RegisterDesk {
    type ImportRegisterStream = ReceiverStream<Result<proto::ImportRegisterResponse, Status>>;

    async fn import_register(
        &self,
        request: Request<Streaming<proto::ImportRegisterRequest>>,
    ) -> Result<Response<Self::ImportRegisterStream>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let parts = request.into_inner();
        let (answers, stream) = mpsc::channel(ANSWERS_MAX);
        let gateway = Arc::clone(&self.0);
        tokio::spawn(async move {
            let ended = import(&gateway, permit.actor(), parts, &answers).await;
            let last = match ended {
                Ok(None) => return,
                Ok(Some(diff)) => Ok(answer(Answer::Diff(diff))),
                Err(refusal) => Err(refusal),
            };
            // Whoever went away finds the version by asking for it.
            answers.send(last).await.ok();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_registers(
        &self,
        request: Request<proto::ListRegistersRequest>,
    ) -> Result<Response<proto::ListRegistersResponse>, Status> {
        AdminPermit::of(request.extensions())?;
        let proto::ListRegistersRequest {} = request.into_inner();
        let rows = self.0.registers().await?.into_iter();
        let registers = rows.map(|row| version(&self.0, row)).collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListRegistersResponse { registers }))
    }

    async fn get_register(
        &self,
        request: Request<proto::GetRegisterRequest>,
    ) -> Result<Response<proto::RegisterVersion>, Status> {
        AdminPermit::of(request.extensions())?;
        let proto::GetRegisterRequest { kind } = request.into_inner();
        let row = self.0.register(register::register("kind", kind)?).await?;
        Ok(Response::new(version(&self.0, row)?))
    }
}

fn version(gateway: &Gateway, row: RegisterRow) -> Result<proto::RegisterVersion, Status> {
    let position = gateway.position(row.index)?;
    Ok(register::version(row, position))
}

/// An import on its way: what was read of it.
struct Reading {
    register: Register,
    draft: RegisterDraft,
    bad_rows: u64,
}

/// Reads the whole stream, then imports; none when the caller went away.
async fn import(
    gateway: &Gateway,
    actor: &Actor,
    mut parts: Streaming<proto::ImportRegisterRequest>,
    answers: &Answers,
) -> Result<Option<proto::RegisterDiff>, Status> {
    let begin = match next(&mut parts).await? {
        Some(Part::Begin(begin)) => begin,
        Some(Part::Rows(_)) | None => return Err(InvalidField::missing("begin").into()),
    };
    let proto::RegisterImport { kind, dry_run, skip_bad_rows } = begin;
    let register = register::register("begin.kind", kind)?;
    let mut reading = Reading { register, draft: RegisterDraft::of(register), bad_rows: 0 };
    while let Some(part) = next(&mut parts).await? {
        let rows = match part {
            Part::Rows(proto::RegisterRows { rows }) if rows.len() <= ROWS_MAX => rows,
            Part::Rows(_) => {
                return Err(InvalidField::wrong("rows", "there are more than 1000").into());
            }
            Part::Begin(_) => {
                return Err(InvalidField::wrong("begin", "it comes once, and first").into());
            }
        };
        for row in rows {
            if !reading.read(gateway, row, answers).await? {
                return Ok(None);
            }
        }
    }
    let Reading { draft, bad_rows, .. } = reading;
    if bad_rows > 0 && !skip_bad_rows && !dry_run {
        return Err(GatewayError::State("rows could not be taken").into());
    }
    let mut diff = gateway.import_register(actor, draft, dry_run).await?;
    let imported = diff.version.take().map(|row| version(gateway, row)).transpose()?;
    Ok(Some(register::diff(diff, imported, bad_rows)))
}

impl Reading {
    /// Takes a row, or tells what is wrong with it; false when nobody listens any more.
    async fn read(
        &mut self,
        gateway: &Gateway,
        row: proto::RegisterRow,
        answers: &Answers,
    ) -> Result<bool, Status> {
        if self.draft.is_full() {
            return Err(InvalidField::wrong("rows", "there are more than 2000000 values").into());
        }
        let line = row.line;
        let taken = register::row(self.register, row).and_then(|row| {
            let added = gateway.add_to_register(&mut self.draft, row);
            added.map_err(|repeated| InvalidField::because("value", &repeated))
        });
        let Err(fault) = taken else { return Ok(true) };
        self.bad_rows += 1;
        if self.bad_rows > BAD_ROWS_TOLD_MAX {
            return Ok(true);
        }
        let InvalidField { path, problem } = fault;
        let bad = proto::BadRegisterRow { line, field: path.to_owned(), problem };
        Ok(answers.send(Ok(answer(Answer::BadRow(bad)))).await.is_ok())
    }
}

async fn next(parts: &mut Streaming<proto::ImportRegisterRequest>) -> Result<Option<Part>, Status> {
    match parts.message().await {
        Ok(None) => Ok(None),
        Ok(Some(proto::ImportRegisterRequest { part })) => Ok(Some(noun::present("part", part)?)),
        Err(broken) => Err(status::of(status::reason_of_foreign(broken.code()))),
    }
}

const fn answer(answer: Answer) -> proto::ImportRegisterResponse {
    proto::ImportRegisterResponse { answer: Some(answer) }
}
