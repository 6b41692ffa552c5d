//! Tracing set-up and redaction.
//!
//! Lines go to the standard error stream. **What is never logged**, at any level: pictures, pixels,
//! embeddings, scores, IINs, names, tokens of cards and accounts, keys, and the bytes of messages.
//! Types of ours that hold such a thing redact themselves in `Debug`; libraries do not, so nothing
//! of theirs below `INFO` passes, whatever the filter asks for.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the whole process; the environment variable `TULGA_LOG` overrides the
/// configured filter.
///
/// # Errors
///
/// [`TelemetryError`] for a filter that cannot be read, or when logging was started already.
pub fn start(log: &LogConfig) -> Result<(), TelemetryError> {
    let directives = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| log.filter.clone());
    let layer = layer(&directives, log.format, std::io::stderr)?;
    tracing_subscriber::registry().with(layer).try_init()?;
    Ok(())
}

/// Logging that cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter's directives are malformed.
    #[error("the log filter (log.filter, or the variable TULGA_LOG) is malformed")]
    Filter(#[from] ParseError),
    /// Somebody started it before.
    #[error("logging was started already")]
    Started(#[from] TryInitError),
}

impl TelemetryError {
    /// The word for the message on exit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Filter(_) => "LOG_FILTER",
            Self::Started(_) => "LOG_STARTED",
        }
    }
}

fn layer<S, W>(
    directives: &str,
    format: LogFormat,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> tracing_subscriber::fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(directives)?.and(filter_fn(may_pass));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match format {
        LogFormat::Text => {
            lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
        }
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    })
}

/// Ours passes; what libraries say below `INFO` does not: frames, headers and statements.
fn may_pass(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target == OURS || target.strip_prefix(OURS).is_some_and(|t| t.starts_with("::"));
    // Levels are ordered by verbosity: TRACE is the greatest.
    ours || *metadata.level() <= Level::INFO
}

const FILTER_VARIABLE: &str = "TULGA_LOG";

const OURS: &str = env!("CARGO_PKG_NAME");

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(directives: &str, format: LogFormat, say: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer(directives, format, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn libraries_are_silent_below_info_even_when_they_are_asked_for() {
        let said = logged("trace,h2::codec=trace", LogFormat::Text, || {
            tracing::trace!(target: "h2::codec", "frame-bytes");
            tracing::debug!(target: "tulgaesque", "not-ours");
            tracing::info!(target: "h2::codec", "connection-made");
            tracing::trace!(target: "tulga::gateway", "our-detail");
        });
        assert!(said.contains("connection-made") && said.contains("our-detail"), "{said}");
        assert!(!said.contains("frame-bytes") && !said.contains("not-ours"), "{said}");
    }

    #[test]
    fn the_filter_is_obeyed_within_that_bound() {
        let said = logged("warn,tulga::policy=debug", LogFormat::Text, || {
            tracing::info!(target: "tulga::gateway", "too-mild");
            tracing::debug!(target: "tulga::policy", "asked-for");
            tracing::warn!(target: "hyper", "a-warning");
        });
        assert!(said.contains("asked-for") && said.contains("a-warning"), "{said}");
        assert!(!said.contains("too-mild"), "{said}");
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let said = logged("info", LogFormat::Json, || {
            tracing::info!(target: "tulga::app", port = 7443, "listening");
        });
        let line: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(line["fields"]["message"], "listening");
        assert_eq!(line["fields"]["port"], 7443);
    }

    #[test]
    fn a_malformed_filter_is_told() {
        let told =
            layer::<tracing_subscriber::Registry, _>("tulga=loud", LogFormat::Text, std::io::sink);
        assert_eq!(told.err().map(|error| error.code()), Some("LOG_FILTER"));
    }
}
