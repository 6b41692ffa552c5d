//! Who ends a lock: two administrators, or the holder where it was their own wish.

use tulga::clock::Clock as _;
use tulga::crypto::{Ed25519Key, Signer as _};
use tulga::domain::id::PrincipalName;
use tulga::domain::time::UnixMillis;
use tulga::gateway::request::{Actor, Logged};
use tulga::gateway::{BiometricLocks, HolderWish, Signed, app_key_message, biometric_lock_message};

use super::*;

fn administrator(name: &str, key: u8) -> Actor {
    let name = PrincipalName::try_from(name).unwrap();
    Actor { role: "admin", name, spki: Digest::new([key; 32]) }
}

fn is_state<T: std::fmt::Debug>(result: Result<T, GatewayError>) -> bool {
    matches!(result, Err(GatewayError::State(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_administrator_unlocks_nobody_and_two_do() {
    let bank = Bank::open("delay_after_failures = 2\nlock_after_failures = 2").await;
    let gateway = bank.rig.gateway();
    let (one, two) = (administrator("one", 21), administrator("two", 22));
    bank.rig.pin(&[&one, &two]).await;
    let customer = &bank.customer;
    bank.fails(1).await;
    assert!(is_state(gateway.propose_unlock(&one, customer).await), "nothing is locked");
    bank.fails(1).await;
    assert!(is_state(gateway.approve_unlock(&two, customer).await), "nothing is proposed");
    let until = gateway.propose_unlock(&one, customer).await.unwrap().row.expires_at;
    // The first person again; their name with another key, and their key under another name.
    for same in [one.clone(), administrator("one", 23), administrator("other", 21)] {
        assert!(is_state(gateway.approve_unlock(&same, customer).await), "{same:?}");
    }
    let told = gateway.customer(customer).await.unwrap().locks;
    assert_eq!(told.proposal, Some((one.name.clone(), until)));
    assert!(told.by_failures.is_some() && told.by_holder.is_none());
    assert_eq!(bank.right_face().await.0, Outcome::Denied);
    // A word that is three days old counts no more.
    bank.wait_s(3 * 86_400);
    assert!(is_state(gateway.approve_unlock(&two, customer).await));
    assert_eq!(gateway.customer(customer).await.unwrap().locks.proposal, None);
    let proposed = gateway.propose_unlock(&two, customer).await.unwrap().row.id;
    let again = gateway.propose_unlock(&one, customer).await;
    assert!(matches!(again, Err(GatewayError::Exists("proposal"))), "{again:?}");
    // An administrator's word; the unlocking is a proposal like any other.
    let enroller = Actor { role: "enroller", ..one.clone() };
    assert!(is_state(gateway.approve_proposal(&enroller, &proposed).await));
    gateway.approve_proposal(&one, &proposed).await.unwrap();
    assert!(is_state(gateway.approve_unlock(&one, customer).await), "it is unlocked");
    // The row begins anew: one failure does not lock again.
    bank.fails(1).await;
    assert!(bank.is_approved().await);
    assert_eq!(gateway.customer(customer).await.unwrap().locks, BiometricLocks::default());

    let acts: Vec<_> =
        bank.acts().await.into_iter().filter(|(act, _)| act.contains("lock")).collect();
    let names: Vec<_> = acts.iter().map(|(act, _)| act.as_str()).collect();
    let expected = ["biometric_locked", "unlock_proposed", "unlock_proposed", "biometric_unlocked"];
    assert_eq!(names, expected);
    let subjects: BTreeSet<_> = acts.iter().map(|(_, subject)| subject).collect();
    assert_eq!(subjects.len(), 1, "all are about the customer, by their pseudonym");
    bank.rig.audited().await;
}

/// The other administrator may stop it, and whoever proposed it may propose it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlocking_that_was_withdrawn_unlocks_nobody() {
    let bank = Bank::open("delay_after_failures = 2\nlock_after_failures = 2").await;
    let gateway = bank.rig.gateway();
    let (one, two) = (administrator("one", 21), administrator("two", 22));
    bank.rig.pin(&[&one, &two]).await;
    let customer = &bank.customer;
    bank.fails(2).await;
    let first = gateway.propose_unlock(&one, customer).await.unwrap().row.id;
    gateway.withdraw_proposal(&two, &first).await.unwrap();
    assert!(is_state(gateway.approve_unlock(&two, customer).await));
    assert_eq!(gateway.customer(customer).await.unwrap().locks.proposal, None);
    assert_eq!(bank.right_face().await.0, Outcome::Denied);
    gateway.propose_unlock(&one, customer).await.unwrap();
    gateway.approve_unlock(&two, customer).await.unwrap();
    assert!(bank.is_approved().await);
    bank.rig.audited().await;
}

/// A lock and what was counted survive a restart, and go with the customer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_outlives_a_restart_and_not_its_customer() {
    let mut bank = Bank::open("delay_after_failures = 9\nlock_after_failures = 2").await;
    bank.fails(1).await;
    bank.rig.running = Some(bank.rig.open().await.unwrap());
    bank.fails(1).await;
    bank.rig.running = Some(bank.rig.open().await.unwrap());
    assert_eq!(bank.right_face().await, denied(&["SUB_LOCKED", "MAT_NO_MATCH"]));
    bank.rig.gateway().erase(&crate::faults::enroller(), &bank.customer).await.unwrap();
    bank.customer = bank.rig.enrol().await;
    assert!(bank.is_approved().await);
}

/// The holder's phone.
struct Phone {
    key: Ed25519Key,
    id: Digest,
}

impl Phone {
    async fn bound(bank: &Bank) -> Self {
        let key = Ed25519Key::from_seed([7; 32]).unwrap();
        let spki = key.public_key().to_spki_der();
        let proof = key.sign(&app_key_message(&bank.customer, &spki)).unwrap();
        let enroller = crate::faults::enroller();
        let gateway = bank.rig.gateway();
        let id = gateway.bind_app_key(&enroller, &bank.customer, spki, &proof).await.unwrap();
        Self { key, id }
    }

    fn signs(&self, bank: &Bank, wish: &HolderWish) -> Signed {
        let message = biometric_lock_message(&bank.customer, wish);
        Signed { key: self.id, signature: self.key.sign(&message).unwrap() }
    }
}

/// A wish of so many seconds from now.
fn wish(bank: &Bank, locked: bool, from_now_s: i64) -> HolderWish {
    let at: UnixMillis = bank.rig.clock.now().plus_millis(from_now_s * 1_000);
    HolderWish { locked, asked_at: at.rfc3339() }
}

async fn set(
    bank: &Bank,
    wish: &HolderWish,
    signed: Option<Signed>,
) -> Result<Logged, GatewayError> {
    let back_end = Actor { role: "app-backend", ..administrator("back-end", 31) };
    bank.rig.gateway().set_biometric_lock(&back_end, &card(CARD), wish, signed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_locks_and_unlocks_their_own_biometric() {
    let bank = Bank::open("delay_after_failures = 1\nlock_after_failures = 1").await;
    let phone = Phone::bound(&bank).await;
    let lock = wish(&bank, true, 0);
    let challenge = bank.rig.begin("BEFORE").await.unwrap();
    let locked = set(&bank, &lock, Some(phone.signs(&bank, &lock))).await.unwrap();
    // Also what was begun before; and nothing that is tried counts, since nothing is compared.
    let begun = bank.rig.verify("BEFORE", challenge, demo(RIGHT)).await.unwrap();
    assert_eq!(begun.outcome, Outcome::Denied);
    for image in [WRONG, RIGHT] {
        let answer = bank.shows(&Shown::face(image)).await.unwrap();
        assert_eq!(bank.reasons(&answer).await, ["SUB_LOCKED_BY_HOLDER", "MAT_NO_MATCH"]);
    }
    assert!(bank.rig.gateway().customer(&bank.customer).await.unwrap().locks.by_holder.is_some());
    // The same wish again; an older one, which may have been overheard; the later one.
    let again = set(&bank, &lock, Some(phone.signs(&bank, &lock))).await.unwrap();
    assert_eq!(again.index(), locked.index());
    let older = wish(&bank, false, -1);
    assert!(is_state(set(&bank, &older, Some(phone.signs(&bank, &older))).await));
    let lift = wish(&bank, false, 1);
    set(&bank, &lift, Some(phone.signs(&bank, &lift))).await.unwrap();
    assert!(is_state(set(&bank, &lock, Some(phone.signs(&bank, &lock))).await));
    assert!(bank.is_approved().await);
    // It lifts no lock that failures brought about.
    bank.fails(1).await;
    let lift = wish(&bank, false, 2);
    set(&bank, &lift, Some(phone.signs(&bank, &lift))).await.unwrap();
    assert_eq!(bank.right_face().await, denied(&["SUB_LOCKED", "MAT_NO_MATCH"]));
    assert_eq!(bank.count_of("biometric_lock_set").await, 1);
    assert_eq!(bank.count_of("biometric_lock_lifted").await, 2);
    bank.rig.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holders_wish_needs_their_key_unless_the_rules_take_the_back_ends_word() {
    let bank = Bank::open("").await;
    let phone = Phone::bound(&bank).await;
    let field = |result: Result<Logged, GatewayError>| match result {
        Err(GatewayError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let lock = wish(&bank, true, 0);
    assert_eq!(field(set(&bank, &lock, None).await), "signature");
    let other = wish(&bank, false, 0);
    assert_eq!(field(set(&bank, &lock, Some(phone.signs(&bank, &other))).await), "signature");
    let stranger = Signed { key: Digest::new([9; 32]), ..phone.signs(&bank, &lock) };
    assert_eq!(field(set(&bank, &lock, Some(stranger)).await), "key_id");
    for asked_at in [-301, 301] {
        let far = wish(&bank, true, asked_at);
        assert_eq!(field(set(&bank, &far, Some(phone.signs(&bank, &far))).await), "asked_at");
    }
    let unread = HolderWish { locked: true, asked_at: "now".into() };
    assert_eq!(field(set(&bank, &unread, Some(phone.signs(&bank, &unread))).await), "asked_at");
    let back_end = administrator("back-end", 31);
    let gateway = bank.rig.gateway();
    let nobodys = gateway.set_biometric_lock(&back_end, &card("nobodys"), &lock, None).await;
    assert!(matches!(nobodys, Err(GatewayError::NotFound(_))), "{nobodys:?}");
    assert!(bank.is_approved().await, "nothing of this locked");

    let trusting = pack("", "accept_back_end_word = true");
    let bank = Bank::looking(trusting, PIPELINE.clone()).await;
    set(&bank, &wish(&bank, true, 0), None).await.unwrap();
    assert_eq!(bank.right_face().await, denied(&["SUB_LOCKED_BY_HOLDER", "MAT_NO_MATCH"]));
}
