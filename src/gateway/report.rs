//! Reports to the regulators: made of plain rows, day by day, sent in pieces, sealed by a ledger entry.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::Gateway;
use super::act::receipt_actor;
use super::error::GatewayError;
use super::request::{Actor, Logged};
use crate::crypto::{Digest, Sha256};
use crate::domain::time::{BusinessDate, UnixMillis};
use crate::domain::turnover::BankZone;
use crate::receipt::{Administration, Content};
use crate::report::{ACT, Cell, ReportHeader, ReportWriter, Seal, header_digest};
use crate::store::{ApprovedSum, OutcomeCount, VerificationRow};

pub use crate::report::{ReportFormat, ReportKind};

/// Longest span of a report: ten years.
const DAYS_MAX: usize = 3660;

/// Most rows of a report.
const ROWS_MAX: u64 = 5_000_000;

/// Rows read at a time.
const PAGE: u32 = 5_000;

/// A piece is sent once it has this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The kind of entry that an alternative to a biometric has.
const EXCEPTION: &str = "exception";

/// Which report is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MakeReport {
    /// What is reported.
    pub kind: ReportKind,
    /// How it is written.
    pub format: ReportFormat,
    /// The first day.
    pub from: BusinessDate,
    /// The last day, included.
    pub to: BusinessDate,
}

/// A piece of a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportPiece {
    /// The next bytes.
    pub content: Vec<u8>,
    /// Days that are done.
    pub days_done: u32,
    /// Days in all.
    pub days: u32,
}

/// What proves a report that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedReport {
    /// The seal's file.
    pub seal: Vec<u8>,
    /// The entry that says that it was made.
    pub entry: Logged,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its days.
    pub days: u32,
}

/// One of the bank's days, as far as it has passed.
struct Day {
    name: BusinessDate,
    from: UnixMillis,
    until: UnixMillis,
}

/// The days of a report, each as far as it has passed.
fn days_of(
    request: &MakeReport,
    zone: &BankZone,
    now: UnixMillis,
) -> Result<Vec<Day>, GatewayError> {
    let invalid = |field, problem| GatewayError::Invalid { field, problem };
    let MakeReport { from, to, .. } = request;
    if to < from {
        return Err(invalid("to", "it is before the first day"));
    }
    let mut days: Vec<Day> = Vec::new();
    let mut name = from.clone();
    loop {
        let (start, end) =
            zone.bounds(&name).ok_or(invalid("from", "it is beyond the calendar"))?;
        if start > now {
            return Err(invalid("to", "it is in the future"));
        }
        if days.len() >= DAYS_MAX {
            return Err(invalid("to", "there are more than 3660 days"));
        }
        let is_last = name >= *to;
        let next = zone.day(end);
        days.push(Day { name, from: start, until: end.min(now) });
        if is_last {
            return Ok(days);
        }
        name = next.ok_or(invalid("to", "it is beyond the calendar"))?;
    }
}

/// Collects what was written until there is enough to send.
struct Sink<'a> {
    writer: ReportWriter,
    hash: Sha256,
    bytes: u64,
    buffer: String,
    out: &'a mpsc::Sender<ReportPiece>,
    days_done: u32,
    days: u32,
}

impl Sink<'_> {
    async fn row(&mut self, cells: &[Cell]) -> Result<(), GatewayError> {
        if self.writer.rows() >= ROWS_MAX {
            return Err(GatewayError::Invalid {
                field: "to",
                problem: "there are more than 5,000,000 rows: ask for fewer days",
            });
        }
        let row = self.writer.row(cells);
        self.text(&row).await
    }

    async fn text(&mut self, text: &str) -> Result<(), GatewayError> {
        self.buffer.push_str(text);
        if self.buffer.len() < PIECE_BYTES { Ok(()) } else { self.send().await }
    }

    async fn send(&mut self) -> Result<(), GatewayError> {
        let content = std::mem::take(&mut self.buffer).into_bytes();
        self.hash.update(&content);
        self.bytes += u64::try_from(content.len()).unwrap_or(u64::MAX);
        let (days_done, days) = (self.days_done, self.days);
        let piece = ReportPiece { content, days_done, days };
        let gone = |_| GatewayError::State("the caller of the report is gone");
        self.out.send(piece).await.map_err(gone)
    }
}

