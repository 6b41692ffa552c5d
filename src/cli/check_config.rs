//! `tulga check-config`.

use std::process::ExitCode;

use anyhow::Context as _;

use super::USAGE;
use crate::app;
use crate::config::Config;

/// Loads models, rules and keys as serving would; 64 when something cannot be used.
pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    match app::check(config).context("the configuration cannot be served with") {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("tulga: {error:#}");
            Ok(ExitCode::from(USAGE))
        }
    }
}
