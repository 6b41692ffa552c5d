//! `tulga bench ledger`: an export of a ledger that never was, to measure audits with.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::crypto::{Ed25519Key, Signer as _, SystemEntropy, sha256};
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::{
    Checkpoint, Origin, TileAddress, TileKind, Tree, WitnessKey, append_entry, cosign, entry,
};
use crate::receipt::{
    Bio, CHECKPOINT_FILE, CHECKPOINTS_FILE, Content, ERASURES_FILE, KEYS_FILE, KEYS_SIGNATURE_FILE,
    KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyStatus, KeyUse, LogBlock, Outcome,
    POLICY_FILE, Policy, RECEIPTS_FILE, ReceiptDraft, Refers, ReportingTerminal, Terminal,
    TrustFingerprint, Txn, Verification, Witnessed, erasures_json, issue, rid_text,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to write to; it must not exist
    dir: PathBuf,
    /// Receipts: decisions and reports of cash in turn
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    entries: u64,
    /// Receipts between two checkpoints, each cosigned by one witness
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    checkpoint_every: u64,
    /// Write tiles, too
    #[arg(long)]
    tiles: bool,
}

/// Writes the export and prints the trust fingerprint.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    std::fs::create_dir(&args.dir)
        .with_context(|| format!("{} cannot be made", args.dir.display()))?;
    let mut maker = Maker::new(&args.dir)?;
    let bar = ProgressBar::new(args.entries);
    let mut from = 0;
    while from < args.entries {
        let until = args.entries.min(from + args.checkpoint_every);
        maker.batch(from, until)?;
        maker.checkpoint()?;
        from = until;
        bar.set_position(from);
    }
    bar.finish_and_clear();
    if args.tiles {
        maker.tiles()?;
    }
    let trust = maker.finish()?;
    println!("{trust}");
    Ok(ExitCode::SUCCESS)
}

struct Maker<'a> {
    dir: &'a Path,
    origin: Origin,
    witness: WitnessKey,
    keys: Keys,
    tree: Tree,
    prior: LogBlock,
    begun: UnixMillis,
    receipts: BufWriter<File>,
    checkpoints: BufWriter<File>,
    latest: String,
    entries: Vec<Vec<u8>>,
}

struct Keys {
    root: Ed25519Key,
    ledger: Ed25519Key,
    receipt: Ed25519Key,
    witness: Ed25519Key,
}

impl<'a> Maker<'a> {
    fn new(dir: &'a Path) -> Result<Self> {
        let key = || Ed25519Key::generate(&SystemEntropy);
        let keys = Keys { root: key()?, ledger: key()?, receipt: key()?, witness: key()? };
        let tree = Tree::new();
        let create = |name: &str| File::create(dir.join(name)).map(BufWriter::new);
        Ok(Self {
            dir,
            origin: Origin::try_from(ORIGIN)?,
            witness: WitnessKey::new(Origin::try_from(WITNESS)?, keys.witness.public_key()),
            keys,
            prior: LogBlock::new(ORIGIN, 0, 0, &tree.root()),
            tree,
            begun: UnixMillis::parse_rfc3339(BEGUN)?,
            receipts: create(RECEIPTS_FILE)?,
            checkpoints: create(CHECKPOINTS_FILE)?,
            latest: String::new(),
            entries: Vec::new(),
        })
    }

    /// Issues receipts `from..until` as one batch: they name the same head.
    fn batch(&mut self, from: u64, until: u64) -> Result<()> {
        let made = (from..until).into_par_iter().map(|index| self.receipt(index));
        let made = made.collect::<Result<Vec<_>>>()?;
        for jws in made {
            self.tree.push(crate::ledger::leaf_hash(&jws));
            self.entries.push(entry(&jws));
            writeln!(self.receipts, "{jws}")?;
        }
        Ok(())
    }

    fn receipt(&self, index: u64) -> Result<String> {
        let content = if index.is_multiple_of(2) { decision(index) } else { report(index) };
        let decides = matches!(content, Content::Verification(_));
        let draft = ReceiptDraft {
            rid: rid(index),
            iss: "bench.example/gw".into(),
            aud: decides.then(|| "host.bench.example".into()),
            valid_for_ms: decides.then_some(90_000),
            tenant: "bench".into(),
            content,
        };
        let log = LogBlock { index, ..self.prior.clone() };
        let body = draft.complete(self.time(index), log);
        Ok(issue(&body, RECEIPT_KEY, &self.keys.receipt)?.into_string())
    }

    /// Ten receipts a second.
    fn time(&self, index: u64) -> UnixMillis {
        self.begun.plus_millis(i64::try_from(index).unwrap_or(i64::MAX).saturating_mul(100))
    }

