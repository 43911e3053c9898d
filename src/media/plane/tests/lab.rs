//! Planes, participants on links that lose by a seed, and a clock that jumps from event to event. Participants are real
//! transports; their codecs are stories that a test tells.

use super::super::*;
use crate::ids::{Mid, PayloadType, Ssrc};
use crate::media::io::Socket;
use crate::media::nack::NackGenerator;
use crate::media::transport::{Transport, TransportConfig, TransportEvent};
use crate::plan::{
    CandidateKind, Codec, DataChannels, DownTrackPlan, DtlsRole, Extensions, Format,
    IceCredentials, Kind, Proto, ReceivePlan, ReceiveTrack, RemoteCandidate, RemoteTransport,
    SendFormat, Wanted,
};
use crate::rtp::header::{EXTENSION_BIT, FIXED_LEN, Header, Outgoing};
use crate::rtp::rtcp::{self, Feedback, ReportBlock, SenderInfo, Writer};
use crate::rtp::{ExtensionWriter, Found, SequenceUnwrapper};
use crate::secret::Secret;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

static CERTIFICATE: LazyLock<Arc<Certificate>> =
    LazyLock::new(|| Arc::new(Certificate::generate()));

/// Way of a datagram in one direction.
const DELAY: Duration = Duration::from_millis(20);
/// What everybody agreed on.
pub(super) const EXTENSIONS: Extensions = Extensions {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    audio_level: Some(4),
    abs_send_time: Some(5),
    transport_cc: Some(6),
    dependency_descriptor: Some(7),
    abs_capture_time: Some(8),
    playout_delay: Some(9),
};
pub(super) const OPUS: Format = Format {
    codec: Codec::Opus,
    variant: 0,
};
pub(super) const RED: Format = Format {
    codec: Codec::Red,
    variant: 0,
};
pub(super) const VP8: Format = Format {
    codec: Codec::Vp8,
    variant: 0,
};
/// Payload types of publishers; subscribers have others.
pub(super) const PT_OPUS: u8 = 111;
pub(super) const PT_RED: u8 = 63;
pub(super) const PT_VP8: u8 = 96;
pub(super) const PT_RTX: u8 = 97;
pub(super) const SUB_OPUS: u8 = 109;
pub(super) const SUB_VP8: u8 = 120;
pub(super) const SUB_RTX: u8 = 121;
pub(super) const TRAILER: &[u8] = b"sif!";
/// The source of a subscriber's packets; retransmissions have the next number.
pub(super) const DOWN_SSRC: u32 = 5_000;

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Gathers what is sent.
#[derive(Default)]
pub(super) struct Outbox(pub(super) Vec<(Path, Vec<u8>)>);

impl Sink for Outbox {
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut buffer = vec![0; max_len];
        let len = fill(&mut buffer);
        buffer.truncate(len);
        if len > 0 {
            self.0.push((*path, buffer));
        }
    }
}

/// An RTP packet that a participant received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) at: Instant,
    pub(super) ssrc: u32,
    pub(super) pt: u8,
    pub(super) seq: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) mid: Option<Vec<u8>>,
    pub(super) playout_delay: Option<Vec<u8>>,
    pub(super) level: Option<u8>,
    pub(super) has_send_time: bool,
    pub(super) has_transport_seq: bool,
    pub(super) payload: Vec<u8>,
}

/// A participant with one transport.
pub(super) struct Participant {
    pub(super) id: TransportId,
    pub(super) plane: usize,
    address: SocketAddr,
    transport: Transport,
    pub(super) got: Vec<Got>,
    pub(super) messages: Vec<Bytes>,
    /// PLIs by source, with their time.
    pub(super) plis: Vec<(Instant, u32)>,
    pub(super) reports: Vec<ReportBlock>,
    pub(super) sender_reports: Vec<(u32, SenderInfo)>,
    pub(super) names: Vec<(u8, String)>,
    pub(super) feedback: usize,
    /// Asks for what it misses.
    pub(super) nacks: bool,
    missing: BTreeMap<u32, (SequenceUnwrapper, NackGenerator)>,
    /// Packets sent, for NACKs.
    sent: BTreeMap<(u32, u16), Draft>,
    rtx_seq: u16,
    out: BTreeMap<u32, SequenceUnwrapper>,
    unwrap: BTreeMap<u32, SequenceUnwrapper>,
    transport_seq: u16,
    /// Share of datagrams lost, from and to it.
    pub(super) loss: (f64, f64),
}

