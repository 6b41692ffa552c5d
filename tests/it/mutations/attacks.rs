//! The mutations: what is done, with which keys, and by which rules it must be found.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

use tulga::receipt::KeyRegister;

use super::world::{Keys, Script, World};
use super::{AT, Evidence, Honest, folder, line_of};

/// A row of the table.
pub struct Attack {
    pub name: &'static str,
    /// The keys that the attacker holds.
    pub keys: &'static str,
    pub evidence: Evidence,
    /// The rules that must find it, all of them; none where an export alone cannot show it.
    pub rules: &'static [&'static str],
    pub make: fn(&Honest) -> TempDir,
}

const NONE: &str = "none";
const ISSUING: &str = "ledger, receipt";
const ALL_BUT_ROOT: &str = "all but the root";
const ALL: &str = "all, the root too";

/// Another ledger by the same keys.
fn forged(script: Script) -> TempDir {
    World::build(Keys::new(10), script).export()
}

/// The honest export, with a file changed.
fn altered(honest: &Honest, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> TempDir {
    let dir = honest.world.export();
    let file = folder(dir.path(), 1).join(name);
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
    dir
}

/// The honest export, with the second ledger's receipts changed.
fn relined(honest: &Honest, change: impl FnOnce(&mut Vec<String>)) -> TempDir {
    altered(honest, "receipts.jws", |bytes| {
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        change(&mut lines);
        *bytes = (lines.join("\n") + "\n").into_bytes();
    })
}

/// The honest export with another letter in one part of a receipt.
fn flipped(honest: &Honest, part: usize) -> TempDir {
    relined(honest, |lines| {
        let line = &mut lines[line_of(AT)];
        let mut parts: Vec<String> = line.split('.').map(ToOwned::to_owned).collect();
        let at = parts[part].len() / 2;
        let letter = if &parts[part][at..=at] == "A" { "B" } else { "A" };
        parts[part].replace_range(at..=at, letter);
        *line = parts.join(".");
    })
}

/// The honest export with another header on one receipt.
fn with_kid(honest: &Honest, kid: &str) -> TempDir {
    relined(honest, |lines| {
        let line = &mut lines[line_of(AT)];
        let rest = line.split_once('.').unwrap().1.to_owned();
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"tulga-receipt+jwt"}}"#);
        *line = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
    })
}

/// Writes a register, signed with a root key.
fn put_register(dir: &Path, register: &KeyRegister, keys: &Keys) {
    let json = register.to_json().unwrap();
    let signature = KeyRegister::sign(json.as_bytes(), &keys.root).unwrap();
    fs::write(dir.join("keys.json"), json).unwrap();
    fs::write(dir.join("keys.json.sig"), signature).unwrap();
}

fn rewritten() -> Script {
    Script { rewritten_from: Some(300), unwitnessed_from: Some(300), ..Script::default() }
}

fn restored() -> Script {
    Script { rewritten_from: Some(1000), unwitnessed_from: Some(1000), ..Script::default() }
}

fn truncated() -> Script {
    Script { cut_at: Some(1100), ..Script::default() }
}

/// Everything is made anew: nothing of it was ever witnessed.
fn anew() -> Script {
    Script { rewritten_from: Some(1), unwitnessed_from: Some(0), ..Script::default() }
}

/// A whole export by other keys, with a witness of their own.
fn regenerated_with(seed: u8) -> TempDir {
    World::build(Keys::new(seed), anew()).export()
}

/// The bank's issuing keys and an invented witness, who cosigns everything; the policy in the export
/// names that one.
fn with_an_invented_witness(_: &Honest) -> TempDir {
    let mut keys = Keys::new(10);
    keys.witness = Keys::new(77).witness;
    let script = Script { rewritten_from: Some(300), ..Script::default() };
    World::build(keys, script).export()
}

