//! The configuration as it is written: exactly the TOML file, nothing checked but its shape.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole file. Whatever it leaves out has the value of [`RawConfig::default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    pub(super) server: RawServer,
    pub(super) paths: RawPaths,
    pub(super) identity: RawIdentity,
    pub(super) capture: RawCapture,
    pub(super) vision: RawVision,
    pub(super) enrolment: RawEnrolment,
    pub(super) four_eyes: RawFourEyes,
    pub(super) reference: RawReference,
    pub(super) challenge: RawChallenge,
    pub(super) receipt: RawReceipt,
    pub(super) rate: RawRate,
    pub(super) guests: RawGuests,
    pub(super) sensors: RawSensors,
    pub(super) ledger: RawLedger,
    pub(super) keys: RawKeys,
    pub(super) retention: RawRetention,
    pub(super) witnesses: RawWitnesses,
    pub(super) tsa: RawTsa,
    pub(super) log: RawLog,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: String,
    pub(super) deadline_ms: u64,
    pub(super) message_bytes_max: usize,
    pub(super) import_message_bytes_max: usize,
    pub(super) connections_max: usize,
    pub(super) connections_per_address_max: usize,
    pub(super) concurrent_streams_max: u32,
    pub(super) connection_age_s: u64,
    pub(super) first_call_ms: u64,
    pub(super) drain_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are the file's keys")]
pub(super) struct RawPaths {
    pub(super) data_dir: PathBuf,
    pub(super) models_dir: PathBuf,
    pub(super) policy_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIdentity {
    pub(super) tenant: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) origin: Option<String>,
    pub(super) time_zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are the file's keys")]
pub(super) struct RawCapture {
    pub(super) encoded_bytes_max: usize,
    pub(super) side_px_max: u32,
    pub(super) pixels_max: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawVision {
    pub(super) workers: usize,
    pub(super) queue_wait_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawEnrolment {
    pub(super) two_people: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFourEyes {
    pub(super) acts: Vec<String>,
    pub(super) expires_hours: u32,
    pub(super) delay_s: RawDelays,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDelays {
    pub(super) erasure: u32,
    pub(super) further_capture: u32,
    pub(super) template_import: u32,
    pub(super) principal_registration: u32,
    pub(super) principal_revocation: u32,
    pub(super) activation: u32,
    pub(super) unlock: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawReference {
    pub(super) dir: Option<PathBuf>,
    pub(super) url: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) authority: Option<PathBuf>,
    pub(super) deadline_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawChallenge {
    pub(super) ttl_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawReceipt {
    pub(super) valid_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRate {
    pub(super) per_terminal_per_minute: u32,
    pub(super) per_address_per_second: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLedger {
    pub(super) checkpoint_interval_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) receipt_alg: RawReceiptAlg,
    pub(super) pkcs11: Option<RawPkcs11>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RawReceiptAlg {
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "ES256")]
    Es256,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPkcs11 {
    pub(super) module: PathBuf,
    pub(super) token_label: String,
    pub(super) pin_file: PathBuf,
    pub(super) holds: Vec<RawHeld>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawHeld {
    Receipt,
    Ledger,
    Root,
    Kek,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRetention {
    pub(super) interval_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawWitnesses {
    pub(super) policy: Option<PathBuf>,
    pub(super) lapse_max_s: u64,
    pub(super) deadline_ms: u64,
    pub(super) tls_authority: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTsa {
    pub(super) url: Option<String>,
    pub(super) interval_s: u64,
    pub(super) authority: Option<PathBuf>,
    pub(super) deadline_ms: u64,
    pub(super) tls_authority: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) filter: String,
    pub(super) format: RawLogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLogFormat {
    Text,
    Json,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7443".to_owned(),
            deadline_ms: 8_000,
            message_bytes_max: 5 << 20,
            import_message_bytes_max: 24 << 20,
            connections_max: 4096,
            connections_per_address_max: 256,
            concurrent_streams_max: 64,
            connection_age_s: 3_600,
            first_call_ms: 30_000,
            drain_ms: 10_000,
        }
    }
}

impl Default for RawPaths {
    fn default() -> Self {
        Self { data_dir: "tulga-data".into(), models_dir: "models".into(), policy_dir: None }
    }
}

impl Default for RawIdentity {
    fn default() -> Self {
        Self {
            tenant: "dev".to_owned(),
            issuer: "localhost/tulga".to_owned(),
            audience: "localhost/host".to_owned(),
            origin: None,
            time_zone: "Asia/Almaty".to_owned(),
        }
    }
}

impl Default for RawCapture {
    fn default() -> Self {
        let limits = crate::capture::DecodeLimits::default();
        Self {
            encoded_bytes_max: limits.encoded_bytes_max,
            side_px_max: limits.side_px_max,
            pixels_max: limits.pixels_max,
        }
    }
}

impl Default for RawVision {
    fn default() -> Self {
        Self { workers: 0, queue_wait_ms: 2_000 }
    }
}

impl Default for RawFourEyes {
    fn default() -> Self {
        let acts = ["erasure", "further_capture", "template_import"];
        Self {
            acts: acts.map(str::to_owned).to_vec(),
            expires_hours: 72,
            delay_s: RawDelays::default(),
        }
    }
}

impl Default for RawReference {
    fn default() -> Self {
        Self {
            dir: None,
            url: None,
            certificate: None,
            key: None,
            authority: None,
            deadline_ms: 3_000,
        }
    }
}

impl Default for RawChallenge {
    fn default() -> Self {
        Self { ttl_ms: 60_000 }
    }
}

impl Default for RawReceipt {
    fn default() -> Self {
        Self { valid_ms: 90_000 }
    }
}

/// Who may be enrolled at a terminal to pay in to somebody else's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSensors {
    pub(super) capture_seen_hours: u32,
}

impl Default for RawSensors {
    fn default() -> Self {
        Self { capture_seen_hours: 24 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawGuests {
    pub(super) per_terminal_per_day: u32,
}

impl Default for RawGuests {
    fn default() -> Self {
        Self { per_terminal_per_day: 20 }
    }
}

impl Default for RawRate {
    fn default() -> Self {
        Self { per_terminal_per_minute: 60, per_address_per_second: 2_000 }
    }
}

impl Default for RawLedger {
    fn default() -> Self {
        Self { checkpoint_interval_ms: 1_000 }
    }
}

impl Default for RawRetention {
    fn default() -> Self {
        Self { interval_s: 3_600 }
    }
}

impl Default for RawWitnesses {
    fn default() -> Self {
        Self { policy: None, lapse_max_s: 900, deadline_ms: 5_000, tls_authority: None }
    }
}

impl Default for RawTsa {
    fn default() -> Self {
        Self {
            url: None,
            interval_s: 3_600,
            authority: None,
            deadline_ms: 10_000,
            tls_authority: None,
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: RawLogFormat::Text }
    }
}
