//! Tulga proves who stands at a cash terminal before cash moves, decides by the bank's rules, and
//! leaves a receipt that anyone can verify for ever.
//!
//! # The map
//!
//! | room | what it is for | may import (besides `domain`, `clock`, `crypto`) |
//! | --- | --- | --- |
//! | [`domain`] | nouns of the business; no I/O, no async | nothing |
//! | [`clock`] | time as an argument | `domain` only |
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
//! | [`report`] | reports to the regulators: their formats, what proves them | `receipt` |
//! | [`vault`] | seals templates and other secrets at rest | `store` |
//! | [`store`] | what is kept: traits, memory, SQL | — |
//! | [`synth`] | fingers of nobody, for fixtures, the demonstration and load tests | `capture` |
//! | [`evaluate`] | error rates with their protocol | `capture`, `inference`, `face`, `fingerprint`, `interchange`, `matching` |
//! | [`gateway`] | use cases, the sequencer, the vision pool | all above except `evaluate`, `synth`, `witness` and `audit` |
//! | [`pki`] | development PKI, terminals' certificates | `gateway` (the trait it implements) |
//! | [`proto`] | generated wire types | — |
//! | [`grpc`] | the server's services and conversions | `gateway`, `proto`, `pki`, and the nouns `gateway` speaks in |
//! | [`web`] | the HTTP side: a bounded server, the witness on it, the client of witnesses | `gateway` (the trait it implements), `witness`, `ledger`, `config` |
//! | [`config`] | the checked configuration | `policy`, `capture`, `ledger` |
//! | [`telemetry`] | tracing set-up and redaction | `config` |
//! | [`app`] | composition root | everything |
//! | [`cli`] | the command line | everything |
//!
//! The law behind the last column, and behind which foreign crate may be named where, is
//! `tests/it/architecture.rs`.

#![cfg_attr(test, allow(clippy::cast_precision_loss, reason = "rates of a handful of scores"))]

pub mod app;
pub mod audit;
pub mod capture;
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line speaks on the standard streams"
)]
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod evaluate;
pub mod face;
pub mod fingerprint;
pub mod gateway;
pub mod grpc;
pub mod inference;
pub mod interchange;
pub mod ledger;
pub mod matching;
pub mod pki;
pub mod policy;
pub mod proto;
pub mod receipt;
pub mod report;
pub mod store;
pub mod synth;
pub mod telemetry;
pub mod vault;
pub mod web;
pub mod witness;
