//! User data: chat, RPC, streams, transcriptions. Who gets a packet, what the server adds to it, what a newcomer
//! still gets (livekit.md 3.11).

use super::pacing::Pace;
use super::participant::Participant;
use super::{Fault, Now, Room, Seat};
use crate::ids::{Identity, TransportId, WorkerId};
use crate::plan::{Channel, Command};
use crate::protocol::livekit::data_stream::{self, header::ContentHeader};
use crate::protocol::livekit::{
    ChatMessage, DataPacket, UserPacket, data_packet, participant_info,
};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Reliable packets are kept this long for those who are just connecting. libwebrtc repeats what it lost of SCTP's
/// handshake after 1 s, 3 s and 7 s, so that the 2 s of livekit 1.13.5 lose messages on a bad line.
const CACHE_AGE: Duration = Duration::from_secs(15);
/// And no more than this many bytes of them; the oldest go first. Half of what a newcomer's channel may hold.
const CACHE_BYTES: usize = 2 * 1024 * 1024;
/// Whoever has sent more of it than this waits for the newcomer. Less than the whole, because a worker has read a
/// megabyte before it hears of that.
const CACHE_ENOUGH: usize = CACHE_BYTES / 8;
/// How long a newcomer is waited for: it may be one that opens no channels.
const OPENING: Duration = Duration::from_secs(5);
/// The largest message taken: what our SDP announces.
const MAX_MESSAGE: usize = 65_535;

/// What a participant has sent and may still have to get.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Highest `sequence` of a reliable packet; repeated ones are dropped.
    last_sequence: u32,
    /// Reliable data can be sent to it.
    ready: bool,
    /// How it keeps up with that.
    pub(super) pace: Pace,
    /// It gets what was sent after this.
    since: Instant,
}

impl Inbox {
    pub(super) fn new(since: Instant) -> Self {
        Self {
            last_sequence: 0,
            ready: false,
            pace: Pace::default(),
            since,
        }
    }

    /// Reliable data can be sent to it.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The newest `sequence` taken; a client that resumes sends again what came after it.
    pub(super) fn last_sequence(&self) -> u32 {
        self.last_sequence
    }
}

/// Reliable packets for which somebody present is not ready yet.
#[derive(Debug, Default)]
pub(super) struct JoinerCache {
    packets: VecDeque<Cached>,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    at: Instant,
    /// `None`: the server itself.
    from: Option<Seat>,
    to: Destination,
    payload: Bytes,
}

/// Whom a packet is for.
#[derive(Debug, Clone)]
enum Destination {
    All,
    Only(HashSet<Identity>),
}

impl Destination {
    fn includes(&self, participant: &Participant) -> bool {
        match self {
            Self::All => true,
            Self::Only(named) => named.contains(&participant.identity),
        }
    }
}

impl JoinerCache {
    fn push(&mut self, packet: Cached) {
        self.bytes += packet.payload.len();
        self.packets.push_back(packet);
        self.trim(None);
    }

    /// What is kept of one sender's from this moment on, bytes.
    fn bytes_of(&self, from: Seat, since: Instant) -> usize {
        let packets = self.packets.iter().rev();
        packets
            .take_while(|packet| packet.at >= since)
            .filter(|packet| packet.from == Some(from))
            .map(|packet| packet.payload.len())
            .sum()
    }

    fn trim(&mut self, now: Option<Instant>) {
        while let Some(oldest) = self.packets.front() {
            let stale = now.is_some_and(|now| oldest.at + CACHE_AGE < now);
            if !stale && self.bytes <= CACHE_BYTES {
                return;
            }
            self.bytes -= oldest.payload.len();
            self.packets.pop_front();
        }
    }
}

