//! `tulga verify`: what a terminal does, with files in place of its camera and its scanner.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::characteristic::{PictureOf, characteristic};
use super::client::{ClientArgs, connect, explain};
use super::{REFUSED, runtime};
use crate::app::DataDir;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::modality::Modality;
use crate::pki::Role;
use crate::proto::customer_reference::Reference;
use crate::proto::verification_service_client::VerificationServiceClient;
use crate::proto::{
    BankFacts, BeginCaptureRequest, BeginCaptureResponse, Capture, Characteristic, Consent,
    CustomerReference, Decision, HolderVerification, Operation, Outcome, Transaction,
    VerifyRequest,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The picture that the camera or the scanner took
    image: PathBuf,
    /// What it is of: face, or a finger such as right-index
    #[arg(long, value_name = "CHARACTERISTIC", default_value = "face", value_parser = characteristic)]
    of: Modality,
    /// A further capture of the same person, such as right-middle=print.png; at most three
    #[arg(long, value_name = "CHARACTERISTIC=FILE", value_parser = PictureOf::parse)]
    and: Vec<PictureOf>,
    /// Resolution of the fingers' pictures, where the files do not tell it
    #[arg(long, value_name = "PIXELS_PER_INCH")]
    ppi: Option<u32>,
    /// The terminal that asks; register it with `tulga terminal register`
    #[arg(long)]
    terminal: String,
    /// Token of the card in the reader
    #[arg(long, value_name = "TOKEN")]
    card: String,
    /// Amount in minor units
    #[arg(long, default_value_t = 5_000_000)]
    amount_minor: i64,
    /// Currency
    #[arg(long, default_value = "KZT")]
    currency: String,
    /// The host's number of the transaction; by default a new one
    #[arg(long)]
    transaction: Option<String>,
    /// Which try
    #[arg(long, default_value_t = 1)]
    attempt: u32,
    /// Language of the texts: kk, ru or en
    #[arg(long, default_value = "en")]
    language: String,
    /// File to write the receipt to
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(config: &Config, args: Args) -> Result<ExitCode> {
    let pki = DataDir::at(&config.paths.data_dir).pki();
    let address = args.client.gateway.clone().unwrap_or_else(|| config.server.listen.to_string());
    let pictures = [vec![PictureOf { modality: args.of, path: args.image }], args.and].concat();
    let captures = pictures.iter().map(|picture| picture.capture(args.ppi));
    let captures = captures.collect::<Result<Vec<_>>>()?;
    let now = SystemClock.now();
    let visit = Visit {
        language: args.language,
        characteristics: pictures.iter().map(|picture| picture.modality).collect(),
        ..Visit::withdrawal(
            &args.card,
            args.transaction.unwrap_or_else(|| format!("CLI-{}", now.get())),
            now.rfc3339().chars().take(10).collect(),
            args.amount_minor,
            &args.currency,
        )
    };
    runtime()?.block_on(async {
        let channel = connect(&pki, &address, Role::Terminal, &args.terminal).await?;
        let decision = async {
            let challenge = visit.begin(channel.clone()).await?;
            visit.verify_all(channel, challenge, args.attempt, captures).await
        };
        match decision.await {
            Ok(decision) => {
                if let Some(path) = &args.receipt {
                    std::fs::write(path, &decision.receipt_jws)
                        .with_context(|| format!("{} cannot be written", path.display()))?;
                }
                print(&decision, args.json);
                let approved =
                    matches!(decision.outcome(), Outcome::Approved | Outcome::ApprovedCapped);
                Ok(if approved { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
            }
            Err(status) => {
                eprintln!("tulga: no decision, do not pay. {}", explain(&status));
                Ok(ExitCode::from(REFUSED))
            }
        }
    })
}

/// Somebody at a terminal who wants something done with cash.
#[derive(Clone)]
pub(super) struct Visit {
    pub customer: Reference,
    pub transaction: Transaction,
    pub bank: Option<BankFacts>,
    pub consent: Option<Consent>,
    /// By what else they are known to be the holder.
    pub holder: HolderVerification,
    pub language: String,
    /// What is captured; the face first where it is.
    pub characteristics: Vec<Modality>,
}

impl Visit {
    /// A withdrawal with a card, from an account named after it.
    pub fn withdrawal(
        card: &str,
        host_id: String,
        business_date: String,
        amount_minor: i64,
        currency: &str,
    ) -> Self {
        Self {
            customer: Reference::CardToken(card.to_owned()),
            transaction: Transaction {
                host_transaction_id: host_id,
                business_date,
                operation: Operation::Withdrawal.into(),
                amount_minor,
                currency: currency.to_owned(),
                account_currency: currency.to_owned(),
                account: format!("account-of-{card}"),
                counterparty: None,
            },
            bank: None,
            consent: None,
            holder: HolderVerification::CardAndPin,
            language: "en".to_owned(),
            characteristics: vec![Modality::Face],
        }
    }

    /// Whom the terminal serves.
    pub fn customer(&self) -> CustomerReference {
        CustomerReference { reference: Some(self.customer.clone()) }
    }

    /// Asks for a challenge.
    pub async fn begin(&self, channel: Channel) -> Result<Vec<u8>, Status> {
        Ok(self.open(channel).await?.challenge)
    }

    /// Asks for a challenge; the whole answer, which a sensor signs.
    pub async fn open(&self, channel: Channel) -> Result<BeginCaptureResponse, Status> {
        let mut captured = self.characteristics.iter().map(|it| Characteristic::from(*it));
        let first = captured.next().unwrap_or_default();
        let request = BeginCaptureRequest {
            customer: Some(self.customer()),
            transaction: Some(self.transaction.clone()),
            modality: first.modality,
            finger_position: first.finger_position,
            further: captured.collect(),
            bank: self.bank.clone(),
            consent: self.consent.clone(),
            holder_verification: self.holder.into(),
            language: self.language.clone(),
        };
        Ok(VerificationServiceClient::new(channel).begin_capture(request).await?.into_inner())
    }

    /// Sends the capture.
    pub async fn verify(
        &self,
        channel: Channel,
        challenge: Vec<u8>,
        attempt: u32,
        image: Vec<u8>,
    ) -> Result<Decision, Status> {
        let request = self.capture(challenge, attempt, image);
        Ok(VerificationServiceClient::new(channel).verify(request).await?.into_inner())
    }

    /// Sends one capture of each characteristic.
    pub async fn verify_all(
        &self,
        channel: Channel,
        challenge: Vec<u8>,
        attempt: u32,
        captures: Vec<Capture>,
    ) -> Result<Decision, Status> {
        let mut request = self.capture(challenge, attempt, Bytes::new());
        let mut captures = captures.into_iter();
        request.capture = captures.next();
        request.further = captures.collect();
        Ok(VerificationServiceClient::new(channel).verify(request).await?.into_inner())
    }

    /// The capture as it is sent.
    pub fn capture(
        &self,
        challenge: Vec<u8>,
        attempt: u32,
        image: impl Into<Bytes>,
    ) -> VerifyRequest {
        VerifyRequest {
            challenge,
            host_transaction_id: self.transaction.host_transaction_id.clone(),
            business_date: self.transaction.business_date.clone(),
            attempt,
            capture: Some(Capture { image: image.into(), ..Capture::default() }),
            language: self.language.clone(),
            footage: None,
            further: Vec::new(),
            envelopes: Vec::new(),
        }
    }
}

fn print(decision: &Decision, json: bool) {
    let outcome = decision.outcome().as_str_name().trim_start_matches("OUTCOME_");
    let index = decision.position.as_ref().map(|position| position.index);
    if json {
        let salts = decision.salts.as_ref();
        let reasons: Vec<_> = decision
            .reasons
            .iter()
            .map(|reason| json!({ "code": reason.code, "text": reason.text }))
            .collect();
        let seen = json!({
            "outcome": outcome,
            "reasons": reasons,
            "attempts_left": decision.attempts_left,
            "next_screen": decision.next_screen().as_str_name(),
            "index": index,
            "receipt_jws": String::from_utf8_lossy(&decision.receipt_jws),
            "transaction_salt": salts.map(|salts| URL_SAFE_NO_PAD.encode(&salts.transaction)),
        });
        println!("{seen}");
        return;
    }
    println!("{outcome}  (attempts left: {})", decision.attempts_left);
    for reason in &decision.reasons {
        println!("  {}  {}", reason.code, reason.text);
    }
    if let Some(index) = index {
        println!("  receipt at index {index}");
    }
}
