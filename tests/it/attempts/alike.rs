//! What a terminal learns: unknown, not matching, delayed, locked, locked by the holder and suspected of an attack
//! look alike, and cost the same work.

use std::fs;
use std::path::Path;

use prost::Message as _;
use tulga::clock::Clock as _;
use tulga::crypto::{Ed25519Key, Signer as _, sha256};
use tulga::gateway::request::Actor;
use tulga::gateway::{HolderWish, Signed, app_key_message, biometric_lock_message};
use tulga::store::{ConsentRow, Store as _};

use super::*;
use crate::faults::enroller;

/// A model of ONNX, as far as the test's model needs it.
mod onnx {
    #[derive(prost::Message)]
    pub struct Model {
        #[prost(int64, tag = "1")]
        pub ir_version: i64,
        #[prost(message, repeated, tag = "8")]
        pub operators: Vec<Operators>,
        #[prost(message, optional, tag = "7")]
        pub graph: Option<Graph>,
    }

    #[derive(prost::Message)]
    pub struct Operators {
        #[prost(int64, tag = "2")]
        pub version: i64,
    }

    #[derive(prost::Message)]
    pub struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub nodes: Vec<Node>,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(message, repeated, tag = "11")]
        pub inputs: Vec<Named>,
        #[prost(message, repeated, tag = "12")]
        pub outputs: Vec<Named>,
    }

    #[derive(prost::Message)]
    pub struct Node {
        #[prost(string, repeated, tag = "1")]
        pub inputs: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub outputs: Vec<String>,
        #[prost(string, tag = "4")]
        pub operator: String,
    }

    #[derive(prost::Message)]
    pub struct Named {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub of: Option<Type>,
    }

    #[derive(prost::Message)]
    pub struct Type {
        #[prost(message, optional, tag = "1")]
        pub tensor: Option<Tensor>,
    }

    #[derive(prost::Message)]
    pub struct Tensor {
        #[prost(int32, tag = "1")]
        pub element: i32,
        #[prost(message, optional, tag = "2")]
        pub shape: Option<Shape>,
    }

    #[derive(prost::Message)]
    pub struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub sides: Vec<Side>,
    }

    #[derive(prost::Message)]
    pub struct Side {
        #[prost(int64, tag = "1")]
        pub length: i64,
    }
}

/// A model of the mean blue, green and red of a face, and what becomes of them last.
fn mean_colour(last: &str) -> Vec<u8> {
    use onnx::{Graph, Model, Named, Node, Operators, Shape, Side, Tensor, Type};
    let named = |name: &str, sides: &[i64]| Named {
        name: name.into(),
        of: Some(Type {
            tensor: Some(Tensor {
                element: 1,
                shape: Some(Shape { sides: sides.iter().map(|&length| Side { length }).collect() }),
            }),
        }),
    };
    let node = |operator: &str, from: &str, to: &str| Node {
        inputs: vec![from.into()],
        outputs: vec![to.into()],
        operator: operator.into(),
    };
    let graph = Graph {
        nodes: vec![
            node("GlobalAveragePool", "picture", "mean"),
            node("Flatten", "mean", "flat"),
            node(last, "flat", "classes"),
        ],
        name: "mean colour".into(),
        inputs: vec![named("picture", &[1, 3, 80, 80])],
        outputs: vec![named("classes", &[1, 3])],
    };
    Model { ir_version: 8, operators: vec![Operators { version: 13 }], graph: Some(graph) }
        .encode_to_vec()
}

/// The committed models, and one for liveness by which skin, which is more red than blue, is alive or is not: of
/// the three classes, the mean colours, which is the greatest is sure.
pub fn with_liveness(skin_is_alive: bool) -> FacePipeline {
    with_liveness_by(&mean_colour("Softmax"), if skin_is_alive { 2 } else { 0 })
}

/// With a model for liveness whose classes are no probabilities.
pub fn with_broken_liveness() -> FacePipeline {
    with_liveness_by(&mean_colour("Relu"), 2)
}

