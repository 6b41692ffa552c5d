//! Who calls: from the peer's certificate to a permit, by one table of methods and roles.
//!
//! A handler takes its permit from the request; permits are made here only, so a method without a row
//! in [`ACCESS`] can be called by nobody.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Extensions, Status};
use tower::{Layer, Service};

use super::{caller, status};
use crate::crypto::Digest;
use crate::domain::four_eyes::StaffRole;
use crate::domain::id::{PrincipalName, TenantId, TerminalId};
use crate::gateway::request::Actor;
use crate::gateway::{CallingTerminal, Gateway};
use crate::pki::{PeerIdentity, Role, identify};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can connect: load balancers have no certificate.
    Open,
    /// Everybody with a certificate of this tenant.
    AnyRole,
    /// These roles.
    Roles(&'static [Role]),
}

const TERMINAL: Access = Access::Roles(&[Role::Terminal]);
const ENROLLER: Access = Access::Roles(&[Role::Enroller, Role::Admin]);
const ADMIN: Access = Access::Roles(&[Role::Admin]);
const AUDITOR: Access = Access::Roles(&[Role::Auditor, Role::Admin]);
const AUDITOR_ALONE: Access = Access::Roles(&[Role::Auditor]);
const REPORTER: Access = Access::Roles(&[Role::Oversight, Role::Auditor]);
const HOST: Access = Access::Roles(&[Role::Host]);
const APP_BACKEND: Access = Access::Roles(&[Role::AppBackend]);
const CUSTODIAN: Access = Access::Roles(&[Role::KeyCustodian]);
const KEY_READER: Access = Access::Roles(&[Role::KeyCustodian, Role::Admin, Role::Auditor]);
const POLICY_AUTHOR: Access = Access::Roles(&[Role::PolicyAuthor]);
const POLICY_APPROVER: Access = Access::Roles(&[Role::PolicyApprover]);
const POLICY_ACTIVATOR: Access = Access::Roles(&[Role::PolicyApprover, Role::Admin]);
const POLICY_READER: Access =
    Access::Roles(&[Role::PolicyAuthor, Role::PolicyApprover, Role::Admin, Role::Auditor]);

