//! The API end to end: a gateway on real models behind real TLS, called as vendors call it.

use bytes::Bytes;
use tonic::Code;
use tonic::transport::Channel;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::receipt_service_client::ReceiptServiceClient;
use tulga::proto::terminal_service_client::TerminalServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::site::{Site, begin, clip, consent, demo, field, reason, verify};

const IIN: &str = "000000300017";
const CARD: &str = "card-token-1";

type Terminal = VerificationServiceClient<Channel>;

async fn attempt(terminal: &mut Terminal, id: &str, card: &str, image: Bytes) -> proto::Decision {
    let opened = terminal.begin_capture(begin(id, card)).await.unwrap().into_inner();
    assert_eq!(opened.challenge.len(), 32);
    terminal.verify(verify(id, 1, &opened.challenge, image)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_at_the_terminal() {
    let site = Site::start().await;
    site.enroll(IIN, CARD, &["obama.jpg", "obama3.jpg"]).await;
    let mut terminal = VerificationServiceClient::new(site.terminal("ATM-1").await);

    // The customer, on another photograph; the answer was lost, so the terminal asks again.
    let opened = terminal.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    let asked = verify("T1", 1, &opened.challenge, demo("obama2.jpg"));
    let approved = terminal.verify(asked.clone()).await.unwrap().into_inner();
    assert_eq!(approved.outcome(), proto::Outcome::Approved, "{:?}", approved.reasons);
    assert_eq!(approved.next_screen(), proto::NextScreen::Proceed);
    let again = terminal.verify(asked.clone()).await.unwrap().into_inner();
    assert_eq!(again, approved);
    let found = terminal.get_decision(proto::GetDecisionRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        language: "en".into(),
    });
    assert_eq!(found.await.unwrap().into_inner(), approved);

    // The same attempt with another picture; the used challenge for the next attempt.
    let mut other = asked.clone();
    other.capture.as_mut().unwrap().image = demo("biden.jpg");
    let status = terminal.verify(other.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "REQ_ID_REUSED"));
    other.attempt = 2;
    let status = terminal.verify(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "CAP_STALE"));

    // An impostor and somebody not enrolled get the same words.
    let impostor = attempt(&mut terminal, "T2", CARD, demo("biden.jpg")).await;
    let stranger = attempt(&mut terminal, "T3", "card-of-nobody", demo("biden.jpg")).await;
    for denied in [&impostor, &stranger] {
        assert_eq!(denied.outcome(), proto::Outcome::Denied);
        assert!(!denied.receipt_jws.is_empty(), "a denial has a receipt");
        assert!(denied.cap.is_none());
    }
    assert_eq!(impostor.reasons, stranger.reasons);
    assert_eq!(impostor.next_screen, stranger.next_screen);
    assert_eq!(impostor.attempts_left, stranger.attempts_left);

    imports(&site).await;
    reports_and_redeems(&site, &mut terminal, &approved, &impostor).await;
    audits(&site, &approved).await;
    revokes(&site, &mut terminal).await;
    drop(terminal);
    site.finish().await;
}

/// Each row has its answer, in order; a person who is enrolled already is found under another number.
async fn imports(site: &Site) {
    let row = |row, iin: &str, photograph: &str| proto::BulkImportRequest {
        row,
        iin: iin.into(),
        consent: Some(consent()),
        tokens: vec![proto::ImportToken {
            kind: proto::TokenKind::Card.into(),
            token: format!("card-of-row-{row}"),
        }],
        images: vec![demo(photograph)],
        language: "en".into(),
        fingers: Vec::new(),
    };
    let rows = [
        row(7, "000000300018", "biden.jpg"),
        row(8, IIN, "biden.jpg"),
        row(9, "000000300054", "obama2.jpg"),
    ];
    let mut desk = EnrollmentServiceClient::new(site.staff(Role::Admin).await);
    let mut answers = desk.bulk_import(tokio_stream::iter(rows)).await.unwrap().into_inner();
    let mut answered = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        answered.push(answer);
    }
    let [mistyped, known, double] = answered.as_slice() else { panic!("{answered:?}") };
    assert_eq!((mistyped.row, mistyped.error_reason.as_str()), (7, "REQ_INVALID"));
    assert_eq!(mistyped.error_field, "iin");
    assert_eq!((known.row, known.error_reason.as_str()), (8, "REQ_EXISTS"));
    assert_eq!((double.row, double.error_reason.as_str()), (9, ""));
    assert_eq!(double.status(), proto::CustomerStatus::PendingDuplicate);

    let customer_id = double.customer_id.clone();
    let ask = proto::GetCustomerRequest { customer_id: customer_id.clone() };
    assert_eq!(desk.get_customer(ask).await.unwrap().into_inner().duplicate_ids.len(), 1);
    let resolution = proto::DuplicateResolution::SamePersonReject.into();
    let resolved =
        desk.resolve_duplicate(proto::ResolveDuplicateRequest { customer_id, resolution }).await;
    assert_eq!(resolved.unwrap().into_inner().status(), proto::CustomerStatus::Suspended);
    let page = proto::ListCustomersRequest { page_size: 1, page_token: String::new() };
    let first = desk.list_customers(page).await.unwrap().into_inner();
    let page = proto::ListCustomersRequest { page_size: 1, page_token: first.next_page_token };
    let second = desk.list_customers(page).await.unwrap().into_inner();
    assert_ne!(first.customers, second.customers);
}

