//! The second scene: a day in Almaty, by the pack of Kazakhstan. Each outcome with the rule that made it.

use std::future::ready;

use anyhow::{Context as _, Result};
use tonic::Status;
use tonic::transport::Channel;

use super::super::camera::Camera;
use super::super::policy_desk;
use super::super::terminal;
use super::super::verify::Visit;
use super::at_the_machine::EnrolledPeople;
use super::phone::CustomersPhone;
use super::pictures::Album;
use super::stage::{Done, Stage, consent};
use crate::app::SECOND_PERSON;
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::{Ed25519Key, sha256};
use crate::domain::id::PrincipalName;
use crate::pki::Role;
use crate::proto;
use crate::proto::Operation::{Deposit, DepositThirdParty};
use crate::proto::case_service_client::CaseServiceClient;
use crate::proto::customer_reference::Reference;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;
use crate::proto::policy_service_client::PolicyServiceClient;
use crate::proto::proposal_service_client::ProposalServiceClient;
use crate::proto::register_service_client::RegisterServiceClient;
use crate::proto::terminal_service_client::TerminalServiceClient;
use crate::proto::verification_service_client::VerificationServiceClient;

/// The scene's terminal, and where it stands.
const TERMINAL: &str = "ATM-ALMATY-1";
const PLACE: &str = "Abay Ave 10, Almaty";

/// Numbers of nobody: their month is 00.
const COLLINS: &str = "000000300030";
const GUEST: &str = "000000300066";
const LISTED: &str = "000000300078";
const UNABLE: &str = "000000300091";

/// As every withdrawal of one who was enrolled today.
const CAPPED: &str = "APPROVED_CAPPED LIM_DAILY_CAP by KZ-15.cooling_off";

/// Minor units of a tenge.
const TENGE: i64 = 100;

/// The people of the day, and what they come to.
struct Scene<'a, 's> {
    stage: &'a mut Stage<'s>,
    album: &'a Album,
    terminal: Channel,
    camera: Camera,
    desk: EnrollmentServiceClient<Channel>,
    second_desk: EnrollmentServiceClient<Channel>,
    app_back_end: Channel,
}

/// Plays the whole scene.
pub(super) async fn play(
    stage: &mut Stage<'_>,
    album: &Album,
    people: &EnrolledPeople,
) -> Result<()> {
    stage.begin("A day in Almaty, by the pack kz-2026");
    let [Some(obama), Some(biden), Some(collins), Some(double), Some(couple), ..] = &people[..]
    else {
        anyhow::bail!("the people of the first scene were not enrolled");
    };
    let admin = stage.channel(Role::Admin, "dev").await?;
    terminal::register(&stage.place.pki, admin.clone(), TERMINAL).await?;
    let place = proto::SetTerminalPlaceRequest {
        terminal_id: TERMINAL.to_owned(),
        place: PLACE.to_owned(),
    };
    TerminalServiceClient::new(admin.clone()).set_terminal_place(place).await?;
    // These rules take signed captures only.
    let camera = Camera::new(TERMINAL)?;
    camera.register(admin.clone()).await?;
    let mut scene = Scene {
        camera,
        terminal: stage.channel(Role::Terminal, TERMINAL).await?,
        desk: EnrollmentServiceClient::new(admin),
        second_desk: EnrollmentServiceClient::new(stage.channel(Role::Admin, SECOND_PERSON).await?),
        app_back_end: stage.channel(Role::AppBackend, "dev").await?,
        stage,
        album,
    };
    scene.rules_change().await?;
    scene.ordinary_business().await?;
    scene.a_business().await?;
    scene.somebody_new().await?;
    scene.large_deposits(&collins.customer_id).await?;
    scene.one_face_twice(&obama.customer_id, &double.customer_id).await?;
    scene.many_cards(&obama.customer_id).await?;
    scene.guests(&collins.customer_id, [&couple.customer_id, &biden.customer_id]).await?;
    scene.unable().await
}

