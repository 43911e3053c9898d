//! A TLS certificate and its key out of their PEM files: whether they belong together, how long they are valid, and
//! for which names.
//!
//! Driven by the validation of the app's options, and again whenever the files change. Reads no file and no clock.

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::time::Validity;

/// What a TLS listener needs, and what people want to know of it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The chain with its private key.
    pub certified: Arc<CertifiedKey>,
    /// Valid from, in seconds since 1970.
    pub not_before: u64,
    /// Valid until, in seconds since 1970.
    pub not_after: u64,
}

/// Why two files are no certificate and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The certificate's file has a key in it and no certificate.
    #[error("this file holds a private key and no certificate")]
    KeyInstead,
    /// No certificate at all, or one that cannot be parsed.
    #[error("there is no certificate in PEM form in this file")]
    NoCertificate,
    /// The key's file has a certificate in it and no key.
    #[error("this file holds a certificate and no private key")]
    CertificateInstead,
    /// The key wants a passphrase.
    #[error("this private key is locked with a passphrase")]
    Locked,
    /// No key at all, or of a kind that TLS does not know.
    #[error("there is no private key in PEM form in this file")]
    NoKey,
    /// Each is sound, but they are not of each other.
    #[error("this private key does not belong to the certificate")]
    Mismatch,
}

impl Fault {
    /// Whether the certificate's file is to be mended, and not the key's.
    pub fn is_of_certificate(self) -> bool {
        matches!(self, Self::KeyInstead | Self::NoCertificate)
    }
}

/// The pair out of two PEM texts: the chain, the server's own certificate first, and its key.
pub fn check(certificate: &str, key: &str) -> Result<Checked, Fault> {
    let (chain, validity) = chain(certificate)?;
    let private = private_key(key)?;
    let certified =
        CertifiedKey::from_der(chain, private, &default_provider()).map_err(|error| {
            if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                Fault::Mismatch
            } else if key.contains("ENCRYPTED") {
                Fault::Locked
            } else {
                Fault::NoKey
            }
        })?;
    Ok(Checked {
        certified: Arc::new(certified),
        not_before: validity.not_before.to_unix_duration().as_secs(),
        not_after: validity.not_after.to_unix_duration().as_secs(),
    })
}

/// What is wrong with each text whatever the other one is.
pub(crate) fn faults<'a>(
    certificate: Option<&'a str>,
    key: Option<&'a str>,
) -> impl Iterator<Item = Fault> + use<'a> {
    let certificate = certificate.and_then(|text| chain(text).err());
    let key = key.and_then(|text| private_key(text).err());
    certificate.into_iter().chain(key)
}

fn chain(certificate: &str) -> Result<(Vec<CertificateDer<'static>>, Validity), Fault> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| Fault::NoCertificate)?;
    let Some(first) = chain.first() else {
        return Err(if certificate.contains("PRIVATE KEY-----") {
            Fault::KeyInstead
        } else {
            Fault::NoCertificate
        });
    };
    let validity = Certificate::from_der(first)
        .map_err(|_| Fault::NoCertificate)?
        .tbs_certificate()
        .validity()
        .to_owned();
    Ok((chain, validity))
}

fn private_key(key: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
        if key.contains("ENCRYPTED") {
            Fault::Locked
        } else if key.contains("BEGIN CERTIFICATE-----") {
            Fault::CertificateInstead
        } else {
            Fault::NoKey
        }
    })
}

impl Checked {
    /// Whether a browser that asks for this host takes the certificate for its own.
    pub fn covers(&self, host: &str) -> bool {
        let covers = || {
            let host = ServerName::try_from(host.trim_matches(['[', ']'])).ok()?;
            let own = self.certified.end_entity_cert().ok()?;
            let own = ParsedCertificate::try_from(own).ok()?;
            verify_server_name(&own, &host).ok()
        };
        covers().is_some()
    }

    /// The day until which it is valid, as `2027-01-31`.
    pub fn last_day(&self) -> String {
        day(self.not_after)
    }
}

/// A moment in seconds since 1970 as `2027-01-31`.
pub fn day(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| chrono::DateTime::from_timestamp(unix, 0))
        .map_or_else(
            || "a day far away".to_owned(),
            |time| time.format("%Y-%m-%d").to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn pair(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 31);
        let certificate = params.self_signed(&key).unwrap();
        (
            pem("CERTIFICATE", certificate.der()),
            pem("PRIVATE KEY", key.serialize_der()),
        )
    }

    fn pem(label: &str, der: impl AsRef<[u8]>) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn a_pair_tells_its_names_and_days() {
        let (certificate, key) = pair(&["calls.example.org", "*.home.example.org", "192.0.2.1"]);
        let checked = check(&certificate, &key).unwrap();
        assert_eq!(checked.not_before, 1_767_225_600);
        assert_eq!(checked.last_day(), "2027-01-31");
        for (host, covered) in [
            ("calls.example.org", true),
            ("CALLS.example.org", true),
            ("a.home.example.org", true),
            ("home.example.org", false),
            ("a.b.home.example.org", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("not a name", false),
            ("", false),
        ] {
            assert_eq!(checked.covers(host), covered, "{host}");
        }
    }

    #[test]
    fn a_comment_around_the_blocks_does_no_harm() {
        let (certificate, key) = pair(&["a.example"]);
        let certificate = format!("subject=CN = a\r\n{certificate}\n# end\n");
        let key = format!("Bag Attributes\n{key}");
        assert!(check(&certificate, &key).is_ok());
    }

    #[test]
    fn each_fault_is_told_apart() {
        let (certificate, key) = pair(&["a.example"]);
        let (_, other) = pair(&["a.example"]);
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let half = &certificate[..certificate.len() / 2];
        for (certificate, key, fault) in [
            ("", key.as_str(), Fault::NoCertificate),
            (half, &key, Fault::NoCertificate),
            (&key, &key, Fault::KeyInstead),
            (&certificate, "", Fault::NoKey),
            (&certificate, &certificate, Fault::CertificateInstead),
            (&certificate, locked, Fault::Locked),
            (&certificate, &other, Fault::Mismatch),
            (&certificate, &key[..key.len() / 2], Fault::NoKey),
        ] {
            assert_eq!(check(certificate, key).unwrap_err(), fault);
        }
    }
}
