//! The audit of a whole export, from its folder to the report.

use std::path::Path;

use super::chain::{Chain, Link};
use super::claim::Lens;
use super::evidence::Against;
use super::folder::{Folder, LedgerFiles};
use super::heads::{Heads, read_heads};
use super::lines::Lines;
use super::past::Past;
use super::records::Records;
use super::report::{Evidence, Findings};
use super::stamps::{check_stamps, read_authorities};
use super::tiles::check_tiles;
use super::timeline::Timeline;
use super::walk::{SKEW_MS, Walk, Walked, walk};
use super::witnesses::Witnesses;
use super::{AuditError, AuditReport, LedgerReport, Options, Progress};
use crate::crypto::StampAuthorities;
use crate::domain::time::UnixMillis;
use crate::ledger::{Checkpoint, Origin};
use crate::receipt::{
    ErasedBody, KeyRegister, KeyRegisterError, TrustFingerprint, parse, parse_erasures,
};

/// Verifies the export in `dir`.
///
/// # Errors
///
/// [`AuditError`] when a file that every export has is missing or cannot be read at all.
pub fn verify_export(
    dir: &Path,
    trust: Option<&TrustFingerprint>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<AuditReport, AuditError> {
    let folder = Folder::open(dir)?;
    let mut findings = Findings::default();
    let register = believed_register(&folder, trust, &mut findings)?;
    let witnesses =
        Witnesses::choose(options.policy.as_deref(), folder.policy.as_deref(), &mut findings)?;
    let authorities = read_authorities(options.stamp_authorities.as_deref())?;
    let chain = Chain::read(folder.log_of_logs.as_deref(), &register, &mut findings);
    let audit = Audit {
        register: &register,
        witnesses: &witnesses,
        authorities: authorities.as_ref(),
        chain: &chain,
        bound_ms: options.bound_ms,
    };
    let seen = audit.ledgers(&folder.ledgers, &mut findings, progress)?;
    findings.about(None);
    chain.check(&seen.links, &mut findings);

    let log_of_logs = folder.log_of_logs.as_deref();
    let against = Against { register: &register, past: &seen.past, log_of_logs };
    let held = options.held.as_deref().map(|dir| against.check_held(dir, &mut findings));
    let earlier = options.earlier.as_deref().map(|file| against.check_earlier(file, &mut findings));
    let evidence = Evidence {
        trust: trust.map(ToString::to_string),
        held_receipts: held.transpose()?,
        earlier_sizes: earlier.transpose()?,
        policy: witnesses.source,
        stamp_authorities: authorities.is_some(),
    };
    let unchecked = if witnesses.asks() { 0 } else { seen.naming_witnesses };
    Ok(AuditReport::new(seen.reports, chain.closed_count(), evidence, unchecked, findings))
}

/// What every ledger of an export is verified with.
struct Audit<'a> {
    register: &'a KeyRegister,
    witnesses: &'a Witnesses,
    authorities: Option<&'a StampAuthorities>,
    chain: &'a Chain,
    bound_ms: Option<i64>,
}

/// The ledgers of an export, walked.
#[derive(Default)]
struct Seen {
    past: Past,
    links: Vec<Link>,
    reports: Vec<LedgerReport>,
    naming_witnesses: u64,
}

