//! The source of reference images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use super::ConfigFaults;
use super::raw::RawReference;

/// A source of reference images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceConfig {
    /// Where the images come from.
    pub from: ReferenceFrom,
    /// Longest time for one.
    pub deadline: Duration,
}

/// Where reference images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceFrom {
    /// A folder of pictures.
    Files {
        /// The folder.
        dir: PathBuf,
    },
    /// A service that the bank serves.
    Service(ReferenceService),
}

/// A service of reference images, and the gateway's means to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceService {
    /// `https://`, host and port.
    pub url: String,
    /// The gateway's certificate for it, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM; a secret file.
    pub key: PathBuf,
    /// The authority of the service's certificate, PEM.
    pub authority: PathBuf,
}

/// The source, if one is configured.
pub(super) fn check(
    raw: RawReference,
    server_deadline_ms: u64,
    faults: &mut ConfigFaults,
) -> Option<ReferenceConfig> {
    let RawReference { dir, url, certificate, key, authority, deadline_ms } = raw;
    let deadline = faults.millis("reference.deadline_ms", deadline_ms, 100, 30_000);
    if (dir.is_some() || url.is_some()) && deadline_ms >= server_deadline_ms {
        faults.add("reference.deadline_ms", "must be less than server.deadline_ms");
    }
    if dir.is_some() && url.is_some() {
        faults.add("reference.url", "must not be set beside reference.dir: there is one source");
    }
    let needs_url = url.is_some();
    let certificate = file("reference.certificate", certificate, needs_url, faults);
    let key = file("reference.key", key, needs_url, faults);
    let authority = file("reference.authority", authority, needs_url, faults);
    if let Some(dir) = dir {
        if dir.as_os_str().is_empty() {
            faults.add("reference.dir", "must not be empty");
        }
        return Some(ReferenceConfig { from: ReferenceFrom::Files { dir }, deadline });
    }
    let url = url?;
    if !is_address(&url) {
        faults.add("reference.url", "must be https:// with a host, and nothing after its port");
    }
    let (certificate, key, authority) = (certificate?, key?, authority?);
    let service = ReferenceService { url, certificate, key, authority };
    Some(ReferenceConfig { from: ReferenceFrom::Service(service), deadline })
}

/// A file that a url needs, and that nothing else does.
fn file(
    name: &'static str,
    path: Option<PathBuf>,
    needs_url: bool,
    faults: &mut ConfigFaults,
) -> Option<PathBuf> {
    let is_empty = |path: &Path| path.as_os_str().is_empty();
    match &path {
        None if needs_url => faults.add(name, "must be set beside reference.url"),
        Some(_) if !needs_url => faults.add(name, "must not be set without reference.url"),
        Some(path) if is_empty(path) => faults.add(name, "must not be empty"),
        _ => {}
    }
    path
}

fn is_address(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    uri.scheme_str() == Some("https")
        && uri.host().is_some_and(|host| !host.is_empty())
        && !authority.contains('@')
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
}
