//! `tulga keys rotate-kek|retire-kek`: the key-encryption key, changed while the gateway serves.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::client::ClientArgs;
use crate::proto;
use crate::proto::key_service_client::KeyServiceClient;
use crate::receipt::parse;

/// Keys wrapped anew between two commits: a decision that comes meanwhile waits a few milliseconds.
const AT_ONCE: u32 = 500;

type Client = KeyServiceClient<Channel>;

#[derive(Debug, clap::Args)]
pub(super) struct RotateKek {
    /// Destroy the old key in the end, if nothing is wrapped under it
    #[arg(long)]
    retire: bool,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RetireKek {
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl RotateKek {
    pub const fn client(&self) -> &ClientArgs {
        &self.client
    }

    pub async fn run(&self, client: &mut Client) -> Result<()> {
        let request = proto::BeginKekRotationRequest {};
        let begun = client.begin_kek_rotation(request).await?.into_inner();
        let proto::BeginKekRotationResponse { kek_id, name, home, left, receipt_jws } = begun;
        if !self.json {
            let how = if receipt_jws.is_empty() { "was made current before" } else { "is current" };
            println!("{name} ({kek_id}, {home}) {how}; {left} keys to wrap anew");
        }
        let ended = rewrap(client, left, self.json).await?;
        let receipts = [receipt_jws, ended.receipt_jws];
        let old = if self.retire { retired(client).await? } else { Vec::new() };
        if self.json {
            let machine = json!({
                "kek_id": kek_id, "name": name, "home": home, "rewrapped": ended.rewrapped,
                "receipts": texts(&receipts)?, "old": machines(&old)?,
            });
            println!("{machine}");
            return Ok(());
        }
        println!("{} keys were wrapped anew; none is left", ended.rewrapped);
        entries(&receipts)?;
        if self.retire {
            return told(&old);
        }
        println!("the old key is kept, for backups; `tulga keys retire-kek` destroys it");
        Ok(())
    }
}

impl RetireKek {
    pub const fn client(&self) -> &ClientArgs {
        &self.client
    }

    pub async fn run(&self, client: &mut Client) -> Result<()> {
        let old = retired(client).await?;
        if self.json {
            println!("{}", json!({ "old": machines(&old)? }));
            return Ok(());
        }
        if old.is_empty() {
            println!("there is no old key-encryption key");
        }
        told(&old)
    }
}

/// Wraps batch by batch until nothing is left; in all how many, and the last receipt.
async fn rewrap(client: &mut Client, left: u64, json: bool) -> Result<proto::RewrapKeysResponse> {
    let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(left) };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} keys {eta}")?);
    let mut all = proto::RewrapKeysResponse::default();
    loop {
        let request = proto::RewrapKeysRequest { at_most: AT_ONCE };
        let batch = client.rewrap_keys(request).await?.into_inner();
        all.rewrapped += batch.rewrapped;
        bar.set_length(all.rewrapped + batch.left);
        bar.set_position(all.rewrapped);
        if batch.left == 0 {
            bar.finish_and_clear();
            all.receipt_jws = batch.receipt_jws;
            return Ok(all);
        }
    }
}

async fn retired(client: &mut Client) -> Result<Vec<proto::OldKek>> {
    Ok(client.retire_keks(proto::RetireKeksRequest {}).await?.into_inner().keks)
}

fn told(old: &[proto::OldKek]) -> Result<()> {
    for proto::OldKek { name, needed_by, receipt_jws } in old {
        if *needed_by > 0 {
            println!(
                "{name} is kept: {needed_by} keys are wrapped under it; run `tulga keys rotate-kek`"
            );
        } else {
            println!("{name} is destroyed: nothing is wrapped under it");
        }
        entries(std::slice::from_ref(receipt_jws))?;
    }
    Ok(())
}

/// Says which entries of the ledger say so.
fn entries(receipts: &[Vec<u8>]) -> Result<()> {
    for receipt in texts(receipts)? {
        let log = parse(&receipt)?.unverified_body().log.clone();
        println!("entry {} of {} says so", log.index, log.origin);
    }
    Ok(())
}

fn texts(receipts: &[Vec<u8>]) -> Result<Vec<String>> {
    let given = receipts.iter().filter(|receipt| !receipt.is_empty());
    Ok(given.map(|receipt| String::from_utf8(receipt.clone())).collect::<Result<_, _>>()?)
}

fn machines(old: &[proto::OldKek]) -> Result<Vec<Value>> {
    let machine = |kek: &proto::OldKek| {
        let receipts = texts(std::slice::from_ref(&kek.receipt_jws))?;
        Ok(json!({ "name": kek.name, "needed_by": kek.needed_by, "receipts": receipts }))
    };
    old.iter().map(machine).collect()
}
