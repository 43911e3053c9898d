//! One peer's transport: ICE, DTLS, SRTP keys and data channels, joined and kept alive.
//!
//! Owns everything that is the same for all media of one peer connection. Driven by the plane, which demultiplexes
//! datagrams (RFC 7983), opens and seals media with the keys here, and after every `handle_*`, `set_*`, `send_data` or
//! `close` drains [`Transport::poll_event`] and then calls [`Transport::flush`]. It does no I/O, reads no clock, and
//! never looks inside a media packet.
//!
//! 1. Checks of the peer are answered as soon as its credentials are known; what came before is kept, a little.
//! 2. A path is selected (RFC 8445); DTLS runs over it (RFC 8842), and the certificate is that of the SDP.
//! 3. SRTP keys (RFC 5764): [`TransportEvent::Connected`].
//! 4. SCTP in DTLS; the channels open.
//! 5. Silence of the peer: [`TransportEvent::Disconnected`] (in the spirit of RFC 7675). An ICE restart, or the peer's
//!    return, makes it Connected again, with the same keys and channels.
//! 6. close_notify of the peer or a handshake that failed: [`TransportEvent::Closed`].

#[cfg(test)]
mod tests;

use super::certificate::{Certificate, MTU};
use super::channels::{ChannelEvent, Channels, SendOutcome};
use super::dtls::{Dtls, State};
use super::ice::{Heard, Ice, proto_of};
use super::io::{Path, Sink};
use super::srtp::{Opener, Sealer, SrtpFault};
use super::stats::Drop;
use crate::ids::TransportId;
use crate::plan::{
    Channel, DataChannels, DtlsRole, IceCredentials, LocalCandidate, Proto, RemoteCandidate,
    RemoteTransport,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Silence after which a peer counts as gone. Browsers check every 2.5 s (Chromium) or 5 s (Firefox).
pub const SILENCE: Duration = Duration::from_secs(14);
/// How long the DTLS client has to begin SCTP before we do. RFC 8831 §6 lets either side begin; most clients do at once,
/// and some of those that answer our offer wait for us.
const DIALS: Duration = Duration::from_millis(500);
/// Datagrams kept until the peer's description is known.
const MAX_EARLY: usize = 8;
/// DTLS datagrams that wait for a path.
const MAX_OUT: usize = 32;

/// Constant facts of a transport.
#[derive(Debug)]
pub struct TransportConfig<'a> {
    /// Our ICE credentials.
    pub local: IceCredentials,
    /// Our initial ICE role; ignored with `lite`.
    pub controlling: bool,
    /// Send no checks of our own.
    pub lite: bool,
    /// Who opens the data channels, and who sends on them.
    pub channels: DataChannels,
    /// Where the worker can be reached. One per protocol and family is used, the most preferred.
    pub candidates: &'a [LocalCandidate],
    /// The certificate of the process.
    pub certificate: Arc<Certificate>,
}

/// What [`Transport::poll_event`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportEvent {
    /// The reliable channel holds more than [`BEHIND`]; or less than [`CAUGHT_UP`] again.
    ///
    /// [`BEHIND`]: super::channels::BEHIND
    /// [`CAUGHT_UP`]: super::channels::CAUGHT_UP
    Behind(bool),
    /// A data channel can be written to.
    ChannelOpen(Channel),
    /// The reliable channel holds more than 4 MB, or the peer broke the association: its data is incomplete. Once.
    ChannelStuck,
    /// The peer closed, or the handshake failed for good. Nothing follows.
    Closed,
    /// Media can flow: a path is selected and keys exist; also when a silent peer has come back.
    Connected {
        /// UDP or TCP.
        proto: Proto,
        /// The peer's address.
        remote: SocketAddr,
    },
    /// A message arrived.
    Data {
        /// The channel.
        channel: Channel,
        /// The message.
        payload: Bytes,
    },
    /// Nothing was heard of the peer for [`SILENCE`]. Nothing is sent until it is back.
    Disconnected,
    /// [`Transport::path`] is another one now.
    PathChanged {
        /// The one before had ended some time ago: what was sent by it is lost.
        moved: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Not connected yet.
    Opening,
    Connected,
    /// Connected before, silent now.
    Lost,
    Closed,
}

