//! Durations as Go writes them: `7.5s`, `1m30s`, `500ms`, `6h`. A bare number is seconds.

use std::time::Duration;

/// The duration of a text; `None` if it is none, negative, or longer than about 136 years.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return limited(text.parse().ok()?);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .filter(|end| *end > 0)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    limited(seconds)
}

fn limited(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| u32::try_from(duration.as_secs()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_and_bare_seconds_are_read() {
        for (text, ms) in [
            ("7.5s", 7_500),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("6h", 21_600_000),
            ("300", 300_000),
            ("0", 0),
            ("0s", 0),
            ("2h0.5m", 7_230_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "s",
            "-1s",
            "5 s",
            "1.2.3s",
            "5d",
            "1h30",
            "99999999999",
            "nan",
            "1e3s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