/// A packet as a publisher sends it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) ssrc: u32,
    pub(super) pt: u8,
    pub(super) seq: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) mid: &'static str,
    pub(super) rid: Option<&'static str>,
    pub(super) level: Option<u8>,
    pub(super) payload: Vec<u8>,
}

pub(super) struct Lab {
    pub(super) now: Instant,
    pub(super) planes: Vec<Plane>,
    pub(super) people: Vec<Participant>,
    pub(super) events: Vec<(TransportId, Event)>,
    /// The most that a plane told in one turn.
    pub(super) most_events: usize,
    /// How often a plane was called because something fell due.
    pub(super) wakes: usize,
    /// Wishes for key frames and clocks that one plane told another.
    pub(super) linked: (usize, usize),
    wire: BTreeMap<(Instant, u64), (End, Path, Vec<u8>)>,
    count: u64,
    random: Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Person(usize),
    Plane(usize),
}

fn plane_address(plane: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, plane as u8 + 1)), 7_000)
}

fn person_address(person: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, person as u8 + 1)), 5_000)
}

pub(super) fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{name}-ufrag"),
        password: Secret::new(format!("{name}-password-of-22-chars")),
    }
}

impl Lab {
    /// `seats` says on which plane each participant is; all connect.
    pub(super) fn new(seed: u64, planes: usize, seats: &[usize]) -> Self {
        let now = Instant::now();
        let planes = (0..planes)
            .map(|plane| {
                let config = PlaneConfig {
                    worker: WorkerId(plane as u8),
                    certificate: Arc::clone(&CERTIFICATE),
                    candidates: vec![LocalCandidate {
                        proto: Proto::Udp,
                        address: plane_address(plane),
                        preference: 1,
                    }],
                    epoch: (now, UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
                };
                Plane::new(config, Random::seeded(seed + plane as u64))
            })
            .collect();
        let mut lab = Self {
            now,
            planes,
            people: Vec::new(),
            events: Vec::new(),
            most_events: 0,
            wakes: 0,
            linked: (0, 0),
            wire: BTreeMap::new(),
            count: 0,
            random: Random::seeded(seed),
        };
        for &plane in seats {
            lab.join(plane, DataChannels::Theirs);
        }
        lab.run(ms(1_500));
        for person in &lab.people {
            assert!(person.transport.is_connected(), "{:?}", person.id);
        }
        lab
    }

    pub(super) fn join(&mut self, plane: usize, channels: DataChannels) {
        let person = self.people.len();
        let id = TransportId(person as u64 + 1);
        let address = person_address(person);
        let (ours, theirs) = (
            credentials(&format!("server{person}")),
            credentials(&format!("client{person}")),
        );
        let candidates = [LocalCandidate {
            proto: Proto::Udp,
            address,
            preference: 1,
        }];
        let mut transport = Transport::new(
            self.now,
            id,
            TransportConfig {
                local: theirs.clone(),
                controlling: true,
                lite: false,
                channels: DataChannels::Ours,
                candidates: &candidates,
                certificate: Arc::clone(&CERTIFICATE),
            },
        );
        let (events, _) = tokio::sync::mpsc::channel(1);
        self.command(
            plane,
            Command::OpenTransport {
                id,
                local: ours.clone(),
                controlling: false,
                lite: false,
                channels,
                events,
            },
        );
        let fingerprint = CERTIFICATE.fingerprint();
        self.command(
            plane,
            Command::SetRemote {
                id,
                remote: RemoteTransport {
                    ice: theirs,
                    fingerprint,
                    role: DtlsRole::Server,
                },
                local: None,
            },
        );
        let remote = RemoteTransport {
            ice: ours,
            fingerprint,
            role: DtlsRole::Client,
        };
        transport.set_remote(self.now, &remote, None);
        transport.add_remote_candidate(
            self.now,
            RemoteCandidate {
                proto: Proto::Udp,
                address: plane_address(plane),
                priority: 1_000,
                kind: CandidateKind::Host,
            },
        );
        self.people.push(Participant {
            id,
            plane,
            address,
            transport,
            got: Vec::new(),
            messages: Vec::new(),
            plis: Vec::new(),
            reports: Vec::new(),
            sender_reports: Vec::new(),
            names: Vec::new(),
            feedback: 0,
            nacks: false,
            missing: BTreeMap::new(),
            sent: BTreeMap::new(),
            rtx_seq: 100,
            out: BTreeMap::new(),
            unwrap: BTreeMap::new(),
            transport_seq: 0,
            loss: (0.0, 0.0),
        });
        self.collect_person(person);
    }

    pub(super) fn command(&mut self, plane: usize, command: Command) {
        let mut out = Outbox::default();
        self.planes[plane].handle_command(self.now, command, &mut out);
        self.planes[plane].finish_batch(self.now, &mut out);
        self.collect_plane(plane, out);
    }

    /// Publishes with the layers' SSRCs unknown (`rids`) or as given.
    pub(super) fn publish(&mut self, person: usize, tracks: Vec<ReceiveTrack>) {
        let (id, plane) = (self.people[person].id, self.people[person].plane);
        let plan = ReceivePlan {
            extensions: EXTENSIONS,
            tracks,
        };
        self.command(plane, Command::SetReceive { id, plan });
    }

    /// Opens a down track; a mirror too when it is on another plane.
    pub(super) fn subscribe(&mut self, person: usize, publisher: usize, plan: DownTrackPlan) {
        let (from, to) = (self.people[publisher].plane, self.people[person].plane);
        let (up, kind) = (plan.up, plan.kind);
        if from != to {
            let (from_id, to_id) = (WorkerId(from as u8), WorkerId(to as u8));
            let mirror = Command::OpenMirror {
                up,
                from: from_id,
                kind,
            };
            self.command(to, mirror);
            let set = Command::SetMirror {
                up,
                to: to_id,
                on: true,
            };
            self.command(from, set);
        }
        self.command(
            to,
            Command::OpenDown {
                plan: Box::new(plan),
            },
        );
    }

    pub(super) fn down(&self, person: usize, up: &ReceiveTrack) -> DownTrackPlan {
        let formats = match up.kind {
            Kind::Audio => vec![SendFormat {
                format: OPUS,
                pt: PayloadType(SUB_OPUS),
                rtx: None,
            }],
            Kind::Video => vec![SendFormat {
                format: VP8,
                pt: PayloadType(SUB_VP8),
                rtx: Some(PayloadType(SUB_RTX)),
            }],
        };
        DownTrackPlan {
            down: DownTrackId(up.up.0 * 100 + person as u64),
            up: up.up,
            kind: up.kind,
            transport: self.people[person].id,
            mid: Mid::from("7"),
            ssrc: Ssrc(DOWN_SSRC + 10 * up.up.0 as u32),
            rtx_ssrc: (up.kind == Kind::Video).then(|| Ssrc(DOWN_SSRC + 10 * up.up.0 as u32 + 1)),
            formats,
            extensions: EXTENSIONS,
            nack: up.kind == Kind::Video,
            cname: "stream".to_owned(),
            wanted: Wanted {
                paused: false,
                max_spatial: 255,
                max_temporal: 255,
            },
            playout_delay: None,
            sif_trailer: Bytes::from_static(TRAILER),
            needs_packets: false,
        }
    }

    pub(super) fn set_wanted(&mut self, person: usize, down: DownTrackId, wanted: Wanted) {
        let plane = self.people[person].plane;
        self.command(plane, Command::SetWanted { down, wanted });
    }

    pub(super) fn send(&mut self, person: usize, draft: &Draft) {
        self.people[person]
            .sent
            .insert((draft.ssrc, draft.seq), draft.clone());
        self.send_as(person, draft, None);
    }

    fn send_as(&mut self, person: usize, draft: &Draft, rtx: Option<(u32, u8, u16)>) {
        let participant = &mut self.people[person];
        let (ssrc, pt, seq) = rtx.unwrap_or((draft.ssrc, draft.pt, draft.seq));
        let mut buffer = vec![0; 1_600];
        let header = Outgoing {
            marker: draft.marker,
            pt: PayloadType(pt),
            seq,
            timestamp: draft.timestamp,
            ssrc: Ssrc(ssrc),
        };
        buffer[..FIXED_LEN].copy_from_slice(&header.bytes());
        buffer[0] |= EXTENSION_BIT;
        let mut writer = ExtensionWriter::new(&mut buffer[FIXED_LEN..]);
        writer.push(1, draft.mid.as_bytes());
        if let Some(rid) = draft.rid {
            writer.push(if rtx.is_some() { 3 } else { 2 }, rid.as_bytes());
        }
        if let Some(level) = draft.level {
            writer.push(4, &[level]);
        }
        writer.push(6, &participant.transport_seq.to_be_bytes());
        participant.transport_seq = participant.transport_seq.wrapping_add(1);
        let header_len = FIXED_LEN + writer.finish();
        let mut at = header_len;
        if rtx.is_some() {
            buffer[at..at + 2].copy_from_slice(&draft.seq.to_be_bytes());
            at += 2;
        }
        buffer[at..at + draft.payload.len()].copy_from_slice(&draft.payload);
        at += draft.payload.len();
        let Some(path) = participant.transport.path().copied() else {
            return;
        };
        let sealer = participant.transport.sealer().unwrap();
        let index = participant.out.entry(ssrc).or_default().unwrap(seq) - (1 << 16);
        let len = sealer.seal_rtp(&mut buffer, header_len, at, index);
        buffer.truncate(len);
        self.post(End::Person(person), path, buffer);
    }

    pub(super) fn send_rtcp(&mut self, person: usize, fill: impl FnOnce(&mut Writer<'_>)) {
        let participant = &mut self.people[person];
        let mut buffer = vec![0; 1_500];
        let mut writer = Writer::new(&mut buffer);
        fill(&mut writer);
        let len = writer.len();
        let Some(path) = participant.transport.path().copied() else {
            return;
        };
        let sealer = participant.transport.sealer().unwrap();
        let len = sealer.seal_rtcp(&mut buffer, len);
        buffer.truncate(len);
        self.post(End::Person(person), path, buffer);
    }

    pub(super) fn send_data(&mut self, person: usize, channel: crate::plan::Channel, data: &Bytes) {
        let now = self.now;
        self.people[person].transport.send_data(now, channel, data);
        self.collect_person(person);
    }

    /// It keeps checking while nothing passes.
    pub(super) fn be_patient(&mut self, person: usize) {
        self.people[person].transport.be_patient();
    }

    /// A datagram from anywhere.
    pub(super) fn throw(&mut self, plane: usize, remote: SocketAddr, datagram: Vec<u8>) {
        let out = self.answers(plane, Socket::Udp(0), remote, datagram);
        self.collect_plane(plane, out);
    }

    /// The same, and what is sent at once.
    pub(super) fn answers(
        &mut self,
        plane: usize,
        socket: Socket,
        remote: SocketAddr,
        mut datagram: Vec<u8>,
    ) -> Outbox {
        let path = Path {
            socket,
            local: plane_address(plane).ip(),
            remote,
        };
        let mut out = Outbox::default();
        let now = self.now;
        self.planes[plane].handle_datagram(now, &path, &mut datagram, &mut out);
        self.planes[plane].finish_batch(now, &mut out);
        out
    }

    pub(super) fn address(&self, person: usize) -> SocketAddr {
        self.people[person].address
    }

    fn lost(&mut self, share: f64) -> bool {
        share > 0.0 && (self.random.u32() as f64 / f64::from(u32::MAX)) < share
    }

    fn post(&mut self, from: End, path: Path, datagram: Vec<u8>) {
        let (to, share) = match from {
            End::Person(person) => {
                let plane = self.people[person].plane;
                (End::Plane(plane), self.people[person].loss.0)
            }
            End::Plane(_) => {
                let Some(person) = self
                    .people
                    .iter()
                    .position(|person| person.address == path.remote)
                else {
                    return;
                };
                (End::Person(person), self.people[person].loss.1)
            }
        };
        if self.lost(share) {
            return;
        }
        let remote = match from {
            End::Person(person) => person_address(person),
            End::Plane(plane) => plane_address(plane),
        };
        let local = match to {
            End::Person(person) => person_address(person).ip(),
            End::Plane(plane) => plane_address(plane).ip(),
        };
        let path = Path {
            socket: Socket::Udp(0),
            local,
            remote,
        };
        self.count += 1;
        self.wire
            .insert((self.now + DELAY, self.count), (to, path, datagram));
    }

    pub(super) fn collect_plane(&mut self, plane: usize, out: Outbox) {
        for (path, datagram) in out.0 {
            self.post(End::Plane(plane), path, datagram);
        }
        let before = self.events.len();
        while let Some(event) = self.planes[plane].poll_event() {
            self.events.push(event);
        }
        self.most_events = self.most_events.max(self.events.len() - before);
        while let Some((worker, message)) = self.planes[plane].poll_link() {
            let to = usize::from(worker.0);
            match message {
                LinkMessage::Clock { .. } => self.linked.1 += 1,
                LinkMessage::KeyFrame { .. } => self.linked.0 += 1,
                LinkMessage::Muted { .. } | LinkMessage::Packets(_) => {}
            }
            let mut out = Outbox::default();
            self.planes[to].handle_link(self.now, message, &mut out);
            self.collect_plane(to, out);
        }
    }

    fn collect_person(&mut self, person: usize) {
        let now = self.now;
        let participant = &mut self.people[person];
        while let Some(event) = participant.transport.poll_event() {
            if let TransportEvent::Data { payload, .. } = event {
                participant.messages.push(payload);
            }
        }
        let mut out = Outbox::default();
        participant.transport.flush(now, &mut out);
        for (path, datagram) in out.0 {
            self.post(End::Person(person), path, datagram);
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..20_000 {
            let mut next = end;
            if let Some(((at, _), _)) = self.wire.first_key_value() {
                next = next.min(*at);
            }
            for plane in &self.planes {
                next = plane.next_timeout().map_or(next, |at| next.min(at));
            }
            for person in &self.people {
                let missing = person
                    .missing
                    .values()
                    .filter_map(|(_, nack)| nack.next_timeout())
                    .min();
                next = missing.map_or(next, |at| next.min(at));
                next = person
                    .transport
                    .next_timeout()
                    .map_or(next, |at| next.min(at));
            }
            self.now = self.now.max(next);
            if next >= end {
                return;
            }
            self.step();
        }
        panic!("the clock does not move");
    }

    fn step(&mut self) {
        let now = self.now;
        let mut fed = vec![Outbox::default(); self.planes.len()];
        let mut is_fed = vec![false; self.planes.len()];
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (to, path, mut datagram) = entry.remove();
            match to {
                End::Plane(plane) => {
                    is_fed[plane] = true;
                    self.planes[plane].handle_datagram(now, &path, &mut datagram, &mut fed[plane]);
                }
                End::Person(person) => self.take(person, &path, datagram),
            }
        }
        for (plane, mut out) in fed.into_iter().enumerate() {
            if is_fed[plane] {
                self.planes[plane].finish_batch(now, &mut out);
            }
            if self.planes[plane]
                .next_timeout()
                .is_some_and(|at| at <= now)
            {
                self.wakes += 1;
                self.planes[plane].handle_timeout(now, &mut out);
            }
            self.collect_plane(plane, out);
        }
        for person in 0..self.people.len() {
            let participant = &mut self.people[person];
            if participant
                .transport
                .next_timeout()
                .is_some_and(|at| at <= now)
            {
                participant.transport.handle_timeout(now);
                self.collect_person(person);
            }
            let mut asks = Vec::new();
            for (ssrc, (_, nack)) in &mut self.people[person].missing {
                let mut lost = Vec::new();
                nack.poll(now, &mut lost);
                if !lost.is_empty() {
                    asks.push((*ssrc, lost));
                }
            }
            for (ssrc, lost) in asks {
                self.send_rtcp(person, |writer| {
                    writer.nack(Ssrc(1), Ssrc(ssrc), &lost);
                });
            }
        }
    }

    fn take(&mut self, person: usize, path: &Path, mut datagram: Vec<u8>) {
        let now = self.now;
        let participant = &mut self.people[person];
        match datagram[0] {
            0..=3 => {
                participant.transport.handle_stun(now, path, &datagram);
                self.collect_person(person);
            }
            20..=63 => {
                participant.transport.handle_dtls(now, &datagram);
                self.collect_person(person);
            }
            _ if crate::rtp::header::is_rtcp(&datagram) => {
                let len = participant.transport.open_rtcp(now, &mut datagram).unwrap();
                self.take_rtcp(person, &datagram[..len]);
            }
            _ => {
                let header = Header::parse(&datagram).unwrap();
                let len = participant
                    .transport
                    .open_rtp(now, &mut datagram, header.payload_offset)
                    .unwrap();
                let packet = &datagram[..len];
                let found = Found::extract(packet, &header, &EXTENSIONS);
                let seq = participant
                    .unwrap
                    .entry(header.ssrc.0)
                    .or_default()
                    .unwrap(header.seq);
                let payload = header.payload(packet).unwrap().to_vec();
                if participant.nacks && header.pt.0 == SUB_VP8 {
                    let (unwrapper, nack) = participant.missing.entry(header.ssrc.0).or_default();
                    nack.handle_packet(now, unwrapper.unwrap(header.seq));
                } else if participant.nacks && header.pt.0 == SUB_RTX {
                    let osn = u16::from_be_bytes([payload[0], payload[1]]);
                    let (unwrapper, nack) =
                        participant.missing.entry(header.ssrc.0 - 1).or_default();
                    nack.handle_packet(now, unwrapper.peek(osn));
                }
                participant.got.push(Got {
                    at: now,
                    ssrc: header.ssrc.0,
                    pt: header.pt.0,
                    seq,
                    timestamp: header.timestamp,
                    marker: header.marker,
                    mid: found.mid.map(|span| span.of(packet).to_vec()),
                    playout_delay: found.playout_delay.map(|span| span.of(packet).to_vec()),
                    level: found.audio_level.map(|level| level.level),
                    has_send_time: found.abs_send_time.is_some(),
                    has_transport_seq: found.transport_cc.is_some(),
                    payload,
                });
            }
        }
    }

    fn take_rtcp(&mut self, person: usize, compound: &[u8]) {
        let mut resend = Vec::new();
        let participant = &mut self.people[person];
        for packet in rtcp::parse(compound) {
            match packet.unwrap() {
                Feedback::Pli { media, .. } => participant.plis.push((self.now, media.0)),
                Feedback::Nack { media, lost, .. } => {
                    resend.extend(lost.map(|seq| (media.0, seq)));
                }
                Feedback::ReceiverReport { blocks, .. } => participant.reports.extend(blocks),
                Feedback::SenderReport { sender, info, .. } => {
                    participant.sender_reports.push((sender.0, info));
                }
                Feedback::Sdes(items) => participant.names.extend(
                    items.map(|(_, kind, text)| (kind, String::from_utf8_lossy(text).into_owned())),
                ),
                Feedback::TransportCc(feedback) => {
                    participant.feedback += feedback
                        .arrivals()
                        .filter(|(_, arrival)| arrival.is_some())
                        .count();
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        for (ssrc, seq) in resend {
            let Some(draft) = self.people[person].sent.get(&(ssrc, seq)).cloned() else {
                continue;
            };
            let rtx_seq = self.people[person].rtx_seq;
            self.people[person].rtx_seq += 1;
            self.send_as(person, &draft, Some((ssrc + 1_000, PT_RTX, rtx_seq)));
        }
    }
}

impl Clone for Outbox {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
