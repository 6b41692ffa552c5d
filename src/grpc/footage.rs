//! `FootageService` and `RetentionService`: what must be kept, and what may be destroyed.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{answer, noun};
use super::peer::{AdminPermit, AuditorPermit};
use super::status::InvalidField;
use crate::gateway::request::Logged;
use crate::gateway::{
    ERASED_AT_ONCE_MAX, FootageFilter, FootageState, Gateway, OpenedDuty, RetentionPlan,
    RetentionRun, RetentionWork,
};
use crate::proto;
use crate::proto::footage_service_server::FootageService;
use crate::proto::retention_service_server::RetentionService;

/// The footage service over a gateway.
#[derive(Debug)]
pub struct Footage(pub Arc<Gateway>);

/// The retention service over a gateway.
#[derive(Debug)]
pub struct Retention(pub Arc<Gateway>);

#[tonic::async_trait]
impl FootageService for Footage {
    async fn list_footage(
        &self,
        request: Request<proto::ListFootageRequest>,
    ) -> Result<Response<proto::ListFootageResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::ListFootageRequest { filter, from, to, terminal_id, page_size, page_token } =
            request.into_inner();
        let is_of_all = terminal_id.is_empty();
        let filter = FootageFilter {
            state: self.state(filter)?,
            from: noun::instant_or_empty("from", &from)?,
            until: noun::instant_or_empty("to", &to)?,
            terminal: if is_of_all { None } else { Some(noun::terminal_id(&terminal_id)?) },
        };
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, |token| token.parse::<u64>().ok())?;
        let page = self.0.footage(&filter, after, limit).await?;
        let next_page_token =
            noun::next_page(&page, limit, |opened| opened.duty.row.index.to_string());
        let duties = page.into_iter().map(|opened| self.duty(opened)).collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListFootageResponse { duties, next_page_token }))
    }

    async fn place_hold(
        &self,
        request: Request<proto::PlaceHoldRequest>,
    ) -> Result<Response<proto::HoldResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::PlaceHoldRequest { index, case_reference, origin } = request.into_inner();
        let case = noun::case_reference(&case_reference)?;
        let place = self.place(&origin, index)?;
        let entry = self.0.place_hold(permit.actor(), place, case).await?;
        Ok(Response::new(held(&entry)))
    }

    async fn lift_hold(
        &self,
        request: Request<proto::LiftHoldRequest>,
    ) -> Result<Response<proto::HoldResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::LiftHoldRequest { index, case_reference, origin } = request.into_inner();
        let case = noun::case_reference(&case_reference)?;
        let place = self.place(&origin, index)?;
        let entry = self.0.lift_hold(permit.actor(), place, case).await?;
        Ok(Response::new(held(&entry)))
    }

    async fn confirm_deleted(
        &self,
        request: Request<proto::ConfirmDeletedRequest>,
    ) -> Result<Response<proto::ConfirmDeletedResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ConfirmDeletedRequest { indices, origin } = request.into_inner();
        let indices = self::indices(indices)?.into_iter();
        let places = indices.map(|index| self.place(&origin, index)).collect::<Result<_, _>>()?;
        let entry = self.0.confirm_deleted(permit.actor(), places).await?;
        let position = Some(answer::position(&entry));
        Ok(Response::new(proto::ConfirmDeletedResponse { position }))
    }
}

impl Footage {
    fn state(&self, wire: i32) -> Result<FootageState, InvalidField> {
        use proto::FootageFilter as Wire;
        Ok(match noun::named("filter", wire)? {
            Wire::Unspecified => FootageState::Any,
            Wire::Missing => FootageState::Missing,
            Wire::Due => FootageState::Due(self.0.now()),
            Wire::OnHold => FootageState::OnHold,
        })
    }

    fn place(&self, origin: &str, index: u64) -> Result<u64, Status> {
        let origin = noun::origin("origin", origin)?;
        Ok(self.0.place(origin.as_ref(), index)?)
    }

