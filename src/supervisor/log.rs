//! The log: `[12:34:56] INFO: text key=value`, one line an event, as add-ons of Home Assistant write it; or one JSON
//! object a line.
//!
//! Colours only on a terminal and in Home Assistant's log panel. Control characters are escaped, so that nothing a peer
//! says can make a line of its own.
//! Other crates are heard from at warn, with debug and trace at info; the ICE agent not at all, as it warns of whatever
//! is wrong with a datagram that anybody may send.

use crate::config::Log;
use chrono::{DateTime, Local, SecondsFormat};
use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log on standard error. A second call does nothing (tests start several servers).
pub(super) fn start(config: &Log) {
    let format = if config.json {
        Format::Json
    } else {
        Format::of(config.colour)
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .event_format(format)
        .fmt_fields(Fields);
    let started = tracing_subscriber::registry()
        .with(layer)
        .with(filter(config.level))
        .try_init();
    if started.is_err() {
        tracing::debug!("the log had been started already");
    }
}

/// Who is heard.
fn filter(level: Level) -> Targets {
    let others = if level >= Level::DEBUG {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN.min(LevelFilter::from_level(level))
    };
    Targets::new()
        .with_default(others)
        .with_target("is::", LevelFilter::OFF)
        .with_target("parlor", level)
}

/// Writes one line as the log would, before there is one.
pub(super) fn say(colour: Option<bool>, level: Level, text: &str) {
    let pairs = Pairs {
        message: text.to_owned(),
        fields: Vec::new(),
    };
    let mut line = String::new();
    let written = Format::of(colour).write(Writer::new(&mut line), Local::now(), level, &pairs, "");
    if written.is_ok() {
        // Standard error may be closed; then nobody can be told.
        drop(io::stderr().write_all(line.as_bytes()));
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Colour,
    Json,
    Plain,
}

/// Fields of spans: ` key=value` each.
#[derive(Debug)]
struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut pairs = Pairs::default();
        fields.record(&mut pairs);
        write_pairs(writer, &pairs)
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut pairs = Pairs::default();
        event.record(&mut pairs);
        let mut spans = String::new();
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                spans.push_str(fields);
            }
        }
        self.write(
            writer,
            Local::now(),
            *event.metadata().level(),
            &pairs,
            &spans,
        )
    }
}

impl Format {
    /// With colours, without, or as a terminal wants it.
    fn of(colour: Option<bool>) -> Self {
        if colour.unwrap_or_else(|| io::stderr().is_terminal()) {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    fn write(
        self,
        mut writer: Writer<'_>,
        now: DateTime<Local>,
        level: Level,
        pairs: &Pairs,
        spans: &str,
    ) -> fmt::Result {
        let name = match level {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "TRACE",
        };
        if self == Self::Json {
            let mut object = serde_json::Map::new();
            object.insert(
                "time".to_owned(),
                now.to_rfc3339_opts(SecondsFormat::Millis, true).into(),
            );
            object.insert("level".to_owned(), name.to_lowercase().into());
            object.insert("message".to_owned(), pairs.message.clone().into());
            for (key, value) in &pairs.fields {
                object.insert((*key).to_owned(), value.clone().into());
            }
            if !spans.is_empty() {
                object.insert("in".to_owned(), spans.trim_start().into());
            }
            return writeln!(writer, "{}", serde_json::Value::Object(object));
        }
        // The eight basic colours are all that Home Assistant's log panel knows.
        let colour = match level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            Level::DEBUG | Level::TRACE => "0",
        };
        let coloured = self == Self::Colour;
        if coloured {
            write!(writer, "\x1b[{colour}m")?;
        }
        write!(writer, "[{}] {name}: ", now.format("%H:%M:%S"))?;
        write_clean(&mut writer, &pairs.message)?;
        writer.write_str(spans)?;
        write_pairs(writer.by_ref(), pairs)?;
        if coloured {
            writer.write_str("\x1b[0m")?;
        }
        writeln!(writer)
    }
}

/// What an event or a span says.
#[derive(Debug, Default)]
struct Pairs {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Pairs {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.put(field, text);
    }
}

impl Pairs {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value));
        }
    }
}

fn write_pairs(mut writer: Writer<'_>, pairs: &Pairs) -> fmt::Result {
    for (key, value) in &pairs.fields {
        write!(writer, " {key}=")?;
        if value.is_empty() || value.contains([' ', '=']) && !value.starts_with('"') {
            writer.write_char('"')?;
            write_clean(&mut writer, value)?;
            writer.write_char('"')?;
        } else {
            write_clean(&mut writer, value)?;
        }
    }
    Ok(())
}

fn write_clean(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() {
            write!(writer, "{}", c.escape_default())?;
        } else {
            writer.write_char(c)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let out = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || out.clone())
            .event_format(format)
            .fmt_fields(Fields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn what_others_warn_of_is_heard_but_not_the_ice_agent() {
        for level in [Level::INFO, Level::TRACE] {
            let filter = filter(level);
            assert!(filter.would_enable("hyper::proto", &Level::WARN));
            assert!(!filter.would_enable("is::stun", &Level::WARN));
            assert!(filter.would_enable("parlor::media::ice", &level));
        }
        assert!(!filter(Level::ERROR).would_enable("hyper::proto", &Level::WARN));
    }

    fn say() {
        let span = tracing::info_span!("room", room = "sofa");
        let _inside = span.enter();
        tracing::warn!(from = %"a\nb", count = 3, why = ?"x y", empty = "", text = %"two words", "it is {}", "so");
    }

    #[test]
    fn a_line_has_time_level_text_and_fields() {
        let line = written(Format::Plain, say);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "[12:34:56]".len());
        assert!(time.starts_with('[') && time.ends_with(']'));
        assert_eq!(
            rest,
            "WARNING: it is so room=sofa from=a\\nb count=3 why=\"x y\" empty=\"\" text=\"two words\"\n"
        );
    }

    #[test]
    fn colours_wrap_the_line() {
        let line = written(Format::Colour, || tracing::error!("no"));
        assert!(line.starts_with("\x1b[31m["), "{line:?}");
        assert!(line.ends_with("ERROR: no\x1b[0m\n"), "{line:?}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = written(Format::Json, say);
        assert_eq!(line.matches('\n').count(), 1);
        let mut object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(object.as_object_mut().unwrap().remove("time").is_some());
        assert_eq!(
            object,
            serde_json::json!({"level": "warning", "message": "it is so", "from": "a\nb", "count": "3",
                "why": "\"x y\"", "empty": "", "text": "two words", "in": "room=sofa"})
        );
    }
}