impl Scene<'_, '_> {
    /// Two people bring the pack into force.
    async fn rules_change(&mut self) -> Result<()> {
        let place = self.stage.place;
        let (files, pack) = policy_desk::read(&place.pack)?;
        let key = |role: Role, name: &str| -> Result<Ed25519Key> {
            let name = PrincipalName::try_from(name).context("the name in the certificate")?;
            let pem = place.pki.read_key(&place.pki.client_key_path(role, &name))?;
            Ed25519Key::from_pkcs8_pem(&pem).context("the key of a development certificate")
        };
        let author = key(Role::PolicyAuthor, "dev")?;
        let approver = key(Role::PolicyApprover, SECOND_PERSON)?;
        let proposal = policy_desk::proposal(&files, &pack, &place.tenant, &author)?;
        let approval = policy_desk::approval(&pack, &place.tenant, &approver)?;
        let author = self.stage.channel(Role::PolicyAuthor, "dev").await?;
        let approver = self.stage.channel(Role::PolicyApprover, SECOND_PERSON).await?;
        let mut approver = PolicyServiceClient::new(approver);
        let call = async {
            PolicyServiceClient::new(author).propose_pack(proposal).await?;
            approver.approve_pack(approval).await?;
            let request =
                proto::ActivatePackRequest { hash: pack.hash().hex(), effective_at: String::new() };
            let activation = approver.activate_pack(request).await?.into_inner().activation;
            Ok::<_, Status>(Done("ACTIVE", activation.and_then(|it| it.position)))
        };
        let what = "the rules of Kazakhstan: signed by their author, approved by a second person";
        self.stage.play(what, "ACTIVE", call).await.map(drop)
    }

    /// A deposit, a withdrawal with the camera's clip, a stolen card.
    async fn ordinary_business(&mut self) -> Result<()> {
        let deposit = self.deposit(300_000);
        self.collins("Collins pays in 300,000", "APPROVED by kz-2026.permit", &deposit).await?;
        let cash = self.stage.withdrawal("card-collins", 60_000 * TENGE);
        let what = "withdraws 60,000; enrolled today, she gets 100,000 in two days";
        self.collins(what, CAPPED, &cash).await?;
        self.report_taken(&cash).await?;
        let stolen = self.stage.withdrawal("card-collins", 10_000 * TENGE);
        let denied = "DENIED MAT_NOT_CONFIRMED by KZ-06";
        self.biden("Biden with her card", denied, &stolen).await
    }

    /// What the cap of a new customer leaves.
    async fn somebody_new(&mut self) -> Result<()> {
        let more = self.stage.withdrawal("card-collins", 60_000 * TENGE);
        self.collins("Collins withdraws 60,000 again, and gets the rest", CAPPED, &more).await?;
        let over = self.stage.withdrawal("card-collins", 10_000 * TENGE);
        let denied = "DENIED LIM_DAILY_CAP by KZ-15.cooling_off";
        self.collins("and 10,000 more", denied, &over).await
    }

    /// Above 500,000 tenge in 24 hours: the number, and a word from the customer's own telephone.
    async fn large_deposits(&mut self, collins: &str) -> Result<()> {
        let mut phone = self.phone(collins).await?;
        let without = self.deposit(300_000);
        let needed = "DENIED POL_IIN_NEEDED by KZ-01.iin";
        self.collins("pays in 300,000 more, by her card alone", needed, &without).await?;
        let with = Visit { customer: Reference::Iin(COLLINS.to_owned()), ..self.deposit(300_000) };
        let step_up = "STEP_UP POL_STEP_UP by KZ-01";
        self.collins("with her number", step_up, &with).await?;
        phone.confirm(&with).await?;
        let what = "her telephone shows amount and place, and signs";
        self.await_decision(what, "APPROVED by kz-2026.permit", &with).await
    }

