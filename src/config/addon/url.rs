//! Addresses in the app's options: the domain, the homeserver, the public URL, webhooks, TURN servers.

use super::flat::Flat;
use reqwest::Url;
use std::net::IpAddr;

/// An address as a problem may quote it: without what may be a login (before `@`) or a token (after `?` and `#`).
fn shown(text: &str) -> String {
    let (address, rest) = text
        .find(['?', '#'])
        .map_or((text, ""), |at| text.split_at(at));
    if rest.contains('@') {
        // A password with a question mark, or a token with an @: nothing tells them apart.
        return "…".to_owned();
    }
    let (login, host) = address.rsplit_once('@').unwrap_or(("", address));
    let before = if login.is_empty() { "" } else { "…@" };
    let after = if rest.len() > 1 { "…" } else { "" };
    format!("{before}{host}{}{after}", &rest[..rest.len().min(1)])
}

/// A host name or address without anything around it, in lower case.
pub(super) fn domain(flat: &mut Flat<'_>) -> Option<String> {
    let text = flat.text("domain")?;
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', '?', '#']).next().unwrap_or_default();
    let parsed = Url::parse(&format!("https://{bare}")).ok();
    let host = parsed
        .as_ref()
        .and_then(Url::host_str)
        .map(|host| host.trim_end_matches('.').to_owned())
        .filter(|host| is_name(host));
    let Some(host) = host else {
        flat.problem(
            "domain",
            format!("{:?} is no domain", shown(text)),
            "type the name under which people reach this server, such as calls.example.org",
        );
        return None;
    };
    let is_more = bare != text
        || parsed.is_some_and(|url| url.port().is_some() || !url.username().is_empty())
        || bare.contains(['@', ':']) && !bare.starts_with('[');
    if is_more {
        flat.problem(
            "domain",
            format!("{:?} is more than a name", shown(text)),
            format!("type {host} only; the port stands in http_port"),
        );
        return None;
    }
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        flat.warning(
            "domain",
            "browsers trust no certificate for a bare address; type a name such as calls.example.org, or leave this empty",
        );
    } else if is_local_name(&host) {
        flat.warning(
            "domain",
            format!("{host} is known in your own network only; for calls from outside type a name such as calls.example.org"),
        );
    }
    Some(host)
}

fn is_name(host: &str) -> bool {
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

fn is_local_name(host: &str) -> bool {
    !host.contains('.')
        || [
            ".local",
            ".lan",
            ".home",
            ".internal",
            ".home.arpa",
            ".localdomain",
        ]
        .iter()
        .any(|end| host.ends_with(end))
}

/// Whether a host is of the own network, where plain HTTP is nobody else's business.
fn is_near(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => is_local_name(host),
    }
}

/// Where `https` may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// Nowhere.
    Never,
    /// In the own network.
    Near,
}

