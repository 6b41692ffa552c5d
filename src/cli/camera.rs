//! A camera that signs what it takes, as the sensor of a terminal does: for the demonstration.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use prost::Message as _;
use tonic::transport::Channel;

use crate::clock::{Clock as _, SystemClock};
use crate::crypto::{Ed25519Key, Signer as _, SystemEntropy, sha256, spki_pem};
use crate::domain::id::{Challenge, SensorId, SensorKeyId, TerminalId};
use crate::domain::sensor::{SensorModality, SensorVerdict};
use crate::gateway::{Bound, CaptureFor, Envelope, envelope_message};
use crate::proto;
use crate::proto::sensor_service_client::SensorServiceClient;

/// A camera at a terminal, with a key in this program's memory.
pub(super) struct Camera {
    terminal: TerminalId,
    sensor: SensorId,
    key_id: SensorKeyId,
    key: Ed25519Key,
    counter: AtomicU64,
}

impl Camera {
    /// A camera with a key that nobody had before.
    pub fn new(terminal: &str) -> Result<Self> {
        let named = "a name of the demonstration";
        Ok(Self {
            terminal: TerminalId::try_from(terminal).context(named)?,
            sensor: SensorId::try_from(format!("CAM-{terminal}").as_str()).context(named)?,
            key_id: SensorKeyId::try_from(format!("cam-{}", terminal.to_lowercase()).as_str())
                .context(named)?,
            key: Ed25519Key::generate(&SystemEntropy)?,
            counter: AtomicU64::new(0),
        })
    }

    /// Registers it, as an administrator does with the public key that a maker gave.
    pub async fn register(&self, admin: Channel) -> Result<()> {
        let key = proto::SensorKey {
            key_id: self.key_id.as_str().to_owned(),
            public_key_pem: spki_pem(&self.key.public_key()),
            level: proto::SensorLevel::SoftwareKey.into(),
        };
        let request = proto::RegisterSensorRequest {
            terminal_id: self.terminal.as_str().to_owned(),
            sensor_id: self.sensor.as_str().to_owned(),
            modality: proto::Modality::Face.into(),
            key: Some(key),
            firmware: String::new(),
            camera: String::new(),
        };
        SensorServiceClient::new(admin).register_sensor(request).await?;
        Ok(())
    }

    /// The envelope of a picture, for the challenge in the answer of `BeginCapture`.
    pub fn sign(
        &self,
        opened: &proto::BeginCaptureResponse,
        image: &[u8],
    ) -> Result<proto::CaptureEnvelope> {
        let challenge = Challenge::try_from(opened.challenge.as_slice()).context("a challenge")?;
        // The answer has no map in it: encoded anew it is the bytes that were received.
        let answer = sha256(&opened.encode_to_vec());
        let envelope = Envelope {
            sensor: self.sensor.clone(),
            key_id: self.key_id.clone(),
            counter: self.counter.fetch_add(1, Ordering::SeqCst) + 1,
            captured_at: SystemClock.now(),
            verdict: SensorVerdict::None,
            signature: Vec::new(),
        };
        let bound = Bound {
            purpose: CaptureFor::Verification,
            challenge: &challenge,
            answer: &answer,
            terminal: &self.terminal,
            modality: SensorModality::Face,
            captures: &[sha256(image)],
        };
        let signature = self.key.sign(&envelope_message(&envelope, &bound))?;
        Ok(proto::CaptureEnvelope {
            sensor_id: envelope.sensor.as_str().to_owned(),
            key_id: envelope.key_id.as_str().to_owned(),
            counter: envelope.counter,
            captured_at_ms: envelope.captured_at.get(),
            verdict: proto::SensorVerdict::Unspecified.into(),
            signature,
        })
    }
}
