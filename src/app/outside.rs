//! Who vouches for the ledger from outside: witnesses and a time-stamping authority, as configured.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::config::{Config, TsaConfig, WitnessesConfig};
use crate::crypto::StampAuthorities;
use crate::gateway::{Postbox, Timestamping, Witnesses};
use crate::ledger::{POLICY_BYTES_MAX, TIMESTAMP_BYTES_MAX, WitnessPolicy, WitnessRecord};
use crate::web::client::HttpPostbox;

/// The ledger's witnesses, where there are any.
pub(super) fn witnesses(config: &Config) -> Result<Option<Witnesses>> {
    let Some(WitnessesConfig { policy, lapse_max, deadline, tls_authority }) = &config.witnesses
    else {
        return Ok(None);
    };
    let policy_text = read(policy, POLICY_BYTES_MAX)?;
    let file = policy.display();
    let policy = WitnessPolicy::parse(policy_text.as_bytes())
        .with_context(|| format!("{file} is no policy of witnesses"))?;
    if !policy.logs().is_empty() {
        bail!("{file} names a ledger: the gateway writes its own into the policy that it exports");
    }
    let tls_authority =
        tls_authority.as_deref().map(|path| read(path, PEM_BYTES_MAX)).transpose()?;
    let postbox = |record: &WitnessRecord| {
        let WitnessRecord { name, url, .. } = record;
        let url =
            url.as_deref().with_context(|| format!("{file}: the witness {name} has no URL"))?;
        let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        let postbox =
            HttpPostbox::new(&url, tls_authority.as_deref(), *deadline, WITNESS_ANSWER_BYTES_MAX)
                .with_context(|| format!("{file}: the URL of the witness {name}"))?;
        Ok(Arc::new(postbox) as Arc<dyn Postbox>)
    };
    let postboxes = policy.witnesses().iter().map(postbox).collect::<Result<_>>()?;
    let (lapse_max, patience) = (*lapse_max, *deadline);
    Ok(Some(Witnesses { policy, policy_text, postboxes, lapse_max, patience }))
}

/// The time-stamping authority, where there is one.
pub(super) fn timestamping(config: &Config) -> Result<Option<Timestamping>> {
    let Some(TsaConfig { url, interval, authority, deadline, tls_authority }) = &config.tsa else {
        return Ok(None);
    };
    let authorities = StampAuthorities::from_pem(&read(authority, PEM_BYTES_MAX)?)
        .with_context(|| format!("{}", authority.display()))?;
    let tls_authority =
        tls_authority.as_deref().map(|path| read(path, PEM_BYTES_MAX)).transpose()?;
    let postbox = HttpPostbox::new(url, tls_authority.as_deref(), *deadline, TIMESTAMP_BYTES_MAX)
        .with_context(|| format!("the time-stamping authority {url}"))?;
    Ok(Some(Timestamping { postbox: Arc::new(postbox), authorities, interval: *interval }))
}

/// The same without a connection, in lines.
pub(super) fn check(config: &Config) -> Result<Vec<String>> {
    let witnesses = match witnesses(config)? {
        Some(Witnesses { policy, lapse_max, .. }) => {
            let lapse = lapse_max.map_or("never".to_owned(), |max| format!("{} s", max.as_secs()));
            format!(
                "witnesses {}, not asked now; issuing stops after {lapse}",
                policy.witnesses().len()
            )
        }
        None => "witnesses none".to_owned(),
    };
    let timestamps = timestamping(config)?.map(|asked| asked.postbox.address());
    let timestamps = timestamps.unwrap_or_else(|| "none".to_owned());
    Ok(vec![witnesses, format!("tsa       {timestamps}")])
}

fn read(path: &Path, bytes_max: usize) -> Result<String> {
    let unreadable = || format!("{} cannot be read", path.display());
    let limit = u64::try_from(bytes_max)?;
    let mut text = String::new();
    let file = File::open(path).with_context(unreadable)?;
    let length = file.take(limit + 1).read_to_string(&mut text).with_context(unreadable)?;
    if length > bytes_max {
        bail!("{} is longer than {bytes_max} bytes", path.display());
    }
    Ok(text)
}

const PEM_BYTES_MAX: usize = 1 << 20;
/// A few signature lines.
const WITNESS_ANSWER_BYTES_MAX: usize = 64 << 10;
