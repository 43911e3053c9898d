//! DTLS 1.2 of one transport (crate `dimpl`): the handshake, the check of the peer's certificate, SRTP keys (RFC 5764),
//! and records for SCTP (RFC 8261).
//!
//! Driven by [`super::transport::Transport`]. It knows no addresses: a change of the ICE path does not concern it.

pub(super) mod key;
pub(super) mod rsa;

use super::certificate::{Certificate, fingerprint};
use super::srtp::{self, Opener, Profile, Sealer};
use crate::plan::{DtlsRole, Fingerprint};
use dimpl::{Output, SrtpProfile};
use std::fmt;
use std::iter;
use std::time::Instant;

/// Room for any datagram that browsers send; larger records take a buffer of their own.
const SCRATCH: usize = 2048;
/// Most records of a datagram that `dimpl` takes.
const MOST_RECORDS: usize = 8;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not done yet.
    Handshake,
    /// Keys exist and the peer is who the SDP says.
    Up,
    /// Ended: by the peer, by us, or because the handshake failed.
    Closed,
}

#[derive(Debug)]
pub(super) struct Dtls {
    session: dimpl::Dtls,
    state: State,
    expected: Fingerprint,
    seen: Option<Fingerprint>,
    keys: Option<(Sealer, Opener)>,
    connected: bool,
    role: DtlsRole,
    deadline: Option<Instant>,
    faults: u64,
}

/// Whether a datagram is made of whole records (RFC 6347 §4.1). Others are ignored without a word.
pub(super) fn is_whole(mut datagram: &[u8]) -> bool {
    while let Some(rest) = behind_record(datagram) {
        if rest.is_empty() {
            return true;
        }
        datagram = rest;
    }
    false
}

fn behind_record(datagram: &[u8]) -> Option<&[u8]> {
    let (header, rest) = datagram.split_first_chunk::<13>()?;
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    rest.get(length..).filter(|_| header[1] == 254)
}

