//! The generated wire types and the descriptor bytes.
//!
//! Generated code, so free of the house's lints. Messages that hold what must never be printed
//! have a blind `Debug`.

pub use generated::*;

/// The encoded `google.protobuf.FileDescriptorSet` of what the gateway serves, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tulga.v1.bin"));

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    missing_docs,
    rustdoc::all,
    reason = "generated from comments and names that are meant for readers of the .proto"
)]
mod generated {
    tonic::include_proto!("tulga.v1");
}

macro_rules! blind {
    ($($message:path => $name:literal),+ $(,)?) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )+};
}

blind! {
    AddCaptureRequest => "AddCaptureRequest",
    ApproveExceptionRequest => "ApproveExceptionRequest",
    ApproveUnableRequest => "ApproveUnableRequest",
    BindAppKeyRequest => "BindAppKeyRequest",
    BindTokenRequest => "BindTokenRequest",
    BulkImportRequest => "BulkImportRequest",
    Capture => "Capture",
    Consent => "Consent",
    consent::Term => "consent::Term",
    CreateCustomerRequest => "CreateCustomerRequest",
    CustomerReference => "CustomerReference",
    customer_reference::Reference => "customer_reference::Reference",
    ExportTemplateResponse => "ExportTemplateResponse",
    FootageDuty => "FootageDuty",
    GetAuditRecordResponse => "GetAuditRecordResponse",
    GetEvidenceResponse => "GetEvidenceResponse",
    GetPortraitRequest => "GetPortraitRequest",
    GetPortraitResponse => "GetPortraitResponse",
    get_portrait_response::Answer => "get_portrait_response::Answer",
    ImportFinger => "ImportFinger",
    ImportTemplateRequest => "ImportTemplateRequest",
    ImportToken => "ImportToken",
    PendingConfirmation => "PendingConfirmation",
    ProposeExceptionRequest => "ProposeExceptionRequest",
    ProposeUnableRequest => "ProposeUnableRequest",
    RedeemRequest => "RedeemRequest",
    RegisterRow => "RegisterRow",
    RegisterRows => "RegisterRows",
    Salts => "Salts",
    Transaction => "Transaction",
    UnbindTokenRequest => "UnbindTokenRequest",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_request_shows_neither_iin_nor_picture() {
        let begin = BeginCaptureRequest {
            customer: Some(CustomerReference {
                reference: Some(customer_reference::Reference::Iin("000000300017".into())),
            }),
            transaction: Some(Transaction { account: "ACCT-77".into(), ..Transaction::default() }),
            ..BeginCaptureRequest::default()
        };
        let verify = VerifyRequest {
            capture: Some(Capture { image: "PIXELS".into(), ..Capture::default() }),
            ..VerifyRequest::default()
        };
        let printed = format!("{begin:?} {verify:?}");
        for secret in ["000000300017", "ACCT-77", "PIXELS", "80, 73, 88"] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
        }
        assert!(printed.contains("CustomerReference"), "{printed}");
    }

    #[test]
    fn the_descriptors_name_every_service() {
        let set = <prost_types::FileDescriptorSet as prost::Message>::decode(DESCRIPTORS)
            .expect("the build wrote it");
        let services: std::collections::BTreeSet<_> = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .map(prost_types::ServiceDescriptorProto::name)
            .collect();
        let expected = [
            "AuditService",
            "ConfirmationService",
            "CaseService",
            "EnrollmentService",
            "FootageService",
            "KeyService",
            "PolicyService",
            "PrincipalService",
            "ProposalService",
            "ReceiptService",
            "ReportService",
            "RetentionService",
            "RegisterService",
            "SensorService",
            "TellerService",
            "TerminalService",
            "VerificationService",
        ];
        assert_eq!(services, expected.into());
    }
}