    /// A business's cash, over all banks of the month.
    async fn a_business(&mut self) -> Result<()> {
        let now = SystemClock.now();
        for (what, as_of, others, expected) in [
            (
                "a small business withdraws; its bank has no data of today",
                None,
                0,
                "INCONCLUSIVE LIM_DAILY_CAP POL_DATA_MISSING by KZ-10.data",
            ),
            (
                "with data: 19,990,000 this month elsewhere, 20,000 now",
                Some(now.rfc3339()),
                19_990_000 * TENGE,
                "DENIED LIM_DAILY_CAP LIM_MONTHLY_CAP by KZ-10.small",
            ),
        ] {
            let bank = proto::BankFacts {
                business: proto::BusinessClass::Small.into(),
                other_banks_month_minor: others,
                account_data_as_of: as_of,
                ..proto::BankFacts::default()
            };
            let visit = self.stage.withdrawal("card-collins", 20_000 * TENGE);
            self.collins(what, expected, &Visit { bank: Some(bank), ..visit }).await?;
        }
        Ok(())
    }

    /// More than five cards: the telephone is asked, and this time says no.
    async fn many_cards(&mut self, obama: &str) -> Result<()> {
        let mut phone = self.phone(obama).await?;
        for number in 2..=6 {
            let request = proto::BindTokenRequest {
                customer_id: obama.to_owned(),
                kind: proto::TokenKind::Card.into(),
                token: format!("card-obama-{number}"),
                expires_at: None,
            };
            self.desk.bind_token(request).await?;
        }
        let visit = self.stage.withdrawal("card-obama-6", 10_000 * TENGE);
        let step_up = "STEP_UP LIM_DAILY_CAP POL_STEP_UP by KZ-09.monitored";
        self.obama("and with his sixth card", step_up, &visit).await?;
        phone.decline(&visit).await?;
        let declined = "DENIED POL_CONFIRMATION_DECLINED";
        self.await_decision("his telephone says no", declined, &visit).await
    }

    /// A face under two numbers is held for working days, until two people have looked.
    async fn one_face_twice(&mut self, obama: &str, double: &str) -> Result<()> {
        let held = "HELD LIM_DAILY_CAP POL_HELD by KZ-08.shared_face";
        let visit = self.stage.withdrawal("card-obama", 10_000 * TENGE);
        self.obama("Obama, whose face stands under two numbers, withdraws", held, &visit).await?;
        let bank = proto::BankFacts { social_payment: true, ..proto::BankFacts::default() };
        let pension = self.stage.withdrawal("card-obama", 10_000 * TENGE);
        let pension = Visit { bank: Some(bank), ..pension };
        self.obama("a pension is paid all the same", CAPPED, &pension).await?;
        let request = proto::ResolveDuplicateRequest {
            customer_id: double.to_owned(),
            resolution: proto::DuplicateResolution::SamePersonReject.into(),
        };
        self.desk.resolve_duplicate(request).await?;
        let released = self.release(obama).await;
        let what = "two people reject the second number and release the first";
        self.stage.play(what, "RELEASED", ready(released)).await?;
        let visit = self.stage.withdrawal("card-obama", 10_000 * TENGE);
        self.obama("Obama withdraws", CAPPED, &visit).await
    }

    async fn release(&self, customer: &str) -> Result<Done, Status> {
        let connected = async |name: &str| -> Result<_, Status> {
            let channel = self.stage.channel(Role::Admin, name).await;
            let channel = channel.map_err(|error| Status::unavailable(format!("{error:#}")))?;
            Ok(CaseServiceClient::new(channel))
        };
        let (mut first, mut second) = (connected("dev").await?, connected(SECOND_PERSON).await?);
        let cases = first.list_cases(proto::ListCasesRequest::default()).await?.into_inner().cases;
        let case = cases.into_iter().find(|case| case.customer_id == customer);
        let case_id = case.ok_or_else(|| Status::not_found("no case was opened"))?.case_id;
        let resolution = proto::CaseResolution::Release.into();
        let proposal = proto::ProposeResolutionRequest { case_id: case_id.clone(), resolution };
        first.propose_resolution(proposal).await?;
        let approval = proto::ApproveResolutionRequest { case_id, resolution };
        second.approve_resolution(approval).await?;
        Ok(Done("RELEASED", None))
    }

