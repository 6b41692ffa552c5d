//! `tulga check-config`.

use std::process::ExitCode;

use anyhow::Context as _;

use super::USAGE;
use crate::app;
use crate::config::Config;

/// Loads models, rules and keys as serving would; 64 when something cannot be used.
pub(super) fn run(config: &Config) -> ExitCode {
    match app::check(config).context("the configuration cannot be served with") {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tulga: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}
