//! An export behind a web server, fetched to a folder that is removed again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use indicatif::ProgressBar;

use super::runtime;
use crate::ledger::{Checkpoint, LogOfLogs, Origin, TileAddress};
use crate::receipt::{
    CHECKPOINT_FILE, CHECKPOINTS_FILE, ERASURES_FILE, KEYS_FILE, KEYS_SIGNATURE_FILE, KeyRegister,
    KeyUse, LOG_OF_LOGS_FILE, POLICY_FILE, RECEIPTS_FILE,
};
use crate::web::files::HttpFiles;

/// Whether what was given is an address, not a folder.
pub(super) fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// A fetched export. Its folder is removed when it is dropped.
pub(super) struct Fetched {
    dir: PathBuf,
}

impl Fetched {
    /// Fetches everything of an export that can be found by name: time-stamps and audit records cannot.
    pub(super) fn fetch(url: &str, ca: Option<&Path>, bytes_max: u64) -> Result<Self> {
        let ca =
            ca.map(fs::read_to_string).transpose().context("the authorities cannot be read")?;
        let ca = ca.or_else(|| SYSTEM_CA.iter().find_map(|file| fs::read_to_string(file).ok()));
        let files = HttpFiles::new(url, ca.as_deref())
            .with_context(|| format!("{url} cannot be fetched"))?;
        let fetched = Self::make()?;
        let bar = ProgressBar::new_spinner();
        let mut fetch = Fetch { files, dir: fetched.dir.clone(), left: bytes_max, bar };
        runtime()?.block_on(fetch.all()).with_context(|| format!("{url} cannot be fetched"))?;
        fetch.bar.finish_and_clear();
        Ok(fetched)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new folder: one that is there already is somebody else's.
    fn make() -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tulga-audit-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        Ok(Self { dir })
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} is left behind: {error}", self.dir.display());
        }
    }
}

struct Fetch {
    files: HttpFiles,
    dir: PathBuf,
    /// Bytes that may still be fetched.
    left: u64,
    bar: ProgressBar,
}

impl Fetch {
    async fn all(&mut self) -> Result<()> {
        for name in [KEYS_FILE, KEYS_SIGNATURE_FILE] {
            ensure!(self.file(name).await?, "there is no {name}");
        }
        for name in [LOG_OF_LOGS_FILE, POLICY_FILE] {
            self.file(name).await?;
        }
        if self.ledger("").await? {
            return Ok(());
        }
        for origin in self.origins()? {
            if let Some(folder) = origin.folder() {
                self.ledger(&format!("{folder}/")).await?;
            }
        }
        Ok(())
    }

    /// The ledgers that the register or the log of logs names.
    fn origins(&self) -> Result<BTreeSet<Origin>> {
        let register = KeyRegister::parse(&fs::read(self.dir.join(KEYS_FILE))?)?;
        let keys = register.keys().iter().filter(|key| key.usage == KeyUse::Ledger);
        let ranges = keys.flat_map(|key| &key.origins);
        let mut origins: BTreeSet<Origin> =
            ranges.filter_map(|range| Origin::try_from(range.origin.as_str()).ok()).collect();
        let note = fs::read_to_string(self.dir.join(LOG_OF_LOGS_FILE)).unwrap_or_default();
        if let Ok(log) = LogOfLogs::peek(&note) {
            origins.extend(log.shards().iter().map(|shard| shard.origin.clone()));
            origins.remove(log.origin());
        }
        ensure!(origins.len() <= ORIGINS_MAX, "the register names too many ledgers");
        Ok(origins)
    }

    /// One ledger's files; whether it is there.
    async fn ledger(&mut self, prefix: &str) -> Result<bool> {
        let head = format!("{prefix}{CHECKPOINT_FILE}");
        if !self.file(&head).await? {
            return Ok(false);
        }
        for name in [CHECKPOINTS_FILE, ERASURES_FILE, RECEIPTS_FILE] {
            self.file(&format!("{prefix}{name}")).await?;
        }
        let head = fs::read_to_string(self.dir.join(head)).unwrap_or_default();
        let size = Checkpoint::peek(&head).map_or(0, |head| head.size);
        for (number, tile) in TileAddress::all(size).enumerate() {
            // Whoever has not the first has none; whoever lacks another is found out later.
            if !self.file(&format!("{prefix}{}", tile.path())).await? && number == 0 {
                break;
            }
        }
        Ok(true)
    }

    /// One file; whether it is there.
    async fn file(&mut self, name: &str) -> Result<bool> {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        let mut out = File::create(&path)?;
        let length = self
            .files
            .fetch(name, self.left, &mut out)
            .await
            .with_context(|| format!("{name} cannot be fetched"))?;
        let Some(length) = length else {
            fs::remove_file(&path)?;
            // A folder without a file in it would look as if files were missing.
            let made = path.ancestors().skip(1).take_while(|folder| *folder != self.dir);
            made.take_while(|folder| fs::remove_dir(folder).is_ok()).for_each(drop);
            return Ok(false);
        };
        self.left = self.left.saturating_sub(length);
        self.bar.set_message(format!("fetching {name}"));
        self.bar.tick();
        Ok(true)
    }
}

/// Where systems keep the authorities that they trust.
const SYSTEM_CA: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const ORIGINS_MAX: usize = 1000;