impl Gateway {
    /// Makes a report; its pieces go out while it is made. The receiver is bounded: a slow one slows the
    /// reading, and one that is gone ends it, without an entry.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] for days that cannot be reported on, [`GatewayError::Overloaded`] while
    /// others are being made.
    pub async fn report(
        &self,
        actor: &Actor,
        request: &MakeReport,
        out: &mpsc::Sender<ReportPiece>,
    ) -> Result<SealedReport, GatewayError> {
        let _turn = self.reports.try_acquire().map_err(|_| GatewayError::Overloaded)?;
        let now = self.clock.now();
        let days = days_of(request, &self.settings.zone, now)?;
        let (origin, ledger_size) = self.view.read(|origin, _, size| (origin.clone(), size))?;
        let MakeReport { kind, format, from, to } = request;
        let mut sink = Sink {
            writer: ReportWriter::new(*kind, *format, from.clone(), to.clone()),
            hash: Sha256::default(),
            bytes: 0,
            buffer: String::new(),
            out,
            days_done: 0,
            days: u32::try_from(days.len()).unwrap_or(u32::MAX),
        };
        let begin = sink.writer.begin();
        sink.text(&begin).await?;
        for day in &days {
            match kind {
                ReportKind::Suspicious => self.suspicious(day, &mut sink).await?,
                ReportKind::Totals => self.totals(day, &mut sink).await?,
                ReportKind::Failures => self.failures(day, &mut sink).await?,
            }
            sink.days_done += 1;
        }
        let end = sink.writer.end();
        sink.text(end).await?;
        sink.send().await?;
        let Sink { writer, hash, bytes, days: day_count, .. } = sink;
        let sha256 = hash.finish();
        let (first, last) = (days.first(), days.last());
        let header = ReportHeader {
            v: 1,
            origin: origin.as_str().to_owned(),
            tenant: self.settings.tenant.as_str().to_owned(),
            kind: kind.as_str().to_owned(),
            format: format.as_str().to_owned(),
            from: from.as_str().to_owned(),
            to: to.as_str().to_owned(),
            since: first.map_or(now, |day| day.from).rfc3339(),
            until: last.map_or(now, |day| day.until).rfc3339(),
            ledger_size,
            rows: writer.rows(),
            bytes,
            sha256: sha256.hex(),
        };
        let (seal, entry) = self.seal_report(actor, *kind, &header).await?;
        Ok(SealedReport { seal, entry, rows: header.rows, bytes, sha256, days: day_count })
    }

    /// Enters a report's making in the ledger; the entry's signature is the report's.
    async fn seal_report(
        &self,
        actor: &Actor,
        kind: ReportKind,
        header: &ReportHeader,
    ) -> Result<(Vec<u8>, Logged), GatewayError> {
        let json = |cause| GatewayError::internal("report", cause);
        let header = serde_json::to_string(header).map_err(json)?;
        let content = Content::Administration(Administration {
            act: ACT.to_owned(),
            actor: receipt_actor(actor),
            subject: Some(kind.as_str().to_owned()),
            details: Some(header_digest(&header).labelled()),
        });
        let entry = self.perform_as(content, None, Vec::new()).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let installed = self.keyring.installed()?;
        let seal = Seal {
            header,
            receipt: entry.jws().to_owned(),
            keys: text(&installed.files.register),
            keys_signature: text(&installed.files.signature),
        };
        Ok((seal.to_bytes().map_err(json)?, entry))
    }

    async fn suspicious(&self, day: &Day, sink: &mut Sink<'_>) -> Result<(), GatewayError> {
        let mut after = None;
        loop {
            let rows = self.store.with_signs(day.from, day.until, after, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.index);
            for row in &rows {
                sink.row(&suspicious_cells(row)).await?;
            }
        }
    }

    async fn totals(&self, day: &Day, sink: &mut Sink<'_>) -> Result<(), GatewayError> {
        for sum in self.store.approved_sums(day.from, day.until).await? {
            let ApprovedSum {
                terminal,
                operation,
                currency,
                approved,
                approved_minor,
                moved,
                moved_minor,
            } = sum;
            let cells = [
                Cell::from(day.name.as_str()),
                Cell::from(terminal.as_str()),
                Cell::from(operation.as_str()),
                Cell::from(currency.as_str()),
                Cell::from(approved),
                Cell::from(approved_minor),
                Cell::from(moved),
                Cell::from(moved_minor),
            ];
            sink.row(&cells).await?;
        }
        Ok(())
    }

    async fn failures(&self, day: &Day, sink: &mut Sink<'_>) -> Result<(), GatewayError> {
        let (ledgers, _) = self.view.recorded()?;
        let mut terminals: BTreeMap<_, Failures> = BTreeMap::new();
        for count in self.store.outcome_counts(day.from, day.until).await? {
            terminals.entry(count.terminal.clone()).or_default().add(&count);
        }
        for origin in ledgers.origins() {
            let origin = origin.as_str();
            for count in self.store.entry_counts(origin, EXCEPTION, day.from, day.until).await? {
                terminals.entry(count.terminal).or_default().exceptions += count.count;
            }
        }
        for (terminal, failures) in terminals {
            for Measure { name, reason, count, of } in failures.measures() {
                let rate = match (of, count.saturating_mul(10_000).checked_div(of)) {
                    (1.., Some(share)) => Cell::Share(share),
                    _ => Cell::None,
                };
                let cells = [
                    Cell::from(day.name.as_str()),
                    Cell::from(terminal.as_str()),
                    Cell::from(name),
                    Cell::from(reason),
                    Cell::from(count),
                    Cell::from(of),
                    rate,
                ];
                sink.row(&cells).await?;
            }
        }
        Ok(())
    }
}

