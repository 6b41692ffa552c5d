//! `EnrollmentService`: what the bank's back office calls.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{answer, capture, noun, proposal, request as asked};
use super::peer::{AdminPermit, EnrollerPermit};
use super::status;
use crate::domain::four_eyes::StaffRole;
use crate::domain::id::CustomerId;
use crate::gateway::request::Actor;
use crate::gateway::{Acted, ExportedTemplate, Gateway, GatewayError, Withdrawal};
use crate::proto;
use crate::proto::enrollment_service_server::EnrollmentService;

/// Answers of an import that may wait for a slow caller; then the import waits too.
const IMPORT_ANSWERS_MAX: usize = 16;

/// The service over a gateway.
#[derive(Debug)]
pub struct Enrollment(Arc<Gateway>, Arc<Semaphore>);

/// Acts under way at once, each of which may hold pictures; more are refused.
const ACTS_MAX: usize = 32;

impl Enrollment {
    /// The service over a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self(gateway, Arc::new(Semaphore::new(ACTS_MAX)))
    }

    /// Runs an act to its end even if the caller goes away in the middle: what is committed and what
    /// the gallery holds in memory must not part.
    async fn carry_through<T, F>(
        &self,
        actor: &Actor,
        act: impl FnOnce(Arc<Gateway>, Actor) -> F,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, GatewayError>> + Send + 'static,
    {
        let place = Arc::clone(&self.1).try_acquire_owned();
        let place = place.map_err(|_| status::of("SYS_OVERLOADED"))?;
        let work = act(Arc::clone(&self.0), actor.clone());
        let ended = tokio::spawn(async move {
            let _place = place;
            work.await
        })
        .await;
        // A panic was logged where it happened.
        Ok(ended.map_err(|_| status::of("SYS_INTERNAL"))??)
    }
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    type BulkImportStream = ReceiverStream<Result<proto::BulkImportResponse, Status>>;

    async fn create_customer(
        &self,
        request: Request<proto::CreateCustomerRequest>,
    ) -> Result<Response<proto::CreateCustomerResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let asked = asked::create_customer(request.into_inner())?;
        let customer = self.0.create_customer(permit.actor(), asked).await?;
        Ok(Response::new(proto::CreateCustomerResponse { customer_id: customer.to_string() }))
    }

    async fn bind_token(
        &self,
        request: Request<proto::BindTokenRequest>,
    ) -> Result<Response<proto::BindTokenResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let asked = asked::bind_token(request.into_inner())?;
        self.0.bind_token(permit.actor(), asked).await?;
        Ok(Response::new(proto::BindTokenResponse {}))
    }

    async fn unbind_token(
        &self,
        request: Request<proto::UnbindTokenRequest>,
    ) -> Result<Response<proto::UnbindTokenResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::UnbindTokenRequest { customer_id, kind, token } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let kind = noun::token_kind("kind", kind)?;
        let token = noun::text("token", &token)?;
        self.0.unbind_token(permit.actor(), &customer, kind, &token).await?;
        Ok(Response::new(proto::UnbindTokenResponse {}))
    }

    async fn bind_app_key(
        &self,
        request: Request<proto::BindAppKeyRequest>,
    ) -> Result<Response<proto::BindAppKeyResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::BindAppKeyRequest { customer_id, public_key, proof } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let public_key = noun::device_bytes("public_key", public_key)?;
        let proof = noun::device_bytes("proof", proof)?;
        let key = self.0.bind_app_key(permit.actor(), &customer, public_key, &proof).await?;
        Ok(Response::new(proto::BindAppKeyResponse { key_id: key.hex() }))
    }

    async fn unbind_app_key(
        &self,
        request: Request<proto::UnbindAppKeyRequest>,
    ) -> Result<Response<proto::UnbindAppKeyResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::UnbindAppKeyRequest { customer_id, key_id } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let key = noun::key_id(&key_id)?;
        self.0.unbind_app_key(permit.actor(), &customer, &key).await?;
        Ok(Response::new(proto::UnbindAppKeyResponse {}))
    }

    async fn propose_unable(
        &self,
        request: Request<proto::ProposeUnableRequest>,
    ) -> Result<Response<proto::ProposeUnableResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ProposeUnableRequest { customer_id, evidence_ref } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let evidence_ref = noun::sentence("evidence_ref", evidence_ref)?;
        self.0.propose_unable(permit.actor(), &customer, &evidence_ref).await?;
        Ok(Response::new(proto::ProposeUnableResponse {}))
    }

    async fn approve_unable(
        &self,
        request: Request<proto::ApproveUnableRequest>,
    ) -> Result<Response<proto::ApproveUnableResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ApproveUnableRequest { customer_id, evidence_ref } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let evidence_ref = noun::sentence("evidence_ref", evidence_ref)?;
        self.0.approve_unable(permit.actor(), &customer, &evidence_ref).await?;
        Ok(Response::new(proto::ApproveUnableResponse {}))
    }

    async fn clear_unable(
        &self,
        request: Request<proto::ClearUnableRequest>,
    ) -> Result<Response<proto::ClearUnableResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ClearUnableRequest { customer_id } = request.into_inner();
        self.0.clear_unable(permit.actor(), &noun::customer_id(&customer_id)?).await?;
        Ok(Response::new(proto::ClearUnableResponse {}))
    }

    async fn begin_add_capture(
        &self,
        request: Request<proto::BeginAddCaptureRequest>,
    ) -> Result<Response<proto::BeginAddCaptureResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let asked = asked::begin_add_capture(request.into_inner())?;
        let begun =
            self.0.begin_enrolment_capture(permit.actor(), asked, answer::add_begun_bytes).await?;
        Ok(Response::new(begun.into()))
    }

    async fn add_capture(
        &self,
        request: Request<proto::AddCaptureRequest>,
    ) -> Result<Response<proto::AddCaptureResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let (customer, modality, offered, language) = asked::add_capture(request.into_inner())?;
        let mut added = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.add_capture(&actor, &customer, modality, offered).await
            })
            .await?;
        let waits = added.proposal.take().map(|waits| proposal::proposal(&self.0, *waits));
        Ok(Response::new(answer::capture(added, waits.transpose()?, language)))
    }

    async fn activate(
        &self,
        request: Request<proto::ActivateRequest>,
    ) -> Result<Response<proto::ActivateResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ActivateRequest { customer_id } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let activated = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.activate(&actor, &customer).await
            })
            .await?;
        let duplicates = activated.duplicates.into_iter().map(answer::duplicate);
        Ok(Response::new(proto::ActivateResponse {
            status: answer::status(activated.status.as_str()).into(),
            duplicates: duplicates.collect(),
            needs_second_person: activated.needs_second_person.map(proto::NeedsSecondPerson::from),
        }))
    }

    async fn get_customer(
        &self,
        request: Request<proto::GetCustomerRequest>,
    ) -> Result<Response<proto::Customer>, Status> {
        EnrollerPermit::of(request.extensions())?;
        let proto::GetCustomerRequest { customer_id } = request.into_inner();
        let customer = self.0.customer(&noun::customer_id(&customer_id)?).await?;
        Ok(Response::new(customer.into()))
    }

    async fn list_customers(
        &self,
        request: Request<proto::ListCustomersRequest>,
    ) -> Result<Response<proto::ListCustomersResponse>, Status> {
        EnrollerPermit::of(request.extensions())?;
        let proto::ListCustomersRequest { page_size, page_token } = request.into_inner();
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, CustomerId::from_hex)?;
        let page = self.0.customers(after.as_ref(), limit).await?;
        let next = noun::next_page(&page, limit, |customer| customer.id.to_string());
        Ok(Response::new(proto::ListCustomersResponse {
            customers: page.into_iter().map(proto::Customer::from).collect(),
            next_page_token: next,
        }))
    }

    async fn suspend(
        &self,
        request: Request<proto::SuspendRequest>,
    ) -> Result<Response<proto::SuspendResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::SuspendRequest { customer_id } = request.into_inner();
        self.0.suspend(permit.actor(), &noun::customer_id(&customer_id)?).await?;
        Ok(Response::new(proto::SuspendResponse {}))
    }

    async fn resume(
        &self,
        request: Request<proto::ResumeRequest>,
    ) -> Result<Response<proto::ResumeResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ResumeRequest { customer_id } = request.into_inner();
        self.0.resume(permit.actor(), &noun::customer_id(&customer_id)?).await?;
        Ok(Response::new(proto::ResumeResponse {}))
    }

    async fn propose_unlock(
        &self,
        request: Request<proto::ProposeUnlockRequest>,
    ) -> Result<Response<proto::ProposeUnlockResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ProposeUnlockRequest { customer_id } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let proposed = self.0.propose_unlock(permit.actor(), &customer).await?;
        Ok(Response::new(proto::ProposeUnlockResponse {
            until: Some(proposed.row.expires_at.into()),
            proposal: Some(proposal::proposal(&self.0, proposed)?),
        }))
    }

    async fn approve_unlock(
        &self,
        request: Request<proto::ApproveUnlockRequest>,
    ) -> Result<Response<proto::ApproveUnlockResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ApproveUnlockRequest { customer_id } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let entry = self.0.approve_unlock(permit.actor(), &customer).await?;
        Ok(Response::new(proto::ApproveUnlockResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<proto::WithdrawConsentRequest>,
    ) -> Result<Response<proto::WithdrawConsentResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::WithdrawConsentRequest { customer_id, evidence_ref } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let evidence_ref = noun::sentence("evidence_ref", evidence_ref)?;
        let withdrawal = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.withdraw_consent(&actor, &customer, &evidence_ref).await
            })
            .await?;
        let Withdrawal { entry, erasure, kept_until, waits_for_case } = withdrawal;
        Ok(Response::new(proto::WithdrawConsentResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
            erasure_position: erasure.as_ref().map(answer::position),
            kept_until: kept_until.map(Into::into),
            waits_for_case,
        }))
    }

    async fn remove_capture(
        &self,
        request: Request<proto::RemoveCaptureRequest>,
    ) -> Result<Response<proto::RemoveCaptureResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::RemoveCaptureRequest { customer_id, capture_id } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let capture = noun::capture_id(&capture_id)?;
        self.carry_through(permit.actor(), |gateway, actor| async move {
            gateway.remove_capture(&actor, &customer, &capture).await
        })
        .await?;
        Ok(Response::new(proto::RemoveCaptureResponse {}))
    }

    async fn import_template(
        &self,
        request: Request<proto::ImportTemplateRequest>,
    ) -> Result<Response<proto::ImportTemplateResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ImportTemplateRequest { customer_id, finger_position, record, maker } =
            request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let position = capture::finger_position("finger_position", finger_position)?;
        let record = capture::picture("record", record)?;
        let captures = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.import_template(&actor, &customer, position, &record, &maker).await
            })
            .await?;
        Ok(Response::new(match captures {
            Acted::Done(captures) => proto::ImportTemplateResponse {
                capture_ids: captures.iter().map(ToString::to_string).collect(),
                proposal: None,
            },
            Acted::Waits(waits) => proto::ImportTemplateResponse {
                capture_ids: Vec::new(),
                proposal: Some(proposal::proposal(&self.0, *waits)?),
            },
        }))
    }

    async fn export_template(
        &self,
        request: Request<proto::ExportTemplateRequest>,
    ) -> Result<Response<proto::ExportTemplateResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ExportTemplateRequest { customer_id, finger_position } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let position = capture::finger_position("finger_position", finger_position)?;
        let ExportedTemplate { record, entry } = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.export_template(&actor, &customer, position).await
            })
            .await?;
        Ok(Response::new(proto::ExportTemplateResponse {
            record,
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }

    async fn erase(
        &self,
        request: Request<proto::EraseRequest>,
    ) -> Result<Response<proto::EraseResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::EraseRequest { customer_id } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let erased = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.erase(&actor, &customer).await
            })
            .await?;
        Ok(Response::new(match erased {
            Acted::Done(entry) => proto::EraseResponse {
                receipt_jws: entry.jws().as_bytes().to_vec(),
                position: Some(answer::position(&entry)),
                proposal: None,
            },
            Acted::Waits(waits) => proto::EraseResponse {
                proposal: Some(proposal::proposal(&self.0, *waits)?),
                ..proto::EraseResponse::default()
            },
        }))
    }

    async fn resolve_duplicate(
        &self,
        request: Request<proto::ResolveDuplicateRequest>,
    ) -> Result<Response<proto::ResolveDuplicateResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ResolveDuplicateRequest { customer_id, resolution } = request.into_inner();
        let customer = noun::customer_id(&customer_id)?;
        let resolution = asked::duplicate_resolution(resolution)?;
        let status = self
            .carry_through(permit.actor(), |gateway, actor| async move {
                gateway.resolve_duplicate(&actor, &customer, resolution).await
            })
            .await?;
        Ok(Response::new(proto::ResolveDuplicateResponse {
            status: answer::status(status.as_str()).into(),
        }))
    }

    async fn bulk_import(
        &self,
        request: Request<Streaming<proto::BulkImportRequest>>,
    ) -> Result<Response<Self::BulkImportStream>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let mut rows = request.into_inner();
        let (answers, stream) = mpsc::channel(IMPORT_ANSWERS_MAX);
        let gateway = Arc::clone(&self.0);
        tokio::spawn(async move {
            loop {
                let answer = match rows.message().await {
                    Ok(Some(row)) => match require_admitted(&gateway, permit.actor()).await {
                        Ok(()) => Ok(import(&gateway, permit.actor(), row).await),
                        Err(refused) => Err(refused),
                    },
                    Ok(None) => break,
                    Err(broken) => Err(status::of(status::reason_of_foreign(broken.code()))),
                };
                let is_last = answer.is_err();
                // A caller that went away wants no more rows imported.
                if answers.send(answer).await.is_err() || is_last {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The door asks once a call, and this one may last: whoever is revoked in its middle imports no further row.
async fn require_admitted(gateway: &Gateway, actor: &Actor) -> Result<(), Status> {
    let unknown = || status::of("DEV_UNKNOWN");
    let role = StaffRole::from_word(actor.role).ok_or_else(unknown)?;
    let is_admitted = gateway.admits_person(role, &actor.name, &actor.spki).await?;
    if is_admitted { Ok(()) } else { Err(unknown()) }
}

/// Imports one row. Its failure is its answer: it ends nothing but itself.
async fn import(
    gateway: &Arc<Gateway>,
    actor: &Actor,
    wire: proto::BulkImportRequest,
) -> proto::BulkImportResponse {
    let row = wire.row;
    let failed = |reason: &str, field: &str| proto::BulkImportResponse {
        row,
        error_reason: reason.to_owned(),
        error_field: field.to_owned(),
        ..proto::BulkImportResponse::default()
    };
    let (asked, language) = match asked::import_row(wire) {
        Ok(asked) => asked,
        Err(fault) => return failed("REQ_INVALID", fault.path),
    };
    match gateway.import(actor, asked).await {
        Ok(imported) => {
            let (error_reason, error_field) =
                imported.failure.as_ref().map_or(("", ""), status::reason_and_field);
            proto::BulkImportResponse {
                row,
                customer_id: imported.customer.to_string(),
                status: answer::status(imported.status.as_str()).into(),
                captures_accepted: u32::try_from(imported.captures).unwrap_or(u32::MAX),
                reasons: answer::reasons(imported.reasons, language),
                error_reason: error_reason.to_owned(),
                error_field: error_field.to_owned(),
                needs_second_person: imported
                    .needs_second_person
                    .map(proto::NeedsSecondPerson::from),
            }
        }
        Err(error) => {
            let (reason, field) = status::reason_and_field(&error);
            failed(reason, field)
        }
    }
}
