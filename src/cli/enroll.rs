//! `tulga enroll`: a person from pictures of their face and fingers, as an enroller does it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::characteristic::PictureOf;
use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::modality::Modality;
use crate::pki::Role;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;
use crate::proto::{
    ActivateRequest, AddCaptureRequest, BindTokenRequest, Capture, Characteristic, Consent,
    CreateCustomerRequest, CustomerStatus, SecondPersonReason, TokenKind, consent,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Photographs of the person's face, one to five
    #[arg(required_unless_present = "finger", num_args = 1..=5)]
    images: Vec<PathBuf>,
    /// An impression of a finger, such as right-index=print.png; three to five of each finger
    #[arg(long, value_name = "POSITION=FILE", value_parser = PictureOf::parse_finger)]
    finger: Vec<PictureOf>,
    /// Resolution of the fingers' pictures, where the files do not tell it
    #[arg(long, value_name = "PIXELS_PER_INCH")]
    ppi: Option<u32>,
    /// Their IIN
    #[arg(long)]
    iin: String,
    /// Token of a card of theirs
    #[arg(long, value_name = "TOKEN")]
    card: Option<String>,
    /// Who processes the data
    #[arg(long, default_value = "the bank")]
    operator: String,
    /// Who consents: the person's name
    #[arg(long)]
    subject: String,
    /// What for
    #[arg(long, default_value = "identification at cash terminals")]
    purpose: String,
    /// How many days the consent holds
    #[arg(long, default_value_t = 1825)]
    term_days: u32,
    /// Where the signed consent is kept
    #[arg(long, value_name = "REFERENCE")]
    consent_ref: String,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, args: Args) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let faces = args.images.into_iter().map(|path| PictureOf { modality: Modality::Face, path });
    let pictures = faces.chain(args.finger).collect::<Vec<_>>();
    let captures = pictures.iter().map(|it| Ok((it.modality, it.capture(args.ppi)?)));
    let captures = captures.collect::<Result<Vec<_>>>()?;
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Enroller, &args.client.name).await?;
        let person = Person {
            iin: args.iin,
            card: args.card,
            consent: Consent {
                operator: args.operator,
                subject: args.subject,
                purpose: args.purpose,
                given_at: SystemClock.now().rfc3339(),
                evidence_ref: args.consent_ref,
                term: Some(consent::Term::Days(args.term_days)),
            },
            captures,
        };
        match enroll(channel, person).await {
            Ok(enrolled) => Ok(enrolled.told(args.json)),
            Err(status) => {
                eprintln!("tulga: {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}

/// Who is to be enrolled, with what.
pub(super) struct Person {
    pub iin: String,
    pub card: Option<String>,
    pub consent: Consent,
    /// Pictures, and what they are of.
    pub captures: Vec<(Modality, Capture)>,
}

/// Photographs of a face, as [`Person::captures`].
pub(super) fn faces(images: impl IntoIterator<Item = Vec<u8>>) -> Vec<(Modality, Capture)> {
    let captures =
        images.into_iter().map(|image| Capture { image: image.into(), ..Capture::default() });
    captures.map(|capture| (Modality::Face, capture)).collect()
}

/// What became of an enrolment.
pub(super) struct Enrolled {
    pub customer_id: String,
    pub status: CustomerStatus,
    /// For each picture: whether it was taken, and why not.
    pub captures: Vec<(bool, Vec<String>)>,
    /// Who looks alike, and how strongly in dB.
    pub duplicates: Vec<(String, u32)>,
    /// Why somebody else has to activate them, until when, and the proposal.
    pub needs_second_person: Option<(SecondPersonReason, String, String)>,
}

impl Enrolled {
    /// Before anybody has activated them.
    pub const fn pending(customer_id: String, captures: Vec<(bool, Vec<String>)>) -> Self {
        Self {
            customer_id,
            status: CustomerStatus::Pending,
            captures,
            duplicates: Vec::new(),
            needs_second_person: None,
        }
    }

    /// Prints it; the exit code says whether they are active.
    pub fn told(&self, json: bool) -> ExitCode {
        self.print(json);
        if self.is_active() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
    }

    pub fn is_active(&self) -> bool {
        self.status == CustomerStatus::Active
    }

    fn print(&self, json: bool) {
        if json {
            let captures: Vec<_> = self
                .captures
                .iter()
                .map(|(accepted, reasons)| json!({ "accepted": accepted, "reasons": reasons }))
                .collect();
            let duplicates: Vec<_> = self
                .duplicates
                .iter()
                .map(|(id, strength_db)| json!({ "customer_id": id, "strength_db": strength_db }))
                .collect();
            let seen = json!({
                "customer_id": self.customer_id,
                "status": self.status.as_str_name(),
                "captures": captures,
                "duplicates": duplicates,
                "needs_second_person": self.needs_second_person.as_ref().map(
                    |(reason, until, proposal)| {
                        json!({
                            "reason": reason.as_str_name(),
                            "until": until,
                            "proposal_id": proposal,
                        })
                    },
                ),
            });
            println!("{seen}");
            return;
        }
        println!("customer {}  {}", self.customer_id, self.status.as_str_name());
        for (place, (accepted, reasons)) in self.captures.iter().enumerate() {
            let what = if *accepted {
                "taken".to_owned()
            } else {
                format!("refused: {}", reasons.join(", "))
            };
            println!("  picture {}: {what}", place + 1);
        }
        for (id, strength_db) in &self.duplicates {
            println!("  looks like customer {id} ({strength_db} dB): a person must decide");
        }
        if let Some((reason, until, _)) = &self.needs_second_person {
            println!(
                "  {}: somebody else must activate them until {until}: `tulga activate {} --as NAME`",
                reason.as_str_name(),
                self.customer_id
            );
        }
    }
}

/// Creates, binds, captures, activates.
pub(super) async fn enroll(channel: Channel, person: Person) -> Result<Enrolled, Status> {
    let mut client = EnrollmentServiceClient::new(channel);
    let Person { iin, card, consent, captures: offered } = person;
    let request = CreateCustomerRequest { iin, consent: Some(consent) };
    let customer_id = client.create_customer(request).await?.into_inner().customer_id;
    if let Some(token) = card {
        let kind = TokenKind::Card.into();
        let request =
            BindTokenRequest { customer_id: customer_id.clone(), kind, token, expires_at: None };
        client.bind_token(request).await?;
    }
    let mut captures = Vec::new();
    for (modality, capture) in offered {
        let Characteristic { modality, finger_position } = modality.into();
        let request = AddCaptureRequest {
            customer_id: customer_id.clone(),
            image: capture.image,
            media_type: capture.media_type,
            language: "en".to_owned(),
            modality,
            finger_position,
            pixels_per_inch: capture.pixels_per_inch,
            raw_size: capture.raw_size,
            ..AddCaptureRequest::default()
        };
        let answer = client.add_capture(request).await?.into_inner();
        captures.push((
            answer.accepted,
            answer.reasons.into_iter().map(|reason| reason.code).collect(),
        ));
    }
    let mut enrolled = Enrolled::pending(customer_id, captures);
    if enrolled.captures.iter().any(|(accepted, _)| *accepted) {
        activate(&mut client, &mut enrolled).await?;
    }
    Ok(enrolled)
}

/// Activates, and notes what came of it.
pub(super) async fn activate(
    client: &mut EnrollmentServiceClient<Channel>,
    enrolled: &mut Enrolled,
) -> Result<(), Status> {
    let request = ActivateRequest { customer_id: enrolled.customer_id.clone() };
    let answer = client.activate(request).await?.into_inner();
    enrolled.status = answer.status();
    enrolled.needs_second_person = answer.needs_second_person.as_ref().map(|waits| {
        let until = waits.until.clone().map(|until| until.rfc3339).unwrap_or_default();
        (waits.reason(), until, waits.proposal_id.clone())
    });
    enrolled.duplicates =
        answer.duplicates.into_iter().map(|other| (other.customer_id, other.strength_db)).collect();
    Ok(())
}