fn suspicious_cells(row: &VerificationRow) -> [Cell; 10] {
    let signs: Vec<_> = row.signs.iter().map(crate::domain::decision::SignCode::as_str).collect();
    [
        Cell::Text(row.at.rfc3339()),
        Cell::from(row.key.terminal.as_str()),
        Cell::from(row.operation.as_str()),
        Cell::from(row.amount_minor),
        Cell::from(row.currency.as_str()),
        Cell::from(row.outcome.as_str()),
        row.approved_minor.map_or(Cell::None, Cell::from),
        Cell::Text(signs.join(" ")),
        Cell::from(i64::try_from(row.index).unwrap_or(i64::MAX)),
        Cell::from(row.subject.as_str()),
    ]
}

/// What failed at one terminal on one day.
#[derive(Default)]
struct Failures {
    attempts: i64,
    approved: i64,
    not_acquired: i64,
    after_mismatch: i64,
    exceptions: i64,
    /// By outcome and reason.
    refused: BTreeMap<(&'static str, &'static str), i64>,
}

/// One line of a terminal's day: so many of so many.
struct Measure {
    name: &'static str,
    reason: &'static str,
    count: i64,
    of: i64,
}

impl Failures {
    fn add(&mut self, count: &OutcomeCount) {
        let OutcomeCount { outcome, reasons, count, after_mismatch, .. } = count;
        self.attempts += count;
        self.after_mismatch += after_mismatch;
        let measure = match outcome.as_str() {
            "APPROVED" | "APPROVED_CAPPED" => {
                self.approved += count;
                return;
            }
            "DENIED" => "denied",
            "HELD" => "held",
            "STEP_UP" => "step_up",
            _ => "inconclusive",
        };
        let of_capture = reasons.iter().any(|reason| reason.code().starts_with("CAP_"));
        if measure == "inconclusive" && of_capture {
            self.not_acquired += count;
        }
        for reason in reasons {
            *self.refused.entry((measure, reason.code())).or_default() += count;
        }
    }

    fn measures(&self) -> Vec<Measure> {
        let attempts = self.attempts;
        let of_attempts = |name, count| Measure { name, reason: "", count, of: attempts };
        let mut measures = vec![
            of_attempts("attempts", attempts),
            of_attempts("approved", self.approved),
            of_attempts("failure_to_acquire", self.not_acquired),
            Measure {
                name: "approved_after_mismatch",
                reason: "",
                count: self.after_mismatch,
                of: self.approved,
            },
            Measure { name: "exception", reason: "", count: self.exceptions, of: attempts },
        ];
        measures.extend(self.refused.iter().map(|((name, reason), count)| Measure {
            name,
            reason,
            count: *count,
            of: attempts,
        }));
        measures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(from: &str, to: &str) -> MakeReport {
        let day = |text| BusinessDate::try_from(text).unwrap();
        let (kind, format) = (ReportKind::Totals, ReportFormat::Csv);
        MakeReport { kind, format, from: day(from), to: day(to) }
    }

    #[test]
    fn a_report_has_its_days_as_far_as_they_have_passed() {
        let zone = BankZone::try_from("Asia/Almaty").unwrap();
        let at = |text| UnixMillis::parse_rfc3339(text).unwrap();
        let now = at("2026-11-21T10:00:00.000Z");
        let days = days_of(&request("2026-11-20", "2026-11-21"), &zone, now).unwrap();
        let spans: Vec<_> = days.iter().map(|day| (day.from, day.until)).collect();
        let midnight = at("2026-11-20T19:00:00.000Z");
        assert_eq!(spans, [(at("2026-11-19T19:00:00.000Z"), midnight), (midnight, now)]);
        let fault = |from, to| match days_of(&request(from, to), &zone, now) {
            Err(GatewayError::Invalid { field, .. }) => field,
            _ => panic!("{from} to {to}"),
        };
        assert_eq!(fault("2026-11-21", "2026-11-20"), "to");
        assert_eq!(fault("2026-11-22", "2026-11-22"), "to");
        assert_eq!(fault("2016-01-01", "2026-11-20"), "to");
        assert!(days_of(&request("2016-11-14", "2026-11-20"), &zone, now).is_ok());
    }
}
