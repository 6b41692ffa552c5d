//! `tulga template`: finger templates of other systems.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{REFUSED, USAGE};
use crate::config::Config;
use crate::domain::finger::{FingerPosition, MinutiaKind};
use crate::interchange::{
    Maker, MinutiaeRecord, RECORD_BYTES_MAX, RecordFormat, RecordView, foreign_model,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what a finger minutiae record holds, without its coordinates
    Show(Show),
    /// Take a record over, in place of captures of a finger
    Import(super::template_desk::Import),
    /// Give the enrolled impressions of a finger out as a record; an entry of the ledger says so
    Export(super::template_desk::Export),
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// A record of ISO/IEC 19794-2:2005 or ANSI/INCITS 378-2004
    file: PathBuf,
    /// Whose extractor made it: prints the model's name that the manifest's [[finger.foreign]] wants
    #[arg(long, value_name = "MAKER", value_parser = |name: &str| Maker::new(name))]
    maker: Option<Maker>,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(load: impl FnOnce() -> Result<Config>, command: &Command) -> Result<ExitCode> {
    match command {
        Command::Show(args) => show(args),
        Command::Import(args) => super::template_desk::import(&load()?, args),
        Command::Export(args) => super::template_desk::export(&load()?, args),
    }
}

fn show(Show { file, maker, json }: &Show) -> Result<ExitCode> {
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(fault) => {
            eprintln!("tulga: {fault:#}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let record = match MinutiaeRecord::parse(&bytes) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("tulga: {}: {error}", file.display());
            return Ok(ExitCode::from(REFUSED));
        }
    };
    if *json {
        println!("{}", serde_json::to_string_pretty(&as_json(&record, maker.as_ref()))?);
    } else {
        print(&record);
        if let Some(maker) = maker {
            println!("model of {maker}: {}", foreign_model(record.format(), maker));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file, and not more of it than shows that it is too long.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let most = RECORD_BYTES_MAX + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let file = File::open(path).with_context(unreadable)?;
    file.take(u64::try_from(most)?).read_to_end(&mut bytes).with_context(unreadable)?;
    Ok(bytes)
}

fn as_json(record: &MinutiaeRecord, maker: Option<&Maker>) -> Value {
    let views: Vec<Value> = record
        .views()
        .iter()
        .map(|view| {
            json!({
                "position": view.position().map(FingerPosition::as_str),
                "number": view.number(),
                "impression": view.impression().as_str(),
                "quality": view.quality(),
                "minutiae": view.minutiae().len(),
                "endings": count(view, MinutiaKind::Ending),
                "bifurcations": count(view, MinutiaKind::Bifurcation),
                "extended_bytes": view.extended_data().len(),
            })
        })
        .collect();
    let product = match record.format() {
        RecordFormat::Iso2005 => Value::Null,
        RecordFormat::Ansi2004 { product } => {
            json!({ "owner": product.owner, "type": product.kind })
        }
    };
    json!({
        "format": record.format().as_str(),
        "product": product,
        "device": record.device().number(),
        "size_px": record.size_px(),
        "pixels_per_cm": record.pixels_per_cm(),
        "views": views,
        "model": maker.map(|maker| foreign_model(record.format(), maker).to_string()),
    })
}

fn print(record: &MinutiaeRecord) {
    let ([width, height], [across, down]) = (record.size_px(), record.pixels_per_cm());
    println!(
        "{}: {width} by {height} pixels at {across} by {down} a centimetre, device {}",
        record.format().as_str(),
        record.device().number()
    );
    match record.format() {
        RecordFormat::Iso2005 => println!("the record does not say who made it"),
        RecordFormat::Ansi2004 { product } => {
            println!("made by CBEFF product {:04x}:{:04x}", product.owner, product.kind);
        }
    }
    let mut table = Table::new();
    table.set_header([
        "finger",
        "view",
        "impression",
        "quality",
        "minutiae",
        "endings",
        "bifurcations",
        "extended bytes",
    ]);
    for view in record.views() {
        table.add_row([
            view.position().map_or("unknown", FingerPosition::as_str).to_owned(),
            view.number().to_string(),
            view.impression().as_str().to_owned(),
            view.quality().map_or_else(|| "not told".to_owned(), |quality| quality.to_string()),
            view.minutiae().len().to_string(),
            count(view, MinutiaKind::Ending).to_string(),
            count(view, MinutiaKind::Bifurcation).to_string(),
            view.extended_data().len().to_string(),
        ]);
    }
    println!("{table}");
}

fn count(view: &RecordView, kind: MinutiaKind) -> usize {
    view.minutiae().iter().filter(|minutia| minutia.kind() == kind).count()
}
