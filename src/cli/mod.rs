//! The command line: one file a subcommand.
//!
//! Exit codes: 0 good, 1 refused or denied, 64 usage or configuration, 66 what it would need is no longer there,
//! 70 internal.

mod activate;
mod audit;
mod audit_fetch;
mod audit_page;
pub mod audit_reconcile;
mod audit_replay;
mod audit_report;
pub mod audit_verify;
mod audit_words;
mod bench;
mod camera;
mod characteristic;
mod check_config;
mod client;
mod customer;
mod demo;
mod enroll;
pub mod evaluate;
pub mod evaluate_finger;
mod keys;
mod keys_capture;
mod keys_kek;
mod models;
mod policy;
mod policy_backtest;
mod policy_desk;
mod policy_look;
mod principals;
mod proposals;
mod reference;
mod register;
mod report;
mod retention;
mod seal;
mod sensor;
mod serve;
mod synth;
mod template;
mod template_desk;
mod terminal;
mod verify;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, ConfigFaults};
use crate::inference::IsaError;

/// The version, and a warning where the program has the test doubles.
const VERSION: &str = if cfg!(feature = "test-support") {
    concat!(env!("CARGO_PKG_VERSION"), " with test-support: never deploy this")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Denied, refused, or findings.
pub(super) const REFUSED: u8 = 1;
/// A wrong command line or configuration.
pub(super) const USAGE: u8 = 64;
/// What it would need is no longer there: nothing was found out, neither good nor bad.
pub(super) const GONE: u8 = 66;
/// Everything else.
pub(super) const INTERNAL: u8 = 70;

/// Proves who stands at a cash terminal before cash moves, and leaves a receipt that anyone can verify.
#[derive(Debug, Parser)]
#[command(name = "tulga", version = VERSION, about, max_term_width = 100)]
struct Arguments {
    /// Configuration file; without one the defaults of config/example.toml hold
    #[arg(long, global = true, env = "TULGA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Args),
    /// Make the data folder: development certificates, keys, the signed key register
    Init,
    /// Watch a scripted day at a cash terminal, on real photographs and models
    Demo(demo::Args),
    /// Enrol a person from pictures of their face and fingers
    Enroll(enroll::Args),
    /// Activate a customer whom somebody else enrolled and who waits for a second person
    Activate(activate::Args),
    /// Unlock and erase customers, and end consents that are withdrawn
    #[command(subcommand)]
    Customer(customer::Command),
    /// Verify a person at a terminal, as the terminal would
    Verify(verify::Args),
    /// Register, revoke and list terminals
    #[command(subcommand)]
    Terminal(terminal::Command),
    /// Register, rotate, suspend and revoke the sensors that sign captures
    #[command(subcommand)]
    Sensor(sensor::Command),
    /// List, register and revoke the people who act in the bank's name
    #[command(subcommand)]
    Principals(principals::Command),
    /// List, approve and withdraw what takes two people
    #[command(subcommand)]
    Proposals(proposals::Command),
    /// Export, verify and read the ledger
    #[command(subcommand)]
    Audit(audit::Command),
    /// List, rotate and revoke the keys that sign, and rotate the one that all at rest is wrapped under
    #[command(subcommand)]
    Keys(keys::Command),
    /// Verify or rebuild the models
    #[command(subcommand)]
    Models(models::Command),
    /// Check, compare, sign, approve and activate packs of rules
    #[command(subcommand)]
    Policy(policy::Command),
    /// Make reports to the regulators, and verify them
    #[command(subcommand)]
    Report(report::Command),
    /// Say what is due to be destroyed, or destroy it
    #[command(subcommand)]
    Retention(retention::Command),
    /// Build a folder of reference images
    #[command(subcommand)]
    Reference(reference::Command),
    /// Import and list registers: hotlists, droppers, unlicensed platforms
    #[command(subcommand)]
    Register(register::Command),
    /// Look at finger templates of other systems
    #[command(subcommand)]
    Template(template::Command),
    /// Make pictures of fingers that nobody has
    #[command(subcommand)]
    Synth(synth::Command),
    /// Measure error rates on pictures of known people
    #[command(subcommand)]
    Evaluate(Evaluate),
    /// Measure a gateway under load
    #[command(subcommand)]
    Bench(bench::Command),
    /// Run a witness of other gateways' ledgers
    #[command(subcommand)]
    Witness(witness::Command),
    /// Load everything that serving needs, without a port
    CheckConfig,
}

#[derive(Debug, Subcommand)]
enum Evaluate {
    /// Faces: a folder of one folder a person
    Face(evaluate::Args),
    /// Fingers: folders of prints named as the FVC competitions name them
    Finger(evaluate_finger::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let usage = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            // Nowhere is left to complain to when the terminal is gone.
            drop(error.print());
            return usage;
        }
    };
    run(arguments).unwrap_or_else(|error| {
        eprintln!("tulga: {error:#}");
        let faulty = error.chain().any(|cause| {
            cause.is::<ConfigError>() || cause.is::<ConfigFaults>() || cause.is::<IsaError>()
        });
        ExitCode::from(if faulty { USAGE } else { INTERNAL })
    })
}

fn run(Arguments { config, command }: Arguments) -> anyhow::Result<ExitCode> {
    let load = || match &config {
        Some(path) => Config::load(path),
        None => Config::from_toml(""),
    };
    match command {
        Command::Serve(args) => serve::run(&load()?, &args),
        Command::Init => serve::init(&load()?),
        Command::Demo(args) => demo::run(load()?, args),
        Command::Enroll(args) => enroll::run(&load()?, args),
        Command::Activate(args) => activate::run(&load()?, &args),
        Command::Customer(command) => customer::run(&load()?, &command),
        Command::Verify(args) => verify::run(&load()?, args),
        Command::Terminal(command) => terminal::run(&load()?, &command),
        Command::Sensor(command) => sensor::run(&load()?, &command),
        Command::Principals(command) => principals::run(&load()?, &command),
        Command::Proposals(command) => proposals::run(&load()?, &command),
        Command::Audit(command) => audit::run(&load()?, command),
        Command::Keys(command) => keys::run(&load()?, command),
        Command::Models(command) => models::run(&load()?, &command),
        Command::Policy(command) => policy::run(|| Ok(load()?), &command),
        Command::Report(command) => report::run(&load()?, command),
        Command::Retention(command) => retention::run(&load()?, &command),
        Command::Reference(command) => reference::run(&load()?, &command),
        Command::Register(command) => register::run(&load()?, command),
        Command::Template(command) => template::run(|| Ok(load()?), &command),
        Command::Synth(command) => synth::run(&command),
        Command::Evaluate(Evaluate::Face(args)) => evaluate::run(args),
        Command::Evaluate(Evaluate::Finger(args)) => evaluate_finger::run(args),
        Command::Bench(command) => bench::run(&load()?, command),
        Command::Witness(command) => witness::run(config.as_deref(), command),
        Command::CheckConfig => Ok(check_config::run(&load()?)),
    }
}

/// The runtime of the gateway and of its clients.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