/// The URL of an option without the slash at its end.
pub(super) fn web(flat: &mut Flat<'_>, name: &str, plain: Plain, example: &str) -> Option<String> {
    let text = flat.text(name)?;
    let such_as = format!("type an address such as {example}");
    let Some((scheme, rest)) = text.split_once("://") else {
        let guess = text.trim_matches('/');
        let is_host = shown(guess) == guess
            && Url::parse(&format!("https://{guess}"))
                .ok()
                .is_some_and(|url| url.host_str().is_some_and(is_name));
        let remedy = if is_host {
            format!("type https://{guess}")
        } else {
            such_as
        };
        flat.problem(
            name,
            format!("{:?} has no https:// before it", shown(text)),
            remedy,
        );
        return None;
    };
    let url = match Url::parse(text) {
        Ok(url) if url.host_str().is_some_and(|host| !host.is_empty()) => url,
        Ok(_) | Err(_) => {
            flat.problem(name, format!("{:?} is no URL", shown(text)), such_as);
            return None;
        }
    };
    let fault = if !url.username().is_empty() || url.password().is_some() {
        // The password stays unsaid.
        Some((
            "this has a user before the @, and nobody would log in with it".to_owned(),
            such_as,
        ))
    } else if url.query().is_some() || url.fragment().is_some() {
        let bare = text.split(['?', '#']).next().unwrap_or_default();
        Some((
            format!("{:?} goes on after the path", shown(text)),
            format!("type {bare}"),
        ))
    } else if url.scheme() == "https"
        || url.scheme() == "http" && plain == Plain::Near && is_near(&url)
    {
        None
    } else if matches!(url.scheme(), "http" | "ws" | "wss") {
        Some((
            format!("browsers and Matrix want https here, not {scheme}"),
            format!("type https://{}", rest.trim_end_matches('/')),
        ))
    } else {
        Some((format!("{scheme} is not what browsers speak"), such_as))
    };
    if let Some((fault, remedy)) = fault {
        flat.problem(name, fault, remedy);
        return None;
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

/// The host of a URL that [`web`] has let through.
pub(super) fn host(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// The port of a URL that [`web`] has let through.
pub(super) fn port(url: &str) -> Option<u16> {
    Url::parse(url).ok()?.port_or_known_default()
}

/// A `turn:` or `stun:` URL (RFC 7064, RFC 7065) as browsers take it; else fault and remedy.
pub(super) fn ice(text: &str) -> Result<String, (String, String)> {
    const EXAMPLE: &str = "type an address such as turn:turn.example.org:3478";
    // First of all: nothing below may quote a password.
    if let Some((before, host)) = text.rsplit_once('@') {
        let scheme = match before.split_once(':') {
            Some((scheme @ ("turns" | "stun" | "stuns"), _)) => scheme,
            _ => "turn",
        };
        let address = ice(&format!("{scheme}:{host}"))
            .unwrap_or_else(|_| "an address such as turn:turn.example.org:3478".to_owned());
        return Err((
            "this has a login before the @, and it does not belong into the address".to_owned(),
            format!("type {address} here, and the login as turn_username and turn_password"),
        ));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        let remedy = if is_name(text) {
            format!("type turn:{text}:3478")
        } else {
            EXAMPLE.to_owned()
        };
        return Err((format!("{text:?} has no turn: before it"), remedy));
    };
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "turn" | "turns" | "stun" | "stuns") {
        let is_host_and_port = is_name(&scheme) && rest.parse::<u16>().is_ok();
        return Err(if is_host_and_port {
            (
                format!("{text:?} has no turn: before it"),
                format!("type turn:{text}"),
            )
        } else {
            (format!("{text:?} is no TURN server"), EXAMPLE.to_owned())
        });
    }
    if let Some(bare) = rest.strip_prefix("//") {
        let bare = bare.trim_end_matches('/');
        return Err((
            format!("a {scheme}: address has no slashes"),
            format!("type {scheme}:{bare}"),
        ));
    }
    let (server, query) = match rest.split_once('?') {
        Some((server, query)) => (server, Some(query)),
        None => (rest, None),
    };
    let is_stun = scheme.starts_with("stun");
    let is_query_good = match query {
        None => true,
        Some(query) => !is_stun && matches!(query, "transport=udp" | "transport=tcp"),
    };
    if !is_query_good {
        let remedy = if is_stun {
            format!("type {scheme}:{server}")
        } else {
            format!("type {scheme}:{server}?transport=udp, or the same with tcp")
        };
        return Err((
            format!(
                "nothing of the kind may stand after the ? of {:?}",
                shown(text)
            ),
            remedy,
        ));
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !server.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err((
            format!("the port of {text:?} is none"),
            format!(
                "type {scheme}:{host}:{}",
                if scheme.ends_with('s') { 5349 } else { 3478 }
            ),
        ));
    }
    // Addresses of IPv6 need their brackets here.
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host) && !host.contains(':'),
    };
    if !is_host {
        return Err((format!("the host of {text:?} is none"), EXAMPLE.to_owned()));
    }
    Ok(format!("{scheme}:{rest}"))
}