impl Room {
    /// A message from a data channel.
    pub(super) fn handle_data(
        &mut self,
        now: Now,
        id: TransportId,
        channel: Channel,
        message: &Bytes,
    ) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        if message.len() > MAX_MESSAGE {
            return self.fault(Fault::DataTooLarge);
        }
        // To answer a question of the server is no publishing.
        if channel == Channel::Reliable && self.rpcs.awaits(seat) && self.answer_rpc(seat, message)
        {
            return;
        }
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if !participant.permission.can_publish_data {
            return self.fault(Fault::DataForbidden);
        }
        if channel == Channel::DataTrack {
            return self.forward_data_track(seat, message);
        }
        let (channel, message) = match channel {
            Channel::Other => (Channel::Reliable, &user_packet(message)),
            _ => (channel, message),
        };
        let Ok(packet) = DataPacket::decode(message.as_ref()) else {
            return self.fault(Fault::DataPacketUnreadable);
        };
        let agent =
            participant.permission.agent || participant.kind == participant_info::Kind::Agent;
        match &packet.value {
            None | Some(data_packet::Value::Metrics(_)) => return,
            Some(data_packet::Value::Transcription(_)) if !agent => {
                return self.fault(Fault::TranscriptionForbidden);
            }
            Some(_) => {}
        }
        if channel == Channel::Reliable && packet.sequence > 0 {
            let Some(participant) = self.participants.get_mut(&seat) else {
                return;
            };
            if packet.sequence <= participant.inbox.last_sequence {
                return;
            }
            participant.inbox.last_sequence = packet.sequence;
        }
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let payload = stamp(message, channel, &packet, participant, agent);
        let to = self.destination(&packet);
        if channel == Channel::Reliable && !self.holds.include(seat) {
            if let Some((newcomers, until)) = self.newcomers(now, seat, &to) {
                self.hold_up(now, seat, id, newcomers, Some(until));
            } else if let Some(readers) = self.laggards(seat, &to) {
                self.hold_up(now, seat, id, readers, None);
            }
        }
        self.route_and_keep(now, Some(seat), channel, to, payload);
    }

    /// Those for whom a message has to be kept beside many of its sender's, and until when they are waited for.
    fn newcomers(&self, now: Now, from: Seat, to: &Destination) -> Option<(Vec<Seat>, Instant)> {
        if self.cache.bytes <= CACHE_ENOUGH {
            return None;
        }
        let newcomers: Vec<&Participant> = self
            .participants
            .values()
            .filter(|participant| {
                let inbox = &participant.inbox;
                let is_opening = !inbox.ready && inbox.since + OPENING > now.at;
                is_opening && participant.guest.is_none() && participant.seat != from
            })
            .filter(|participant| to.includes(participant))
            .collect();
        let joins = || newcomers.iter().map(|newcomer| newcomer.inbox.since);
        let (first, last) = joins().min().zip(joins().max())?;
        if self.cache.bytes_of(from, first) <= CACHE_ENOUGH {
            return None;
        }
        let seats = newcomers.iter().map(|newcomer| newcomer.seat);
        Some((seats.collect(), last + OPENING))
    }

    /// Nothing is kept when nobody is to come.
    pub(super) fn drop_cache_if_served(&mut self) {
        let is_awaited = |p: &Participant| !p.inbox.ready && p.guest.is_none();
        if !self.participants.values().any(is_awaited) {
            self.cache = JoinerCache::default();
        }
    }

    /// Those for whom a message is and who may be waited for, if nobody keeps up with it.
    fn laggards(&self, from: Seat, to: &Destination) -> Option<Vec<Seat>> {
        let mut readers = Vec::new();
        for participant in self.participants.values() {
            let inbox = &participant.inbox;
            if participant.seat == from || !inbox.ready || !to.includes(participant) {
                continue;
            }
            match inbox.pace {
                Pace::Keeping => return None,
                Pace::Behind => readers.push(participant.seat),
                Pace::TooSlow => {}
            }
        }
        (!readers.is_empty()).then_some(readers)
    }

    fn route_and_keep(
        &mut self,
        now: Now,
        from: Option<Seat>,
        channel: Channel,
        to: Destination,
        payload: Bytes,
    ) {
        let awaited = self.route(from, channel, &to, &payload);
        if channel == Channel::Reliable && awaited {
            self.cache.trim(Some(now.at));
            self.cache.push(Cached {
                at: now.at,
                from,
                to,
                payload,
            });
        }
    }

    /// A packet of the server's own, for those named, or for all when nobody is. `false`: it is too large to be sent.
    pub(super) fn send_data(
        &mut self,
        now: Now,
        channel: Channel,
        to: Option<Vec<Identity>>,
        packet: &DataPacket,
    ) -> bool {
        let payload = Bytes::from(packet.encode_to_vec());
        if payload.len() > MAX_MESSAGE {
            return false;
        }
        let to = to.map_or(Destination::All, |named| {
            Destination::Only(named.into_iter().collect())
        });
        self.route_and_keep(now, None, channel, to, payload);
        true
    }

    /// A packet of the server's own for one participant alone. `false`: its data channel is not there.
    pub(super) fn send_packet(&mut self, seat: Seat, packet: &DataPacket) -> bool {
        let Some(participant) = self.participants.get(&seat).filter(|p| p.inbox.ready) else {
            return false;
        };
        let Some(connection) = participant.data_connection() else {
            return false;
        };
        let command = Command::SendData {
            to: vec![connection.transport],
            channel: Channel::Reliable,
            payload: packet.encode_to_vec().into(),
        };
        self.command(participant.worker, command);
        true
    }

    /// Those present whom a packet names; everybody when it names nobody. It may name thousands: each is looked up once.
    #[expect(deprecated, reason = "older clients address by these fields")]
    fn destination(&self, packet: &DataPacket) -> Destination {
        let mut identities = &packet.destination_identities;
        let mut sids: &[String] = &[];
        if let Some(data_packet::Value::User(user)) = &packet.value
            && identities.is_empty()
        {
            identities = &user.destination_identities;
            sids = &user.destination_sids;
        }
        if identities.is_empty() && sids.is_empty() {
            return Destination::All;
        }
        let identities: HashSet<&str> = identities.iter().map(String::as_str).collect();
        let sids: HashSet<&str> = sids.iter().map(String::as_str).collect();
        let named = self.participants.values().filter(|participant| {
            identities.contains(participant.identity.as_str())
                || sids.contains(participant.sid.as_str())
        });
        Destination::Only(
            named
                .map(|participant| participant.identity.clone())
                .collect(),
        )
    }

    /// One message to all who are ready for it, built once. `true`: for somebody it came too early.
    fn route(
        &mut self,
        from: Option<Seat>,
        channel: Channel,
        to: &Destination,
        payload: &Bytes,
    ) -> bool {
        let mut awaited = false;
        let mut targets: BTreeMap<WorkerId, Vec<TransportId>> = BTreeMap::new();
        for participant in self.participants.values() {
            if Some(participant.seat) == from || !to.includes(participant) {
                continue;
            }
            if !participant.inbox.ready {
                awaited |= participant.guest.is_none();
                continue;
            }
            if let Some(connection) = participant.data_connection() {
                targets
                    .entry(participant.worker)
                    .or_default()
                    .push(connection.transport);
            }
        }
        for (worker, to) in targets {
            self.command(
                worker,
                Command::SendData {
                    to,
                    channel,
                    payload: payload.clone(),
                },
            );
        }
        awaited
    }

    /// Whoever has just got its data channel gets what was sent since it joined.
    pub(super) fn replay_data(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let Some(connection) = participant.data_connection() else {
            return;
        };
        let transport = connection.transport;
        let open = connection.connected && connection.takes_data;
        if !open || participant.inbox.ready {
            return;
        }
        participant.inbox.ready = true;
        self.cache.trim(Some(now.at));
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let missed: Vec<Bytes> = self
            .cache
            .packets
            .iter()
            .filter(|packet| {
                packet.from != Some(seat)
                    && packet.at >= participant.inbox.since
                    && packet.to.includes(participant)
            })
            .map(|packet| packet.payload.clone())
            .collect();
        for payload in missed {
            let to = vec![transport];
            self.command(
                worker,
                Command::SendData {
                    to,
                    channel: Channel::Reliable,
                    payload,
                },
            );
        }
        self.newcomer_served(now, seat);
        self.drop_cache_if_served();
        self.tell_data_track_handles(seat);
    }
}