/// Every method that can be called, and by whom.
pub const ACCESS: [(&str, Access); 101] = [
    ("/tulga.v1.VerificationService/BeginCapture", TERMINAL),
    ("/tulga.v1.VerificationService/Verify", TERMINAL),
    ("/tulga.v1.VerificationService/AwaitDecision", TERMINAL),
    ("/tulga.v1.VerificationService/GetDecision", TERMINAL),
    ("/tulga.v1.VerificationService/RequestException", TERMINAL),
    ("/tulga.v1.VerificationService/Cancel", TERMINAL),
    ("/tulga.v1.VerificationService/ReportOutcome", TERMINAL),
    ("/tulga.v1.VerificationService/GetTime", TERMINAL),
    ("/tulga.v1.EnrollmentService/CreateCustomer", ENROLLER),
    ("/tulga.v1.EnrollmentService/BindToken", ENROLLER),
    ("/tulga.v1.EnrollmentService/UnbindToken", ENROLLER),
    ("/tulga.v1.EnrollmentService/BindAppKey", ENROLLER),
    ("/tulga.v1.EnrollmentService/UnbindAppKey", ENROLLER),
    ("/tulga.v1.EnrollmentService/ProposeUnable", ENROLLER),
    ("/tulga.v1.EnrollmentService/ApproveUnable", ENROLLER),
    ("/tulga.v1.EnrollmentService/ClearUnable", ENROLLER),
    ("/tulga.v1.EnrollmentService/BeginAddCapture", ENROLLER),
    ("/tulga.v1.EnrollmentService/AddCapture", ENROLLER),
    ("/tulga.v1.EnrollmentService/Activate", ENROLLER),
    ("/tulga.v1.EnrollmentService/GetCustomer", ENROLLER),
    ("/tulga.v1.EnrollmentService/ListCustomers", ENROLLER),
    ("/tulga.v1.EnrollmentService/Suspend", ENROLLER),
    ("/tulga.v1.EnrollmentService/Resume", ENROLLER),
    ("/tulga.v1.EnrollmentService/RemoveCapture", ENROLLER),
    ("/tulga.v1.EnrollmentService/ImportTemplate", ENROLLER),
    ("/tulga.v1.EnrollmentService/ExportTemplate", ADMIN),
    ("/tulga.v1.EnrollmentService/Erase", ADMIN),
    ("/tulga.v1.EnrollmentService/WithdrawConsent", ENROLLER),
    ("/tulga.v1.EnrollmentService/ResolveDuplicate", ADMIN),
    ("/tulga.v1.EnrollmentService/ProposeUnlock", ADMIN),
    ("/tulga.v1.EnrollmentService/ApproveUnlock", ADMIN),
    ("/tulga.v1.EnrollmentService/BulkImport", ENROLLER),
    ("/tulga.v1.AuditService/GetReceipt", AUDITOR),
    ("/tulga.v1.AuditService/GetProof", AUDITOR),
    ("/tulga.v1.AuditService/GetCheckpoint", AUDITOR),
    ("/tulga.v1.AuditService/GetConsistencyProof", AUDITOR),
    ("/tulga.v1.AuditService/ListReceipts", AUDITOR),
    ("/tulga.v1.AuditService/GetAuditRecord", AUDITOR),
    ("/tulga.v1.AuditService/ExportLedger", AUDITOR),
    ("/tulga.v1.AuditService/GetEvidence", AUDITOR_ALONE),
    ("/tulga.v1.AuditService/Replay", AUDITOR_ALONE),
    ("/tulga.v1.FootageService/ListFootage", AUDITOR),
    ("/tulga.v1.FootageService/PlaceHold", ADMIN),
    ("/tulga.v1.FootageService/LiftHold", ADMIN),
    ("/tulga.v1.FootageService/ConfirmDeleted", ADMIN),
    ("/tulga.v1.RetentionService/PlanRetention", AUDITOR),
    ("/tulga.v1.RetentionService/RunRetention", ADMIN),
    ("/tulga.v1.ReportService/MakeReport", REPORTER),
    ("/tulga.v1.ReceiptService/Redeem", HOST),
    ("/tulga.v1.ReceiptService/Reverse", HOST),
    ("/tulga.v1.ConfirmationService/ListPending", APP_BACKEND),
    ("/tulga.v1.ConfirmationService/AwaitPending", APP_BACKEND),
    ("/tulga.v1.ConfirmationService/Confirm", APP_BACKEND),
    ("/tulga.v1.ConfirmationService/Decline", APP_BACKEND),
    ("/tulga.v1.ConfirmationService/SetBiometricLock", APP_BACKEND),
    ("/tulga.v1.TellerService/ListExceptions", ENROLLER),
    ("/tulga.v1.TellerService/ProposeException", ENROLLER),
    ("/tulga.v1.TellerService/ApproveException", ENROLLER),
    ("/tulga.v1.TerminalService/RegisterTerminal", ADMIN),
    ("/tulga.v1.TerminalService/RotateTerminal", ADMIN),
    ("/tulga.v1.TerminalService/RevokeTerminal", ADMIN),
    ("/tulga.v1.TerminalService/SetTerminalPlace", ADMIN),
    ("/tulga.v1.TerminalService/ListTerminals", ADMIN),
    ("/tulga.v1.SensorService/RegisterSensor", ADMIN),
    ("/tulga.v1.SensorService/RotateSensor", ADMIN),
    ("/tulga.v1.SensorService/SuspendSensor", ADMIN),
    ("/tulga.v1.SensorService/ResumeSensor", ADMIN),
    ("/tulga.v1.SensorService/RevokeSensor", ADMIN),
    ("/tulga.v1.SensorService/ListSensors", ADMIN),
    ("/tulga.v1.PrincipalService/RegisterPrincipal", ADMIN),
    ("/tulga.v1.PrincipalService/RevokePrincipal", ADMIN),
    ("/tulga.v1.PrincipalService/ListPrincipals", AUDITOR),
    ("/tulga.v1.ProposalService/ListProposals", ENROLLER),
    ("/tulga.v1.ProposalService/ApproveProposal", ENROLLER),
    ("/tulga.v1.ProposalService/WithdrawProposal", ENROLLER),
    ("/tulga.v1.KeyService/ListKeys", KEY_READER),
    ("/tulga.v1.KeyService/PrepareKey", CUSTODIAN),
    ("/tulga.v1.KeyService/InstallRegister", CUSTODIAN),
    ("/tulga.v1.KeyService/BeginKekRotation", CUSTODIAN),
    ("/tulga.v1.KeyService/RewrapKeys", CUSTODIAN),
    ("/tulga.v1.KeyService/RetireKeks", CUSTODIAN),
    ("/tulga.v1.KeyService/RotateCaptureKey", CUSTODIAN),
    ("/tulga.v1.PolicyService/ProposePack", POLICY_AUTHOR),
    ("/tulga.v1.PolicyService/ApprovePack", POLICY_APPROVER),
    ("/tulga.v1.PolicyService/ActivatePack", POLICY_ACTIVATOR),
    ("/tulga.v1.PolicyService/ListPacks", POLICY_READER),
    ("/tulga.v1.PolicyService/GetPack", POLICY_READER),
    ("/tulga.v1.PolicyService/GetActivePack", POLICY_READER),
    ("/tulga.v1.RegisterService/ImportRegister", ADMIN),
    ("/tulga.v1.RegisterService/ListRegisters", ADMIN),
    ("/tulga.v1.RegisterService/GetRegister", ADMIN),
    ("/tulga.v1.CaseService/ListCases", AUDITOR),
    ("/tulga.v1.CaseService/GetCase", AUDITOR),
    ("/tulga.v1.CaseService/ProposeResolution", ADMIN),
    ("/tulga.v1.CaseService/ApproveResolution", ADMIN),
    // The auditor's page, for browsers.
    ("/audit", Access::Open),
    ("/grpc.health.v1.Health/Check", Access::Open),
    ("/grpc.health.v1.Health/List", Access::Open),
    ("/grpc.health.v1.Health/Watch", Access::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::AnyRole),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::AnyRole),
];