    /// Somebody whom the bank does not know pays in to a customer's account.
    async fn guests(&mut self, owner: &str, leaving: [&String; 2]) -> Result<()> {
        for customer_id in leaving {
            let customer_id = customer_id.clone();
            let asked = proto::EraseRequest { customer_id };
            // Proposed by one person, it is done when another one of another unit approves.
            if let Some(waits) = self.desk.erase(asked).await?.into_inner().proposal {
                let second = self.stage.channel(Role::Admin, SECOND_PERSON).await?;
                let approval = proto::ApproveProposalRequest { proposal_id: waits.proposal_id };
                ProposalServiceClient::new(second).approve_proposal(approval).await?;
            }
        }
        let request = proto::BindTokenRequest {
            customer_id: owner.to_owned(),
            kind: proto::TokenKind::Account.into(),
            token: "account-of-card-collins".to_owned(),
            expires_at: None,
        };
        self.desk.bind_token(request).await?;
        let guest = |scene: &mut Self, iin: &str| {
            let visit = scene.deposit_as(DepositThirdParty, 20_000);
            Visit { customer: Reference::Iin(iin.to_owned()), ..visit }
        };
        let without = guest(self, GUEST);
        let denied = "DENIED MAT_NOT_CONFIRMED by kz-2026.customer.unknown";
        self.biden("Biden, no customer any more, pays in for Collins", denied, &without).await?;
        let with = Visit { consent: Some(consent()), ..guest(self, GUEST) };
        self.biden("with his consent, as a guest", "APPROVED by KZ-03.guest", &with).await?;
        let admin = self.stage.channel(Role::Admin, "dev").await?;
        list_as_dropper(admin, LISTED).await?;
        let listed = Visit { consent: Some(consent()), ..guest(self, LISTED) };
        let what = "a number on the register of droppers";
        self.biden(what, "HELD POL_HELD by KZ-08.dropper", &listed).await
    }

    /// Who cannot give a biometric confirms with their own key.
    async fn unable(&mut self) -> Result<()> {
        let request =
            proto::CreateCustomerRequest { iin: UNABLE.to_owned(), consent: Some(consent()) };
        let customer_id = self.desk.create_customer(request).await?.into_inner().customer_id;
        let evidence_ref = "archive/certificate-17".to_owned();
        let proposal = proto::ProposeUnableRequest {
            customer_id: customer_id.clone(),
            evidence_ref: evidence_ref.clone(),
        };
        self.desk.propose_unable(proposal).await?;
        let approval =
            proto::ApproveUnableRequest { customer_id: customer_id.clone(), evidence_ref };
        self.second_desk.approve_unable(approval).await?;
        let mut phone = self.phone(&customer_id).await?;
        let visit = Visit {
            customer: Reference::Iin(UNABLE.to_owned()),
            ..self.deposit_as(Deposit, 5_000)
        };
        let request = proto::RequestExceptionRequest {
            customer: Some(visit.customer()),
            transaction: Some(visit.transaction.clone()),
            attempt: 1,
            holder_verification: proto::HolderVerification::CardAndPin.into(),
            language: "en".to_owned(),
            bank: None,
        };
        let mut terminal = VerificationServiceClient::new(self.terminal.clone());
        let call = async { Ok(terminal.request_exception(request).await?.into_inner()) };
        let what = "a customer who cannot give a biometric, by two people's word, pays in 5,000";
        self.stage.play(what, "STEP_UP POL_STEP_UP by KZ-07", call).await?;
        phone.confirm(&visit).await?;
        let approved = "APPROVED by KZ-07.permit";
        self.await_decision("their telephone signs", approved, &visit).await
    }

    /// A customer's telephone, registered just now.
    async fn phone(&mut self, customer: &str) -> Result<CustomersPhone> {
        CustomersPhone::register(self.app_back_end.clone(), &mut self.desk, customer).await
    }

