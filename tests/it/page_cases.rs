//! Files that the auditor's page is shown, whole and tampered with, and what it must say of each.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use tulga::crypto::{Ed25519Key, Signer};
use tulga::receipt::{Content, KeyRecord, issue};

use crate::receipts::{TIME, administration, verification};
use crate::samples::{
    Bank, CLOSED, OPEN, Shard, closed, nobody, open, write_export, write_register,
};

/// One thing that the page is shown.
#[derive(Serialize)]
pub struct Case {
    pub name: String,
    /// A folder is chosen whole, else its files one by one.
    pub folder: bool,
    pub dir: PathBuf,
    pub trust: String,
    /// A policy from elsewhere.
    pub policy: Option<PathBuf>,
    /// `good`, `partial` or `bad`.
    pub verdict: &'static str,
    /// The first rule that it must name.
    pub rule: &'static str,
    /// The levels that must be shown as reached.
    pub levels: Vec<&'static str>,
}

/// Every case, written below `root`.
pub fn write_all(root: &Path) -> Vec<Case> {
    let bank = Bank::new();
    let mut cases = Cases { root, bank: &bank, list: Vec::new() };
    cases.good_receipts();
    cases.altered_receipts();
    cases.forged_receipts();
    cases.altered_proofs();
    cases.altered_registers();
    cases.witnesses();
    cases.good_folders();
    cases.altered_receipts_of_folders();
    cases.altered_files_of_folders();
    cases.list
}

struct Cases<'a> {
    root: &'a Path,
    bank: &'a Bank,
    list: Vec<Case>,
}