/// Whether a role may call a method; `None` when there is no such method.
#[must_use]
pub fn may_call(method: &str, role: Option<Role>) -> Option<bool> {
    let (_, access) = ACCESS.into_iter().find(|(path, _)| *path == method)?;
    Some(match (access, role) {
        (Access::Open, _) | (Access::AnyRole, Some(_)) => true,
        (Access::AnyRole | Access::Roles(_), None) => false,
        (Access::Roles(roles), Some(role)) => roles.contains(&role),
    })
}

/// The registered terminals and people, as far as the door needs them.
#[async_trait::async_trait]
pub trait Registered: Send + Sync + 'static {
    /// Whether `terminal` is registered with this public key and not revoked. An error is the reason
    /// of the error table.
    async fn admits(&self, terminal: &TerminalId, key: Digest) -> Result<bool, &'static str>;

    /// Whether a person is registered in this role, under this name, with this key, and not revoked. An error
    /// is the reason of the error table.
    async fn admits_person(
        &self,
        role: StaffRole,
        name: &PrincipalName,
        key: Digest,
    ) -> Result<bool, &'static str>;

    /// Somebody was turned away at the door: a terminal, where the certificate names one.
    fn turned_away(&self, terminal: Option<&TerminalId>, reason: &'static str);
}

#[async_trait::async_trait]
impl Registered for Gateway {
    async fn admits(&self, terminal: &TerminalId, key: Digest) -> Result<bool, &'static str> {
        self.admits_terminal(terminal, &key).await.map_err(|error| {
            // Nobody is admitted while the register cannot be read, or who asks too often; the caller
            // may come again.
            status::reason_and_field(&error).0
        })
    }

    async fn admits_person(
        &self,
        role: StaffRole,
        name: &PrincipalName,
        key: Digest,
    ) -> Result<bool, &'static str> {
        Gateway::admits_person(self, role, name, &key).await.map_err(|error| {
            // A row that no entry tells of is somebody's doing: the log must say so.
            drop(status::refuse(error.code(), &error));
            status::reason_and_field(&error).0
        })
    }

    fn turned_away(&self, terminal: Option<&TerminalId>, reason: &'static str) {
        self.count_incident(terminal, reason);
    }
}

