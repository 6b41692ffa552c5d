//! Tulga proves who stands at a cash terminal before cash moves, decides by the bank's rules, and
//! leaves a receipt that anyone can verify for ever.
//!
//! # The map
//!
//! | room | what it is for | may import (besides `domain`, `clock`, `crypto`) |
//! | --- | --- | --- |
//! | [`domain`] | nouns of the business; no I/O, no async | nothing |
//! | [`clock`] | time as an argument | `domain` only |
//! | [`crowd`] | callers counted by address: connections, calls a second | — |
//! | [`crypto`] | digests, HMAC, AEAD, signatures, randomness | `domain` only |
//! | [`capture`] | encoded picture to pixels, bounded | — |
//! | [`inference`] | models: manifest, digest-checked plans, tensors | — |
//! | [`face`] | detect, align, quality, liveness, embed | `capture`, `inference` |
//! | [`fingerprint`] | segment, quality, minutiae | `capture`, `inference` |
//! | [`matching`] | compare, fuse, calibrate, search | — |
//! | [`interchange`] | finger templates as other systems write them: ISO/IEC 19794-2, ANSI/INCITS 378 | — |
//! | [`policy`] | facts and rules give a decision | — |
//! | [`ledger`] | Merkle tree, notes, checkpoints, proofs | — |
//! | [`receipt`] | receipt bodies, issue, verification | `ledger` |
//! | [`witness`] | cosigns other gateways' ledgers: its rules and its memory | `ledger` |
//! | [`audit`] | verifies an exported ledger from outside | `ledger`, `receipt` |
//! | [`verifier`] | what the bank's host asks before it authorises, for Rust and C | `ledger`, `receipt` |
//! | [`report`] | reports to the regulators: their formats, what proves them | `receipt` |
//! | [`vault`] | seals templates and other secrets at rest | `store` |
//! | [`store`] | what is kept: traits, memory, SQL | — |
//! | [`synth`] | fingers of nobody, for fixtures, the demonstration and load tests | `capture` |
//! | [`evaluate`] | error rates with their protocol | `capture`, `inference`, `face`, `fingerprint`, `interchange`, `matching` |
//! | [`gateway`] | use cases, the sequencer, the vision pool | `capture`, `face`, `fingerprint`, `interchange`, `matching`, `policy`, `ledger`, `receipt`, `report`, `store`, `vault` |
//! | [`pki`] | development PKI, terminals' certificates | `gateway` (the trait it implements) |
//! | [`proto`] | generated wire types | — |
//! | [`grpc`] | the server's services and conversions | `crowd`, `gateway`, `proto`, `pki`; `capture` and `store` (nouns that `gateway` speaks in) |
//! | [`web`] | the HTTP side: a bounded server, the witness on it, the client of witnesses, the auditor's page | `crowd`, `gateway` (the trait it implements), `witness`, `ledger`, `config` |
//! | [`config`] | the checked configuration | `policy`, `capture`, `ledger` |
//! | [`telemetry`] | tracing set-up and redaction | `config` |
//! | [`app`] | composition root | everything |
//! | [`cli`] | the command line | everything |
//!
//! The law behind the last column, and behind which foreign crate may be named where, is
//! `tests/it/architecture.rs`.
//!
//! Without the feature `gateway` only `domain`, `clock`, `crypto`, `ledger`, `receipt` and `verifier` are
//! compiled: what a host needs that verifies receipts.

#![cfg_attr(test, allow(clippy::cast_precision_loss, reason = "rates of a handful of scores"))]

#[cfg(feature = "gateway")]
pub mod app;
#[cfg(feature = "gateway")]
pub mod audit;
#[cfg(feature = "gateway")]
pub mod capture;
#[cfg(feature = "gateway")]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line speaks on the standard streams"
)]
pub mod cli;
pub mod clock;
#[cfg(feature = "gateway")]
pub mod config;
#[cfg(feature = "gateway")]
pub mod crowd;
pub mod crypto;
pub mod domain;
#[cfg(feature = "gateway")]
pub mod evaluate;
#[cfg(feature = "gateway")]
pub mod face;
#[cfg(feature = "gateway")]
pub mod fingerprint;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
pub mod grpc;
#[cfg(feature = "gateway")]
pub mod inference;
#[cfg(feature = "gateway")]
pub mod interchange;
pub mod ledger;
#[cfg(feature = "gateway")]
pub mod matching;
#[cfg(feature = "gateway")]
pub mod pki;
#[cfg(feature = "gateway")]
pub mod policy;
#[cfg(feature = "gateway")]
pub mod proto;
pub mod receipt;
#[cfg(feature = "gateway")]
pub mod report;
#[cfg(feature = "gateway")]
pub mod store;
#[cfg(feature = "gateway")]
pub mod synth;
#[cfg(feature = "gateway")]
pub mod telemetry;
#[cfg(feature = "gateway")]
pub mod vault;
#[cfg(feature = "verifier")]
pub mod verifier;
#[cfg(feature = "gateway")]
pub mod web;
#[cfg(feature = "gateway")]
pub mod witness;
