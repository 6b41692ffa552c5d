//! How the ledgers of a gateway follow each other: the log of logs, and what each ledger's first
//! entry says of the one before.

use std::collections::BTreeSet;

use super::claim::Opened;
use super::report::Findings;
use crate::crypto::Digest;
use crate::ledger::{CheckpointError, ClosedShard, LogOfLogs, NoteError, Origin};
use crate::receipt::{KeyRegister, LOG_OF_LOGS_FILE};

/// The closed ledgers that the log of logs lists, in the order of their closing.
pub(super) struct Chain {
    closed: Vec<ClosedShard>,
    /// Whether there is a log of logs that can be believed.
    pub is_listed: bool,
}

/// A walked ledger, as the chain sees it.
pub(super) struct Link {
    pub origin: Origin,
    pub size: u64,
    pub root: Digest,
    pub opened: Option<Opened>,
}

impl Chain {
    /// Reads the log of logs; without one nothing is closed.
    pub(super) fn read(
        note: Option<&str>,
        register: &KeyRegister,
        findings: &mut Findings,
    ) -> Self {
        match note.map(|note| open_log_of_logs(note, register)) {
            None => Self { closed: Vec::new(), is_listed: false },
            Some(Ok(log)) => Self { closed: log.shards().to_vec(), is_listed: true },
            Some(Err(fault)) => {
                findings.add("shard", None, format!("{LOG_OF_LOGS_FILE}: {fault}"));
                Self { closed: Vec::new(), is_listed: false }
            }
        }
    }

    /// How many ledgers are closed; none where no list says so.
    pub(super) fn closed_count(&self) -> Option<u64> {
        self.is_listed.then(|| u64::try_from(self.closed.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn is_closed(&self, origin: &Origin) -> bool {
        self.closed.iter().any(|shard| shard.origin == *origin)
    }

    /// By what to sort ledgers: closed ones in the order of their closing, then the others.
    pub(super) fn place(&self, origin: &Origin) -> (usize, String) {
        let place = self.closed.iter().position(|shard| shard.origin == *origin);
        (place.unwrap_or(usize::MAX), origin.to_string())
    }

    /// Checks that the ledgers, in their order, are all there and follow each other.
    pub(super) fn check(&self, links: &[Link], findings: &mut Findings) {
        self.check_closed(links, findings);
        self.check_open(links, findings);
        let mut names = BTreeSet::new();
        for (place, link) in links.iter().enumerate() {
            findings.about(Some(&link.origin));
            if !names.insert(&link.origin) {
                findings.add("shard", None, "two folders hold this ledger");
            }
            let before = place.checked_sub(1).and_then(|before| links.get(before));
            self.check_opening(before, link, findings);
        }
        findings.about(None);
    }

    /// Every closed ledger is there, with the head that it was closed with.
    fn check_closed(&self, links: &[Link], findings: &mut Findings) {
        for shard in &self.closed {
            findings.about(Some(&shard.origin));
            match links.iter().find(|link| link.origin == shard.origin) {
                None => findings.add("shard", None, "it is listed as closed, and is missing"),
                Some(link) if link.size != shard.size => {
                    let text =
                        format!("it was closed with {} entries and has {}", shard.size, link.size);
                    findings.add("shard", Some(link.size.min(shard.size)), text);
                }
                Some(link) if link.root != shard.root => {
                    findings.add("shard", None, "its root is not the one that it was closed with");
                }
                Some(_) => {}
            }
        }
        findings.about(None);
    }

    /// One ledger is open: a gateway opens the next as it closes one.
    fn check_open(&self, links: &[Link], findings: &mut Findings) {
        let mut open = links.iter().filter(|link| !self.is_closed(&link.origin));
        let (first, second) = (open.next(), open.next());
        if first.is_none() {
            let text = "every ledger is listed as closed: the one that is in force is missing";
            findings.add("shard", None, text);
        }
        if let Some(second) = second {
            findings.about(Some(&second.origin));
            let text = format!("it and others are not listed as closed in {LOG_OF_LOGS_FILE}");
            findings.add("shard", None, text);
            findings.about(None);
        }
    }

    fn check_opening(&self, before: Option<&Link>, link: &Link, findings: &mut Findings) {
        let opened = link.opened.as_ref();
        let Some(before) = before else {
            // The first ledger that a gateway of an earlier version began has no such entry.
            if let Some(name) = opened.and_then(|opened| opened.previous.as_deref()) {
                let text = format!("its first entry follows the ledger {name:?}, which is missing");
                findings.add("shard", Some(0), text);
            }
            return;
        };
        let Some(opened) = opened else {
            let text = "its first entry does not say which ledger it follows";
            findings.add("shard", Some(0), text);
            return;
        };
        if opened.previous.as_deref() != Some(before.origin.as_str()) {
            let text = format!(
                "its first entry follows the ledger {:?}, but the one before it here is {:?}",
                opened.previous.as_deref().unwrap_or_default(),
                before.origin.as_str()
            );
            findings.add("shard", Some(0), text);
            return;
        }
        let Link { origin, size, root, .. } = before;
        let closing = ClosedShard { origin: origin.clone(), size: *size, root: *root };
        if opened.digest.as_deref() != Some(closing.labelled_digest().as_str()) {
            let text = "its first entry names another closing head of the ledger before";
            findings.add("shard", Some(0), text);
        }
    }
}

/// Opens a log of logs with whichever of the register's keys may sign it.
pub(super) fn open_log_of_logs(
    note: &str,
    register: &KeyRegister,
) -> Result<LogOfLogs, CheckpointError> {
    let peeked = LogOfLogs::peek(note)?;
    let name = peeked.origin().as_str();
    let issuer = name.strip_suffix(NAME_END).ok_or(CheckpointError::Malformed)?;
    let count = u64::try_from(peeked.shards().len()).unwrap_or(u64::MAX);
    let mut fault = CheckpointError::Note(NoteError::NotSigned);
    for key in register.ledger_keys(name) {
        match LogOfLogs::open(note, issuer, &key.public_key) {
            Ok(log) if key.covers(name, count.saturating_sub(1)) => return Ok(log),
            Ok(_) | Err(CheckpointError::Note(NoteError::NotSigned)) => {}
            Err(other) => fault = other,
        }
    }
    Err(fault)
}

/// How the name of a log of logs ends.
pub(super) const NAME_END: &str = "/log-of-logs";