macro_rules! permit {
    ($(#[$doc:meta])* $permit:ident, $($role:ident)|+) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $permit(Actor);

        impl $permit {
            /// Takes the permit that the door gave to this request.
            ///
            /// # Errors
            ///
            /// `ROLE_NOT_ALLOWED` when the caller's role is another.
            pub fn of(extensions: &Extensions) -> Result<Self, Status> {
                match extensions.get::<Admitted>() {
                    Some(Admitted { role: $(Role::$role)|+, actor }) => Ok(Self(actor.clone())),
                    _ => Err(status::of("ROLE_NOT_ALLOWED")),
                }
            }

            /// Who it is.
            #[must_use]
            pub const fn actor(&self) -> &Actor {
                &self.0
            }
        }
    };
}

permit! {
    /// The caller may enrol.
    EnrollerPermit, Enroller | Admin
}
permit! {
    /// The caller may administer.
    AdminPermit, Admin
}
permit! {
    /// The caller may read receipts.
    AuditorPermit, Auditor | Admin
}
permit! {
    /// The caller may look at captures that are kept as evidence.
    EvidencePermit, Auditor
}
permit! {
    /// The caller may have reports made.
    ReporterPermit, Oversight | Auditor
}
permit! {
    /// The caller may redeem receipts.
    HostPermit, Host
}
permit! {
    /// The caller may answer for customers.
    AppBackendPermit, AppBackend
}

permit! {
    /// The caller may change the gateway's keys.
    CustodianPermit, KeyCustodian
}
permit! {
    /// The caller may see which keys there are.
    KeyReaderPermit, KeyCustodian | Admin | Auditor
}

permit! {
    /// The caller may propose packs of rules.
    PolicyAuthorPermit, PolicyAuthor
}
permit! {
    /// The caller may approve what others proposed.
    PolicyApproverPermit, PolicyApprover
}
permit! {
    /// The caller may activate what two people signed.
    PolicyActivatorPermit, PolicyApprover | Admin
}
permit! {
    /// The caller may read packs of rules.
    PolicyReaderPermit, PolicyAuthor | PolicyApprover | Admin | Auditor
}

/// The caller is this registered terminal.
#[derive(Clone, Debug)]
pub struct TerminalPermit(CallingTerminal);

impl TerminalPermit {
    /// Takes the permit that the door gave to this request.
    ///
    /// # Errors
    ///
    /// `ROLE_NOT_ALLOWED` when the caller is no terminal.
    pub fn of(extensions: &Extensions) -> Result<Self, Status> {
        extensions.get::<Self>().cloned().ok_or_else(|| status::of("ROLE_NOT_ALLOWED"))
    }

    /// Which terminal.
    #[must_use]
    pub const fn terminal(&self) -> &CallingTerminal {
        &self.0
    }
}

/// Who came through the door.
#[derive(Clone, Debug)]
struct Admitted {
    role: Role,
    actor: Actor,
}

/// The door: no request passes without a permit that its method asks for.
pub struct Door {
    tenant: TenantId,
    registered: Arc<dyn Registered>,
}

impl Door {
    /// A door for one tenant's callers.
    #[must_use]
    pub fn new(tenant: TenantId, registered: Arc<dyn Registered>) -> Arc<Self> {
        Arc::new(Self { tenant, registered })
    }

    /// Decides on one request, and puts the permit into it.
    async fn admit(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let method = request.uri().path();
        let access = ACCESS.into_iter().find(|(path, _)| *path == method).map(|(_, access)| access);
        match access {
            None => return Err(status::of("REQ_UNKNOWN_METHOD")),
            Some(Access::Open) => return Ok(()),
            Some(Access::AnyRole | Access::Roles(_)) => {}
        }
        let PeerIdentity { principal, spki } = peer(request)?;
        let terminal = TerminalId::try_from(principal.name.as_str()).ok();
        let terminal = terminal.filter(|_| principal.role == Role::Terminal);
        let refused = |reason| {
            self.registered.turned_away(terminal.as_ref(), reason);
            Err(status::of(reason))
        };
        if principal.tenant != self.tenant {
            return refused("DEV_UNKNOWN");
        }
        if may_call(method, Some(principal.role)) != Some(true) {
            return refused("ROLE_NOT_ALLOWED");
        }
        if principal.role == Role::Terminal {
            let terminal = TerminalId::try_from(principal.name.as_str())
                .map_err(|error| status::refuse("DEV_UNKNOWN", &error))?;
            if !self.registered.admits(&terminal, spki).await.map_err(status::of)? {
                self.registered.turned_away(Some(&terminal), "DEV_UNKNOWN");
                return Err(status::of("DEV_UNKNOWN"));
            }
            let calling = CallingTerminal { id: terminal, spki };
            request.extensions_mut().insert(TerminalPermit(calling));
        }
        // The authority's word is not enough for a person: who they are stands in the ledger.
        if let Some(role) = StaffRole::from_word(principal.role.as_str())
            && !self
                .registered
                .admits_person(role, &principal.name, spki)
                .await
                .map_err(status::of)?
        {
            return refused("DEV_UNKNOWN");
        }
        let actor = Actor { role: principal.role.as_str(), name: principal.name, spki };
        request.extensions_mut().insert(Admitted { role: principal.role, actor });
        Ok(())
    }
}

/// The identity in the certificate that TLS verified.
fn peer(request: &Request<Body>) -> Result<PeerIdentity, Status> {
    let certificates = caller::connection(request.extensions())
        .and_then(TlsConnectInfo::peer_certs)
        .ok_or_else(|| status::of("DEV_UNKNOWN"))?;
    let leaf = certificates.first().ok_or_else(|| status::of("DEV_UNKNOWN"))?;
    identify(leaf).map_err(|error| status::refuse(error.code(), &error))
}

/// Puts a [`Door`] before the services.
#[derive(Clone)]
pub struct DoorLayer(pub Arc<Door>);

impl<S> Layer<S> for DoorLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { door: Arc::clone(&self.0), inner }
    }
}