impl Cases<'_> {
    /// A receipt with its proof and register, changed before it is shown.
    fn receipt(
        &mut self,
        name: &str,
        index: usize,
        (verdict, rule): (&'static str, &'static str),
        change: impl FnOnce(&Path),
    ) -> &mut Case {
        let first = closed(self.bank);
        let shard = open(self.bank, &first.closed());
        self.receipt_of(&shard, name, index, (verdict, rule), change)
    }

    fn receipt_of(
        &mut self,
        shard: &Shard<'_>,
        name: &str,
        index: usize,
        (verdict, rule): (&'static str, &'static str),
        change: impl FnOnce(&Path),
    ) -> &mut Case {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("receipt.jws"), format!("{}\n", shard.lines[index])).unwrap();
        let proof = shard.proof(u64::try_from(index).unwrap(), 2);
        fs::write(dir.join("receipt.tlog-proof"), proof).unwrap();
        write_register(&dir, self.bank.records(), &self.bank.root);
        change(&dir);
        let levels = match verdict {
            "good" => vec!["signed", "logged"],
            "partial" => vec!["signed"],
            _ => vec![],
        };
        self.push(name, false, dir, verdict, rule, levels)
    }

    fn push(
        &mut self,
        name: &str,
        folder: bool,
        dir: PathBuf,
        verdict: &'static str,
        rule: &'static str,
        levels: Vec<&'static str>,
    ) -> &mut Case {
        let trust = self.bank.trust().to_string();
        let name = name.to_owned();
        self.list.push(Case { name, folder, dir, trust, policy: None, verdict, rule, levels });
        self.list.last_mut().unwrap()
    }

    fn good_receipts(&mut self) {
        self.receipt("good", 2, ("good", ""), |_| ());
        self.receipt("good-es256", 4, ("good", ""), |_| ());
        self.receipt("good-erasure", 5, ("good", ""), |_| ());
        self.receipt("good-outcome", 3, ("good", ""), |_| ());
        self.receipt("without-proof", 2, ("partial", ""), |dir| {
            fs::remove_file(dir.join("receipt.tlog-proof")).unwrap();
        });
        let mut shard = Shard::new(self.bank, OPEN, TIME);
        shard.append(hostile());
        self.receipt_of(&shard, "hostile", 0, ("good", ""), |_| ());
    }

    /// Each part of the JWS, altered by somebody without a key.
    fn altered_receipts(&mut self) {
        let jws = |dir: &Path, change: &dyn Fn(&mut Vec<String>)| {
            edit(&dir.join("receipt.jws"), |text| {
                let mut parts: Vec<String> =
                    text.trim_end().split('.').map(ToOwned::to_owned).collect();
                change(&mut parts);
                *text = parts.join(".") + "\n";
            });
        };
        let payload = |parts: &mut Vec<String>| {
            let said = String::from_utf8(URL_SAFE_NO_PAD.decode(&parts[1]).unwrap()).unwrap();
            parts[1] = URL_SAFE_NO_PAD.encode(said.replace("5000000", "9000000"));
        };
        let header = |to: &'static str| {
            move |parts: &mut Vec<String>| {
                parts[0] = URL_SAFE_NO_PAD
                    .encode(format!(r#"{{"alg":"EdDSA","kid":"{to}","typ":"tulga-receipt+jwt"}}"#));
            }
        };
        let bad = |rule| ("bad", rule);
        self.receipt("payload", 2, bad("signature"), |dir| jws(dir, &payload));
        self.receipt("payload-es256", 4, bad("signature"), |dir| jws(dir, &payload));
        self.receipt("signature", 2, bad("signature"), |dir| {
            jws(dir, &|parts| {
                let mut bytes = URL_SAFE_NO_PAD.decode(&parts[2]).unwrap();
                bytes[9] ^= 1;
                parts[2] = URL_SAFE_NO_PAD.encode(bytes);
            });
        });
        self.receipt("unknown-kid", 2, bad("key-unknown"), |dir| jws(dir, &header("gw07-2019")));
        self.receipt("ledger-kid", 2, bad("key-use"), |dir| jws(dir, &header("gw07-ledger")));
        self.receipt("other-kid", 2, bad("key-alg"), |dir| jws(dir, &header("gw07-es256")));
        self.receipt("alg-none", 2, bad("receipt-header"), |dir| {
            jws(dir, &|parts| {
                let said = String::from_utf8(URL_SAFE_NO_PAD.decode(&parts[0]).unwrap()).unwrap();
                parts[0] = URL_SAFE_NO_PAD.encode(said.replace("EdDSA", "none"));
            });
        });
        self.receipt("stray-bits", 2, bad("receipt-malformed"), |dir| {
            jws(dir, &|parts| {
                // The last digit of 64 bytes has four bits that mean nothing; another one is another text.
                let last = parts[2].pop().unwrap();
                parts[2].push(char::from(u8::try_from(last).unwrap() + 1));
            });
        });
        self.receipt("cut", 2, bad("receipt-malformed"), |dir| {
            edit(&dir.join("receipt.jws"), |text| text.truncate(200));
        });
    }

    /// Signed with a key that the attacker holds, but not as that key may.
    fn forged_receipts(&mut self) {
        let bank = self.bank;
        let mut forged = |name: &str, rule, make: &dyn Fn(&Shard<'_>) -> String| {
            let mut shard = Shard::new(bank, OPEN, TIME);
            let jws = make(&shard);
            shard.append_signed(jws);
            self.receipt_of(&shard, name, 0, ("bad", rule), |_| ());
        };
        let said = |shard: &Shard<'_>| {
            let body = shard.body(verification());
            let jws = issue(&body, "gw07-2026a", &bank.receipt).unwrap().into_string();
            let payload = jws.split('.').nth(1).unwrap().to_owned();
            String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
        };
        let sign = |header: &str, payload: &str, key: &dyn Signer| {
            let (header, payload) =
                (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let signed = format!("{header}.{payload}");
            let signature = key.sign(signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        };
        let header = r#"{"alg":"EdDSA","kid":"gw07-2026a","typ":"tulga-receipt+jwt"}"#;
        forged("key-range", "key-range", &|shard| {
            issue(&shard.body(verification()), "gw07-es256", &bank.p256).unwrap().into_string()
        });
        forged("other-alg", "key-alg", &|shard| {
            sign(&header.replace("EdDSA", "ES256"), &said(shard), &bank.receipt)
        });
        forged("key-time", "key-time", &|shard| {
            sign(
                header,
                &said(shard).replace("2026-11-21T02:03:14", "2025-11-21T02:03:14"),
                &bank.receipt,
            )
        });
        forged("duplicate-key", "receipt-malformed", &|shard| {
            sign(
                header,
                &said(shard).replace("{\"v\":1", "{\"v\":1,\"tenant\":\"bank-b\""),
                &bank.receipt,
            )
        });
        forged("float", "receipt-malformed", &|shard| {
            sign(header, &said(shard).replace("5000000", "5000000.0"), &bank.receipt)
        });
        forged("unknown-kind", "receipt-kind", &|shard| {
            sign(header, &said(shard).replace("\"verification\"", "\"prophecy\""), &bank.receipt)
        });
    }

    fn altered_proofs(&mut self) {
        let proof = |dir: &Path, change: &dyn Fn(&mut Vec<String>)| {
            edit(&dir.join("receipt.tlog-proof"), |text| {
                let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
                change(&mut lines);
                *text = lines.join("\n") + "\n";
            });
        };
        let bad = |rule| ("bad", rule);
        let first = self.list.len();
        self.receipt("proof-path", 2, bad("proof-path"), |dir| {
            proof(dir, &|lines| lines.swap(2, 3));
        });
        self.receipt("proof-short", 2, bad("proof-path"), |dir| {
            proof(dir, &|lines| drop(lines.remove(2)));
        });
        self.receipt("proof-index", 2, bad("proof-index"), |dir| {
            proof(dir, &|lines| lines[1].replace_range(.., "index 1"));
        });
        self.receipt("proof-of-another", 2, bad("proof-index"), |dir| {
            let before = closed(self.bank);
            let other = open(self.bank, &before.closed()).proof(1, 2);
            fs::write(dir.join("receipt.tlog-proof"), other).unwrap();
        });
        self.receipt("proof-malformed", 2, bad("proof-malformed"), |dir| {
            proof(dir, &|lines| lines[1].replace_range(.., "index 02"));
        });
        let size = |lines: &mut Vec<String>| {
            let place = lines.iter().position(|line| line == "7").unwrap();
            lines[place].replace_range(.., "8");
        };
        self.receipt("checkpoint-size", 2, bad("checkpoint-signature"), |dir| proof(dir, &size));
        self.receipt("checkpoint-origin", 2, bad("checkpoint-origin"), |dir| {
            fs::write(dir.join("receipt.tlog-proof"), closed(self.bank).proof(2, 2)).unwrap();
        });
        self.receipt("checkpoint-unsigned", 2, bad("checkpoint-key"), |dir| {
            proof(dir, &|lines| lines.retain(|line| !line.starts_with("\u{2014} cash")));
        });
        // The receipt itself is as it was.
        self.list.iter_mut().skip(first).for_each(|case| case.levels = vec!["signed"]);
    }

    fn altered_registers(&mut self) {
        let bad = |rule| ("bad", rule);
        self.receipt("register", 2, bad("register-signature"), |dir| {
            edit(&dir.join("keys.json"), |text| {
                *text = text.replacen("\"first_index\": 4", "\"first_index\": 0", 1);
            });
        });
        self.receipt("register-malformed", 2, bad("register-malformed"), |dir| {
            edit(&dir.join("keys.json"), |text| {
                *text = text.replacen("\"kid\"", "\"kid\": \"x\", \"kid\"", 1);
            });
        });
        let other = Ed25519Key::from_seed([99; 32]).unwrap();
        self.receipt("register-of-another-root", 2, bad("register-untrusted"), |dir| {
            let mut records = self.bank.records();
            records[0].public_key = other.public_key();
            write_register(dir, records, &other);
        });
        self.receipt("wrong-trust", 2, bad("register-untrusted"), |_| ()).trust = nobody();
        let ranged = |dir: &Path, change: &dyn Fn(&mut KeyRecord)| {
            let mut records = self.bank.records();
            change(&mut records[2]);
            write_register(dir, records, &self.bank.root);
        };
        let first = closed(self.bank);
        let shard = open(self.bank, &first.closed());
        let mut cases = Cases { root: self.root, bank: self.bank, list: Vec::new() };
        cases.receipt_of(&shard, "range-ended", 2, bad("key-range"), |dir| {
            ranged(dir, &|key| key.origins[1].last_index = Some(1));
        });
        cases.receipt_of(&shard, "range-elsewhere", 2, bad("key-range"), |dir| {
            ranged(dir, &|key| drop(key.origins.remove(1)));
        });
        cases.receipt_of(&shard, "key-ended", 2, bad("key-time"), |dir| {
            ranged(dir, &|key| key.not_after = Some(TIME));
        });
        self.list.append(&mut cases.list);
    }

    fn witnesses(&mut self) {
        let policy = |dir: &Path| {
            let file = dir.join("policy");
            fs::write(&file, Bank::policy(self.bank)).unwrap();
            file
        };
        let files: Vec<PathBuf> =
            ["witnessed", "too-few", "forged-cosignature", "policy-malformed"]
                .iter()
                .map(|name| {
                    fs::create_dir_all(self.root.join(name)).unwrap();
                    policy(&self.root.join(name))
                })
                .collect();
        fs::write(&files[3], "quorum nobody\n").unwrap();
        let case = self.receipt("witnessed", 2, ("good", ""), |_| ());
        case.policy = Some(files[0].clone());
        case.levels.push("witnessed");
        let few = |dir: &Path| {
            edit(&dir.join("receipt.tlog-proof"), |text| {
                let end = text.rfind('\u{2014}').unwrap();
                text.truncate(end);
            });
        };
        let case = self.receipt("too-few", 2, ("bad", "quorum"), few);
        case.policy = Some(files[1].clone());
        case.levels = vec!["signed", "logged"];
        let forge = |dir: &Path| {
            edit(&dir.join("receipt.tlog-proof"), |text| {
                let end = text.rfind(' ').unwrap() + 30;
                let other = if text.as_bytes()[end] == b'A' { "B" } else { "A" };
                text.replace_range(end..=end, other);
            });
        };
        let case = self.receipt("forged-cosignature", 2, ("bad", "cosignature"), forge);
        case.policy = Some(files[2].clone());
        case.levels = vec!["signed", "logged"];
        let case = self.receipt("policy-malformed", 2, ("bad", "policy-malformed"), |_| ());
        case.policy = Some(files[3].clone());
        case.levels = vec!["signed", "logged"];
    }

    /// A folder of both ledgers, changed before it is shown.
    fn folder(
        &mut self,
        name: &str,
        (verdict, rule): (&'static str, &'static str),
        change: impl FnOnce(&Path, &Shard<'_>),
    ) -> &mut Case {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).unwrap();
        let shard = write_export(self.bank, &dir);
        change(&dir, &shard);
        let levels = if verdict == "good" { vec!["signed", "logged"] } else { vec![] };
        self.push(name, true, dir, verdict, rule, levels)
    }

    fn good_folders(&mut self) {
        self.folder("folder", ("good", ""), |_, _| ());
        let policy = self.root.join("policy-from-elsewhere");
        fs::write(&policy, self.bank.policy()).unwrap();
        let case = self.folder("folder-witnessed", ("good", ""), |_, _| ());
        case.policy = Some(policy);
        case.levels.push("witnessed");
        let bank = self.bank;
        self.folder("folder-single", ("good", ""), |dir, _| {
            fs::remove_dir_all(dir).unwrap();
            fs::create_dir_all(dir).unwrap();
            closed(bank).write(dir);
            write_register(dir, bank.records(), &bank.root);
        });
        self.folder("folder-erased", ("good", ""), |dir, shard| erase(dir, shard, 3));
        let case = self.folder("folder-wrong-trust", ("bad", "register-untrusted"), |_, _| ());
        case.trust = nobody();
    }

    fn altered_receipts_of_folders(&mut self) {
        let signed = || vec!["signed"];
        let bad = |rule| ("bad", rule);
        let lines = |dir: &Path, change: &dyn Fn(&mut Vec<String>)| {
            edit(&dir.join(OPEN).join("receipts.jws"), |text| {
                let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
                change(&mut lines);
                *text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            });
        };
        let deleted = |dir: &Path, _: &Shard<'_>| lines(dir, &|lines| drop(lines.remove(2)));
        self.folder("folder-deleted", bad("gap"), deleted).levels = signed();
        let swapped = |dir: &Path, _: &Shard<'_>| lines(dir, &|lines| lines.swap(1, 2));
        self.folder("folder-reordered", bad("gap"), swapped).levels = signed();
        let twice =
            |dir: &Path, _: &Shard<'_>| lines(dir, &|lines| lines.insert(3, lines[2].clone()));
        self.folder("folder-duplicated", bad("order"), twice).levels = signed();
        let cut = |dir: &Path, _: &Shard<'_>| lines(dir, &|lines| lines.truncate(5));
        self.folder("folder-truncated", bad("truncated"), cut).levels = signed();
        self.folder("folder-altered", bad("signature"), |dir, _| {
            lines(dir, &|lines| {
                let place = lines[2].len() - 20;
                let other = if lines[2].as_bytes()[place] == b'A' { "B" } else { "A" };
                lines[2].replace_range(place..=place, other);
            });
        });
        self.folder("folder-unlisted-erasure", bad("erasure"), |dir, shard| erase(dir, shard, 2))
            .levels = signed();
    }

    fn altered_files_of_folders(&mut self) {
        let signed = || vec!["signed"];
        let bad = |rule| ("bad", rule);
        let bank = self.bank;
        self.folder("folder-tile", bad("tile"), |dir, _| {
            let file = dir.join(OPEN).join("tile/0/000.p/7");
            let mut bytes = fs::read(&file).unwrap();
            bytes[40] ^= 1;
            fs::write(file, bytes).unwrap();
        })
        .levels = signed();
        self.folder("folder-fork", bad("fork"), |dir, _| {
            let mut other = Shard::new(bank, OPEN, TIME);
            (0..4).for_each(|_| other.append(administration("policy_activated")));
            edit(&dir.join(OPEN).join("checkpoints"), |text| {
                text.push('\n');
                text.push_str(&other.head(0));
            });
        })
        .levels = signed();
        self.folder("folder-audit-record", bad("audit-record"), |dir, _| {
            fs::copy(dir.join("policy"), dir.join(OPEN).join("audit/2")).unwrap();
        })
        .levels = signed();
        self.folder("folder-shard-missing", bad("shard-missing"), |dir, _| {
            fs::remove_dir_all(dir.join(CLOSED)).unwrap();
        })
        .levels = signed();
        self.folder("folder-log-of-logs", bad("log-of-logs"), |dir, _| {
            fs::remove_file(dir.join("log-of-logs")).unwrap();
        })
        .levels = signed();
        self.folder("folder-without-register", bad("folder-register"), |dir, _| {
            fs::remove_file(dir.join("keys.json")).unwrap();
        });
        self.folder("folder-two-registers", bad("folder-mixed"), |dir, _| {
            fs::copy(dir.join("keys.json"), dir.join(OPEN).join("keys.json")).unwrap();
        });
        self.folder("folder-ledger-on-top", bad("folder-mixed"), |dir, _| {
            fs::copy(dir.join(OPEN).join("receipts.jws"), dir.join("receipts.jws")).unwrap();
        });
        self.folder("folder-only-checkpoint", bad("folder-file"), |dir, _| {
            fs::remove_file(dir.join(CLOSED).join("receipts.jws")).unwrap();
        });
        // A closed ledger, of which witnesses saw no more than the beginning.
        self.folder("folder-closed-unseen", bad("quorum"), |dir, _| {
            let below = dir.join(CLOSED);
            let whole = closed(bank);
            fs::write(below.join("checkpoints"), &whole.notes[0]).unwrap();
            fs::write(below.join("checkpoint"), whole.head(0)).unwrap();
        })
        .levels = vec!["signed", "logged"];
    }
}

/// What a file must never do to the page: markup, marks of direction, words of JavaScript objects.
fn hostile() -> Content {
    let Content::Verification(mut decision) = verification() else { panic!() };
    decision.terminal.id = "<img src=x onerror=\"document.title='owned'\">".into();
    decision.outcome = "constructor".into();
    decision.txn.op = "__proto__".into();
    decision.reasons = vec!["toString".into(), "<b>POL_HELD</b>".into(), "\u{202e}DLEH".into()];
    decision.cap = None;
    Content::Verification(decision)
}

/// Deletes a body and lists it, in a ledger whose entry 5 says that entry 3 was erased.
fn erase(dir: &Path, shard: &Shard<'_>, index: u64) {
    let leaf = shard.tree.leaf(index).unwrap();
    let erased = [tulga::receipt::ErasedBody { index, erasure: 5, leaf }];
    let below = dir.join(OPEN);
    fs::write(below.join("erasures.json"), tulga::receipt::erasures_json(&erased).unwrap())
        .unwrap();
    let mut lines = shard.lines.clone();
    lines.remove(usize::try_from(index).unwrap());
    fs::write(below.join("receipts.jws"), lines.join("\n") + "\n").unwrap();
    if index == 2 {
        fs::remove_file(below.join("audit/2")).unwrap();
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut String)) {
    let mut text = fs::read_to_string(file).unwrap();
    change(&mut text);
    fs::write(file, text).unwrap();
}
