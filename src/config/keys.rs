//! Which keys are made, and where they are kept.

use std::path::{Path, PathBuf};

use super::ConfigFaults;
use super::raw::{RawHeld, RawKeys, RawPkcs11, RawReceiptAlg};
use crate::crypto::KeyKind;

/// Which keys are made, and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysConfig {
    /// The kind of the receipt keys that are made from now on.
    pub receipt_kind: KeyKind,
    /// A token, where some keys live in one.
    pub pkcs11: Option<Pkcs11Config>,
}

/// A PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each kind of key that a token may hold")]
pub struct Pkcs11Config {
    /// The module, a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token_label: String,
    /// The file with its PIN; a secret file.
    pub pin_file: PathBuf,
    /// Whether receipt keys live there.
    pub holds_receipt: bool,
    /// Whether ledger keys live there.
    pub holds_ledger: bool,
    /// Whether the root key lives there.
    pub holds_root: bool,
    /// Whether it seals the key-encryption keys that are made from now on.
    pub holds_kek: bool,
}

pub(super) fn check(raw: RawKeys, faults: &mut ConfigFaults) -> KeysConfig {
    let RawKeys { receipt_alg, pkcs11 } = raw;
    let receipt_kind = match receipt_alg {
        RawReceiptAlg::EdDsa => KeyKind::Ed25519,
        RawReceiptAlg::Es256 => KeyKind::P256,
    };
    KeysConfig { receipt_kind, pkcs11: pkcs11.map(|raw| check_pkcs11(raw, faults)) }
}

fn check_pkcs11(raw: RawPkcs11, faults: &mut ConfigFaults) -> Pkcs11Config {
    let RawPkcs11 { module, token_label, pin_file, holds } = raw;
    let mut given = |key, path: &Path| {
        if path.as_os_str().is_empty() {
            faults.add(key, "must not be empty");
        }
    };
    given("keys.pkcs11.module", &module);
    given("keys.pkcs11.pin_file", &pin_file);
    // A label is a field of 32 bytes, padded with spaces.
    if !(1..=LABEL_BYTES_MAX).contains(&token_label.len()) || token_label.ends_with(' ') {
        faults.add("keys.pkcs11.token_label", "must have 1 to 32 bytes and not end with a space");
    }
    if holds.is_empty() {
        faults.add("keys.pkcs11.holds", "must name at least one of receipt, ledger, root and kek");
    }
    Pkcs11Config {
        module,
        token_label,
        pin_file,
        holds_receipt: holds.contains(&RawHeld::Receipt),
        holds_ledger: holds.contains(&RawHeld::Ledger),
        holds_root: holds.contains(&RawHeld::Root),
        holds_kek: holds.contains(&RawHeld::Kek),
    }
}

const LABEL_BYTES_MAX: usize = 32;