/// Services behind a [`Door`].
#[derive(Clone)]
pub struct Guarded<S> {
    door: Arc<Door>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let door = Arc::clone(&self.door);
        // The service that was polled ready goes with the call; its clone stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            match door.admit(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(refusal) => Ok(refusal.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn described_methods() -> BTreeSet<String> {
        let set =
            <prost_types::FileDescriptorSet as prost::Message>::decode(crate::proto::DESCRIPTORS)
                .unwrap();
        set.file
            .iter()
            .flat_map(|file| {
                file.service.iter().flat_map(move |service| {
                    service.method.iter().map(move |method| {
                        format!("/{}.{}/{}", file.package(), service.name(), method.name())
                    })
                })
            })
            .collect()
    }

    #[test]
    fn every_method_of_the_proto_has_one_row() {
        let rows: Vec<_> = ACCESS.iter().map(|(path, _)| (*path).to_owned()).collect();
        let ours: BTreeSet<_> =
            rows.iter().filter(|path| path.starts_with("/tulga.")).cloned().collect();
        assert_eq!(ours, described_methods());
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
    }

    #[test]
    fn every_method_is_closed_to_every_role_but_its_own() {
        use Role::{
            Admin, AppBackend, Auditor, Enroller, Host, KeyCustodian, Oversight, PolicyApprover,
            PolicyAuthor, Terminal,
        };
        for method in described_methods() {
            let (service, name) = method.trim_start_matches("/tulga.v1.").split_once('/').unwrap();
            let expected: &[Role] = match (service, name) {
                ("VerificationService", _) => &[Terminal],
                ("RetentionService", "PlanRetention") => &[Auditor, Admin],
                (
                    "EnrollmentService",
                    "Erase" | "ResolveDuplicate" | "ExportTemplate" | "ProposeUnlock"
                    | "ApproveUnlock",
                )
                | ("PrincipalService", "RegisterPrincipal" | "RevokePrincipal")
                | ("FootageService", "PlaceHold" | "LiftHold" | "ConfirmDeleted")
                | ("CaseService", "ProposeResolution" | "ApproveResolution")
                | (
                    "RegisterService" | "RetentionService" | "SensorService" | "TerminalService",
                    _,
                ) => &[Admin],
                ("KeyService", "ListKeys") => &[KeyCustodian, Admin, Auditor],
                ("KeyService", _) => &[KeyCustodian],
                ("EnrollmentService" | "ProposalService" | "TellerService", _) => {
                    &[Enroller, Admin]
                }
                ("AuditService", "GetEvidence" | "Replay") => &[Auditor],
                ("AuditService" | "CaseService" | "PrincipalService", _)
                | ("FootageService", "ListFootage") => &[Auditor, Admin],
                ("ReportService", _) => &[Oversight, Auditor],
                ("ReceiptService", _) => &[Host],
                ("ConfirmationService", _) => &[AppBackend],
                ("PolicyService", "ProposePack") => &[PolicyAuthor],
                ("PolicyService", "ApprovePack") => &[PolicyApprover],
                ("PolicyService", "ActivatePack") => &[PolicyApprover, Admin],
                ("PolicyService", _) => &[PolicyAuthor, PolicyApprover, Admin, Auditor],
                other => panic!("{other:?} is a new service: who may call it?"),
            };
            for role in Role::ALL {
                assert_eq!(
                    may_call(&method, Some(role)),
                    Some(expected.contains(&role)),
                    "{method} {role:?}"
                );
            }
            assert_eq!(may_call(&method, None), Some(false), "{method} without a certificate");
        }
    }

    #[test]
    fn only_health_and_the_auditors_page_are_open_to_those_without_a_certificate() {
        for (path, _) in ACCESS {
            let is_open = path == "/audit" || path.starts_with("/grpc.health.");
            assert_eq!(may_call(path, None) == Some(true), is_open, "{path}");
        }
        assert_eq!(may_call("/tulga.v1.VerificationService/Nothing", Some(Role::Admin)), None);
    }

    #[test]
    fn a_request_that_did_not_pass_the_door_has_no_permit() {
        let nobody = Extensions::new();
        assert!(TerminalPermit::of(&nobody).is_err());
        assert!(AdminPermit::of(&nobody).is_err());
        assert!(EnrollerPermit::of(&nobody).is_err());
        assert!(AuditorPermit::of(&nobody).is_err());
        assert!(HostPermit::of(&nobody).is_err());
        assert!(AppBackendPermit::of(&nobody).is_err());
        assert!(EvidencePermit::of(&nobody).is_err());
        assert!(ReporterPermit::of(&nobody).is_err());
        assert!(CustodianPermit::of(&nobody).is_err());
        assert!(KeyReaderPermit::of(&nobody).is_err());
        assert!(PolicyAuthorPermit::of(&nobody).is_err());
        assert!(PolicyApproverPermit::of(&nobody).is_err());
        assert!(PolicyActivatorPermit::of(&nobody).is_err());
        assert!(PolicyReaderPermit::of(&nobody).is_err());
    }
}