/// What came on a channel of the client's own, as a packet.
fn user_packet(message: &Bytes) -> Bytes {
    let user = UserPacket {
        payload: message.to_vec(),
        ..Default::default()
    };
    let packet = DataPacket {
        value: Some(data_packet::Value::User(user)),
        ..Default::default()
    };
    packet.encode_to_vec().into()
}

/// The packet with its sender and the channel that it came on, whatever it says itself. Fields are appended: the last
/// value of a field wins and messages merge, so that whatever a newer client put into it passes untouched.
fn stamp(
    message: &Bytes,
    channel: Channel,
    packet: &DataPacket,
    sender: &Participant,
    agent: bool,
) -> Bytes {
    let speaks_for_another = agent
        && !packet.participant_identity.is_empty()
        && packet.participant_identity != sender.identity.as_str()
        && matches!(
            packet.value,
            Some(
                data_packet::Value::Transcription(_)
                    | data_packet::Value::ChatMessage(_)
                    | data_packet::Value::StreamHeader(_)
                    | data_packet::Value::StreamChunk(_)
                    | data_packet::Value::StreamTrailer(_)
            )
        );
    let hidden = sender.permission.hidden;
    let sid = if hidden { "" } else { sender.sid.as_str() };
    let identity = if speaks_for_another {
        packet.participant_identity.as_str()
    } else if hidden {
        ""
    } else {
        sender.identity.as_str()
    };
    let mut out = BytesMut::with_capacity(message.len() + 2 * (sid.len() + identity.len()) + 32);
    out.put_slice(message);
    let kind = match channel {
        Channel::Lossy => data_packet::Kind::Lossy,
        Channel::Reliable | Channel::DataTrack | Channel::Other => data_packet::Kind::Reliable,
    };
    prost::encoding::int32::encode(1, &(kind as i32), &mut out);
    if speaks_for_another && let Some(value) = packet.value.as_ref().and_then(generated) {
        let mark = DataPacket {
            value: Some(value),
            ..Default::default()
        };
        out.put_slice(&mark.encode_to_vec());
    }
    if matches!(packet.value, Some(data_packet::Value::User(_))) {
        let mut user = BytesMut::with_capacity(sid.len() + identity.len() + 8);
        put_string(&mut user, 1, sid);
        put_string(&mut user, 5, identity);
        put_key(&mut out, 2);
        prost::encoding::encode_varint(user.len() as u64, &mut out);
        out.put_slice(&user);
    }
    put_string(&mut out, 4, identity);
    put_string(&mut out, 17, sid);
    out.freeze()
}

/// What is added to chat and text that an agent made of what somebody else said (livekit 1.13.5 `participant.go`).
fn generated(value: &data_packet::Value) -> Option<data_packet::Value> {
    match value {
        data_packet::Value::ChatMessage(_) => Some(data_packet::Value::ChatMessage(ChatMessage {
            generated: true,
            ..Default::default()
        })),
        data_packet::Value::StreamHeader(header)
            if matches!(header.content_header, Some(ContentHeader::TextHeader(_))) =>
        {
            let text = data_stream::TextHeader {
                generated: true,
                ..Default::default()
            };
            Some(data_packet::Value::StreamHeader(data_stream::Header {
                content_header: Some(ContentHeader::TextHeader(text)),
                ..Default::default()
            }))
        }
        _ => None,
    }
}

/// A length-delimited field's key.
fn put_key(out: &mut BytesMut, field: u32) {
    prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, out);
}

fn put_string(out: &mut BytesMut, field: u32, text: &str) {
    put_key(out, field);
    prost::encoding::encode_varint(text.len() as u64, out);
    out.put_slice(text.as_bytes());
}
