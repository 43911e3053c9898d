//! Data channels of one transport: SCTP (crate `sctp-proto`), DCEP (RFC 8832) and the bounds that neither has.
//!
//! Driven by [`super::transport::Transport`], which carries the packets in DTLS (RFC 8261). Owns the association and
//! the three channels of LiveKit. Messages that nobody asks for fill the receive window, and the peer waits.
//!
//! 1. Either side's INIT, ours when we are the DTLS client; the peer's wins when both are under way.
//! 2. DATA_CHANNEL_OPEN from the peer, or from us, and its ACK.
//! 3. Messages, until the association is lost.

mod dcep;
mod guard;
mod inbox;
mod outbox;
pub mod script;
mod window;

#[cfg(test)]
mod tests;

use crate::plan::Channel;
use bytes::Bytes;
use dcep::{Message, Open};
use guard::{Guard, Verdict};
use inbox::Inbox;
use outbox::Outbox;
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier as Ppid, ServerConfig, StreamEvent, StreamId,
    TransportConfig,
};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use window::Window;

/// A reliable channel that holds more than this, bytes, belongs to a peer that does not keep up.
pub const RELIABLE_BACKLOG: usize = 4 * 1024 * 1024;
/// A reliable channel that holds more than this, bytes, is behind: whoever sends to it alone may wait.
pub const BEHIND: usize = 1024 * 1024;
/// It has caught up when it holds less, bytes: enough to go on with until more can be here.
pub const CAUGHT_UP: usize = BEHIND / 2;
/// What a lossy channel may hold at any rate, bytes.
pub const LOSSY_BACKLOG: usize = 16 * 1024;
/// How long a message on a lossy channel may wait; it is not worth more.
const LOSSY_WAIT: Duration = Duration::from_millis(100);
/// Largest message taken and sent, bytes. 65,535 is what our SDP says; older clients send more.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// SCTP payload of one DATA chunk, bytes: 28 bytes of SCTP and 37 of DTLS make a datagram of 1,197.
const MAX_PAYLOAD: u32 = 1132;
/// Received bytes that may wait to be asked for.
const RECEIVE_BUFFER: u32 = 1024 * 1024;
/// What may wait at most. Small messages cost more than the bytes that the peer's window counts: a window of messages of
/// thirty bytes, as short as LiveKit's are, is three times as much.
const MAX_HELD: usize = 4 * RECEIVE_BUFFER as usize;
/// Channels that a peer may have open, those we do not know included.
const MAX_CHANNELS: usize = 32;
/// Streams that an association may have: those of the channels, and some for a peer that sends before it opens.
const MAX_STREAMS: usize = 64;
/// How often the rate of a lossy channel is measured anew.
const RATE_WINDOW: Duration = Duration::from_millis(200);
/// SCTP wants an address; DTLS has none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
/// Chunk types (RFC 9260 §3.2) by which a packet's first chunk is known.
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const COOKIE_ECHO: u8 = 10;
/// Where the first chunk begins, bytes.
const COMMON_HEADER: usize = 12;

static ENDPOINT: LazyLock<Arc<EndpointConfig>> = LazyLock::new(|| {
    let mut config = EndpointConfig::new();
    config.max_payload_size(MAX_PAYLOAD);
    Arc::new(config)
});
/// Timers measured against 5 % loss: with SCTP's own defaults it takes four times as long.
static TRANSPORT: LazyLock<Arc<TransportConfig>> = LazyLock::new(|| {
    Arc::new(
        TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BUFFER)
            .with_max_receive_message_size(MAX_MESSAGE as u32)
            .with_max_send_message_size(MAX_MESSAGE as u32)
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None)
            .with_rto_initial_ms(500)
            .with_rto_min_ms(200)
            .with_rto_max_ms(2000),
    )
});
static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let mut config = ServerConfig::new();
    config.transport = Arc::clone(&TRANSPORT);
    Arc::new(config)
});

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// Its channel is lossy and holds enough already, or the message is larger than 256 kB.
    Dropped,
    /// Its channel is not open.
    NotOpen,
    /// Queued.
    Sent,
    /// Its channel is reliable and holds more than 4 MB. The message is lost.
    Stuck,
}

