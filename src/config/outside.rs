//! Who vouches for the ledger from outside: witnesses, and a time-stamping authority.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use super::ConfigFaults;
use super::raw::{RawTsa, RawWitnesses};

/// The ledger's witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessesConfig {
    /// The tlog-policy file that names them, with their addresses and the quorum.
    pub policy: PathBuf,
    /// How long the gateway issues receipts without a quorum of cosignatures; none for as long as it
    /// takes.
    pub lapse_max: Option<Duration>,
    /// Longest time for one witness's answer.
    pub deadline: Duration,
    /// The authority of the witnesses' TLS certificates, PEM.
    pub tls_authority: Option<PathBuf>,
}

/// A time-stamping authority (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsaConfig {
    /// Where it is asked, `http://` or `https://`.
    pub url: String,
    /// From one token to the next.
    pub interval: Duration,
    /// The authorities that its certificates lead to, PEM.
    pub authority: PathBuf,
    /// Longest time for one answer.
    pub deadline: Duration,
    /// The authority of its TLS certificate, PEM.
    pub tls_authority: Option<PathBuf>,
}

pub(super) fn check_witnesses(
    raw: RawWitnesses,
    faults: &mut ConfigFaults,
) -> Option<WitnessesConfig> {
    let RawWitnesses { policy, lapse_max_s, deadline_ms, tls_authority } = raw;
    let deadline = faults.millis("witnesses.deadline_ms", deadline_ms, 100, 60_000);
    let lapse_max_s = faults.within("witnesses.lapse_max_s", lapse_max_s, 0, 30 * 86_400);
    if (1..10).contains(&lapse_max_s) {
        faults.add("witnesses.lapse_max_s", "must be 0, for never, or at least 10");
    }
    not_empty("witnesses.tls_authority", tls_authority.as_deref(), faults);
    not_empty("witnesses.policy", policy.as_deref(), faults);
    let lapse_max = (lapse_max_s > 0).then(|| Duration::from_secs(lapse_max_s));
    Some(WitnessesConfig { policy: policy?, lapse_max, deadline, tls_authority })
}

pub(super) fn check_tsa(raw: RawTsa, faults: &mut ConfigFaults) -> Option<TsaConfig> {
    let RawTsa { url, interval_s, authority, deadline_ms, tls_authority } = raw;
    let deadline = faults.millis("tsa.deadline_ms", deadline_ms, 100, 60_000);
    let interval_s = faults.within("tsa.interval_s", interval_s, 1, 7 * 86_400);
    not_empty("tsa.authority", authority.as_deref(), faults);
    not_empty("tsa.tls_authority", tls_authority.as_deref(), faults);
    match (&url, &authority) {
        (Some(_), None) => faults.add("tsa.authority", "must be set beside tsa.url"),
        (None, Some(_)) => faults.add("tsa.url", "must be set beside tsa.authority"),
        _ => {}
    }
    if url.as_deref().is_some_and(|url| !is_url(url)) {
        faults.add("tsa.url", "must be http:// or https:// with a host");
    }
    let interval = Duration::from_secs(interval_s);
    Some(TsaConfig { url: url?, interval, authority: authority?, deadline, tls_authority })
}

fn not_empty(key: &'static str, path: Option<&Path>, faults: &mut ConfigFaults) {
    if path.is_some_and(|path| path.as_os_str().is_empty()) {
        faults.add(key, "must not be empty");
    }
}

fn is_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}
