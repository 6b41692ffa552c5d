//! Packs of rules on a clock that is moved by hand, on a store that somebody else has written to.

use tulga::crypto::{Digest, Ed25519Key, PublicKey, SeededEntropy, Signer as _};
use tulga::domain::decision::Outcome;
use tulga::domain::id::{PrincipalName, TenantId};
use tulga::domain::time::UnixMillis;
use tulga::gateway::GatewayError;
use tulga::gateway::request::Actor;
use tulga::policy::{PackConsent, PackFiles};
use tulga::store::{ActivationRow, PackRow, PackShelf as _, PackSignature, Store as _};

use crate::faults::Rig;
use crate::packs::{pack_of, stricter};
use crate::receipts::TIME;
use crate::site::demo;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

struct Person {
    actor: Actor,
    key: Ed25519Key,
}

fn person(role: &'static str, name: &str, seed: u8) -> Person {
    let key = Ed25519Key::generate(&SeededEntropy::new(u64::from(seed))).unwrap();
    let name = PrincipalName::try_from(name).unwrap();
    Person { actor: Actor { role, name, spki: key.public_key().fingerprint() }, key }
}

fn author() -> Person {
    person("policy-author", "aigerim", 1)
}

fn approver() -> Person {
    person("policy-approver", "bolat", 2)
}

impl Person {
    fn signs(&self, consent: PackConsent, files: &PackFiles) -> (PublicKey, Vec<u8>) {
        let tenant = TenantId::try_from("bank-a").unwrap();
        let message = consent.message_about(&tenant, &files.load().unwrap());
        (self.key.public_key(), self.key.sign(&message).unwrap())
    }

    async fn proposes(&self, rig: &Rig, files: &PackFiles) -> Result<PackRow, GatewayError> {
        let (key, signature) = self.signs(PackConsent::Propose, files);
        let sent = files.iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        rig.gateway().propose_pack(&self.actor, sent.collect(), key, signature).await
    }

    async fn approves(&self, rig: &Rig, files: &PackFiles) -> Result<PackRow, GatewayError> {
        let (key, signature) = self.signs(PackConsent::Approve, files);
        rig.gateway().approve_pack(&self.actor, files.hash(), key, signature).await
    }
}

async fn signed(rig: &Rig, files: &PackFiles) -> Digest {
    rig.pin(&[&author().actor, &approver().actor]).await;
    author().proposes(rig, files).await.unwrap();
    approver().approves(rig, files).await.unwrap();
    files.hash()
}

async fn activate(
    rig: &Rig,
    hash: Digest,
    at: Option<UnixMillis>,
) -> Result<ActivationRow, GatewayError> {
    rig.gateway().activate_pack(&approver().actor, hash, at).await
}

async fn outcome(rig: &Rig, id: &str) -> Outcome {
    let challenge = rig.begin(id).await.unwrap();
    rig.verify(id, challenge, demo("obama2.jpg")).await.unwrap().outcome
}

