//! What a browser's User-Agent says, as far as somebody asks: the browsers and systems that have quirks.
//!
//! Families are named as ua-parser names them, because clients' configurations and dashboards compare those names.

/// Browser, system and device; parts that are not recognised are empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserAgent<'a> {
    /// `Chrome`, `Chrome Mobile`, `Firefox`, `Safari`, `Mobile Safari`, `Edge`, …
    pub browser: &'a str,
    /// `146.0.0.0`.
    pub browser_version: &'a str,
    /// `Windows`, `Mac OS X`, `iOS`, `Android`, `Linux`, `Chrome OS`.
    pub os: &'a str,
    /// With dots or, as Apple writes it, underscores.
    pub os_version: &'a str,
    /// `iPhone`, `iPad`, `Mac`.
    pub device: &'a str,
}

/// Marks of browsers, most particular first: nearly all of them also claim to be Chrome or Safari.
const BROWSERS: &[(&str, &str)] = &[
    ("EdgA/", "Edge Mobile"),
    ("EdgiOS/", "Edge Mobile"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox iOS"),
    ("CriOS/", "Chrome Mobile iOS"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
];

/// Marks of systems; the version follows the mark.
const SYSTEMS: &[(&str, &str, &str)] = &[
    ("CPU iPhone OS ", "iOS", "iPhone"),
    ("CPU OS ", "iOS", "iPad"),
    ("Android ", "Android", ""),
    ("Android", "Android", ""),
    ("Windows NT ", "Windows", ""),
    ("Mac OS X ", "Mac OS X", "Mac"),
    ("CrOS ", "Chrome OS", ""),
    ("Linux", "Linux", ""),
];

/// Reads a User-Agent; never fails.
pub fn parse(text: &str) -> UserAgent<'_> {
    let mut read = UserAgent::default();
    if let Some((version, os, device)) = SYSTEMS
        .iter()
        .find_map(|&(mark, os, device)| Some((after(text, mark)?, os, device)))
    {
        read.os = os;
        read.os_version = version;
        read.device = device;
    }
    if let Some((version, browser)) = BROWSERS
        .iter()
        .filter(|(_, browser)| *browser != "Safari" || text.contains("Safari/"))
        .find_map(|&(mark, browser)| Some((after(text, mark)?, browser)))
    {
        let mobile = text.contains("Mobile");
        read.browser = match browser {
            "Chrome" if mobile => "Chrome Mobile",
            "Firefox" if mobile => "Firefox Mobile",
            "Safari" if mobile => "Mobile Safari",
            other => other,
        };
        read.browser_version = version;
    }
    read
}

/// The version that follows `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(rest.len());
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_with_quirks_are_told_apart() {
        for (text, browser, browser_version, os, os_version, device) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36",
                "Chrome",
                "146.0.0.0",
                "Linux",
                "",
                "",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/146.0.0.0 Safari/537.36",
                "Chrome",
                "146.0.0.0",
                "Linux",
                "",
                "",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.1.2",
                "Edge",
                "140.0.1.2",
                "Windows",
                "10.0",
                "",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox",
                "140.0",
                "Linux",
                "",
                "",
            ),
            (
                "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0",
                "Firefox Mobile",
                "140.0",
                "Android",
                "15",
                "",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
                "Safari",
                "18.4",
                "Mac OS X",
                "10_15_7",
                "Mac",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Mobile Safari",
                "17.5",
                "iOS",
                "17_5",
                "iPhone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
                "Chrome Mobile",
                "140.0.0.0",
                "Android",
                "14",
                "",
            ),
        ] {
            assert_eq!(
                parse(text),
                UserAgent {
                    browser,
                    browser_version,
                    os,
                    os_version,
                    device
                },
                "{text}"
            );
        }
    }

    #[test]
    fn other_programs_say_nothing() {
        for text in ["", "node", "python-requests/2.0", "Chrome", "Version/1.0"] {
            assert_eq!(parse(text), UserAgent::default(), "{text}");
        }
        assert_eq!(parse("Firefox/").browser, "Firefox");
    }
}