    fn deposit(&mut self, tenge: i64) -> Visit {
        self.deposit_as(Deposit, tenge)
    }

    /// A deposit to Collins's account.
    fn deposit_as(&mut self, operation: proto::Operation, tenge: i64) -> Visit {
        let mut visit = self.stage.withdrawal("card-collins", tenge * TENGE);
        visit.transaction.operation = operation.into();
        visit
    }

    async fn collins(&mut self, what: &str, expected: &'static str, visit: &Visit) -> Result<()> {
        let image = &self.album.astronaut;
        let machine = (&self.terminal, &self.camera);
        self.stage.signed_visit(what, expected, visit, machine, image).await.map(drop)
    }

    async fn obama(&mut self, what: &str, expected: &'static str, visit: &Visit) -> Result<()> {
        let image = &self.album.obama3;
        let machine = (&self.terminal, &self.camera);
        self.stage.signed_visit(what, expected, visit, machine, image).await.map(drop)
    }

    async fn biden(&mut self, what: &str, expected: &'static str, visit: &Visit) -> Result<()> {
        let image = &self.album.biden;
        let machine = (&self.terminal, &self.camera);
        self.stage.signed_visit(what, expected, visit, machine, image).await.map(drop)
    }

    /// The final decision of a transaction that waited for a telephone.
    async fn await_decision(
        &mut self,
        what: &str,
        expected: &'static str,
        visit: &Visit,
    ) -> Result<()> {
        let request = proto::AwaitDecisionRequest {
            business_date: visit.transaction.business_date.clone(),
            host_transaction_id: visit.transaction.host_transaction_id.clone(),
            attempt: 1,
            wait_ms: 8_000,
            language: "en".to_owned(),
        };
        let mut terminal = VerificationServiceClient::new(self.terminal.clone());
        let call = async {
            let awaited = terminal.await_decision(request).await?.into_inner();
            awaited.decision.ok_or_else(|| Status::deadline_exceeded("nobody answered"))
        };
        self.stage.play(what, expected, call).await.map(drop)
    }

    /// Cash was taken; the terminal names its camera's clip.
    async fn report_taken(&mut self, visit: &Visit) -> Result<()> {
        let now = SystemClock.now();
        let proto::Transaction {
            host_transaction_id, business_date, amount_minor, currency, ..
        } = visit.transaction.clone();
        let request = proto::ReportOutcomeRequest {
            business_date,
            host_transaction_id,
            attempt: 1,
            outcome: proto::CashOutcome::Taken.into(),
            dispensed_minor: amount_minor,
            currency,
            footage: Some(proto::Footage {
                camera_id: "CAM-1".to_owned(),
                from: now.plus_millis(-60_000).rfc3339(),
                to: now.rfc3339(),
                clip_sha256: sha256(b"the clip stays in the bank's archive").as_bytes().to_vec(),
            }),
        };
        let mut terminal = VerificationServiceClient::new(self.terminal.clone());
        let call = async {
            let reported = terminal.report_outcome(request).await?.into_inner();
            Ok(Done("REPORTED", reported.position))
        };
        let what = "takes the cash; the terminal names its camera's clip (KZ-02)";
        self.stage.play(what, "REPORTED", call).await.map(drop)
    }
}

/// The register of droppers, with one number in it.
async fn list_as_dropper(admin: Channel, iin: &str) -> Result<()> {
    use proto::import_register_request::Part;
    let begin = proto::RegisterImport {
        kind: proto::RegisterKind::Dropper.into(),
        ..proto::RegisterImport::default()
    };
    let row = proto::RegisterRow { line: 2, value: iin.to_owned(), ..Default::default() };
    let parts = [Part::Begin(begin), Part::Rows(proto::RegisterRows { rows: vec![row] })]
        .map(|part| proto::ImportRegisterRequest { part: Some(part) });
    let mut answers = RegisterServiceClient::new(admin)
        .import_register(tokio_stream::iter(parts))
        .await?
        .into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}
