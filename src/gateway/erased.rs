//! Who was erased, remembered outside the database, so that a restored one brings nobody back to life.
//!
//! An erasure is committed with its entry, then its mark goes into the record, and only then is it
//! answered. At each start the record is held against the database, before any customer's key is used: whoever
//! is marked and not erased is erased again, with an entry; whoever is erased and not marked (the process
//! died in between, or the database is older than the record) is marked.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Gateway;
use super::act::Write;
use super::error::GatewayError;
use super::evidence::unavailable;
use crate::crypto::Digest;
use crate::domain::id::CustomerId;
use crate::receipt::{Content, Erasure};
use crate::store::{CustomerRow, CustomerStatus};

/// Remembers the marks of whoever was erased: keyed hashes of customers' ids. Its calls block.
pub trait ErasedRecord: Send + Sync + fmt::Debug {
    /// Every mark.
    fn marks(&self) -> BTreeSet<Digest>;

    /// Remembers a mark durably; again changes nothing.
    ///
    /// # Errors
    ///
    /// [`io::Error`] when it cannot be made durable.
    fn add(&self, mark: &Digest) -> io::Result<()>;
}

/// The record in a file that only grows: a line of 64 hexadecimal digits each.
pub struct FileErased(Mutex<Record>);

struct Record {
    file: File,
    marks: BTreeSet<Digest>,
}

impl FileErased {
    /// Opens or makes the record.
    ///
    /// # Errors
    ///
    /// [`ErasedError`] when it cannot be read, or holds what no gateway wrote.
    pub fn open(path: &Path) -> Result<Self, ErasedError> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(ErasedError::Io)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            // A file just made is not there after a power cut unless its folder says so.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(ErasedError::Io)?;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(ErasedError::Io)?;
        let marks = parse(&text)?;
        if !text.is_empty() && !text.ends_with('\n') {
            // A line that a crash cut off: what was to be remembered by it was not answered.
            file.write_all(b"\n").and_then(|()| file.sync_data()).map_err(ErasedError::Io)?;
        }
        Ok(Self(Mutex::new(Record { file, marks })))
    }

    fn locked(&self) -> MutexGuard<'_, Record> {
        // A mark is added to the set after the file has it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ErasedRecord for FileErased {
    fn marks(&self) -> BTreeSet<Digest> {
        self.locked().marks.clone()
    }

    fn add(&self, mark: &Digest) -> io::Result<()> {
        let mut record = self.locked();
        if !record.marks.contains(mark) {
            // A line break first ends what an earlier failure left of a line.
            record.file.write_all(format!("\n{}\n", mark.hex()).as_bytes())?;
            record.file.sync_data()?;
            record.marks.insert(*mark);
        }
        Ok(())
    }
}

impl fmt::Debug for FileErased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileErased({} marks)", self.locked().marks.len())
    }
}

/// A record that lasts as long as its process, for tests.
#[cfg(any(test, feature = "test-support"))]
impl ErasedRecord for Mutex<BTreeSet<Digest>> {
    fn marks(&self) -> BTreeSet<Digest> {
        self.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, mark: &Digest) -> io::Result<()> {
        self.lock().unwrap_or_else(PoisonError::into_inner).insert(*mark);
        Ok(())
    }
}

/// Whole lines are marks; shorter runs of digits are what a crash left of one.
fn parse(text: &str) -> Result<BTreeSet<Digest>, ErasedError> {
    let mut marks = BTreeSet::new();
    for line in text.lines() {
        match Digest::from_hex(line) {
            Ok(mark) => drop(marks.insert(mark)),
            Err(_) if line.len() < 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit()) => {}
            Err(_) => return Err(ErasedError::Damaged),
        }
    }
    Ok(marks)
}

/// The record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ErasedError {
    /// The file cannot be read or written.
    #[error("the record of erased customers cannot be read or written")]
    Io(#[source] io::Error),
    /// It holds what no gateway wrote.
    #[error(
        "the record of erased customers is damaged: put the file `erased` back from its backup; without it \
         a restored database could bring customers back who were erased"
    )]
    Damaged,
}

impl Gateway {
    /// Remembers outside the database that a customer was erased.
    pub(super) fn mark_erased(&self, customer: &CustomerId) -> Result<(), GatewayError> {
        let mark = self.vault.erased_mark(&self.settings.tenant, customer);
        tokio::task::block_in_place(|| self.erased.add(&mark)).map_err(unavailable)
    }

    /// The same for somebody whose erasure was committed and perhaps not answered.
    pub(super) async fn mark_if_erased(&self, customer: &CustomerId) -> Result<(), GatewayError> {
        let row = self.store.customer(customer).await?;
        if row.is_some_and(|row| row.status == CustomerStatus::Erased) {
            self.mark_erased(customer)?;
        }
        Ok(())
    }

    /// Holds the record against the database; before anybody's key is used.
    pub(super) async fn apply_erased(&self) -> Result<(), GatewayError> {
        const PAGE: u32 = 1000;
        let marks = self.erased.marks();
        let (mut after, mut erased) = (None, 0u64);
        loop {
            let customers = self.store.customers(after.as_ref(), PAGE).await?;
            let Some(last) = customers.last() else { break };
            after = Some(last.id);
            for row in &customers {
                let mark = self.vault.erased_mark(&self.settings.tenant, &row.id);
                match (row.status == CustomerStatus::Erased, marks.contains(&mark)) {
                    (true, false) => self.mark_erased(&row.id)?,
                    (false, true) => {
                        self.erase_again(row).await?;
                        erased += 1;
                    }
                    (true, true) | (false, false) => {}
                }
            }
        }
        if erased > 0 {
            tracing::warn!(
                erased,
                "the database was older than the record of erased customers: they are erased again"
            );
        }
        Ok(())
    }

    async fn erase_again(&self, row: &CustomerRow) -> Result<(), GatewayError> {
        // Their keys may be wrapped under a key that is gone; they are not needed.
        let subject = self.subject_of(&row.id).await.ok();
        let content = Content::Erasure(Erasure {
            actor: self.signing.own_actor(&self.open_ledger()?)?,
            subject,
            bodies: Vec::new(),
            footage: Vec::new(),
            evidence: Vec::new(),
            reason: "restored_database".to_owned(),
        });
        self.perform_as(content, None, vec![Write::EraseAgain(row.id)]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::crypto::sha256;

    #[test]
    fn what_was_added_is_there_after_a_crash_at_any_byte_of_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("erased");
        let marks = [b"a", b"b", b"c"].map(|name| sha256(name));
        let record = FileErased::open(&path).unwrap();
        assert!(record.marks().is_empty());
        for mark in [&marks[0], &marks[0], &marks[1]] {
            record.add(mark).unwrap();
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = std::fs::read(&path).unwrap();
        record.add(&marks[2]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.starts_with(&before), "the file only grows");
        for length in before.len()..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let record = FileErased::open(&path).unwrap();
            assert!(record.marks().is_superset(&BTreeSet::from([marks[0], marks[1]])));
            // And what is added then is a line of its own.
            record.add(&marks[2]).unwrap();
            assert_eq!(FileErased::open(&path).unwrap().marks(), BTreeSet::from(marks));
        }
    }

    #[test]
    fn a_record_that_no_gateway_wrote_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("erased");
        for damaged in ["not a mark\n", &format!("{}0\n", sha256(b"a").hex()), "\u{0}\u{0}"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(FileErased::open(&path), Err(ErasedError::Damaged)), "{damaged:?}");
        }
    }
}