/// One kept checkpoint more, of another history.
fn forked(_: &Honest) -> TempDir {
    let other = World::build(Keys::new(10), rewritten());
    let mut world = World::build(Keys::new(10), Script::default());
    let note = other.ledgers[1].checkpoints[60].clone();
    world.ledgers[1].checkpoints.insert(61, note);
    world.export()
}

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "delete a receipt",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["gap"],
        make: |honest| relined(honest, |lines| drop(lines.remove(line_of(AT)))),
    },
    Attack {
        name: "delete a receipt and list it as erased",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["erasure"],
        make: |honest| {
            let dir = relined(honest, |lines| drop(lines.remove(line_of(AT))));
            let file = folder(dir.path(), 1).join("erasures.json");
            let ledger = &honest.world.ledgers[1];
            let mut erased = ledger.erased.clone();
            let leaf = ledger.tree.leaf(AT).unwrap();
            erased.push(tulga::receipt::ErasedBody { index: AT, erasure: 700, leaf });
            fs::write(file, tulga::receipt::erasures_json(&erased).unwrap()).unwrap();
            dir
        },
    },
    Attack {
        name: "exchange two receipts",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["order", "root"],
        make: |honest| relined(honest, |lines| lines.swap(line_of(AT), line_of(AT + 1))),
    },
    Attack {
        name: "flip a byte in a header",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["receipt", "root"],
        make: |honest| flipped(honest, 0),
    },
    Attack {
        name: "flip a byte in a payload",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["root"],
        make: |honest| flipped(honest, 1),
    },
    Attack {
        name: "flip a byte in a signature",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["signature", "root"],
        make: |honest| flipped(honest, 2),
    },
    Attack {
        name: "repeat a receipt",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["order", "rid"],
        make: |honest| {
            relined(honest, |lines| lines.insert(line_of(AT), lines[line_of(AT)].clone()))
        },
    },
    Attack {
        name: "repeat a receipt in place of the next",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["order", "rid", "root"],
        make: |honest| relined(honest, |lines| lines[line_of(AT + 1)] = lines[line_of(AT)].clone()),
    },
    Attack {
        name: "another key's name on a receipt",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["key", "root"],
        make: |honest| with_kid(honest, "gw07-ledger"),
    },
    Attack {
        name: "an unknown key's name on a receipt",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["key", "root"],
        make: |honest| with_kid(honest, "gw07-2031z"),
    },
    Attack {
        name: "cut the receipts off, keep the checkpoint",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["truncated"],
        make: |honest| relined(honest, |lines| lines.truncate(line_of(1200))),
    },
    Attack {
        name: "another size in the checkpoint",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["checkpoint"],
        make: |honest| {
            altered(honest, "checkpoint", |bytes| {
                let text = String::from_utf8(std::mem::take(bytes)).unwrap();
                *bytes = text.replace("\n1300\n", "\n1299\n").into_bytes();
            })
        },
    },
    Attack {
        name: "drop a kept checkpoint that receipts name as witnessed",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["witnessed-head"],
        make: |honest| {
            let mut world = World::build(Keys::new(10), Script::default());
            assert_eq!(
                world.ledgers[1].checkpoints.len(),
                honest.world.ledgers[1].checkpoints.len()
            );
            world.ledgers[1].checkpoints.remove(60);
            world.export()
        },
    },
    Attack {
        name: "change a tile of hashes",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["tile"],
        make: |honest| altered(honest, "tile/0/002", |bytes| bytes[77] ^= 1),
    },
    Attack {
        name: "change a bundle of entries",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["tile"],
        make: |honest| altered(honest, "tile/entries/001", |bytes| bytes[99] ^= 1),
    },
    Attack {
        name: "drop a tile",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["tile"],
        make: |honest| {
            let dir = honest.world.export();
            fs::remove_file(folder(dir.path(), 1).join("tile/0/003")).unwrap();
            dir
        },
    },
    Attack {
        name: "exchange two audit records",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["audit-record"],
        make: |honest| {
            let dir = honest.world.export();
            let record = |index: u64| folder(dir.path(), 1).join(format!("audit/{index}"));
            let (one, other) = (fs::read(record(400)).unwrap(), fs::read(record(500)).unwrap());
            fs::write(record(400), other).unwrap();
            fs::write(record(500), one).unwrap();
            dir
        },
    },
    Attack {
        name: "move the bound between two keys' ranges in the register",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["keys"],
        make: |honest| {
            let dir = honest.world.export();
            let file = dir.path().join("keys.json");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains("\"last_index\": 399"));
            let text = text.replace("\"last_index\": 399", "\"last_index\": 999");
            fs::write(file, text.replace("\"first_index\": 400", "\"first_index\": 1000")).unwrap();
            dir
        },
    },
    Attack {
        name: "drop the closed ledger",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["shard"],
        make: |honest| without_ledger(honest, 0),
    },
    Attack {
        name: "drop the closed ledger and the log of logs",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["shard"],
        make: |honest| {
            let dir = without_ledger(honest, 0);
            fs::remove_file(dir.path().join("log-of-logs")).unwrap();
            dir
        },
    },
    Attack {
        name: "drop the open ledger",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["shard"],
        make: |honest| without_ledger(honest, 1),
    },
    Attack {
        name: "drop the open ledger and the log of logs",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &[],
        make: without_open_and_chain,
    },
    Attack {
        name: "drop the open ledger and the log of logs",
        keys: NONE,
        evidence: Evidence::Earlier,
        rules: &["earlier"],
        make: without_open_and_chain,
    },
    Attack {
        name: "drop the open ledger and the log of logs",
        keys: NONE,
        evidence: Evidence::EarlierChain,
        rules: &["earlier"],
        make: without_open_and_chain,
    },
    Attack {
        name: "drop the open ledger and the log of logs",
        keys: NONE,
        evidence: Evidence::Held,
        rules: &["held"],
        make: without_open_and_chain,
    },
    Attack {
        name: "put one ledger's files in the other's folder",
        keys: NONE,
        evidence: Evidence::Export,
        rules: &["checkpoint"],
        make: |honest| {
            let dir = honest.world.export();
            let [one, other] = [0, 1].map(|half| folder(dir.path(), half));
            let aside = dir.path().join("aside");
            fs::rename(&one, &aside).unwrap();
            fs::rename(&other, &one).unwrap();
            fs::rename(&aside, &other).unwrap();
            dir
        },
    },
    Attack {
        name: "sign with the receipt key that was retired",
        keys: "ledger, retired receipt",
        evidence: Evidence::Export,
        rules: &["key-range"],
        make: |_| forged(Script { old_key_at: Some(AT), ..Script::default() }),
    },
    Attack {
        name: "two histories among the kept checkpoints",
        keys: ISSUING,
        evidence: Evidence::Export,
        rules: &["fork"],
        make: forked,
    },
    Attack {
        name: "forge the witness's cosignatures",
        keys: ISSUING,
        evidence: Evidence::Policy,
        rules: &["cosignature"],
        make: |_| forged(Script { forged_cosignatures: true, ..restored() }),
    },
    Attack {
        name: "cut the tail off",
        keys: ISSUING,
        evidence: Evidence::Export,
        rules: &[],
        make: |_| forged(truncated()),
    },
    Attack {
        name: "cut the tail off",
        keys: ISSUING,
        evidence: Evidence::Earlier,
        rules: &["earlier"],
        make: |_| forged(truncated()),
    },
    Attack {
        name: "cut the tail off",
        keys: ISSUING,
        evidence: Evidence::Held,
        rules: &["held"],
        make: |_| forged(truncated()),
    },
    Attack {
        name: "restore an older database and go on",
        keys: ISSUING,
        evidence: Evidence::Policy,
        rules: &["bound"],
        make: |_| forged(restored()),
    },
    Attack {
        name: "restore an older database and go on",
        keys: ISSUING,
        evidence: Evidence::Earlier,
        rules: &["earlier"],
        make: |_| forged(restored()),
    },
    Attack {
        name: "restore an older database and go on",
        keys: ISSUING,
        evidence: Evidence::Held,
        rules: &["held"],
        make: |_| forged(restored()),
    },
    Attack {
        name: "show another history from an entry on (fork, rewrite)",
        keys: ISSUING,
        evidence: Evidence::Policy,
        rules: &["bound"],
        make: |_| forged(rewritten()),
    },
    Attack {
        name: "show another history from an entry on (fork, rewrite)",
        keys: ISSUING,
        evidence: Evidence::Earlier,
        rules: &["earlier"],
        make: |_| forged(rewritten()),
    },
    Attack {
        name: "show another history from an entry on (fork, rewrite)",
        keys: ISSUING,
        evidence: Evidence::Held,
        rules: &["held"],
        make: |_| forged(rewritten()),
    },
    Attack {
        name: "date a hundred receipts a minute back",
        keys: ISSUING,
        evidence: Evidence::Policy,
        rules: &["back-dated", "time"],
        make: |_| forged(Script { back_dated: Some((900, 1000, 60_000)), ..Script::default() }),
    },
    Attack {
        name: "date the whole ledger back, so that no time decreases",
        keys: ISSUING,
        evidence: Evidence::Policy,
        rules: &["back-dated"],
        make: |_| forged(Script { back_dated: Some((0, 1300, 1_500_000)), ..Script::default() }),
    },
    Attack {
        name: "rewrite, and name an invented witness in the export",
        keys: ISSUING,
        evidence: Evidence::Export,
        rules: &[],
        make: with_an_invented_witness,
    },
    Attack {
        name: "rewrite, and name an invented witness in the export",
        keys: ISSUING,
        evidence: Evidence::Policy,
        rules: &["quorum", "witnessed-head"],
        make: with_an_invented_witness,
    },
    Attack {
        name: "make everything anew, with keys of one's own",
        keys: ALL_BUT_ROOT,
        evidence: Evidence::Export,
        rules: &["keys"],
        make: |_| regenerated_with(90),
    },
    Attack {
        name: "make everything anew, with keys of one's own under the bank's register",
        keys: ALL_BUT_ROOT,
        evidence: Evidence::Export,
        rules: &["signature", "checkpoint", "shard"],
        make: |honest| {
            let dir = regenerated_with(90);
            put_register(dir.path(), &honest.world.keys.register(), &honest.world.keys);
            dir
        },
    },
    Attack {
        name: "make everything anew, with the bank's own keys",
        keys: ALL_BUT_ROOT,
        evidence: Evidence::Policy,
        rules: &["quorum", "bound"],
        make: |_| regenerated_with(10),
    },
    Attack {
        name: "make everything anew, with the bank's own keys",
        keys: ALL_BUT_ROOT,
        evidence: Evidence::Earlier,
        rules: &["earlier"],
        make: |_| regenerated_with(10),
    },
    Attack {
        name: "make everything anew, with the bank's own keys",
        keys: ALL_BUT_ROOT,
        evidence: Evidence::Held,
        rules: &["held"],
        make: |_| regenerated_with(10),
    },
    Attack {
        name: "make everything anew, and a register of new keys",
        keys: ALL,
        evidence: Evidence::Export,
        rules: &[],
        make: with_the_root,
    },
    Attack {
        name: "make everything anew, and a register of new keys",
        keys: ALL,
        evidence: Evidence::Policy,
        rules: &["quorum"],
        make: with_the_root,
    },
    Attack {
        name: "make everything anew, and a register of new keys",
        keys: ALL,
        evidence: Evidence::Earlier,
        rules: &["earlier"],
        make: with_the_root,
    },
    Attack {
        name: "make everything anew, and a register of new keys",
        keys: ALL,
        evidence: Evidence::Held,
        rules: &["held"],
        make: with_the_root,
    },
];

fn without_ledger(honest: &Honest, half: usize) -> TempDir {
    let dir = honest.world.export();
    fs::remove_dir_all(folder(dir.path(), half)).unwrap();
    dir
}

fn without_open_and_chain(honest: &Honest) -> TempDir {
    let dir = without_ledger(honest, 1);
    fs::remove_file(dir.path().join("log-of-logs")).unwrap();
    dir
}

/// Other keys throughout but the root, and a witness of their own.
fn with_the_root(_: &Honest) -> TempDir {
    let mut keys = Keys::new(90);
    keys.root = Keys::new(10).root;
    World::build(keys, Script { rewritten_from: Some(1), ..Script::default() }).export()
}
