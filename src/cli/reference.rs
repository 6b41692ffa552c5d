//! `tulga reference name`: how the pictures of a folder of reference images are named.

use std::io::{BufRead, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use super::{REFUSED, USAGE};
use crate::config::Config;
use crate::domain::id::TenantId;
use crate::domain::iin::Iin;
use crate::gateway::reference_name;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Read IINs from the standard input, one a line, and print the name of each picture, without its
    /// ending (.jpg or .png); the first wrong line ends it
    Name {
        /// The bank, in place of the configured one
        #[arg(long)]
        tenant: Option<String>,
    },
}

pub(super) fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let Command::Name { tenant } = command;
    let tenant = match tenant.as_deref().map(TenantId::try_from) {
        None => config.identity.tenant.clone(),
        Some(Ok(tenant)) => tenant,
        Some(Err(fault)) => {
            eprintln!("tulga: --tenant: {fault}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let mut out = std::io::stdout().lock();
    let mut numbers = std::io::stdin().lock();
    for place in 1_u64.. {
        let Some(line) = line(&mut numbers)? else { break };
        match Iin::try_from(line.trim_end_matches(['\r', '\n'])) {
            Ok(iin) => writeln!(out, "{}", reference_name(&tenant, &iin))?,
            Err(fault) => {
                // Going on would give the next people's names to the wrong pictures.
                out.flush()?;
                eprintln!("tulga: line {place}: {fault}");
                return Ok(ExitCode::from(REFUSED));
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The next line, at most as much of it as shows that it is no number.
fn line(input: &mut impl BufRead) -> Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    input.by_ref().take(limit).read_until(b'\n', &mut line).context("the standard input")?;
    // What is no text is no number either.
    let text = || Zeroizing::new(String::from_utf8_lossy(&line).into_owned());
    Ok((!line.is_empty()).then(text))
}

/// A number and the end of a line have 14.
const LINE_BYTES_MAX: usize = 64;
