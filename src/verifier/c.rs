//! The same for C: `tulga_verifier.h` says what each function promises.
//!
//! Nothing unwinds into C, nothing is handed out but the verifier itself, and every text goes into memory
//! that the caller owns.
#![expect(unsafe_code, reason = "C hands over pointers; every block says why it may be believed")]

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::slice;

use super::{Authorised, Demand, FileTable, HostRefusal, HostVerifier, MemoryTable, ReplayTable};
use crate::domain::id::Attempt;
use crate::domain::time::UnixMillis;
use crate::receipt::{REGISTER_BYTES_MAX, Salt, TransactionFields, TrustFingerprint};

/// `tulga_demand`.
#[repr(C)]
#[derive(Debug)]
pub struct CDemand {
    host_transaction_id: *const c_char,
    business_date: *const c_char,
    attempt: u32,
    account: *const c_char,
    counterparty: *const c_char,
    terminal: *const c_char,
    operation: *const c_char,
    amount_minor: i64,
    currency: *const c_char,
}

/// `tulga_authorised`.
#[repr(C)]
#[derive(Debug)]
pub struct CAuthorised {
    amount_minor: i64,
    amount_max_minor: i64,
    time_ms: i64,
    index: u64,
    rid: [c_char; 24],
    origin: [c_char; 256],
}

/// A number of `tulga_code`, and what is said beside it.
struct Fault(c_int, String);

/// Makes a verifier; a null `replay_file` keeps what was redeemed in memory only.
///
/// # Safety
///
/// As `tulga_verifier.h` says: `keys_json` has `keys_json_len` bytes, texts end with a null byte, `verifier`
/// can be written, `error` has `error_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tulga_verifier_new(
    keys_json: *const u8,
    keys_json_len: usize,
    keys_signature: *const c_char,
    trust: *const c_char,
    audience: *const c_char,
    replay_file: *const c_char,
    now_ms: i64,
    verifier: *mut *mut HostVerifier,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let made = || {
        if verifier.is_null() {
            return Err(argument("verifier"));
        }
        // SAFETY: not null; the caller promises that it can be written.
        unsafe { verifier.write(std::ptr::null_mut()) };
        // SAFETY: the caller promises this length.
        let keys = unsafe { bytes(keys_json, keys_json_len, "keys_json") }?;
        // SAFETY: the caller promises that each is a text.
        let (signature, trust, audience) = unsafe {
            (
                text(keys_signature, "keys_signature"),
                text(trust, "trust"),
                text(audience, "audience"),
            )
        };
        let trust = TrustFingerprint::parse(trust?).map_err(|_| argument("trust"))?;
        let redeemed: Box<dyn ReplayTable> = if replay_file.is_null() {
            Box::new(MemoryTable::default())
        } else {
            // SAFETY: not null; the caller promises that it is a text.
            let path = unsafe { text(replay_file, "replay_file") }?;
            let table = FileTable::open(Path::new(path), UnixMillis::new(now_ms));
            Box::new(table.map_err(|fault| Fault(TABLE, chain(&fault)))?)
        };
        let made = HostVerifier::new(keys, signature?, trust, audience?, redeemed)
            .map_err(|fault| Fault(REGISTER, chain(&fault)))?;
        // SAFETY: as above.
        unsafe { verifier.write(Box::into_raw(Box::new(made))) };
        Ok(())
    };
    // SAFETY: the caller promises that `error` has this length.
    unsafe { guarded(made, error, error_len) }
}

/// Takes a newer register.
///
/// # Safety
///
/// As [`tulga_verifier_new`]; `verifier` is one that it made and that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tulga_verifier_replace_register(
    verifier: *const HostVerifier,
    keys_json: *const u8,
    keys_json_len: usize,
    keys_signature: *const c_char,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let replaced = || {
        // SAFETY: the caller promises a verifier of ours, this length, and a text.
        let (verifier, keys, signature) = unsafe {
            let keys = bytes(keys_json, keys_json_len, "keys_json")?;
            (verifier.as_ref(), keys, text(keys_signature, "keys_signature")?)
        };
        let verifier = verifier.ok_or_else(|| argument("verifier"))?;
        verifier.replace_register(keys, signature).map_err(|fault| Fault(REGISTER, chain(&fault)))
    };
    // SAFETY: the caller promises that `error` has this length.
    unsafe { guarded(replaced, error, error_len) }
}

/// Says once that the host may do what it is about to do.
///
/// # Safety
///
/// As [`tulga_verifier_new`]; `jws` has `jws_len` bytes, `salt` has 32, `demand` and its texts can be read,
/// `authorised` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tulga_verifier_verify(
    verifier: *const HostVerifier,
    jws: *const u8,
    jws_len: usize,
    salt: *const u8,
    demand: *const CDemand,
    now_ms: i64,
    authorised: *mut CAuthorised,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let asked = || {
        if authorised.is_null() {
            return Err(argument("authorised"));
        }
        // SAFETY: the caller promises a verifier of ours, a demand, and these lengths.
        let (verifier, demand, jws, salt) = unsafe {
            let (jws, salt) = (bytes(jws, jws_len, "jws")?, bytes(salt, 32, "salt")?);
            (verifier.as_ref(), demand.as_ref(), jws, salt)
        };
        let verifier = verifier.ok_or_else(|| argument("verifier"))?;
        let demand = demand.ok_or_else(|| argument("demand"))?;
        let jws = std::str::from_utf8(jws).map_err(|_| argument("jws"))?;
        let salt = Salt::try_from(salt).map_err(|_| argument("salt"))?;
        // SAFETY: the caller promises that the demand's texts can be read.
        let demand = unsafe { demand_of(demand) }?;
        let found = verifier
            .verify(jws, &salt, &demand, UnixMillis::new(now_ms))
            .map_err(|refusal| Fault(number(&refusal), chain(&refusal)))?;
        // SAFETY: not null; the caller promises that it can be written.
        unsafe { authorised.write(written(&found)) };
        Ok(())
    };
    // SAFETY: the caller promises that `error` has this length.
    unsafe { guarded(asked, error, error_len) }
}

