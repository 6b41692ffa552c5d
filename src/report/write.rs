//! Rows as CSV, JSON and XML.

use super::{ReportFormat, ReportKind};
use crate::domain::time::BusinessDate;

/// One value of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cell {
    /// A word, a code, an instant.
    Text(String),
    /// A count, or an amount in minor units.
    Number(i64),
    /// A share in ten-thousandths, written with four fractional digits.
    Share(i64),
    /// Nothing.
    None,
}

impl Cell {
    fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Share(e4) => format!("{}.{:04}", e4 / 10_000, e4 % 10_000),
            Self::None => String::new(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Writes one report: what comes before the rows, each row, what comes after.
#[derive(Debug)]
pub struct ReportWriter {
    kind: ReportKind,
    format: ReportFormat,
    from: BusinessDate,
    to: BusinessDate,
    rows: u64,
}

impl ReportWriter {
    /// A writer of a report about the days `from..=to`.
    #[must_use]
    pub const fn new(
        kind: ReportKind,
        format: ReportFormat,
        from: BusinessDate,
        to: BusinessDate,
    ) -> Self {
        Self { kind, format, from, to, rows: 0 }
    }

    /// How many rows were written.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// What comes before the rows.
    #[must_use]
    pub fn begin(&self) -> String {
        let (kind, from, to) = (self.kind.as_str(), self.from.as_str(), self.to.as_str());
        match self.format {
            ReportFormat::Csv => {
                csv_line(self.kind.columns().iter().map(|name| (*name).to_owned()))
            }
            ReportFormat::Json => {
                format!(r#"{{"kind":"{kind}","from":"{from}","to":"{to}","rows":["#)
            }
            ReportFormat::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <report kind=\"{kind}\" from=\"{from}\" to=\"{to}\">\n"
            ),
        }
    }

    /// One row; its cells stand in the order of the kind's columns.
    pub fn row(&mut self, cells: &[Cell]) -> String {
        let is_first = self.rows == 0;
        self.rows += 1;
        let columns = self.kind.columns().iter().zip(cells);
        match self.format {
            ReportFormat::Csv => csv_line(cells.iter().map(Cell::plain)),
            ReportFormat::Json => {
                let fields: Vec<_> = columns.map(|(name, cell)| json_field(name, cell)).collect();
                let comma = if is_first { "" } else { "," };
                format!("{comma}\n{{{}}}", fields.join(","))
            }
            ReportFormat::Xml => {
                let elements: String = columns
                    .map(|(name, cell)| format!("<{name}>{}</{name}>", xml_text(&cell.plain())))
                    .collect();
                format!("<row>{elements}</row>\n")
            }
        }
    }

    /// What comes after the rows.
    #[must_use]
    pub const fn end(&self) -> &'static str {
        match self.format {
            ReportFormat::Csv => "",
            ReportFormat::Json => "\n]}\n",
            ReportFormat::Xml => "</report>\n",
        }
    }
}

/// A record of RFC 4180, its line break included.
fn csv_line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|cell| csv_cell(&cell)).collect();
    format!("{}\r\n", cells.join(","))
}

fn csv_cell(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn json_field(name: &str, cell: &Cell) -> String {
    let value = match cell {
        Cell::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Cell::Number(_) | Cell::Share(_) => cell.plain(),
        Cell::None => "null".to_owned(),
    };
    format!("\"{name}\":{value}")
}

/// Character data of XML 1.0; a character that it cannot have is replaced.
fn xml_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // Written plainly, a parser would read a line feed.
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ if character.is_control() && character < ' ' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with everything that a format could stumble over.
    const NASTY: &str = "a,\"b\"\r\n<c attr='d'>&amp;]]>\u{1}\u{ffff}\t\u{1F4B0}";

    fn written(format: ReportFormat, rows: &[[Cell; 7]]) -> String {
        let day = |text| BusinessDate::try_from(text).unwrap();
        let (from, to) = (day("2026-11-01"), day("2026-11-02"));
        let mut writer = ReportWriter::new(ReportKind::Failures, format, from, to);
        let mut text = writer.begin();
        for row in rows {
            text.push_str(&writer.row(row));
        }
        assert_eq!(writer.rows(), u64::try_from(rows.len()).unwrap());
        text + writer.end()
    }

    fn row(text: &str) -> [Cell; 7] {
        let text = Cell::from(text);
        [text.clone(), text.clone(), text, Cell::None, 3.into(), 7.into(), Cell::Share(4_285)]
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let plain = written(ReportFormat::Csv, &[row("x")]);
        assert_eq!(plain, "day,terminal,measure,reason,count,of,rate\r\nx,x,x,,3,7,0.4285\r\n");
        let nasty = written(ReportFormat::Csv, &[row(NASTY)]);
        assert!(nasty.contains("\"a,\"\"b\"\"\r\n<c"), "{nasty}");
        assert_eq!(Cell::Share(10_000).plain(), "1.0000");
    }

    #[test]
    fn json_is_json_with_any_number_of_rows() {
        for count in 0..3 {
            let rows = vec![row(NASTY); count];
            let text = written(ReportFormat::Json, &rows);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["rows"].as_array().unwrap().len(), count);
            if count > 0 {
                assert_eq!(value["rows"][0]["day"], NASTY);
                assert_eq!(value["rows"][0]["rate"], 0.4285);
                assert!(value["rows"][0]["reason"].is_null());
            }
        }
    }

    #[test]
    fn xml_escapes_what_it_cannot_hold() {
        assert_eq!(
            xml_text(NASTY),
            "a,&quot;b&quot;&#13;\n&lt;c attr=&apos;d&apos;&gt;&amp;amp;]]&gt;\u{fffd}\u{fffd}\t\u{1F4B0}"
        );
    }
}
