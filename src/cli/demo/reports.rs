//! What the regulators get at the end of the day: three reports, each verified by its seal.

use anyhow::{Context as _, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde_json::json;

use super::super::client::explain;
use super::super::report::fetch;
use super::stage::Stage;
use crate::crypto::sha256;
use crate::pki::Role;
use crate::proto::{MakeReportRequest, ReportFormat, ReportKind};
use crate::receipt::TrustFingerprint;
use crate::report::Seal;

/// The columns that a reader of the demonstration needs, of each report.
const SHOWN: [(ReportKind, &str, &[&str]); 3] = [
    (
        ReportKind::Suspicious,
        "suspicious operations (KZ-12)",
        &["terminal", "operation", "amount_minor", "outcome", "signs", "receipt_index"],
    ),
    (
        ReportKind::Totals,
        "cash turnover (KZ-14)",
        &["terminal", "operation", "currency", "approved", "approved_minor", "moved_minor"],
    ),
    (ReportKind::Failures, "failures (KZ-14)", &["terminal", "measure", "reason", "count", "of"]),
];

/// A report as it came, and whether its seal is good.
pub(super) struct Report {
    title: &'static str,
    columns: &'static [&'static str],
    content: Vec<u8>,
    rows: u64,
    index: u64,
}

/// Has all three made for today, and verifies each.
pub(super) async fn make(stage: &Stage<'_>, trust: &TrustFingerprint) -> Result<Vec<Report>> {
    let channel = stage.channel(Role::Oversight, "dev").await?;
    let mut reports = Vec::new();
    for (kind, title, columns) in SHOWN {
        let request = MakeReportRequest {
            kind: kind.into(),
            format: ReportFormat::Csv.into(),
            from: stage.today.clone(),
            to: stage.today.clone(),
        };
        let mut content = Vec::new();
        let seal = fetch(channel.clone(), request, &mut content).await?;
        let seal = seal.map_err(|status| anyhow::anyhow!("no report: {}", explain(&status)))?;
        let bytes = u64::try_from(content.len())?;
        let verified = Seal::parse(&seal.seal)?.verify(&sha256(&content), bytes, trust);
        let index = verified.with_context(|| format!("the seal of the report on {title}"))?.index;
        reports.push(Report { title, columns, content, rows: seal.rows, index });
    }
    Ok(reports)
}

impl Report {
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "report": self.title,
            "rows": self.rows,
            "receipt_index": self.index,
            "csv": String::from_utf8_lossy(&self.content),
        })
    }

    pub fn print(&self) -> Result<()> {
        let mut csv = csv::Reader::from_reader(self.content.as_slice());
        let header = csv.headers()?.clone();
        let places: Vec<_> = self
            .columns
            .iter()
            .filter_map(|column| header.iter().position(|name| name == *column))
            .collect();
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(places.iter().filter_map(|place| header.get(*place)));
        for record in csv.records() {
            let record = record?;
            table.add_row(places.iter().map(|place| record.get(*place).unwrap_or_default()));
        }
        println!("{}: {} rows, sealed by receipt {}", self.title, self.rows, self.index);
        println!("{table}");
        Ok(())
    }
}
