//! What the services make of a request's bytes, without a server: for fuzzing and its corpus.

use prost::Message;

use super::convert::request;
use crate::domain::id::TerminalId;

/// Whether these bytes are a request of `Verify` that the gateway would work on.
#[must_use]
pub fn verify(bytes: &[u8]) -> bool {
    sound(bytes, request::verify)
}

/// Whether these bytes are another request; `which` chooses its kind.
#[must_use]
pub fn other(which: u8, bytes: &[u8]) -> bool {
    let Ok(terminal) = TerminalId::try_from("ATM-1") else { return false };
    match which % 10 {
        0 => sound(bytes, request::begin_capture),
        1 => sound(bytes, request::request_exception),
        2 => sound(bytes, request::report_outcome),
        3 => sound(bytes, request::redeem),
        4 => sound(bytes, request::reverse),
        5 => sound(bytes, request::create_customer),
        6 => sound(bytes, request::import_row),
        7 => sound(bytes, |wire| request::decision_key(&terminal, wire)),
        8 => sound(bytes, request::begin_add_capture),
        _ => sound(bytes, request::add_capture),
    }
}

fn sound<W: Message + Default, T, E>(bytes: &[u8], parse: impl Fn(W) -> Result<T, E>) -> bool {
    W::decode(bytes).is_ok_and(|wire| parse(wire).is_ok())
}