impl Audit<'_> {
    /// Verifies each ledger, in the order in which they follow each other.
    fn ledgers(
        &self,
        all: &[LedgerFiles],
        findings: &mut Findings,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Seen, AuditError> {
        let mut ledgers = Vec::with_capacity(all.len());
        for files in all {
            ledgers.push((origin_of(files, self.register)?, files));
        }
        ledgers.sort_by_cached_key(|(origin, _)| self.chain.place(origin));
        let total_bytes = all.iter().map(|files| files.receipts_bytes).sum();
        let (mut seen, mut before) = (Seen::default(), 0);
        for (origin, files) in ledgers {
            findings.about(Some(&origin));
            let mut at = |done: u64| progress(Progress { done_bytes: before + done, total_bytes });
            let (report, mut walked) =
                self.ledger(&origin, files, &seen.past, findings, &mut at)?;
            before += files.receipts_bytes;
            seen.naming_witnesses += walked.naming_witnesses;
            let (size, root) = (walked.tree.size(), walked.tree.root());
            let opened = walked.opened.take();
            seen.links.push(Link { origin: origin.clone(), size, root, opened });
            seen.past.keep(&origin, &mut walked);
            seen.reports.push(report);
        }
        Ok(seen)
    }

    /// Verifies one ledger.
    fn ledger(
        &self,
        origin: &Origin,
        files: &LedgerFiles,
        past: &Past,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(LedgerReport, Walked), AuditError> {
        let erased = erased_bodies(files, findings);
        let mut heads = read_heads(files, origin, self.register, self.witnesses, findings)?;
        self.witnesses.check_ledger(origin, self.register, findings);
        let stamped = check_stamps(files.stamps(), origin, &heads, self.authorities, findings)?;
        heads.sightings.stamped.extend(stamped.sightings);
        let timeline = Timeline::new(std::mem::take(&mut heads.sightings));
        let records = Records::of(files.records())?;
        let lens = Lens { register: self.register, origin, records: &records };
        let start = Walk::new(&lens, &timeline, past, &erased, findings);
        let walked = walk(&files.receipts(), start, progress)?;
        heads.check(&walked.tree, findings);
        self.check_witnessing(origin, &heads, &walked, findings);
        let waited = walked.waited();
        let size = heads.latest.as_ref().map_or(0, |head| head.size).min(walked.tree.size());
        let tiles = files.tiles().map(|dir| check_tiles(dir, size, &walked.tree, findings));
        let report = LedgerReport {
            origin: origin.to_string(),
            entries: walked.tree.size(),
            checkpoint_size: heads.latest.as_ref().map(|head| head.size),
            witnessed_size: heads.witnessed_size,
            root: walked.tree.root().hex(),
            kinds: walked.kinds.clone(),
            erased: walked.erased,
            checkpoints: heads.count,
            witnessed_checkpoints: heads.witnessed_count,
            tiles: tiles.transpose()?.unwrap_or(0),
            stamps: stamped.count,
            audit_records: records.count(),
            first_time: walked.first_time.map(UnixMillis::rfc3339),
            last_time: walked.last_time.map(UnixMillis::rfc3339),
            widest_interval_ms: walked.widest.map(|(width, _)| width),
            widest_interval_index: walked.widest.map(|(_, index)| index),
            longest_wait_ms: waited.map(|(waited, _)| waited),
            longest_wait_index: waited.map(|(_, index)| index),
        };
        Ok((report, walked))
    }

    /// Whether enough witnesses saw enough, and soon enough.
    fn check_witnessing(
        &self,
        origin: &Origin,
        heads: &Heads,
        walked: &Walked,
        findings: &mut Findings,
    ) {
        let entries = walked.tree.size();
        if !self.witnesses.asks() || entries == 0 {
            return;
        }
        match heads.witnessed_size {
            None => {
                findings.add("quorum", None, "no checkpoint has the cosignatures that it needs");
            }
            Some(size) if size < entries && self.chain.is_closed(origin) => {
                let text = "the ledger is closed, and no witnessed checkpoint covers its end";
                findings.add("quorum", Some(size), text);
            }
            Some(_) => {}
        }
        let Some(bound_ms) = self.bound_ms else { return };
        let waited =
            walked.waited().filter(|(waited, _)| *waited > bound_ms.saturating_add(SKEW_MS));
        if let Some((waited, index)) = waited {
            let text = format!(
                "it says that it was made {waited} ms before witnesses saw it, or the ledger went on so \
                 long without them; the published bound is {bound_ms} ms"
            );
            findings.add("bound", Some(index), text);
        }
    }
}

/// The register, believed or not: without trust the rest is still worth checking.
fn believed_register(
    folder: &Folder,
    trust: Option<&TrustFingerprint>,
    findings: &mut Findings,
) -> Result<KeyRegister, AuditError> {
    let Some(trust) = trust else {
        findings.add(
            "trust-missing",
            None,
            "no trust fingerprint was given: a ledger made anew with other keys would look the same",
        );
        return Ok(KeyRegister::parse(&folder.keys)?);
    };
    match KeyRegister::verify(&folder.keys, &folder.keys_signature, trust) {
        Ok(register) => Ok(register),
        Err(fault @ (KeyRegisterError::Untrusted | KeyRegisterError::Signature)) => {
            findings.add("keys", None, fault.to_string());
            Ok(KeyRegister::parse(&folder.keys)?)
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Which ledger files are of: as the folder is named, or as the checkpoint, the first receipt or the
/// register says. Whether that is true is for the signatures to show.
fn origin_of(files: &LedgerFiles, register: &KeyRegister) -> Result<Origin, AuditError> {
    if let Some(named) = &files.named {
        return Ok(named.clone());
    }
    if let Ok(head) = Checkpoint::peek(&files.checkpoint) {
        return Ok(head.origin);
    }
    let first = Lines::open(&files.receipts())?.batch()?;
    let first = String::from_utf8_lossy(first.line(0));
    let claimed = parse(&first).ok().map(|it| it.unverified_body().log.origin.clone());
    let ranges = register.keys().iter().flat_map(|key| &key.origins);
    claimed
        .as_deref()
        .into_iter()
        .chain(ranges.map(|range| range.origin.as_str()))
        .find_map(|text| Origin::try_from(text).ok())
        .ok_or(AuditError::NoOrigin)
}

fn erased_bodies(files: &LedgerFiles, findings: &mut Findings) -> Vec<ErasedBody> {
    parse_erasures(&files.erasures).unwrap_or_else(|| {
        findings.add("erasures", None, "erasures.json is not a list of erased bodies");
        Vec::new()
    })
}