/// The host redeems an approval once, a denial never; the terminal says what became of the cash.
async fn reports_and_redeems(
    site: &Site,
    terminal: &mut Terminal,
    approved: &proto::Decision,
    denied: &proto::Decision,
) {
    let mut host = ReceiptServiceClient::new(site.staff(Role::Host).await);
    let redeem = |transaction: &str, decision: &proto::Decision| proto::RedeemRequest {
        receipt_jws: decision.receipt_jws.clone(),
        transaction_salt: decision.salts.as_ref().unwrap().transaction.clone(),
        host_transaction_id: transaction.into(),
        business_date: "2026-11-21".into(),
        attempt: 1,
        account: "account-token-1".into(),
        counterparty: None,
        amount_minor: 5_000_000,
        currency: "KZT".into(),
        operation: proto::Operation::Withdrawal.into(),
    };
    let mut dearer = redeem("T1", approved);
    dearer.amount_minor += 1;
    let mut elsewhere = redeem("T1", approved);
    elsewhere.account = "account-token-2".into();
    let mut dollars = redeem("T1", approved);
    dollars.currency = "USD".into();
    let mut deposit = redeem("T1", approved);
    deposit.operation = proto::Operation::Deposit.into();
    for wrong in [dearer, elsewhere, dollars, deposit, redeem("T9", approved), redeem("T2", denied)]
    {
        let status = host.redeem(wrong).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "REQ_INVALID")
        );
    }
    let first = host.redeem(redeem("T1", approved)).await.unwrap().into_inner();
    let second = host.redeem(redeem("T1", approved)).await.unwrap().into_inner();
    assert_eq!((first.redeemed, second.redeemed), (true, false));
    assert_eq!(first.first_redeemed_at, second.first_redeemed_at);

    let report = proto::ReportOutcomeRequest {
        business_date: "2026-11-21".into(),
        host_transaction_id: "T1".into(),
        attempt: 1,
        outcome: proto::CashOutcome::Taken.into(),
        dispensed_minor: 5_000_000,
        currency: "KZT".into(),
        footage: None,
    };
    let entry = terminal.report_outcome(report.clone()).await.unwrap().into_inner();
    assert_eq!(terminal.report_outcome(report.clone()).await.unwrap().into_inner(), entry);
    let of_nothing = proto::ReportOutcomeRequest { host_transaction_id: "T9".into(), ..report };
    assert_eq!(terminal.report_outcome(of_nothing).await.unwrap_err().code(), Code::NotFound);
}