fn with_liveness_by(model: &[u8], live_class: usize) -> FacePipeline {
    let dir = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut manifest = fs::read_to_string(models.join("manifest.toml")).unwrap();
    for name in ["sface.onnx", "dlib.onnx", "yunet.onnx"] {
        let absolute = format!("path = \"{}\"", models.join(name).display());
        manifest = manifest.replace(&format!("path = \"{name}\""), &absolute);
    }
    fs::write(dir.path().join("colour.onnx"), model).unwrap();
    let slot = format!(
        "\n[[liveness]]\nside_px = 80\ncrop_scale = 1.0\nlive_class = {live_class}\n\n\
         [liveness.file]\npath = \"colour.onnx\"\nsha256 = \"{}\"\norigin = \"test\"\n\
         licence = \"Apache-2.0\"\ncolour = \"bgr\"\nrange = [0.0, 255.0]\n",
        sha256(model).hex()
    );
    manifest.push_str(&slot);
    fs::write(dir.path().join("manifest.toml"), manifest).unwrap();
    FacePipeline::load(dir.path()).unwrap()
}

/// What a terminal sees of a try, and what it cost.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    outcome: Outcome,
    reasons: Vec<&'static str>,
    next_screen: &'static str,
    attempts_left: u32,
    /// Names and values of the receipt, without what is drawn by chance or counts on.
    receipt: Value,
    model_passes: u64,
    vault_opens: u64,
}

/// Takes what differs from receipt to receipt out of it: its length stays.
fn blank(body: &mut Value, path: &[&str]) {
    let [name, rest @ ..] = path else {
        let length = body.as_str().map(str::len);
        *body = serde_json::json!(length);
        return;
    };
    blank(&mut body[*name], rest);
}

impl Bank {
    async fn sees(&self, shown: &Shown) -> (Seen, Vec<String>) {
        let cost = || (self.rig.faces.passes(), self.rig.vault.opens());
        let before = cost();
        let answer = self.shows(shown).await.unwrap();
        let after = cost();
        let mut receipt = payload(answer.receipt.jws().as_bytes());
        for path in [
            &["rid"][..],
            &["time"],
            &["valid_until"],
            &["subject"],
            &["audit"],
            &["terminal", "challenge"],
            &["txn", "commit"],
        ] {
            blank(&mut receipt, path);
        }
        let log = receipt.as_object_mut().unwrap().remove("log");
        let names: Vec<_> = log.unwrap().as_object().unwrap().keys().cloned().collect();
        receipt["log"] = serde_json::json!(names);
        let seen = Seen {
            outcome: answer.outcome,
            reasons: answer.reasons.iter().map(|reason| reason.code()).collect(),
            next_screen: answer.next_screen.code(),
            attempts_left: answer.attempts_left,
            receipt,
            model_passes: after.0 - before.0,
            vault_opens: after.1 - before.1,
        };
        (seen, self.reasons(&answer).await)
    }

    async fn locked_by_holder(&self) {
        let gateway = self.rig.gateway();
        let key = Ed25519Key::from_seed([7; 32]).unwrap();
        let spki = key.public_key().to_spki_der();
        let proof = key.sign(&app_key_message(&self.customer, &spki)).unwrap();
        let id = gateway.bind_app_key(&enroller(), &self.customer, spki, &proof).await.unwrap();
        let wish = HolderWish { locked: true, asked_at: self.rig.clock.now().rfc3339() };
        let signature = key.sign(&biometric_lock_message(&self.customer, &wish)).unwrap();
        let back_end = Actor { role: "app-backend", ..enroller() };
        let signed = Some(Signed { key: id, signature });
        gateway.set_biometric_lock(&back_end, &card(CARD), &wish, signed).await.unwrap();
    }
}