/// What [`Channels::poll`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChannelEvent {
    /// The reliable channel is behind, or no longer.
    Behind(bool),
    Data(Channel, Bytes),
    /// The association ended by a fault, not by the peer's wish.
    Lost,
    Open(Channel),
}

/// The association and its channels.
pub(super) struct Channels {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    guard: Guard,
    window: Window,
    /// The tag of the INIT that made the association, if it was the peer's.
    peer_tag: [u8; 4],
    /// Ours alone: our COOKIE ECHO is out, so the peer may be established with it.
    echoed: bool,
    established: bool,
    /// The peer ended the association itself.
    ended: bool,
    /// We send the first OPEN on each channel.
    opens: bool,
    /// Our stream ids are even when we are the DTLS client (RFC 8832 §6).
    is_client: bool,
    streams: Vec<Stream>,
    /// Streams that may have messages.
    readable: Vec<StreamId>,
    inbox: Inbox,
    opened: Vec<Channel>,
    /// The reliable channel is behind.
    behind: bool,
    /// What was told of that.
    told_behind: bool,
    lost: bool,
    /// Messages of no channel, or of no known kind.
    ignored: u64,
    /// Packets that were malformed, or too much.
    refused: u64,
}

struct Stream {
    id: StreamId,
    channel: Channel,
    open: bool,
    rate: Rate,
    /// Of a reliable channel.
    outbox: Outbox,
}

/// How fast a channel's messages leave.
struct Rate {
    /// When the measurement began; `None` before the first message.
    since: Option<Instant>,
    /// Bytes that left since then.
    left: usize,
    /// What was buffered after the last message.
    buffered: usize,
    bytes_per_second: f64,
}

impl Channels {
    /// Without an association; `dial` makes one.
    pub(super) fn new(opens: bool, is_client: bool) -> Self {
        Self {
            endpoint: Self::endpoint(),
            association: None,
            guard: Guard::default(),
            window: Window::new(RECEIVE_BUFFER),
            peer_tag: [0; 4],
            echoed: false,
            established: false,
            ended: false,
            opens,
            is_client,
            streams: Vec::new(),
            readable: Vec::new(),
            inbox: Inbox::default(),
            opened: Vec::new(),
            behind: false,
            told_behind: false,
            lost: false,
            ignored: 0,
            refused: 0,
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint::new(Arc::clone(&ENDPOINT), Some(Arc::clone(&SERVER)))
    }

    /// Sends INIT.
    pub(super) fn dial(&mut self) {
        let mut config = ClientConfig::new();
        config.transport = Arc::clone(&TRANSPORT);
        self.association = self.endpoint.connect(config, NOWHERE).ok();
    }

    /// Messages of no channel, or of no known kind, since the last call.
    pub(super) fn take_ignored(&mut self) -> u64 {
        std::mem::take(&mut self.ignored)
    }

    /// Packets that were malformed or too much, and associations that broke, since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Takes an SCTP packet.
    pub(super) fn handle(&mut self, now: Instant, packet: &[u8]) {
        if packet.len() <= COMMON_HEADER || self.lost {
            return;
        }
        // Only INIT has no verification tag (RFC 9260 §8.5.1).
        if packet[4..8] == [0; 4] {
            if self.established || self.echoed {
                // A late copy. The association would take it for a fault and close.
                return;
            }
            let tag = packet.get(COMMON_HEADER + 4..COMMON_HEADER + 8);
            if self.association.is_some() && tag != Some(&self.peer_tag) {
                // Both sides have sent INIT. Only INIT can have reached the peer from us: forgotten, it harms nobody.
                // Or the peer has begun anew, and the endpoint would keep a record of each beginning.
                self.restart();
            }
            self.peer_tag = tag.and_then(|tag| tag.try_into().ok()).unwrap_or_default();
        }
        let full = self.inbox.cost() > MAX_HELD;
        match self.guard.judge(now, packet, self.established, full) {
            Verdict::Fault => {
                self.refused += 1;
                self.lost = true;
                return;
            }
            Verdict::Ignore => {
                self.refused += 1;
                return;
            }
            Verdict::Take => {}
        }
        self.ended |= matches!(packet[COMMON_HEADER], ABORT | SHUTDOWN);
        self.give(now, Bytes::copy_from_slice(packet));
    }

    /// Hands a packet that was judged to the association.
    fn give(&mut self, now: Instant, packet: Bytes) {
        match self.endpoint.handle(now, NOWHERE, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((known, association)) = &mut self.association
                    && *known == handle
                {
                    association.handle_event(event);
                }
            }
            None => {}
        }
        self.take_events();
        self.look_for_progress();
        self.read();
    }