/// The auditor finds the receipt with its proof, and exports the whole ledger.
async fn audits(site: &Site, approved: &proto::Decision) {
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let index = approved.position.as_ref().unwrap().index;
    let selector = Some(proto::get_receipt_request::Selector::Index(index));
    let receipt = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(receipt.receipt_jws, approved.receipt_jws);
    assert_eq!((receipt.kind.as_str(), receipt.terminal_id.as_str()), ("verification", "ATM-1"));
    let selector = Some(proto::get_receipt_request::Selector::Rid(receipt.rid.clone()));
    let by_id = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await
        .unwrap();
    assert_eq!(by_id.into_inner(), receipt);
    let proof = auditor
        .get_proof(proto::GetProofRequest { index, ..proto::GetProofRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert!(proof.proof.starts_with("c2sp.org/tlog-proof@v1\n"), "{}", proof.proof);

    // Pages of one lead through everything, once.
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = auditor
            .list_receipts(proto::ListReceiptsRequest {
                terminal_id: "ATM-1".into(),
                page_size: 1,
                page_token,
                ..proto::ListReceiptsRequest::default()
            })
            .await
            .unwrap()
            .into_inner();
        listed.extend(page.receipts.into_iter().map(|receipt| receipt.position.unwrap().index));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(listed.len() >= 4 && listed.is_sorted_by(|a, b| a < b), "{listed:?}");
    let mut export =
        auditor.export_ledger(proto::ExportLedgerRequest::default()).await.unwrap().into_inner();
    let mut receipts = Vec::new();
    while let Some(piece) = export.message().await.unwrap() {
        if piece.path == "receipts.jws" {
            receipts.extend(piece.content);
        }
    }
    let line = receipts.split(|byte| *byte == b'\n').nth(usize::try_from(index).unwrap());
    assert_eq!(line, Some(approved.receipt_jws.as_slice()));
}

/// A revoked terminal is refused on the connection that it has.
async fn revokes(site: &Site, terminal: &mut Terminal) {
    assert!(terminal.get_time(proto::GetTimeRequest {}).await.is_ok());
    let mut admin = TerminalServiceClient::new(site.staff(Role::Admin).await);
    let revoke = proto::RevokeTerminalRequest { terminal_id: "ATM-1".into() };
    admin.revoke_terminal(revoke).await.unwrap();
    let status = terminal.get_time(proto::GetTimeRequest {}).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "DEV_UNKNOWN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_by_reason_and_field_and_leaves_no_trace() {
    type Spoil<T> = fn(&mut T);
    let site = Site::start().await;
    let channel = site.terminal("ATM-1").await;
    let mut terminal = VerificationServiceClient::new(channel.clone());
    let mut auditor = AuditServiceClient::new(site.staff(Role::Auditor).await);
    let before =
        auditor.get_checkpoint(proto::GetCheckpointRequest::default()).await.unwrap().into_inner();

    let begins: [(&str, Spoil<proto::BeginCaptureRequest>); 19] = [
        ("customer", |r| r.customer = None),
        ("customer.reference", |r| r.customer = Some(proto::CustomerReference::default())),
        ("customer.card_token", |r| *r = begin("T1", "")),
        ("transaction", |r| r.transaction = None),
        ("transaction.host_transaction_id", |r| *r = begin("T 1", CARD)),
        ("transaction.amount_minor", |r| r.transaction.as_mut().unwrap().amount_minor = -1),
        ("transaction.operation", |r| r.transaction.as_mut().unwrap().operation = 77),
        ("transaction.currency", |r| r.transaction.as_mut().unwrap().currency = "TENGE".into()),
        ("modality", |r| r.modality = proto::Modality::Palm.into()),
        ("modality", |r| r.modality = i32::MAX),
        ("finger_position", |r| r.finger_position = 2),
        ("holder_verification", |r| r.holder_verification = 0),
        ("language", |r| r.language = "xx".into()),
        ("bank.business", |r| r.bank.get_or_insert_default().business = 77),
        ("bank.other_banks_month_minor", |r| {
            r.bank.get_or_insert_default().other_banks_month_minor = -1;
        }),
        ("bank.account_data_as_of", |r| {
            r.bank.get_or_insert_default().account_data_as_of = Some("yesterday".into());
        }),
        ("bank.account_data_as_of", |r| {
            let future = "2100-01-01T00:00:00.000Z".to_owned();
            r.bank.get_or_insert_default().account_data_as_of = Some(future);
        }),
        ("bank.risk_signs", |r| r.bank.get_or_insert_default().risk_signs = vec![0]),
        ("bank.risk_signs", |r| r.bank.get_or_insert_default().risk_signs = vec![1, 1]),
    ];
    for (path, spoil) in begins {
        let mut request = begin("T1", CARD);
        spoil(&mut request);
        let status = terminal.begin_capture(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str(), field(&status).as_str()),
            (Code::InvalidArgument, "REQ_INVALID", path)
        );
    }

    let opened = terminal.begin_capture(begin("T1", CARD)).await.unwrap().into_inner();
    let verifies: [(&str, &str, Spoil<proto::VerifyRequest>); 17] = [
        ("REQ_INVALID", "challenge", |r| r.challenge.truncate(31)),
        ("REQ_INVALID", "host_transaction_id", |r| r.host_transaction_id.clear()),
        ("REQ_INVALID", "business_date", |r| r.business_date = "21.11.2026".into()),
        ("REQ_INVALID", "attempt", |r| r.attempt = 0),
        ("REQ_INVALID", "capture", |r| r.capture = None),
        ("REQ_INVALID", "capture.image", |r| r.capture.as_mut().unwrap().image = Bytes::new()),
        ("REQ_INVALID", "language", |r| r.language.clear()),
        ("REQ_INVALID", "footage.camera_id", |r| {
            r.footage = Some(proto::Footage { camera_id: "CAM 1".into(), ..clip(0, 1) });
        }),
        ("REQ_INVALID", "footage.from", |r| {
            r.footage = Some(proto::Footage { from: "now".into(), ..clip(0, 1) });
        }),
        ("REQ_INVALID", "footage.from", |r| r.footage = Some(clip(-32 * 86_400, 1))),
        ("REQ_INVALID", "footage.to", |r| r.footage = Some(clip(0, 0))),
        ("REQ_INVALID", "footage.to", |r| r.footage = Some(clip(-30_000, 21_601))),
        ("REQ_INVALID", "footage.to", |r| r.footage = Some(clip(290, 20))),
        ("REQ_INVALID", "footage.clip_sha256", |r| {
            r.footage = Some(proto::Footage { clip_sha256: vec![7; 31], ..clip(-9, 1) });
        }),
        ("CAP_STALE", "", |r| r.challenge = vec![7; 32]),
        ("CAP_STALE", "", |r| r.host_transaction_id = "T2".into()),
        ("CAP_STALE", "", |r| r.business_date = "2026-11-22".into()),
    ];
    for (expected, path, spoil) in verifies {
        let mut request = verify("T1", 1, &opened.challenge, demo("obama2.jpg"));
        spoil(&mut request);
        let status = terminal.verify(request).await.unwrap_err();
        assert_eq!((reason(&status).as_str(), field(&status).as_str()), (expected, path));
    }
    unreadable_pictures(&mut terminal).await;
    malformed_messages(channel).await;

    let after =
        auditor.get_checkpoint(proto::GetCheckpointRequest::default()).await.unwrap().into_inner();
    let entries = |checkpoint: &str| checkpoint.lines().nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!(entries(&before.checkpoint), entries(&after.checkpoint), "nothing was decided");
    drop((terminal, auditor));
    site.finish().await;
}

/// Bytes that are no picture, or none to the end.
async fn unreadable_pictures(terminal: &mut Terminal) {
    let whole = demo("obama2.jpg");
    let mut bomb = whole.to_vec();
    // The frame header claims 20,000 by 20,000 pixels. Earlier ones are of thumbnails.
    let frame = bomb.windows(2).rposition(|marker| marker == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
    let truncations = (1..16).map(|part| whole.slice(..whole.len() * part / 16));
    let pictures = truncations.chain([Bytes::from_static(b"GIF89a"), Bytes::from(bomb)]);
    for (number, image) in pictures.enumerate() {
        let id = format!("U{number}");
        let opened = terminal.begin_capture(begin(&id, CARD)).await.unwrap().into_inner();
        let status = terminal.verify(verify(&id, 1, &opened.challenge, image)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "CAP_UNREADABLE"),
            "picture {number}"
        );
    }
}

/// What tonic refuses by itself has a reason of the table, too.
async fn malformed_messages(channel: Channel) {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = "/tulga.v1.VerificationService/Verify";
    let codec = tonic_prost::ProstCodec::<proto::CancelRequest, proto::Decision>::default();
    let wrong = tonic::Request::new(proto::CancelRequest { challenge: vec![7; 32] });
    let status = grpc
        .unary(wrong, http::uri::PathAndQuery::from_static(path), codec)
        .await
        .map(drop)
        .unwrap_err();
    // `challenge` alone is a well-formed VerifyRequest that lacks the rest.
    assert_eq!(reason(&status), "REQ_INVALID");

    grpc.ready().await.unwrap();
    // A number where the challenge's bytes stand.
    let codec = tonic_prost::ProstCodec::<proto::GetProofRequest, proto::Decision>::default();
    let wrong = tonic::Request::new(proto::GetProofRequest {
        index: 7,
        ..proto::GetProofRequest::default()
    });
    let status = grpc
        .unary(wrong, http::uri::PathAndQuery::from_static(path), codec)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQ_MALFORMED"));

    let mut terminal = VerificationServiceClient::new(channel);
    let huge = verify("T1", 1, &[7; 32], vec![0; 9 << 20].into());
    let status = terminal.verify(huge).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQ_TOO_LARGE"));
}