/// Where captures are known again no two may have the same bytes; what stands behind a picture's end is not looked
/// at.
fn with_tail(face: &'static str, tail: u8) -> Shown {
    let shown = Shown::face(face);
    let image = [shown.image.as_ref(), &[tail]].concat().into();
    Shown { image, ..shown }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_cannot_tell_whose_consent_has_ended_or_who_was_there_before() {
    let limits = "delay_after_failures = 50\nlock_after_failures = 60";
    let knowing = Rig::knowing(pack(limits, ""), with_liveness(true), 86_400_000);
    let rig = Box::pin(knowing).await;
    let customer = rig.enrol().await;
    let bank = Bank { rig, customer, transactions: 0.into() };
    let unknown = |tail| with_tail(WRONG, tail).of(card("card-of-nobody"));
    let (first, inside) = bank.sees(&unknown(1)).await;
    assert_eq!(inside, ["SUB_UNKNOWN", "MAT_NO_MATCH"]);
    // Session, keys, five captures, kept answer, eight prints.
    assert_eq!((first.model_passes, first.vault_opens), (5, 16));
    let mut seen = vec![("unknown, again", bank.sees(&unknown(2)).await, "SUB_UNKNOWN")];
    // Ten times, so that there are more earlier faces than are compared.
    for tail in 3..13 {
        seen.push(("another's face", bank.sees(&with_tail(WRONG, tail)).await, "MAT_NO_MATCH"));
    }
    let now = bank.rig.clock.now();
    let lapsed = ConsentRow { customer, until: now, end: None };
    let mut unit = bank.rig.store.begin().await.unwrap();
    unit.put_consent(&lapsed).await.unwrap();
    unit.commit().await.unwrap();
    seen.push(("term over", bank.sees(&with_tail(RIGHT, 20)).await, "SUB_UNKNOWN"));
    let held = ConsentRow { until: now.plus_millis(1_000_000), ..lapsed };
    let mut unit = bank.rig.store.begin().await.unwrap();
    unit.put_consent(&held).await.unwrap();
    unit.commit().await.unwrap();
    bank.rig.gateway().withdraw_consent(&enroller(), &customer, "archive/7").await.unwrap();
    seen.push(("withdrawn", bank.sees(&with_tail(RIGHT, 21)).await, "SUB_UNKNOWN"));
    for (name, (what, inside), expected) in seen {
        assert_eq!(inside[0], expected, "{name}");
        assert_eq!(what, first, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_cannot_tell_who_is_enrolled_delayed_or_locked() {
    let limits = "delay_after_failures = 2\nlock_after_failures = 3";
    let bank = Bank::looking(pack(limits, ""), with_liveness(true)).await;
    let (wrong, right) = (Shown::face(WRONG), Shown::face(RIGHT));
    let mut seen = Vec::new();
    let mut note = |name: &str, (what, inside): (Seen, Vec<String>), expected: &[&str]| {
        assert_eq!(inside, expected, "{name}");
        seen.push((name.to_owned(), what));
    };
    let nobody = bank.sees(&wrong.clone().of(card("card-of-nobody"))).await;
    note("unknown", nobody, &["SUB_UNKNOWN", "MAT_NO_MATCH"]);
    for _ in 0..2 {
        note("not matching", bank.sees(&wrong).await, &["MAT_NO_MATCH"]);
    }
    note("delayed", bank.sees(&right).await, &["SUB_DELAYED", "MAT_NO_MATCH"]);
    bank.wait_s(30);
    let (locking, inside) = bank.sees(&wrong).await;
    assert_eq!(inside, ["MAT_NO_MATCH"]);
    note("locked", bank.sees(&right).await, &["SUB_LOCKED", "MAT_NO_MATCH"]);
    // Nobody is delayed and locked in the same way, and the failure that locks is alike too.
    let unknown = wrong.clone().of(card("card-of-nobody"));
    let first_of_two = bank.sees(&unknown).await;
    note("unknown, again", first_of_two, &["SUB_UNKNOWN", "MAT_NO_MATCH"]);
    let delayed = bank.sees(&unknown).await;
    note("unknown, delayed", delayed, &["SUB_UNKNOWN", "SUB_DELAYED", "MAT_NO_MATCH"]);
    bank.wait_s(30);
    let (locking_nobody, _) = bank.sees(&unknown).await;
    assert_eq!(locking_nobody, locking);
    let locked = bank.sees(&unknown).await;
    note("unknown, locked", locked, &["SUB_UNKNOWN", "SUB_LOCKED", "MAT_NO_MATCH"]);
    assert_eq!(bank.count_of("biometric_locked").await, 2);
    let bank = Bank::looking(pack(limits, ""), with_liveness(true)).await;
    bank.locked_by_holder().await;
    note("by the holder", bank.sees(&right).await, &["SUB_LOCKED_BY_HOLDER", "MAT_NO_MATCH"]);
    let bank = Bank::looking(pack(limits, ""), with_liveness(true)).await;
    bank.rig.gateway().suspend(&enroller(), &bank.customer).await.unwrap();
    note("suspended", bank.sees(&right).await, &["SUB_SUSPENDED"]);
    let bank = Bank::looking(pack(limits, ""), with_liveness(false)).await;
    note("an attack", bank.sees(&right).await, &["PAD_SUSPECTED"]);

    let (_, first) = &seen[0];
    assert_eq!(
        (first.outcome, first.reasons.as_slice()),
        (Outcome::Denied, &["MAT_NOT_CONFIRMED"][..])
    );
    // Two looks of the detector, two embeddings, one look for liveness.
    assert_eq!(first.model_passes, 5);
    // Session, keys, five captures, kept answer.
    assert_eq!(first.vault_opens, 8);
    for (name, what) in &seen {
        assert_eq!(what, first, "{name}");
    }
}