    /// Whether a channel that was behind has caught up, or is no more.
    fn look_for_progress(&mut self) {
        if !self.behind {
            return;
        }
        let reliable = self
            .streams
            .iter()
            .rev()
            .find(|stream| stream.channel == Channel::Reliable && stream.open);
        let waiting =
            reliable
                .zip(self.association.as_mut())
                .and_then(|(stream, (_, association))| {
                    let buffered = association.stream(stream.id).ok()?.buffered_amount().ok()?;
                    Some(buffered + stream.outbox.bytes())
                });
        self.behind = waiting.is_some_and(|waiting| waiting >= CAUGHT_UP);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.take_events();
        self.read();
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.association
            .as_ref()
            .and_then(|(_, association)| association.poll_timeout())
    }

    /// Hands over the packets to send.
    pub(super) fn transmit(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        self.refill();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            each_packet(transmit.payload, &mut send);
        }
        let Some((_, association)) = &mut self.association else {
            return;
        };
        while let Some(transmit) = association.poll_transmit(now) {
            each_packet(transmit.payload, &mut |packet: &[u8]| {
                self.echoed |= packet.get(COMMON_HEADER) == Some(&COOKIE_ECHO);
                match self.guard.handle_sent(packet, RECEIVE_BUFFER) {
                    Some(free) => send(self.window.amend(packet, free, self.inbox.cost())),
                    None => send(packet),
                }
            });
        }
        if let Some(sack) = self.window.reopen(self.inbox.cost()) {
            send(sack);
        }
    }

    /// Queues a message.
    pub(super) fn send(&mut self, now: Instant, channel: Channel, payload: &Bytes) -> SendOutcome {
        let Some((_, association)) = &mut self.association else {
            return SendOutcome::NotOpen;
        };
        let Some(state) = self
            .streams
            .iter_mut()
            .rev()
            .find(|stream| stream.channel == channel && stream.open)
        else {
            return SendOutcome::NotOpen;
        };
        let rtt = association.rtt();
        let Ok(mut stream) = association.stream(state.id) else {
            return SendOutcome::NotOpen;
        };
        let buffered = stream.buffered_amount().unwrap_or(0);
        if channel == Channel::Reliable {
            let waiting = buffered + state.outbox.bytes() + payload.len();
            if waiting > RELIABLE_BACKLOG {
                return SendOutcome::Stuck;
            }
            if payload.len() > MAX_MESSAGE {
                return SendOutcome::Dropped;
            }
            self.behind |= waiting > BEHIND;
            state.outbox.push(payload.clone());
            return SendOutcome::Sent;
        }
        state.rate.update(now, buffered);
        if buffered > 0 && buffered + payload.len() > state.rate.backlog(rtt)
            || payload.len() > MAX_MESSAGE
        {
            return SendOutcome::Dropped;
        }
        let written = write(&mut stream, payload);
        state.rate.buffered = stream.buffered_amount().unwrap_or(0);
        if written {
            SendOutcome::Sent
        } else {
            SendOutcome::NotOpen
        }
    }

    /// Gives SCTP what it may have.
    fn refill(&mut self) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        for state in &mut self.streams {
            if state.outbox.is_empty() {
                continue;
            }
            let Ok(mut stream) = association.stream(state.id) else {
                continue;
            };
            while let Some(message) = state.outbox.next(stream.buffered_amount().unwrap_or(0)) {
                // Refused only at the end of the association or of the stream, where nobody waits for it any more.
                write(&mut stream, &message);
            }
        }
    }

    /// The next event. `hold`: no messages.
    pub(super) fn poll(&mut self, hold: bool) -> Option<ChannelEvent> {
        if self.lost && self.association.is_some() {
            self.association = None;
            self.streams.clear();
            self.readable.clear();
            self.opened.clear();
            self.behind = false;
            if !self.ended {
                tracing::debug!("the peer broke its SCTP association");
                return Some(ChannelEvent::Lost);
            }
        }
        if !self.opened.is_empty() {
            return Some(ChannelEvent::Open(self.opened.remove(0)));
        }
        if self.behind != self.told_behind {
            self.told_behind = self.behind;
            return Some(ChannelEvent::Behind(self.behind));
        }
        if hold {
            return None;
        }
        self.inbox
            .pop()
            .map(|(channel, message)| ChannelEvent::Data(channel, message))
    }

    /// Reads what has come.
    fn read(&mut self) {
        while let Some(&id) = self.readable.first() {
            let Some((_, association)) = &mut self.association else {
                self.readable.clear();
                return;
            };
            let message = association
                .stream(id)
                .ok()
                .and_then(|mut stream| stream.read_sctp().ok().flatten());
            let Some(message) = message else {
                self.readable.remove(0);
                // Reading may have finished a stream, or the association.
                self.take_events();
                continue;
            };
            self.guard.handle_read(message.chunks.len());
            let ppid = message.ppi;
            let mut bytes = vec![0; message.len()];
            if message.read(&mut bytes).is_err() {
                self.ignored += 1;
                continue;
            }
            let bytes = Bytes::from(bytes);
            if ppid == Ppid::Dcep {
                self.control(id, &bytes);
                continue;
            }
            let Some(channel) = self.message_on(id) else {
                self.ignored += 1;
                continue;
            };
            match ppid {
                Ppid::Binary | Ppid::String => self.inbox.push(channel, bytes),
                Ppid::BinaryEmpty | Ppid::StringEmpty => self.inbox.push(channel, Bytes::new()),
                _ => self.ignored += 1,
            }
        }
    }

    /// The channel of a stream on which a user message came: it serves as an ACK as well (RFC 8832 §6).
    fn message_on(&mut self, id: StreamId) -> Option<Channel> {
        let stream = self.streams.iter_mut().find(|stream| stream.id == id)?;
        if !stream.open {
            stream.open = true;
            self.opened.push(stream.channel);
        }
        Some(stream.channel)
    }

    fn control(&mut self, id: StreamId, bytes: &[u8]) {
        match dcep::parse(bytes) {
            Some(Message::Ack) => {
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id)
                    && !stream.open
                {
                    stream.open = true;
                    self.opened.push(stream.channel);
                }
            }
            Some(Message::Open(open)) => self.accept(id, &open),
            None => self.ignored += 1,
        }
    }

    fn accept(&mut self, id: StreamId, open: &Open<'_>) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        if self.streams.iter().any(|stream| stream.id == id) || self.streams.len() >= MAX_CHANNELS {
            self.ignored += 1;
            return;
        }
        let Ok(mut stream) = association.stream(id) else {
            return;
        };
        let prepared = stream
            .set_reliability_params(open.unordered, open.reliability, open.limit)
            .and_then(|()| stream.set_default_payload_type(Ppid::Binary))
            .and_then(|()| stream.write_with_ppi(&dcep::ACK, Ppid::Dcep));
        if prepared.is_err() {
            return;
        }
        let channel = [Channel::DataTrack, Channel::Lossy, Channel::Reliable]
            .into_iter()
            .find(|channel| channel.label().as_bytes() == open.label)
            .unwrap_or(Channel::Other);
        self.streams.push(Stream::new(id, channel, true));
        if channel != Channel::Other {
            self.opened.push(channel);
        }
    }

    /// Opens the three channels.
    fn open_all(&mut self) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        let mut id = u16::from(!self.is_client);
        for channel in [Channel::Reliable, Channel::Lossy, Channel::DataTrack] {
            let open = Open::of(channel);
            let opened = association
                .open_stream(id, Ppid::Binary)
                .and_then(|mut stream| {
                    stream.set_reliability_params(open.unordered, open.reliability, open.limit)?;
                    stream.write_with_ppi(&open.encode(), Ppid::Dcep)
                });
            if opened.is_ok() {
                self.streams.push(Stream::new(id, channel, false));
            }
            id += 2;
        }
    }

    fn take_events(&mut self) {
        while let Some((_, association)) = &mut self.association {
            let Some(event) = association.poll() else {
                break;
            };
            if let Event::Stream(StreamEvent::Opened { .. }) = event {
                // Each makes the association's every step longer.
                self.lost |= association.stream_ids().len() > MAX_STREAMS;
            }
            match event {
                Event::Connected => {
                    self.established = true;
                    if self.opens {
                        self.open_all();
                    }
                    continue;
                }
                Event::HandshakeFailed { .. } | Event::AssociationLost { .. } => {
                    self.refused += u64::from(!self.lost && !self.ended);
                    self.lost = true;
                }
                Event::Stream(StreamEvent::Opened { id } | StreamEvent::Readable { id })
                    if !self.readable.contains(&id) =>
                {
                    self.readable.push(id);
                }
                Event::Stream(StreamEvent::Finished { id }) => {
                    self.streams.retain(|stream| stream.id != id);
                    self.readable.retain(|readable| *readable != id);
                }
                _ => {}
            }
            // Opened streams queue up there too; the events have told them.
            while association.accept_stream().is_some() {}
        }
    }

    /// Forgets the INIT that made the association.
    fn restart(&mut self) {
        self.endpoint = Self::endpoint();
        self.association = None;
        self.guard = Guard::default();
        self.window = Window::new(RECEIVE_BUFFER);
        self.streams.clear();
    }
}

