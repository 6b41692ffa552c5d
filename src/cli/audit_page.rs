//! `tulga audit page`: the auditor's page as a file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::web::AUDIT_PAGE;

#[derive(Debug, clap::Args)]
pub(super) struct PageArgs {
    /// File to write, which must not exist; without one the page goes to standard output
    file: Option<PathBuf>,
}

pub(super) fn run(args: &PageArgs) -> Result<ExitCode> {
    let Some(file) = &args.file else {
        print!("{AUDIT_PAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(AUDIT_PAGE.as_bytes()))
        .with_context(|| format!("{} cannot be written", file.display()))?;
    println!("{}: open it in a browser; it needs no network", file.display());
    Ok(ExitCode::SUCCESS)
}
