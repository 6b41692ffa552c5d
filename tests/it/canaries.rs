//! What must stay secret turns up nowhere: not in the log at its most verbose, not in an error, not
//! in the raw bytes of the database and its journal, not in the exported ledger.
//!
//! The canaries go through enrolment, verification and every refusal that a caller can provoke with
//! them; then everything the gateway wrote is searched for them, raw and in the encodings in which
//! programs print bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use tonic::Status;
use tonic::transport::Channel;
use tulga::domain::embedding::FaceEmbedding;
use tulga::pki::Role;
use tulga::proto;
use tulga::proto::audit_service_client::AuditServiceClient;
use tulga::proto::customer_reference::Reference;
use tulga::proto::enrollment_service_client::EnrollmentServiceClient;
use tulga::proto::verification_service_client::VerificationServiceClient;

use crate::process::{Gateway, Home};
use crate::site::{begin, consent, demo, reason, verify};
use crate::vision::{PIPELINE, photograph, usable};

const TERMINAL: &str = "ATM-CANARY";
const IIN: &str = "000000300017";
/// Its check digit is wrong: an error about it must not repeat it.
const MISTYPED_IIN: &str = "850615400123";
const NAME: &str = "Кенесары Канарейкин-Canary";
const CARD: &str = "card-canary-5f1d20";
const ACCOUNT: &str = "account-canary-77ab";