/// Why the messages of a peer are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// Those that they are for have more than enough.
    Readers,
    /// Its room cannot take them now.
    Room,
}

#[derive(Debug, Default)]
struct Holds {
    readers: bool,
    room: bool,
}

impl Holds {
    fn any(&self) -> bool {
        self.readers || self.room
    }
}

/// The transport of one peer.
#[derive(Debug)]
pub struct Transport {
    id: TransportId,
    certificate: Arc<Certificate>,
    opens_channels: bool,
    sends_data: bool,
    ice: Ice,
    dtls: Option<Box<Dtls>>,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    channels: Option<Box<Channels>>,
    life: Life,
    /// Came before the peer's description: STUN with its path, DTLS.
    early: Vec<(Option<Path>, Box<[u8]>)>,
    /// DTLS datagrams to send.
    out: VecDeque<Box<[u8]>>,
    events: VecDeque<TransportEvent>,
    /// Why messages are not read.
    holds: Holds,
    stuck: bool,
    /// Closed, and not told yet.
    ended: bool,
    /// SCTP may have something to send.
    dirty: bool,
    /// When anything authentic came last.
    heard_at: Instant,
    /// The same, on the selected path alone.
    selected_at: Instant,
    told: Option<Path>,
    now: Instant,
    /// When to look whether the peer is gone; what was heard since does not move it.
    silent_at: Option<Instant>,
    /// When to begin SCTP if the peer has not.
    dial_at: Option<Instant>,
}

