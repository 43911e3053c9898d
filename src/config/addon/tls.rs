//! The certificate of `use_ssl`. With a pair that cannot serve, the start ends: nobody who asked for TLS gets plain HTTP.

use super::flat::Flat;
use super::{text_of, url};
use crate::config::certificate::{Fault, check, day, faults};
use crate::config::{Public, Tls};
use crate::options::File;
use crate::options::addon::{Addon, CERTIFICATE, KEY, is_below};
use std::collections::BTreeMap;

/// From then on an expiring certificate is told of, in seconds.
const SOON: u64 = 14 * 24 * 3600;

pub(super) fn tls(
    flat: &mut Flat<'_>,
    addon: &Addon,
    files: &BTreeMap<String, File>,
    public: &Public,
) -> Option<Tls> {
    let is_on = flat.boolean("use_ssl", false);
    let certificate = name(flat, "cert_file", CERTIFICATE);
    let key = name(flat, "pkey_file", KEY);
    if !is_on {
        return None;
    }
    let (certificate, key) = (certificate?, key?);
    if certificate == key {
        flat.problem(
            "pkey_file",
            format!("{key} is cert_file too"),
            format!("type the name of the private key, such as {KEY}"),
        );
        return None;
    }
    let paths = (addon.ssl_path(certificate), addon.ssl_path(key));
    let mut read = |option: &str, path: &str, what: &str| match text_of(files, path) {
        Ok(text) => Some(text),
        Err(reason) => {
            flat.problem(
                option,
                format!("{path}: {reason}"),
                format!("type the name of the {what} in /ssl, or turn use_ssl off and let a proxy do TLS"),
            );
            None
        }
    };
    let certificate_text = read("cert_file", &paths.0.display().to_string(), "certificate");
    let key_text = read("pkey_file", &paths.1.display().to_string(), "private key");
    let mut complain = |fault: Fault| {
        let (option, path, remedy) = if fault.is_of_certificate() {
            (
                "cert_file",
                &paths.0,
                "type the name of the PEM file with the certificate and its chain",
            )
        } else {
            (
                "pkey_file",
                &paths.1,
                "type the name of the PEM file with the key that was made for cert_file",
            )
        };
        flat.problem(option, format!("{}: {fault}", path.display()), remedy);
    };
    // Each on its own first: both may be wrong.
    faults(certificate_text, key_text).for_each(&mut complain);
    // What is told twice is one problem.
    let checked = check(certificate_text?, key_text?).map_err(complain).ok()?;
    if checked.not_after <= addon.now {
        flat.warning(
            "cert_file",
            format!(
                "the certificate expired on {}, and browsers refuse it; renew it",
                checked.last_day()
            ),
        );
    } else if checked.not_before > addon.now {
        flat.warning(
            "cert_file",
            format!(
                "the certificate is valid from {} on only; this machine's clock says {}",
                day(checked.not_before),
                day(addon.now)
            ),
        );
    } else if checked.not_after - addon.now < SOON {
        flat.warning(
            "cert_file",
            format!(
                "the certificate expires on {}; renew it",
                checked.last_day()
            ),
        );
    }
    let widget = public.url.as_deref().and_then(url::host);
    match &public.domain {
        Some(domain) if !checked.covers(domain) => flat.warning(
            "cert_file",
            format!("the certificate is not for {domain}, and browsers refuse it there; get one for that name"),
        ),
        None if widget.is_none() => flat.warning(
            "domain",
            "with use_ssl browsers want the name that the certificate is for; type it here",
        ),
        Some(_) | None => {}
    }
    Some(Tls {
        certificate: paths.0,
        key: paths.1,
        host: public.domain.clone(),
    })
}

/// The name of a file below `/ssl`.
fn name<'a>(flat: &mut Flat<'a>, option: &str, default: &'a str) -> Option<&'a str> {
    let Some(typed) = flat.text(option) else {
        return Some(default);
    };
    if !is_below(typed) {
        let last = typed
            .rsplit('/')
            .next()
            .filter(|last| !matches!(*last, "" | ".."));
        flat.problem(
            option,
            format!("{typed:?} leads out of /ssl"),
            format!(
                "type a name such as {}, and put the file into /ssl",
                last.unwrap_or(default)
            ),
        );
        return None;
    }
    Some(Addon::ssl_name(typed))
}
