//! Verifications of one person, for benches.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::transport::Channel;
use tulga::crypto::Digest;
use tulga::domain::id::{Attempt, HostTransactionId, TerminalId};
use tulga::domain::modality::Modality;
use tulga::domain::money::{AmountMinor, Currency};
use tulga::domain::supplied::Supplied;
use tulga::domain::time::BusinessDate;
use tulga::domain::transaction::{
    CustomerReference, HolderVerification, OpaqueToken, Operation, TokenKind, Transaction,
};
use tulga::gateway::request::{BeginCapture, Capture, Declared, Verify};
use tulga::gateway::{CallingTerminal, Gateway};
use tulga::proto;
use tulga::proto::verification_service_client::VerificationServiceClient;

use super::site::{begin, verify};

/// Whose card it is.
pub const CARD: &str = "card-token-1";

/// The project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A photograph of `demo/`.
pub fn photograph(name: &str) -> Bytes {
    std::fs::read(root().join("demo").join(name)).unwrap().into()
}

/// The time of `rounds` verifications, spread over the clients.
pub async fn verify_many(
    channels: &[Channel],
    rounds: u64,
    picture: &Bytes,
    next: &Arc<AtomicU64>,
) -> Duration {
    let begun = Instant::now();
    let left = Arc::new(AtomicU64::new(rounds));
    let mut clients = Vec::new();
    for channel in channels {
        let mut terminal = VerificationServiceClient::new(channel.clone());
        let (left, next, picture) = (Arc::clone(&left), Arc::clone(next), picture.clone());
        clients.push(tokio::spawn(async move {
            while left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
            {
                let id = format!("B{}", next.fetch_add(1, Ordering::SeqCst));
                let opened = terminal.begin_capture(begin(&id, CARD)).await.unwrap().into_inner();
                let asked = verify(&id, 1, &opened.challenge, picture.clone());
                let answer = terminal.verify(asked).await.unwrap().into_inner();
                assert_eq!(answer.outcome(), proto::Outcome::Approved);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    begun.elapsed()
}

/// The same without a connection: what TLS, HTTP/2 and protobuf add is the difference.
pub async fn verify_in_process(gateway: &Arc<Gateway>, id: &str, picture: &Bytes) {
    let terminal = CallingTerminal {
        id: TerminalId::try_from("ATM-IN-PROCESS").unwrap(),
        spki: Digest::new([7; 32]),
    };
    let host_id = HostTransactionId::try_from(id).unwrap();
    let business_date = BusinessDate::try_from("2026-11-21").unwrap();
    let card = OpaqueToken::try_from(CARD).unwrap();
    let question = BeginCapture {
        customer: CustomerReference::Token(TokenKind::Card, card),
        transaction: Transaction {
            host_id: host_id.clone(),
            business_date: business_date.clone(),
            operation: Operation::CashWithdrawal,
            amount: AmountMinor::try_from(5_000_000).unwrap(),
            currency: Currency::try_from("KZT").unwrap(),
            account_currency: Currency::try_from("KZT").unwrap(),
            account: OpaqueToken::try_from("account-token-1").unwrap(),
            counterparty: None,
        },
        modalities: vec![Modality::Face],
        holder_verification: HolderVerification::CardAndPin,
        supplied: Supplied::default(),
        guest_consent: None,
    };
    let challenge =
        gateway.begin_capture(&terminal, question, |_| Vec::new()).await.unwrap().challenge;
    let attempt = Attempt::try_from(1).unwrap();
    let image = picture.clone();
    let asked = Verify {
        challenge,
        host_id,
        business_date,
        attempt,
        captures: vec![Capture { image, declared: Declared::default() }.into()],
        footage: None,
        envelopes: Vec::new(),
    };
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    let answer = gateway.verify(&terminal, asked, deadline).await.unwrap();
    assert_eq!(answer.outcome, tulga::domain::decision::Outcome::Approved);
}