impl Stream {
    fn new(id: StreamId, channel: Channel, open: bool) -> Self {
        Self {
            id,
            channel,
            open,
            outbox: Outbox::default(),
            rate: Rate {
                since: None,
                left: 0,
                buffered: 0,
                bytes_per_second: 0.0,
            },
        }
    }
}

impl Rate {
    fn update(&mut self, now: Instant, buffered: usize) {
        self.left += self.buffered.saturating_sub(buffered);
        self.buffered = buffered;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= RATE_WINDOW {
            let measured = self.left as f64 / elapsed.as_secs_f64();
            self.bytes_per_second = f64::midpoint(self.bytes_per_second, measured);
            self.since = Some(now);
            self.left = 0;
        }
    }

    /// What may be buffered, bytes: 100 ms, and what is on its way until it is acknowledged.
    fn backlog(&self, rtt: Duration) -> usize {
        let time = LOSSY_WAIT + rtt.min(LOSSY_WAIT);
        LOSSY_BACKLOG.max((self.bytes_per_second * time.as_secs_f64()) as usize)
    }
}

/// Whether SCTP has taken the message.
fn write(stream: &mut sctp_proto::Stream<'_>, message: &Bytes) -> bool {
    if message.is_empty() {
        // SCTP has no empty messages (RFC 8831 §6.6).
        stream.write_with_ppi(&[0], Ppid::BinaryEmpty).is_ok()
    } else {
        // By chunks: shares the payload instead of copying it.
        stream.write_chunks(&mut [message.clone()]).is_ok()
    }
}

fn each_packet(payload: Payload, send: &mut impl FnMut(&[u8])) {
    if let Payload::RawEncode(packets) = payload {
        for packet in packets {
            send(&packet);
        }
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("established", &self.established)
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}