impl Transport {
    /// A transport whose peer is not known yet.
    pub fn new(now: Instant, id: TransportId, config: TransportConfig<'_>) -> Self {
        Self {
            id,
            certificate: config.certificate,
            opens_channels: config.channels == DataChannels::Ours,
            sends_data: config.channels != DataChannels::TheirsAlone,
            ice: Ice::new(
                &config.local,
                config.controlling,
                config.lite,
                config.candidates,
            ),
            dtls: None,
            sealer: None,
            opener: None,
            channels: None,
            life: Life::Opening,
            early: Vec::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            holds: Holds::default(),
            stuck: false,
            ended: false,
            dirty: false,
            heard_at: now,
            selected_at: now,
            told: None,
            now,
            silent_at: None,
            dial_at: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// Takes the peer's side. The same credentials as before change nothing; others restart ICE (with `local` as our
    /// new ones), and DTLS, SRTP and SCTP live on.
    pub fn set_remote(
        &mut self,
        now: Instant,
        remote: &RemoteTransport,
        local: Option<&IceCredentials>,
    ) {
        if self.life == Life::Closed {
            return;
        }
        self.now = now;
        if !self.ice.set_remote(now, &remote.ice, local) {
            tracing::debug!(id = ?self.id, "ICE credentials that cannot be used");
            self.end(now);
            return;
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.set_expected(remote.fingerprint);
        } else {
            self.dtls = Some(Box::new(Dtls::new(
                now,
                &self.certificate,
                remote.role,
                remote.fingerprint,
            )));
            for (path, datagram) in std::mem::take(&mut self.early) {
                if let Some(path) = path {
                    self.handle_stun(now, &path, &datagram);
                } else {
                    self.handle_dtls(now, &datagram);
                }
            }
        }
        self.advance(now);
    }

    /// Takes an address of the peer. TCP is refused (the peer connects to us), and so are useless addresses.
    pub fn add_remote_candidate(&mut self, now: Instant, candidate: RemoteCandidate) {
        if self.life != Life::Closed {
            self.now = now;
            self.ice.add_remote(now, candidate);
        }
    }

    /// The addresses of this host have changed to these.
    pub fn handle_host_addresses(&mut self, now: Instant, host: &[IpAddr]) {
        self.now = now;
        self.ice.handle_host_addresses(now, host);
    }

    /// Takes a STUN message that the demultiplexer gave to this transport. `true`: it was authentic, or is kept until
    /// that can be told; `path` leads to this peer.
    pub fn handle_stun(&mut self, now: Instant, path: &Path, datagram: &[u8]) -> bool {
        if self.life == Life::Closed {
            return false;
        }
        self.now = now;
        if !self.ice.has_remote() {
            return self.keep(Some(*path), datagram);
        }
        let heard = self.ice.handle(now, path, datagram);
        if heard == Heard::Nothing {
            return false;
        }
        self.heard_at = now;
        if heard == Heard::Selected {
            self.selected_at = now;
            if self.life == Life::Lost {
                self.life = Life::Opening;
            }
        }
        self.advance(now);
        true
    }

    /// Takes a DTLS datagram.
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) {
        if self.life == Life::Closed {
            return;
        }
        self.now = now;
        let Some(dtls) = &mut self.dtls else {
            self.keep(None, datagram);
            return;
        };
        let mut heard = false;
        let mut records = Records {
            now,
            opens: self.opens_channels,
            is_client: dtls.role() == DtlsRole::Client,
            channels: &mut self.channels,
            heard: &mut heard,
        };
        let out = &mut self.out;
        dtls.handle(
            now,
            datagram,
            &mut |packet| push(out, packet),
            &mut |record| records.take(record),
        );
        if heard {
            self.heard_at = now;
            self.selected_at = now;
            self.dial_at = None;
        }
        self.dirty = true;
        self.advance(now);
    }

    /// Opens an RTP packet in place; `header_len` is the whole header, CSRCs and extensions included. Returns the
    /// length of header and payload; after a fault the payload is worthless.
    pub fn open_rtp(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        header_len: usize,
    ) -> Result<usize, SrtpFault> {
        let opener = self.opener.as_mut().ok_or(SrtpFault::NoKeys)?;
        let len = opener.open_rtp(packet, header_len)?;
        self.heard_at = now;
        self.selected_at = now;
        Ok(len)
    }

    /// Opens a compound RTCP packet in place and returns its length.
    pub fn open_rtcp(&mut self, now: Instant, packet: &mut [u8]) -> Result<usize, SrtpFault> {
        let opener = self.opener.as_mut().ok_or(SrtpFault::NoKeys)?;
        let len = opener.open_rtcp(packet)?;
        self.heard_at = now;
        self.selected_at = now;
        Ok(len)
    }

    /// Seals media; `None` before the handshake is done. Send only while [`Self::path`] says where.
    pub fn sealer(&mut self) -> Option<&mut Sealer> {
        self.sealer.as_mut()
    }

    /// Where media goes; `None` while not connected.
    pub fn path(&self) -> Option<&Path> {
        self.ice.path().filter(|_| self.life == Life::Connected)
    }

    /// A path is selected, keys exist, and the peer was heard lately.
    pub fn is_connected(&self) -> bool {
        self.life == Life::Connected
    }

    /// Queues a message; it leaves with [`Self::flush`]. `Stuck` also raises [`TransportEvent::ChannelStuck`], once.
    pub fn send_data(&mut self, now: Instant, channel: Channel, payload: &Bytes) -> SendOutcome {
        self.now = now;
        let Some(channels) = self.channels.as_mut().filter(|_| self.life != Life::Closed) else {
            return SendOutcome::NotOpen;
        };
        let outcome = channels.send(now, channel, payload);
        match outcome {
            SendOutcome::Sent => self.dirty = true,
            SendOutcome::Stuck => self.tell_stuck(),
            SendOutcome::Dropped | SendOutcome::NotOpen => {}
        }
        outcome
    }

    /// While there is a reason no messages are told, and the peer has to wait when a window of them is here. Without one,
    /// poll events again.
    pub fn set_data_hold(&mut self, reason: HoldReason, hold: bool) {
        match reason {
            HoldReason::Readers => self.holds.readers = hold,
            HoldReason::Room => self.holds.room = hold,
        }
    }

    /// What its peer did wrong since the last call, by cause.
    pub fn take_faults(&mut self) -> [(Drop, u64); 3] {
        let (dtls, channels) = (self.dtls.as_mut(), self.channels.as_mut());
        let (ignored, refused) = channels.map_or((0, 0), |channels| {
            (channels.take_ignored(), channels.take_refused())
        });
        [
            (Drop::Handshake, dtls.map_or(0, |dtls| dtls.take_faults())),
            (Drop::IgnoredMessage, ignored),
            (Drop::Sctp, refused),
        ]
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.life == Life::Closed {
            return;
        }
        self.now = now;
        if self.ice.next_timeout().is_some_and(|at| at <= now) {
            self.ice.handle_timeout(now);
        }
        if let Some(dtls) = &mut self.dtls
            && dtls.next_timeout().is_some_and(|at| at <= now)
        {
            let out = &mut self.out;
            dtls.handle_timeout(now, &mut |packet| push(out, packet));
        }
        if let Some(channels) = &mut self.channels
            && channels.next_timeout().is_some_and(|at| at <= now)
        {
            channels.handle_timeout(now);
            self.dirty = true;
        }
        if self.dial_at.take_if(|at| *at <= now).is_some() {
            self.dial(DtlsRole::Server);
        }
        self.advance(now);
    }

    /// When [`Self::handle_timeout`] wants to be called; at once when a flush is wanted.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.life == Life::Closed {
            return None;
        }
        if self.wants_flush() {
            return Some(self.now);
        }
        let dtls = self.dtls.as_ref().and_then(|dtls| dtls.next_timeout());
        let channels = self
            .channels
            .as_ref()
            .filter(|_| self.life != Life::Lost)
            .and_then(|channels| channels.next_timeout());
        let ice = self.ice.next_timeout();
        [ice, dtls, channels, self.silent_at, self.dial_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Something waits for [`Self::flush`].
    pub fn wants_flush(&self) -> bool {
        let can_send = self.life != Life::Lost && self.ice.reply_path().is_some();
        self.ice.has_output()
            || can_send && (!self.out.is_empty() || self.dirty && self.channels.is_some())
    }

    /// Hands over what waits to be sent: STUN, DTLS, SCTP. Media is not here.
    pub fn flush(&mut self, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        while let Some((path, message)) = self.ice.poll() {
            send(sink, &path, &message);
        }
        let Some(path) = self.ice.reply_path().filter(|_| self.life != Life::Lost) else {
            return;
        };
        while let Some(datagram) = self.out.pop_front() {
            send(sink, &path, &datagram);
        }
        if !self.dirty {
            return;
        }
        self.dirty = false;
        if let (Some(dtls), Some(channels)) = (&mut self.dtls, &mut self.channels) {
            channels.transmit(now, |packet| {
                dtls.send(packet, &mut |datagram| send(sink, &path, datagram));
            });
        }
    }

    /// Messages leave on this transport, not only come.
    pub fn sends_data(&self) -> bool {
        self.sends_data
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if let Some(event) = self
            .channels
            .as_mut()
            .and_then(|channels| channels.poll(self.holds.any()))
        {
            // What was read opens the receive window, and an OPEN wants its ACK.
            self.dirty = true;
            return match event {
                ChannelEvent::Data(channel, payload) => {
                    Some(TransportEvent::Data { channel, payload })
                }
                ChannelEvent::Behind(behind) => Some(TransportEvent::Behind(behind)),
                ChannelEvent::Open(channel) => Some(TransportEvent::ChannelOpen(channel)),
                ChannelEvent::Lost => {
                    self.tell_stuck();
                    self.events.pop_front()
                }
            };
        }
        // Behind the messages that came before it.
        std::mem::take(&mut self.ended).then_some(TransportEvent::Closed)
    }

    /// Ends the transport; the close_notify leaves with the next flush. No more events.
    pub fn close(&mut self, now: Instant) {
        self.end(now);
        self.events.clear();
        self.channels = None;
        self.ended = false;
    }

    /// Keeps checking for as long as a browser does.
    #[cfg(test)]
    pub(in crate::media) fn be_patient(&mut self) {
        self.ice.be_patient();
    }

    /// Keeps a datagram until the peer is known; the first ones, a flood must not push them out.
    fn keep(&mut self, path: Option<Path>, datagram: &[u8]) -> bool {
        let room = self.early.len() < MAX_EARLY && datagram.len() <= 2 * MTU;
        if room {
            self.early.push((path, datagram.into()));
        }
        room
    }

    /// Follows what the parts have come to.
    fn advance(&mut self, now: Instant) {
        let Some(dtls) = &mut self.dtls else {
            return;
        };
        if dtls.role() == DtlsRole::Client && !dtls.has_begun() && self.ice.path().is_some() {
            let out = &mut self.out;
            dtls.handle_timeout(now, &mut |packet| push(out, packet));
        }
        match dtls.state() {
            State::Closed => {
                self.end(now);
                return;
            }
            State::Handshake => {}
            State::Up => {
                if let Some((sealer, opener)) = dtls.take_keys() {
                    self.sealer = Some(sealer);
                    self.opener = Some(opener);
                    if dtls.role() == DtlsRole::Client {
                        self.dial(DtlsRole::Client);
                    } else if self.opens_channels {
                        self.dial_at = Some(now + DIALS);
                    }
                }
            }
        }
        self.follow_path(now);
        self.check_silence(now);
    }

    fn dial(&mut self, role: DtlsRole) {
        let (opens, is_client) = (self.opens_channels, role == DtlsRole::Client);
        self.channels
            .get_or_insert_with(|| Box::new(Channels::new(opens, is_client)))
            .dial();
        self.dirty = true;
    }

    fn follow_path(&mut self, now: Instant) {
        let Some(path) = self.ice.path().copied() else {
            return;
        };
        let changed = self.told != Some(path);
        match self.life {
            Life::Connected if changed => {
                let moved = self.ice.take_moved();
                self.events.push_back(TransportEvent::PathChanged { moved });
            }
            Life::Lost if !changed => return,
            Life::Opening | Life::Lost if self.sealer.is_some() => {
                self.life = Life::Connected;
                self.heard_at = now;
                self.events.push_back(TransportEvent::Connected {
                    proto: proto_of(&path),
                    remote: path.remote,
                });
            }
            _ => return,
        }
        if changed {
            self.told = Some(path);
            self.selected_at = now;
        }
    }

    fn check_silence(&mut self, now: Instant) {
        if self.life != Life::Connected {
            self.silent_at = None;
            return;
        }
        let silent = |since| now.saturating_duration_since(since) >= SILENCE;
        if silent(self.heard_at) || !self.ice.is_valid() && silent(self.selected_at) {
            self.life = Life::Lost;
            self.silent_at = None;
            self.events.push_back(TransportEvent::Disconnected);
            return;
        }
        self.silent_at = Some(self.heard_at + SILENCE);
    }

    fn tell_stuck(&mut self) {
        if !self.stuck {
            self.stuck = true;
            self.events.push_back(TransportEvent::ChannelStuck);
        }
    }

    fn end(&mut self, now: Instant) {
        self.now = now;
        if self.life != Life::Closed {
            self.life = Life::Closed;
            self.ended = true;
            self.silent_at = None;
            if let Some(dtls) = &mut self.dtls {
                let out = &mut self.out;
                dtls.close(&mut |packet| push(out, packet));
            }
        }
    }
}

/// Where decrypted DTLS records go.
struct Records<'a> {
    now: Instant,
    opens: bool,
    is_client: bool,
    channels: &'a mut Option<Box<Channels>>,
    heard: &'a mut bool,
}

impl Records<'_> {
    fn take(&mut self, record: &[u8]) {
        *self.heard = true;
        self.channels
            .get_or_insert_with(|| Box::new(Channels::new(self.opens, self.is_client)))
            .handle(self.now, record);
    }
}

fn push(out: &mut VecDeque<Box<[u8]>>, datagram: &[u8]) {
    if out.len() >= MAX_OUT {
        out.pop_front();
    }
    out.push_back(datagram.into());
}

fn send(sink: &mut impl Sink, path: &Path, datagram: &[u8]) {
    sink.datagram(path, datagram.len(), |buffer| {
        buffer[..datagram.len()].copy_from_slice(datagram);
        datagram.len()
    });
}
