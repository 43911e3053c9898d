//! The DTLS certificate of the process: self-signed, new at every start, known to peers by its fingerprint in the SDP
//! (RFC 8122). Shared by all transports, with the DTLS settings that go with it.

use super::dtls::key::OwnKey;
use super::dtls::rsa;
use crate::plan::{DtlsRole, Fingerprint};
use aws_lc_rs::digest;
use dimpl::crypto::CryptoProvider;
use dimpl::crypto::aws_lc_rs::default_provider;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// First retransmission of a flight: a browser on a home network answers in well under this.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(150);
/// Doubling from 150 ms, the last of eight retransmissions leaves after 38 s.
const RETRANSMISSIONS: usize = 8;
/// Longer than all retransmissions together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(90);
/// Largest DTLS datagram, bytes: fits IPv6's smallest link with room for a VPN's header.
pub(super) const MTU: usize = 1200;

/// A self-signed ECDSA P-256 certificate with its key.
pub struct Certificate {
    der: dimpl::DtlsCertificate,
    server: Arc<dimpl::Config>,
    client: Arc<dimpl::Config>,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// A new key and its certificate.
    pub fn generate() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .expect("a P-256 key can be made from the system's randomness");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "parlor");
        // Peers check the fingerprint alone. A start in the past forgives a wrong clock; years up to 2049 keep the
        // short date format. The serial number is derived from the key, and so unique, which Firefox asks for.
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2049, 1, 1);
        let certificate = params
            .self_signed(&key)
            .expect("fixed parameters make a certificate")
            .der()
            .to_vec();
        let key = OwnKey::parse(&key.serialize_der()).expect("a key that was just made is one");
        // `dimpl` takes its cryptography as statics. The process has one certificate, until it ends.
        let key: &'static OwnKey = Box::leak(Box::new(key));
        let config = |provider| {
            let provider = CryptoProvider {
                key_provider: key,
                ..provider
            };
            let config = settings().with_crypto_provider(provider).build();
            Arc::new(config.expect("fixed DTLS settings are valid"))
        };
        Self {
            fingerprint: fingerprint(&certificate),
            der: dimpl::DtlsCertificate {
                certificate,
                // `OwnKey` stands for it.
                private_key: Vec::new(),
            },
            server: config(rsa::provider()),
            client: config(default_provider()),
        }
    }

    /// SHA-256 of the certificate, for `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn der(&self) -> dimpl::DtlsCertificate {
        self.der.clone()
    }

    /// The settings of a session that plays this role.
    pub(super) fn config(&self, role: DtlsRole) -> Arc<dimpl::Config> {
        Arc::clone(match role {
            DtlsRole::Server => &self.server,
            DtlsRole::Client => &self.client,
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

fn settings() -> dimpl::ConfigBuilder {
    dimpl::Config::builder()
        .mtu(MTU)
        .max_queue_tx(32)
        // ICE has proved the address already; the cookie would cost a round trip.
        .use_server_cookie(false)
        .flight_start_rto(FIRST_RETRANSMISSION)
        .flight_retries(RETRANSMISSIONS)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
}

/// SHA-256 of a certificate in DER.
pub(super) fn fingerprint(der: &[u8]) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, der);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Fingerprint(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_has_a_key_of_its_own() {
        let (one, two) = (Certificate::generate(), Certificate::generate());
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_eq!(fingerprint(&one.der().certificate), one.fingerprint());
    }

    #[test]
    fn the_key_is_not_in_the_debug_text() {
        let text = format!("{:?}", Certificate::generate());
        assert!(!text.contains("private"), "{text}");
    }
}