async fn restart(rig: &mut Rig) -> Result<(), GatewayError> {
    let (gateway, tasks) = rig.running.take().unwrap();
    drop(gateway);
    tasks.finish().await;
    rig.running = Some(rig.open().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_takes_effect_at_its_time_without_a_restart_and_after_one() {
    let mut rig = Rig::with_customer().await;
    let two = signed(&rig, &stricter(2)).await;
    let one = signed(&rig, &pack_of(&[])).await;
    let at = TIME.plus_millis(HOUR_MS);
    let row = activate(&rig, two, Some(at)).await.unwrap();
    assert_eq!((row.effective_at, row.version, row.from_folder), (at, 2, false));
    rig.clock.advance_millis(HOUR_MS - 1);
    assert_eq!(outcome(&rig, "T1").await, Outcome::Approved);
    // Begun under the one pack, decided under the other.
    let challenge = rig.begin("T2").await.unwrap();
    rig.clock.advance_millis(1);
    let answer = rig.verify("T2", challenge, demo("obama2.jpg")).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Denied);
    assert_eq!(rig.gateway().active_pack().await.unwrap().active, row);

    restart(&mut rig).await.unwrap();
    assert_eq!(outcome(&rig, "T3").await, Outcome::Denied);
    // A rollback at a time, and one that is replaced before it takes effect.
    let later = rig.gateway().now().plus_millis(HOUR_MS);
    let rollback = activate(&rig, one, Some(later)).await.unwrap();
    restart(&mut rig).await.unwrap();
    assert_eq!(rig.gateway().active_pack().await.unwrap().scheduled, [rollback]);
    rig.clock.advance_millis(HOUR_MS);
    assert_eq!(outcome(&rig, "T4").await, Outcome::Approved);
    let later = rig.gateway().now().plus_millis(HOUR_MS);
    activate(&rig, two, Some(later)).await.unwrap();
    activate(&rig, one, Some(later)).await.unwrap();
    rig.clock.advance_millis(HOUR_MS);
    assert_eq!(outcome(&rig, "T5").await, Outcome::Approved);
    let past = activate(&rig, two, Some(later.plus_millis(-1))).await;
    assert!(matches!(past, Err(GatewayError::Invalid { field: "effective_at", .. })), "{past:?}");
    // The pack in the configuration is the same as at the first start: it is noted once, behind the opening.
    assert_eq!(rig.store.folder_activation().await.unwrap().map(|row| row.index), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_waits_for_seven_days_and_for_another_person() {
    let rig = Rig::new().await;
    rig.pin(&[&author().actor, &approver().actor]).await;
    let files = stricter(2);
    author().proposes(&rig, &files).await.unwrap();
    // Another name with the author's key, and the author's name with another key.
    for (name, seed) in [("bolat", 1), ("aigerim", 2)] {
        let alone = person("policy-approver", name, seed).approves(&rig, &files).await;
        assert!(matches!(alone, Err(GatewayError::State(_))), "{name}: {alone:?}");
    }
    // A certificate's key that is not the one that signs.
    let mut borrowed = approver();
    borrowed.actor.spki = Digest::new([7; 32]);
    let refused = borrowed.approves(&rig, &files).await;
    assert!(matches!(refused, Err(GatewayError::Invalid { field: "public_key", .. })));
    rig.clock.advance_millis(7 * DAY_MS + 1);
    let late = approver().approves(&rig, &files).await;
    assert!(matches!(late, Err(GatewayError::State(_))), "{late:?}");
    // What has expired may be proposed again, and leaves its version free.
    author().proposes(&rig, &files).await.unwrap();
    rig.clock.advance_millis(7 * DAY_MS);
    approver().approves(&rig, &files).await.unwrap();
    for lower in [stricter(1), stricter(2)] {
        let refused = author().proposes(&rig, &lower).await;
        assert!(matches!(refused, Err(GatewayError::State(_) | GatewayError::Exists(_))));
    }
    author().proposes(&rig, &stricter(3)).await.unwrap();
}

/// A pack that is not yet in force, or no longer, would decide nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_is_activated_for_a_time_at_which_it_is_in_force() {
    let rig = Rig::new().await;
    let until = TIME.plus_millis(DAY_MS).rfc3339();
    let from = "effective_from = \"2026-01-01T00:00:00.000Z\"";
    let line = format!("{from}\neffective_until = \"{until}\"");
    let files = pack_of(&[("version = 1", "version = 2"), (from, &line)]);
    let hash = signed(&rig, &files).await;
    let refused = activate(&rig, hash, Some(TIME.plus_millis(DAY_MS))).await;
    assert!(matches!(refused, Err(GatewayError::State(_))), "{refused:?}");
    activate(&rig, hash, Some(TIME.plus_millis(DAY_MS - 1))).await.unwrap();
}

/// Somebody with the database's password, but without the gateway's keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_signed_entry_tells_of_does_not_decide() {
    let mut rig = Rig::with_customer().await;
    let hash = signed(&rig, &stricter(2)).await;
    let row = activate(&rig, hash, Some(TIME.plus_millis(DAY_MS))).await.unwrap();
    // Entry 2 is there, behind the ledger's opening and the configured pack's, and says something else.
    let forged = ActivationRow { index: 2, effective_at: TIME, ..row };
    let mut unit = rig.store.begin().await.unwrap();
    unit.insert_activation(&forged).await.unwrap();
    unit.commit().await.unwrap();
    let refused = rig.begin("T1").await;
    assert!(matches!(refused, Err(GatewayError::Internal(..))), "{refused:?}");
    assert!(restart(&mut rig).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_pack_with_other_files_is_not_activated() {
    let rig = Rig::new().await;
    let files = stricter(2);
    let one = PackSignature {
        name: author().actor.name,
        key: author().key.public_key(),
        signature: vec![1; 64],
        at: TIME,
        index: 50,
    };
    let row = PackRow {
        hash: files.hash(),
        id: "dev".into(),
        version: 2,
        expires_at: TIME.plus_millis(DAY_MS),
        approved: Some(PackSignature { index: 51, ..one.clone() }),
        proposed: one,
    };
    let mut unit = rig.store.begin().await.unwrap();
    unit.insert_pack(&row, &pack_of(&[]).to_bytes()).await.unwrap();
    unit.commit().await.unwrap();
    let refused = activate(&rig, files.hash(), None).await;
    assert!(matches!(refused, Err(GatewayError::Internal(..))), "{refused:?}");
}
