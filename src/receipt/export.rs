//! What an export of a ledger consists of: file names, and the form of those that are not receipts,
//! checkpoints or the register.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::strict_json;
use crate::crypto::Digest;
use crate::ledger::LeafHash;

/// Receipts, one JWS a line, in the order of their indices. An erased body has no line.
pub const RECEIPTS_FILE: &str = "receipts.jws";
/// The latest signed checkpoint.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// All kept signed checkpoints, one behind the other with a blank line between, oldest first.
pub const CHECKPOINTS_FILE: &str = "checkpoints";
/// The key register.
pub const KEYS_FILE: &str = "keys.json";
/// The root key's signature of the register.
pub const KEYS_SIGNATURE_FILE: &str = "keys.json.sig";
/// Leaf hashes of erased bodies.
pub const ERASURES_FILE: &str = "erasures.json";

/// The signed list of closed ledgers; absent while none was closed.
pub const LOG_OF_LOGS_FILE: &str = "log-of-logs";
/// Which witnesses must have cosigned (c2sp.org/tlog-policy); absent where none is configured.
pub const POLICY_FILE: &str = "policy";
/// The folder of tiles (c2sp.org/tlog-tiles).
pub const TILE_FOLDER: &str = "tile";
/// The folder of RFC 3161 time-stamps of checkpoints, `<size>.tsr`.
pub const TSA_FOLDER: &str = "tsa";
/// The folder of salted audit records, each named by its receipt's index.
pub const AUDIT_FOLDER: &str = "audit";

/// Every file of an export of one ledger without tiles and time-stamps.
pub const EXPORT_FILES: [&str; 6] = [
    RECEIPTS_FILE,
    CHECKPOINT_FILE,
    CHECKPOINTS_FILE,
    KEYS_FILE,
    KEYS_SIGNATURE_FILE,
    ERASURES_FILE,
];

/// Longest `erasures.json` read, in bytes.
pub const ERASURES_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A receipt whose body was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErasedBody {
    /// Where it stood.
    pub index: u64,
    /// The index of the `erasure` receipt that lists it.
    pub erasure: u64,
    /// Its leaf hash, which stays.
    pub leaf: LeafHash,
}

/// The bytes of `erasures.json`: `{"erased":[{"index","erasure","leaf"}]}`, the leaf in base64.
///
/// # Errors
///
/// What `serde_json` says; texts and integers always can be written.
pub fn erasures_json(bodies: &[ErasedBody]) -> Result<String, serde_json::Error> {
    let erased = bodies.iter().map(|body| WireErased {
        index: body.index,
        erasure: body.erasure,
        leaf: STANDARD.encode(body.leaf.digest().as_bytes()),
    });
    serde_json::to_string(&WireErasures { erased: erased.collect() }).map(|json| json + "\n")
}

/// Reads `erasures.json`; indices must rise. None for anything that [`erasures_json`] would not
/// write.
#[must_use]
pub fn parse_erasures(bytes: &[u8]) -> Option<Vec<ErasedBody>> {
    let value = strict_json::parse(bytes).ok()?;
    let WireErasures { erased } = WireErasures::deserialize(&value).ok()?;
    let bodies = erased.into_iter().map(|WireErased { index, erasure, leaf }| {
        let leaf = STANDARD.decode(leaf).ok()?;
        let leaf = LeafHash::new(Digest::try_from(leaf.as_slice()).ok()?);
        Some(ErasedBody { index, erasure, leaf })
    });
    let bodies: Vec<ErasedBody> = bodies.collect::<Option<_>>()?;
    bodies.is_sorted_by(|a, b| a.index < b.index).then_some(bodies)
}

#[derive(Serialize, Deserialize)]
struct WireErasures {
    erased: Vec<WireErased>,
}

#[derive(Serialize, Deserialize)]
struct WireErased {
    index: u64,
    erasure: u64,
    leaf: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::leaf_hash;

    #[test]
    fn erasures_survive_their_text_and_nothing_else_is_read() {
        let body = |index| ErasedBody { index, erasure: 9, leaf: leaf_hash("x") };
        let json = erasures_json(&[body(1), body(4)]).unwrap();
        assert_eq!(parse_erasures(json.as_bytes()), Some(vec![body(1), body(4)]));
        assert_eq!(parse_erasures(erasures_json(&[]).unwrap().as_bytes()), Some(vec![]));
        let falling = erasures_json(&[body(4), body(1)]).unwrap();
        let twice = erasures_json(&[body(1), body(1)]).unwrap();
        for bad in ["", "{}", "[]", &falling, &twice, &json.replace("=\"", "\"")] {
            assert_eq!(parse_erasures(bad.as_bytes()), None, "{bad}");
        }
    }
}