#[test]
fn no_canary_is_in_a_log_an_error_or_the_database() {
    let canaries = Canaries::of_everything();
    let home = Home::new();
    let mut command = home.command(&["serve"]);
    command.env("TULGA_LOG", "trace,h2=trace,tonic=trace,hyper=trace,rustls=trace");
    let mut gateway = home.serve_as(command);
    gateway.tulga_ok(&home, &["terminal", "register", TERMINAL]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut written = Written::default();
    let errors = runtime.block_on(a_day(&home, &gateway));
    assert!(errors.len() >= 10, "{}", errors.len());
    written.add("errors", errors.join("\n").into_bytes());
    written.add("command line", command_line(&home, &gateway));
    let export = home.path().join("export");
    gateway.tulga_ok(&home, &["audit", "export", export.to_str().unwrap()]);
    written.add_folder(&export);
    // Before and after the journal is folded into the database.
    written.add_folder(home.data().path());
    assert!(gateway.terminate());
    written.add_folder(home.data().path());
    written.add("log", gateway.log().into_bytes());

    // What may be found is found: the search reaches the journal, the database and the log.
    let places = written.holding(TERMINAL.as_bytes());
    for place in ["tulga.sqlite", "tulga.sqlite-wal", "receipts.jws"] {
        let decoded = place == "receipts.jws" && written.holds(place);
        assert!(
            decoded || places.iter().any(|found| found.ends_with(place)),
            "{place}: {places:?}"
        );
    }
    assert!(gateway.log().contains(" TRACE ") || gateway.log().contains(" DEBUG "), "a silent log");
    let found = canaries.found_in(&written);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_search_finds_a_canary_in_every_encoding() {
    let canaries = Canaries::of_everything();
    for (name, secret) in &canaries.0 {
        let prefix = b"0123";
        for shift in 0..3 {
            let padded = [&prefix[..shift], secret, b"tail"].concat();
            let forms = [
                padded.clone(),
                hex(&padded).into_bytes(),
                hex(&padded).to_uppercase().into_bytes(),
                STANDARD.encode(&padded).into_bytes(),
                URL_SAFE.encode(&padded).into_bytes(),
                format!("{padded:?}").into_bytes(),
                format!("{padded:x?}").into_bytes(),
                padded.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").into_bytes(),
            ];
            for form in forms {
                let mut written = Written::default();
                written.add("text", form);
                assert!(!canaries.found_in(&written).is_empty(), "{name} shifted by {shift}");
            }
        }
    }
    let mut written = Written::default();
    let (enrolled, _) = embeddings();
    written.add("floats", format!("{:?}", enrolled.sface.values()).into_bytes());
    assert!(!canaries.found_in(&written).is_empty(), "an embedding as decimal fractions");
}

/// Enrolment, verification, and refusals that name what they refuse; their errors in full.
async fn a_day(home: &Home, gateway: &Gateway) -> Vec<String> {
    let mut desk = EnrollmentServiceClient::new(gateway.connect(home, Role::Enroller, "dev").await);
    let mut terminal =
        VerificationServiceClient::new(gateway.connect(home, Role::Terminal, TERMINAL).await);
    let mut errors = Vec::new();
    let customer_id = enroll(&mut desk).await;
    provoke_the_desk(&mut desk, &customer_id, &mut errors).await;

    for (id, picture) in [("GENUINE", "obama2.jpg"), ("IMPOSTOR", "biden.jpg")] {
        let opened = terminal.begin_capture(asked(id)).await.unwrap().into_inner();
        let answer = terminal.verify(verify(id, 1, &opened.challenge, demo(picture))).await;
        let answer = answer.unwrap().into_inner();
        let expected = if id == "GENUINE" { "APPROVED" } else { "DENIED" };
        assert!(answer.outcome().as_str_name().ends_with(expected));
        let mut other = verify(id, 1, &opened.challenge, demo("obama3.jpg"));
        errors.push(terminal.verify(other.clone()).await.map_err(printed).unwrap_err());
        other.attempt = 2;
        errors.push(terminal.verify(other).await.map_err(printed).unwrap_err());
    }
    let mut by_iin = asked("BY-IIN");
    by_iin.customer = Some(reference(Reference::Iin(IIN.into())));
    let opened = terminal.begin_capture(by_iin).await.unwrap().into_inner();
    let half = demo("obama2.jpg");
    let half = half.slice(..half.len() / 2);
    let unreadable = terminal.verify(verify("BY-IIN", 1, &opened.challenge, half)).await;
    errors.push(unreadable.map_err(printed).unwrap_err());
    for wrong in [Reference::Iin(MISTYPED_IIN.into()), Reference::CardToken(format!("{CARD} x"))] {
        let mut request = asked("WRONG");
        request.customer = Some(reference(wrong));
        errors.push(terminal.begin_capture(request).await.map_err(printed).unwrap_err());
    }
    let mut request = asked("WRONG");
    request.transaction.as_mut().unwrap().account = format!("{ACCOUNT} {NAME}");
    errors.push(terminal.begin_capture(request).await.map_err(printed).unwrap_err());
    let auditor = gateway.connect(home, Role::Auditor, "dev").await;
    errors.push(as_a_receipt(auditor).await);
    errors
}

async fn enroll(desk: &mut EnrollmentServiceClient<Channel>) -> String {
    let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(named_consent()) };
    let customer_id = desk.create_customer(request).await.unwrap().into_inner().customer_id;
    desk.bind_token(card(&customer_id, CARD)).await.unwrap();
    for picture in ["obama.jpg", "obama3.jpg"] {
        let added = desk.add_capture(picture_of(&customer_id, picture)).await.unwrap();
        assert!(added.into_inner().accepted);
    }
    let request = proto::ActivateRequest { customer_id: customer_id.clone() };
    let activated = desk.activate(request).await.unwrap().into_inner();
    assert_eq!(activated.status(), proto::CustomerStatus::Active);
    customer_id
}

async fn provoke_the_desk(
    desk: &mut EnrollmentServiceClient<Channel>,
    customer_id: &str,
    errors: &mut Vec<String>,
) {
    for iin in [IIN, MISTYPED_IIN] {
        let request =
            proto::CreateCustomerRequest { iin: iin.into(), consent: Some(named_consent()) };
        errors.push(desk.create_customer(request).await.map_err(printed).unwrap_err());
    }
    let mut spoiled = named_consent();
    spoiled.given_at = NAME.into();
    let request = proto::CreateCustomerRequest { iin: IIN.into(), consent: Some(spoiled) };
    errors.push(desk.create_customer(request).await.map_err(printed).unwrap_err());
    let taken = desk.bind_token(card(&"0".repeat(32), CARD)).await;
    errors.push(taken.map_err(printed).unwrap_err());
    let spaced = desk.bind_token(card(customer_id, &format!("{CARD} {NAME}"))).await;
    errors.push(spaced.map_err(printed).unwrap_err());
    // A name where an id belongs.
    let request = proto::GetCustomerRequest { customer_id: NAME.into() };
    errors.push(desk.get_customer(request).await.map_err(printed).unwrap_err());
    let late = desk.add_capture(picture_of(customer_id, "obama2.jpg")).await;
    // An active customer takes a further picture; a picture cut in half, nobody.
    drop(late);
    let mut half = picture_of(customer_id, "obama2.jpg");
    half.image = half.image.slice(..half.image.len() / 2);
    errors.push(desk.add_capture(half).await.map_err(printed).unwrap_err());
}

/// An auditor asks for a receipt by what is none.
async fn as_a_receipt(channel: Channel) -> String {
    let selector = Some(proto::get_receipt_request::Selector::Rid(NAME.into()));
    let mut auditor = AuditServiceClient::new(channel);
    let answer = auditor
        .get_receipt(proto::GetReceiptRequest { selector, ..proto::GetReceiptRequest::default() })
        .await;
    answer.map_err(printed).unwrap_err()
}

/// The same through the command line, whose words a person sees.
fn command_line(home: &Home, gateway: &Gateway) -> Vec<u8> {
    let picture = crate::process::photograph("obama2.jpg");
    let picture = picture.to_str().unwrap();
    let mut said = Vec::new();
    for iin in [IIN, MISTYPED_IIN] {
        let enroll = ["enroll", picture, "--iin", iin, "--subject", NAME, "--consent-ref", "7"];
        let output = gateway.tulga(home, &enroll);
        assert_eq!(output.status.code(), Some(1));
        said.extend([output.stdout, output.stderr].concat());
    }
    for arguments in [
        ["verify", picture, "--terminal", TERMINAL, "--card", CARD],
        ["verify", picture, "--terminal", "ATM-NOBODY", "--card", CARD],
        ["verify", "Cargo.toml", "--terminal", TERMINAL, "--card", CARD],
    ] {
        let output = gateway.tulga(home, &arguments);
        said.extend([output.stdout, output.stderr].concat());
    }
    said
}

fn asked(id: &str) -> proto::BeginCaptureRequest {
    let mut request = begin(id, CARD);
    request.transaction.as_mut().unwrap().account = ACCOUNT.into();
    request
}

fn reference(reference: Reference) -> proto::CustomerReference {
    proto::CustomerReference { reference: Some(reference) }
}

fn named_consent() -> proto::Consent {
    proto::Consent { subject: NAME.into(), ..consent() }
}

fn card(customer_id: &str, token: &str) -> proto::BindTokenRequest {
    proto::BindTokenRequest {
        customer_id: customer_id.into(),
        kind: proto::TokenKind::Card.into(),
        token: token.into(),
        expires_at: None,
    }
}

fn picture_of(customer_id: &str, name: &str) -> proto::AddCaptureRequest {
    proto::AddCaptureRequest {
        customer_id: customer_id.into(),
        image: demo(name),
        media_type: None,
        language: "en".into(),
        ..proto::AddCaptureRequest::default()
    }
}

/// Everything a caller learns from a refusal.
fn printed(status: Status) -> String {
    assert!(reason(&status).contains('_'), "{status:?}");
    let details = String::from_utf8_lossy(status.details()).into_owned();
    format!("{status:?} {details}")
}

/// Bytes of the picture that is verified, as it travels and as it is decoded.
fn picture_bytes() -> [Vec<u8>; 2] {
    let encoded = demo("obama2.jpg");
    let decoded = photograph("obama2.jpg");
    let (half, middle) = (encoded.len() / 2, decoded.rgb().len() / 2);
    // Longer than any run that would be there by chance, and no flat part of the picture.
    [encoded[half..half + 48].to_vec(), decoded.rgb()[middle..middle + 48].to_vec()]
}

/// Of the template's picture and of the probe's.
fn embeddings() -> (FaceEmbedding, FaceEmbedding) {
    let enrolled = usable(PIPELINE.enrol(&photograph("obama.jpg")).unwrap());
    let probe = usable(PIPELINE.probe(&photograph("obama2.jpg")).unwrap());
    (enrolled.embedding, probe.embedding)
}

/// What must not be found, by name; and the components of an embedding, in decimal digits.
struct Canaries(BTreeMap<&'static str, Vec<u8>>, Vec<String>);

impl Canaries {
    fn of_everything() -> Self {
        let [encoded, decoded] = picture_bytes();
        let mut canaries = BTreeMap::from([
            ("an IIN", IIN.as_bytes().to_vec()),
            ("a mistyped IIN", MISTYPED_IIN.as_bytes().to_vec()),
            ("a name", NAME.as_bytes().to_vec()),
            ("a card's token", CARD.as_bytes().to_vec()),
            ("an account's token", ACCOUNT.as_bytes().to_vec()),
            ("bytes of an encoded picture", encoded),
            ("pixels", decoded),
        ]);
        let (enrolled, probe) = embeddings();
        let bytes = |values: &[f32]| values[40..52].iter().flat_map(|v| v.to_le_bytes()).collect();
        canaries.insert("the template's SFace embedding", bytes(enrolled.sface.values()));
        canaries.insert("the template's dlib embedding", bytes(enrolled.dlib.values()));
        canaries.insert("the probe's SFace embedding", bytes(probe.sface.values()));
        canaries.insert("the probe's dlib embedding", bytes(probe.dlib.values()));
        Self(canaries, decimal_fractions(enrolled.sface.values()))
    }

    fn found_in(&self, written: &Written) -> Vec<String> {
        let mut found = Vec::new();
        for (name, secret) in &self.0 {
            for (form, needle) in forms(secret) {
                let places = written.holding(&needle);
                if !places.is_empty() {
                    found.push(format!("{name}, {form}, in {}", places.join(", ")));
                }
            }
        }
        for fraction in &self.1 {
            for place in written.holding(fraction.as_bytes()) {
                found.push(format!("a component of an embedding, decimal, in {place}"));
            }
        }
        found
    }
}

/// A secret in the ways in which bytes are written down.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let numbers = |separator: &str| {
        secret.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator).into_bytes()
    };
    let hexadecimal = |separator: &str| {
        let digits: Vec<_> = secret.iter().map(|byte| format!("{byte:x}")).collect();
        digits.join(separator).into_bytes()
    };
    let mut forms = vec![
        ("raw", secret.to_vec()),
        ("hexadecimal", hex(secret).into_bytes()),
        ("HEXADECIMAL", hex(secret).to_uppercase().into_bytes()),
        ("decimal with commas", numbers(", ")),
        ("decimal with blanks", numbers(" ")),
        ("hexadecimal with commas", hexadecimal(", ")),
    ];
    for shift in 0..3 {
        // What these bytes become wherever they start within a group of three.
        let padded = [&[0; 3][..shift], secret].concat();
        let whole = (padded.len() - padded.len() % 3) / 3 * 4;
        let from = if shift == 0 { 0 } else { 4 };
        forms.push(("base64", STANDARD.encode(&padded).as_bytes()[from..whole].to_vec()));
        forms.push(("base64url", URL_SAFE.encode(&padded).as_bytes()[from..whole].to_vec()));
    }
    forms
}

/// Components with enough digits to be nobody else's.
fn decimal_fractions(values: &[f32]) -> Vec<String> {
    let texts = values.iter().map(|value| format!("{:?}", value.abs()));
    let long: Vec<_> = texts
        .filter(|text| text.len() > 9 && !text.contains('e'))
        .map(|text| text[..8].to_owned())
        .collect();
    assert!(long.len() > 50);
    long
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that was written, by place.
#[derive(Default)]
struct Written(Vec<(String, Vec<u8>)>);

impl Written {
    fn add(&mut self, place: &str, bytes: Vec<u8>) {
        self.0.push((place.to_owned(), bytes));
    }

    fn add_folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.add_folder(&path);
            } else {
                self.add(path.to_str().unwrap(), fs::read(&path).unwrap());
            }
        }
    }

    fn holds(&self, ending: &str) -> bool {
        self.0.iter().any(|(place, bytes)| place.ends_with(ending) && !bytes.is_empty())
    }

    fn holding(&self, needle: &[u8]) -> Vec<&str> {
        let finder = memchr::memmem::Finder::new(needle);
        let hits = self.0.iter().filter(|(_, bytes)| finder.find(bytes).is_some());
        hits.map(|(place, _)| place.as_str()).collect()
    }
}
