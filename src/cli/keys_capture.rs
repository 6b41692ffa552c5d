//! `tulga keys rotate-capture-key`: the key that captures are sealed to, changed while the gateway serves.

use anyhow::Result;
use serde_json::json;
use tonic::transport::Channel;

use super::client::ClientArgs;
use crate::proto;
use crate::proto::key_service_client::KeyServiceClient;

#[derive(Debug, clap::Args)]
pub(super) struct RotateCaptureKey {
    /// How long the old key still opens captures; then it is destroyed
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    overlap_s: u32,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl RotateCaptureKey {
    pub const fn client(&self) -> &ClientArgs {
        &self.client
    }

    pub async fn run(&self, client: &mut KeyServiceClient<Channel>) -> Result<()> {
        let request = proto::RotateCaptureKeyRequest { overlap_s: self.overlap_s };
        let proto::RotateCaptureKeyResponse { key_id, receipt_jws } =
            client.rotate_capture_key(request).await?.into_inner();
        if self.json {
            let receipt = String::from_utf8_lossy(&receipt_jws);
            println!("{}", json!({ "key_id": key_id, "receipt": receipt }));
        } else {
            println!("captures are sealed to {key_id} from now on");
        }
        Ok(())
    }
}