/// Ends a verifier; null is left alone.
///
/// # Safety
///
/// `verifier` is one that [`tulga_verifier_new`] made and that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tulga_verifier_free(verifier: *mut HostVerifier) {
    if !verifier.is_null() {
        // SAFETY: the caller promises that it came from `Box::into_raw` and is given back once.
        let verifier = unsafe { Box::from_raw(verifier) };
        // What a drop could panic at is nothing of C's.
        drop(catch_unwind(AssertUnwindSafe(|| drop(verifier))));
    }
}

/// Runs what may fail; says how it failed. A panic is a fault like any other.
///
/// # Safety
///
/// `error` is null or has `error_len` bytes.
unsafe fn guarded(
    step: impl FnOnce() -> Result<(), Fault>,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let done = catch_unwind(AssertUnwindSafe(step));
    let Fault(number, said) = match done {
        Ok(Ok(())) => Fault(OK, String::new()),
        Ok(Err(fault)) => fault,
        Err(_) => Fault(INTERNAL, "the verifier failed; nothing was authorised".to_owned()),
    };
    if !error.is_null() && error_len > 0 {
        // SAFETY: the caller promises this length.
        put(unsafe { slice::from_raw_parts_mut(error, error_len) }, &said);
    }
    number
}

/// # Safety
///
/// `pointer` is null or has `length` bytes.
unsafe fn bytes<'a>(pointer: *const u8, length: usize, name: &str) -> Result<&'a [u8], Fault> {
    if pointer.is_null() || length > REGISTER_BYTES_MAX {
        return Err(argument(name));
    }
    // SAFETY: not null; the caller promises this length.
    Ok(unsafe { slice::from_raw_parts(pointer, length) })
}

/// # Safety
///
/// `pointer` is null or ends with a null byte.
unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Fault> {
    if pointer.is_null() {
        return Err(argument(name));
    }
    // SAFETY: not null; the caller promises that it ends.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| argument(name))
}

/// # Safety
///
/// Every text of the demand is null or ends with a null byte.
unsafe fn demand_of(demand: &CDemand) -> Result<Demand<'_>, Fault> {
    // SAFETY: the caller promises it of each.
    unsafe {
        let counterparty = if demand.counterparty.is_null() {
            None
        } else {
            Some(text(demand.counterparty, "counterparty")?)
        };
        Ok(Demand {
            transaction: TransactionFields {
                host_transaction_id: text(demand.host_transaction_id, "host_transaction_id")?,
                business_date: text(demand.business_date, "business_date")?,
                attempt: Attempt::try_from(demand.attempt).map_err(|_| argument("attempt"))?,
                account: text(demand.account, "account")?,
                counterparty,
            },
            terminal: text(demand.terminal, "terminal")?,
            operation: text(demand.operation, "operation")?,
            amount_minor: demand.amount_minor,
            currency: text(demand.currency, "currency")?,
        })
    }
}

fn written(found: &Authorised) -> CAuthorised {
    let body = found.receipt().body();
    let mut authorised = CAuthorised {
        amount_minor: found.amount_minor(),
        amount_max_minor: found.amount_max_minor(),
        time_ms: found.receipt().time().get(),
        index: body.log.index,
        rid: [0; 24],
        origin: [0; 256],
    };
    put(&mut authorised.rid, &body.rid);
    put(&mut authorised.origin, &body.log.origin);
    authorised
}

/// Writes as much of a text as there is room for, whole characters, and a null byte.
fn put(to: &mut [c_char], text: &str) {
    let room = to.len().saturating_sub(1);
    let end = text.floor_char_boundary(room);
    let ended = text.as_bytes().iter().take(end).chain(&[0]);
    for (to, from) in to.iter_mut().zip(ended) {
        *to = c_char::from_ne_bytes([*from]);
    }
}

fn argument(name: &str) -> Fault {
    Fault(ARGUMENT, format!("the argument {name} is null, too long or malformed"))
}

fn chain(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub(super) const fn number(refusal: &HostRefusal) -> c_int {
    match refusal {
        HostRefusal::Receipt(_) => 3,
        HostRefusal::NotDecision => 4,
        HostRefusal::Audience => 5,
        HostRefusal::Expired => 6,
        HostRefusal::NotYet => 7,
        HostRefusal::Commitment => 8,
        HostRefusal::Transaction(_) => 9,
        HostRefusal::Outcome => 10,
        HostRefusal::Amount => 11,
        HostRefusal::Redeemed => 12,
        HostRefusal::Table(_) => TABLE,
        HostRefusal::TooLong => 15,
        HostRefusal::Revoked => 16,
    }
}

const OK: c_int = 0;
const ARGUMENT: c_int = 1;
const REGISTER: c_int = 2;
const TABLE: c_int = 13;
const INTERNAL: c_int = 14;