    /// Signs the head; the witness cosigns it a second after the last receipt.
    fn checkpoint(&mut self) -> Result<()> {
        let (size, root) = (self.tree.size(), self.tree.root());
        let head = Checkpoint { origin: self.origin.clone(), size, root };
        let time = self.time(size).plus_millis(1000);
        let cosignature = cosign(&head.text(), time, self.witness.name(), &self.keys.witness)?;
        self.latest = head.sign(&self.keys.ledger)? + &cosignature;
        let between = if self.prior.prior_size == 0 { "" } else { "\n" };
        write!(self.checkpoints, "{between}{}", self.latest)?;
        self.prior = LogBlock::new(ORIGIN, 0, size, &root);
        let time = UnixMillis::new(time.get() / 1000 * 1000).rfc3339();
        self.prior.witnessed = Some(Witnessed { size, time });
        Ok(())
    }

    fn tiles(&self) -> Result<()> {
        for tile in TileAddress::all(self.tree.size()) {
            let mut bytes = Vec::new();
            match tile.kind() {
                TileKind::Hashes { .. } => bytes = tile.hashes(&self.tree)?,
                TileKind::Entries => {
                    let first = usize::try_from(tile.first())?;
                    for entry in self.entries.iter().skip(first).take(tile.width().into()) {
                        append_entry(&mut bytes, entry)?;
                    }
                }
            }
            let path = self.dir.join(tile.path());
            std::fs::create_dir_all(path.parent().context("a tile lies in a folder")?)?;
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<TrustFingerprint> {
        self.receipts.flush()?;
        self.checkpoints.flush()?;
        let register = self.register()?.to_json()?;
        let signature = KeyRegister::sign(register.as_bytes(), &self.keys.root)?;
        let policy = format!("witness w1 {}\nquorum w1\n", self.witness);
        let small = [
            (CHECKPOINT_FILE, self.latest.as_str()),
            (ERASURES_FILE, &erasures_json(&[])?),
            (KEYS_SIGNATURE_FILE, &signature),
            (KEYS_FILE, &register),
            (POLICY_FILE, &policy),
        ];
        for (name, text) in small {
            std::fs::write(self.dir.join(name), text)?;
        }
        ensure!(self.tree.size() > 0, "a ledger has entries");
        Ok(TrustFingerprint::of(&self.keys.root.public_key()))
    }

    fn register(&self) -> Result<KeyRegister> {
        let record = |kid: &str, usage, key: &Ed25519Key| KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::EdDsa,
            usage,
            public_key: key.public_key(),
            not_before: self.begun,
            not_after: None,
            origins: vec![KeyRange { origin: ORIGIN.into(), first_index: 0, last_index: None }],
            status: KeyStatus::Active,
        };
        Ok(KeyRegister::new(vec![
            record("bench-root", KeyUse::Root, &self.keys.root),
            record("bench-ledger", KeyUse::Ledger, &self.keys.ledger),
            record(RECEIPT_KEY, KeyUse::Receipt, &self.keys.receipt),
        ])?)
    }
}

fn rid(index: u64) -> String {
    let mut id = [0x5a; 16];
    id.iter_mut().zip(index.to_be_bytes()).for_each(|(to, from)| *to = from);
    rid_text(&ReceiptId::new(id))
}

/// As long as the gateway's own receipts.
fn decision(index: u64) -> Content {
    let digest = sha256(&index.to_be_bytes());
    let commit = || digest.labelled().split_off("sha-256:".len());
    Content::Verification(Verification {
        terminal: Terminal {
            id: format!("ATM-{:06}", index % 4000),
            cert: digest.labelled(),
            sensor: None,
            challenge: commit(),
            envelope: None,
        },
        txn: Txn {
            commit: commit(),
            op: "cash_withdrawal".into(),
            amount_minor: 5_000_000,
            currency: "KZT".into(),
        },
        subject: Some(commit()),
        guest: None,
        bio: Bio {
            modality: "face".into(),
            models: vec![digest.labelled(), digest.labelled()],
            required_db: 40,
        },
        policy: Policy {
            id: "kz-2026".into(),
            version: 3,
            hash: digest.labelled(),
            registers: Vec::new(),
        },
        build: digest.labelled(),
        outcome: "APPROVED".into(),
        cap: None,
        reasons: Vec::new(),
        footage: Some(commit()),
        refers: None,
        confirmation: None,
        audit: commit(),
    })
}

fn report(index: u64) -> Content {
    Content::Outcome(Outcome {
        refers: Refers { rid: rid(index - 1), index: index - 1, origin: None },
        outcome: "taken".into(),
        dispensed_minor: 5_000_000,
        currency: "KZT".into(),
        terminal: ReportingTerminal {
            id: format!("ATM-{:06}", (index - 1) % 4000),
            cert: sha256(&index.to_be_bytes()).labelled(),
        },
        footage: None,
    })
}

const ORIGIN: &str = "bench.example/gw/2026h2";
const WITNESS: &str = "witness.bench.example/w1";
const RECEIPT_KEY: &str = "bench-receipt";
const BEGUN: &str = "2026-07-01T00:00:00.000Z";