/// The records of a datagram, as many together as `dimpl` takes. OpenSSL that has not been told of an MTU cuts a
/// certificate into records of 256 bytes, and may send them all in one datagram.
fn pieces(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    iter::from_fn(move || {
        let piece = rest;
        for _ in 0..MOST_RECORDS {
            rest = behind_record(rest).unwrap_or_default();
        }
        let piece = &piece[..piece.len() - rest.len()];
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

impl Dtls {
    pub(super) fn new(
        now: Instant,
        certificate: &Certificate,
        role: DtlsRole,
        expected: Fingerprint,
    ) -> Self {
        let mut session = dimpl::Dtls::new_12(certificate.config(role), certificate.der(), now);
        session.set_active(role == DtlsRole::Client);
        Self {
            session,
            state: State::Handshake,
            expected,
            seen: None,
            keys: None,
            connected: false,
            role,
            deadline: None,
            faults: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn role(&self) -> DtlsRole {
        self.role
    }

    /// The keys, once.
    pub(super) fn take_keys(&mut self) -> Option<(Sealer, Opener)> {
        self.keys.take()
    }

    /// The SDP names another certificate than before: it must be the one that was seen.
    pub(super) fn set_expected(&mut self, expected: Fingerprint) {
        self.expected = expected;
        if self.seen.is_some_and(|seen| seen != expected) {
            self.fail(&"the certificate is not the one of the new SDP");
        }
    }

    /// Takes a datagram. `data` is called with each decrypted record, `packet` with each datagram to send.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        datagram: &[u8],
        packet: &mut dyn FnMut(&[u8]),
        data: &mut dyn FnMut(&[u8]),
    ) {
        for piece in pieces(datagram) {
            // An impostor may have been found in the piece before.
            if self.state == State::Closed {
                return;
            }
            let result = self
                .session
                .handle_timeout(now)
                .and_then(|()| self.session.handle_packet(piece));
            self.drain(packet, data);
            if let Err(error) = result {
                return self.fail(&error);
            }
        }
    }

    /// Does what is due; the first call of a client sends its ClientHello.
    pub(super) fn handle_timeout(&mut self, now: Instant, packet: &mut dyn FnMut(&[u8])) {
        if self.state == State::Closed {
            return;
        }
        let result = self.session.handle_timeout(now);
        self.drain(packet, &mut |_| {});
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    /// How often it failed since the last call.
    pub(super) fn take_faults(&mut self) -> u64 {
        std::mem::take(&mut self.faults)
    }

    /// Something was received, or sent.
    pub(super) fn has_begun(&self) -> bool {
        self.deadline.is_some()
    }

    /// When [`Self::handle_timeout`] is due; nothing is before the first datagram or the first call.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.state != State::Closed)
    }

    /// Sends one SCTP packet. Records are all drained when they come, so that none can turn up here.
    pub(super) fn send(&mut self, data: &[u8], packet: &mut dyn FnMut(&[u8])) {
        if self.state == State::Up && self.session.send_application_data(data).is_ok() {
            self.drain(packet, &mut |_| {});
        }
    }

    /// Tells the peer that this is the end, when there is a session to end.
    pub(super) fn close(&mut self, packet: &mut dyn FnMut(&[u8])) {
        if self.state != State::Closed {
            if self.session.close().is_ok() {
                self.drain(packet, &mut |_| {});
            }
            self.state = State::Closed;
        }
    }

    fn fail(&mut self, why: &dyn fmt::Display) {
        tracing::debug!(%why, "dtls");
        self.faults += 1;
        self.state = State::Closed;
    }

    fn drain(&mut self, packet: &mut dyn FnMut(&[u8]), data: &mut dyn FnMut(&[u8])) {
        let asks = self.role == DtlsRole::Server && self.state == State::Handshake;
        let mut scratch = [0; SCRATCH];
        let mut large = Vec::new();
        loop {
            let buffer = if large.is_empty() {
                &mut scratch[..]
            } else {
                &mut large[..]
            };
            match self.session.poll_output(buffer) {
                Output::Packet(bytes) if asks => {
                    let mut bytes = bytes.to_vec();
                    rsa::ask(&mut bytes);
                    packet(&bytes);
                }
                Output::Packet(bytes) => packet(bytes),
                Output::BufferTooSmall { needed } => large.resize(needed, 0),
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    if self.connected && self.state == State::Handshake {
                        self.fail(&"no certificate, or no SRTP");
                    }
                    return;
                }
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => {
                    let seen = fingerprint(der);
                    self.seen = Some(seen);
                    if seen != self.expected {
                        self.fail(&"the certificate is not the one of the SDP");
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::Gcm128),
                        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::Gcm256),
                        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Cm128),
                        _ => None,
                    };
                    let client = self.role == DtlsRole::Client;
                    self.keys =
                        profile.and_then(|profile| srtp::derive(profile, &material, client));
                }
                Output::ApplicationData(bytes) if self.state == State::Up => data(bytes),
                Output::CloseNotify => self.state = State::Closed,
                _ => {}
            }
            if self.state == State::Closed && self.seen.is_some_and(|seen| seen != self.expected) {
                // Not one more packet for an impostor.
                return;
            }
            // The certificate, the keys and the end of the handshake are told one by one.
            if self.state == State::Handshake
                && self.connected
                && self.keys.is_some()
                && self.seen == Some(self.expected)
            {
                self.state = State::Up;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u8) -> Vec<u8> {
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, length];
        record.resize(13 + usize::from(length), length);
        record
    }

    #[test]
    fn a_datagram_of_many_records_is_taken_in_pieces() {
        let records: Vec<_> = (0..20).map(record).collect();
        let datagram = records.concat();
        assert!(is_whole(&datagram));
        let lengths: Vec<_> = pieces(&datagram).map(<[u8]>::len).collect();
        let of = |range: std::ops::Range<usize>| records[range].concat().len();
        assert_eq!(lengths, [of(0..8), of(8..16), of(16..20)]);
        assert_eq!(pieces(&datagram).collect::<Vec<_>>().concat(), datagram);

        let eight = records[..8].concat();
        assert_eq!(pieces(&eight).collect::<Vec<_>>(), [&eight]);
        assert_eq!(pieces(&[]).count(), 0);
        let cut = &datagram[..datagram.len() - 1];
        assert!(!is_whole(cut));
        assert_eq!(pieces(cut).collect::<Vec<_>>().concat(), cut);
    }
}