    fn duty(&self, opened: OpenedDuty) -> Result<proto::FootageDuty, Status> {
        let OpenedDuty { duty, salt } = opened;
        let position = |place| Ok::<_, Status>(Some(answer::log_position(self.0.position(place)?)));
        let row = duty.row;
        let footage = row.clip.as_ref().map(|clip| &clip.footage);
        Ok(proto::FootageDuty {
            position: position(row.index)?,
            decision: position(row.decision)?,
            terminal_id: row.terminal.to_string(),
            time: Some(row.at.into()),
            missing: row.is_missing,
            camera_id: footage.map(|footage| footage.camera().to_string()).unwrap_or_default(),
            clip_from: footage.map(|footage| footage.from().into()),
            clip_to: footage.map(|footage| footage.to().into()),
            clip_sha256: footage
                .map(|footage| footage.clip().as_bytes().to_vec())
                .unwrap_or_default(),
            salt: answer::salt_bytes(salt),
            keep_until: Some(row.keep_until.into()),
            case_references: duty.cases.iter().map(ToString::to_string).collect(),
            deleted_at: row.deleted_at.map(Into::into),
        })
    }
}

/// Entries that are named, each once.
fn indices(wire: Vec<u64>) -> Result<Vec<u64>, InvalidField> {
    if wire.is_empty() {
        return Err(InvalidField::missing("indices"));
    }
    if wire.len() > ERASED_AT_ONCE_MAX {
        return Err(InvalidField::wrong("indices", "there are more than 200"));
    }
    let distinct: std::collections::BTreeSet<_> = wire.iter().copied().collect();
    if distinct.len() < wire.len() {
        return Err(InvalidField::wrong("indices", "one is there twice"));
    }
    Ok(distinct.into_iter().collect())
}

fn held(entry: &Logged) -> proto::HoldResponse {
    proto::HoldResponse { position: Some(answer::position(entry)) }
}

#[tonic::async_trait]
impl RetentionService for Retention {
    async fn plan_retention(
        &self,
        request: Request<proto::PlanRetentionRequest>,
    ) -> Result<Response<proto::RetentionPlan>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::PlanRetentionRequest { at } = request.into_inner();
        let at = noun::instant_or_empty("at", &at)?;
        Ok(Response::new(self.plan(self.0.plan_retention(at).await?)?))
    }

    async fn run_retention(
        &self,
        request: Request<proto::RunRetentionRequest>,
    ) -> Result<Response<proto::RunRetentionResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RunRetentionRequest {} = request.into_inner();
        let actor = permit.actor().clone();
        let gateway = Arc::clone(&self.0);
        // It goes on when the caller goes away: what is due is due whoever asked.
        let run = tokio::spawn(async move { gateway.run_retention(Some(&actor)).await });
        let run = run.await.map_err(|error| super::status::refuse("SYS_INTERNAL", &error))?;
        let RetentionRun { work, destroyed, files_removed, entries, entered: _ } = run?;
        Ok(Response::new(proto::RunRetentionResponse {
            evidence_destroyed: destroyed,
            files_removed,
            positions: entries.into_iter().map(answer::log_position).collect(),
            plan: Some(self.plan(self.0.plan_retention(None).await?)?),
            work: Some(self.work(work)?),
        }))
    }
}

impl Retention {
    fn plan(&self, plan: RetentionPlan) -> Result<proto::RetentionPlan, Status> {
        let RetentionPlan { time, work, evidence, footage } = plan;
        Ok(proto::RetentionPlan {
            time: Some(time.into()),
            evidence_due: evidence.due,
            evidence_on_hold: evidence.on_hold,
            evidence_kept: evidence.kept,
            footage_due: footage.due,
            footage_missing: footage.missing,
            footage_on_hold: footage.on_hold,
            work: Some(self.work(work)?),
        })
    }

    fn work(&self, work: RetentionWork) -> Result<proto::RetentionWork, Status> {
        let RetentionWork { consents, customers, evidence, is_cut } = work;
        let consents = consents.into_iter().map(|lapsing| proto::LapsingConsent {
            customer_id: lapsing.customer.to_string(),
            until: Some(lapsing.until.into()),
            kept_until: Some(lapsing.keep_until.into()),
        });
        let position = |place| Ok::<_, Status>(answer::log_position(self.0.position(place)?));
        Ok(proto::RetentionWork {
            consents: consents.collect(),
            customer_ids: customers.iter().map(ToString::to_string).collect(),
            evidence: evidence.into_iter().map(position).collect::<Result<_, _>>()?,
            is_cut,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_each_once_and_not_too_many() {
        assert_eq!(indices(vec![7, 3]).unwrap(), [3, 7]);
        assert!(indices((0..200).collect()).is_ok());
        for wrong in [vec![], vec![3, 3], (0..201).collect()] {
            assert_eq!(indices(wrong).unwrap_err().path, "indices");
        }
    }
}
