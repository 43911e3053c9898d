//! What the forwarding plane costs: one publisher, many subscribers, bursts of ten packets, a sink in memory; beside
//! it the bare copy and seal that no server can save. `cargo bench --bench forward`.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock"
)]

use bytes::Bytes;
use parlor::ids::{DownTrackId, Mid, PayloadType, Ssrc, TransportId, UpTrackId, WorkerId};
use parlor::media::certificate::Certificate;
use parlor::media::codec::vp8::{MAX_LEN, Vp8Descriptor};
use parlor::media::io::{Path, Sink, Socket};
use parlor::media::plane::{Plane, PlaneConfig};
use parlor::media::srtp::{self, Profile};
use parlor::media::transport::{Transport, TransportConfig};
use parlor::plan::{
    CandidateKind, Codec, Command, DataChannels, DownTrackPlan, DtlsRole, Extensions, Format,
    IceCredentials, Kind, LocalCandidate, Proto, ReceiveFormat, ReceiveLayer, ReceivePlan,
    ReceiveTrack, RemoteCandidate, RemoteTransport, SendFormat, Wanted,
};
use parlor::random::Random;
use parlor::rtp::ExtensionWriter;
use parlor::rtp::header::{EXTENSION_BIT, FIXED_LEN, Outgoing};
use parlor::secret::Secret;
use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Packets in a burst, as a video frame is.
const BURST: u64 = 10;
/// Bursts that are timed; within the time that a silent subscriber still counts as there.
const BURSTS: u64 = 900;
/// Bytes of a packet with its header.
const PACKET: usize = 1_100;
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7_000);
const VP8: Format = Format {
    codec: Codec::Vp8,
    variant: 0,
};
const IDS: Extensions = Extensions {
    mid: Some(1),
    rid: None,
    repaired_rid: None,
    audio_level: None,
    abs_send_time: Some(5),
    transport_cc: Some(6),
    dependency_descriptor: None,
    abs_capture_time: None,
    playout_delay: None,
};

/// A slab that is written from end to end, as the socket driver's is.
struct Slab {
    bytes: Vec<u8>,
    at: usize,
    datagrams: u64,
}

impl Sink for Slab {
    fn datagram(&mut self, _: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        if self.at + max_len > self.bytes.len() {
            self.at = 0;
        }
        self.at += fill(&mut self.bytes[self.at..self.at + max_len]);
        self.datagrams += 1;
    }
}

#[derive(Default)]
struct Outbox(Vec<(Path, Vec<u8>)>);

impl Sink for Outbox {
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut buffer = vec![0; max_len];
        let len = fill(&mut buffer);
        buffer.truncate(len);
        self.0.push((*path, buffer));
    }
}

struct Scene {
    now: Instant,
    plane: Plane,
    peers: Vec<Transport>,
}

fn address(peer: usize) -> SocketAddr {
    SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(
            10,
            1,
            (peer / 250) as u8,
            (peer % 250) as u8 + 1,
        )),
        5_000,
    )
}

fn path(local: SocketAddr, remote: SocketAddr) -> Path {
    Path {
        socket: Socket::Udp(0),
        local: local.ip(),
        remote,
    }
}

fn candidate(address: SocketAddr) -> LocalCandidate {
    LocalCandidate {
        proto: Proto::Udp,
        address,
        preference: 1,
    }
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{name}-ufrag"),
        password: Secret::new(format!("{name}-password-of-22-chars")),
    }
}

impl Scene {
    /// A plane to which so many peers are connected; the first will publish.
    fn connect(count: usize) -> Self {
        let now = Instant::now();
        let certificate = Arc::new(Certificate::generate());
        let mut plane = Plane::new(
            PlaneConfig {
                worker: WorkerId(0),
                certificate: Arc::clone(&certificate),
                candidates: vec![candidate(SERVER)],
                epoch: (now, SystemTime::now()),
            },
            Random::seeded(1),
        );
        let mut out = Outbox::default();
        let mut peers = Vec::new();
        for peer in 0..count {
            let id = TransportId(peer as u64);
            let ours = credentials(&format!("server{peer}"));
            let theirs = credentials(&format!("client{peer}"));
            let (events, _) = tokio::sync::mpsc::channel(1);
            let fingerprint = certificate.fingerprint();
            let open = Command::OpenTransport {
                id,
                local: ours.clone(),
                controlling: false,
                lite: false,
                channels: DataChannels::Theirs,
                events,
            };
            let remote = RemoteTransport {
                ice: theirs.clone(),
                fingerprint,
                role: DtlsRole::Server,
            };
            plane.handle_command(now, open, &mut out);
            plane.handle_command(
                now,
                Command::SetRemote {
                    id,
                    remote,
                    local: None,
                },
                &mut out,
            );
            let config = TransportConfig {
                local: theirs,
                controlling: true,
                lite: false,
                channels: DataChannels::Ours,
                candidates: &[candidate(address(peer))],
                certificate: Arc::clone(&certificate),
            };
            let mut transport = Transport::new(now, id, config);
            let remote = RemoteTransport {
                ice: ours,
                fingerprint,
                role: DtlsRole::Client,
            };
            transport.set_remote(now, &remote, None);
            transport.add_remote_candidate(
                now,
                RemoteCandidate {
                    proto: Proto::Udp,
                    address: SERVER,
                    priority: 1_000,
                    kind: CandidateKind::Host,
                },
            );
            peers.push(transport);
        }
        let mut scene = Self { now, plane, peers };
        for _ in 0..300 {
            scene.step();
        }
        assert!(scene.peers.iter().all(Transport::is_connected));
        scene
    }

    /// Five milliseconds of control traffic.
    fn step(&mut self) {
        self.now += Duration::from_millis(5);
        let now = self.now;
        let by_address: HashMap<SocketAddr, usize> = (0..self.peers.len())
            .map(|peer| (address(peer), peer))
            .collect();
        let mut out = Outbox::default();
        for (peer, transport) in self.peers.iter_mut().enumerate() {
            transport.handle_timeout(now);
            while transport.poll_event().is_some() {}
            let mut sent = Outbox::default();
            transport.flush(now, &mut sent);
            let from = path(SERVER, address(peer));
            for (_, mut datagram) in sent.0 {
                self.plane
                    .handle_datagram(now, &from, &mut datagram, &mut out);
            }
        }
        for _ in 0..8 {
            self.plane.finish_batch(now, &mut out);
        }
        self.plane.handle_timeout(now, &mut out);
        while self.plane.poll_event().is_some() {}
        for (to, datagram) in out.0 {
            let Some(&peer) = by_address.get(&to.remote) else {
                continue;
            };
            match datagram.first() {
                Some(0..=3) => {
                    self.peers[peer].handle_stun(now, &path(address(peer), SERVER), &datagram);
                }
                Some(20..=63) => self.peers[peer].handle_dtls(now, &datagram),
                _ => {}
            }
        }
    }

    fn publish(&mut self, out: &mut Slab) {
        let layer = ReceiveLayer {
            spatial: 0,
            rid: None,
            ssrc: Some(Ssrc(1)),
            rtx_ssrc: None,
        };
        let track = ReceiveTrack {
            up: UpTrackId(1),
            mid: Mid::from("0"),
            kind: Kind::Video,
            formats: vec![ReceiveFormat {
                pt: PayloadType(96),
                format: VP8,
                rtx: None,
            }],
            layers: vec![layer],
            nack: true,
        };
        let plan = ReceivePlan {
            extensions: IDS,
            tracks: vec![track],
        };
        let receive = Command::SetReceive {
            id: TransportId(0),
            plan,
        };
        self.plane.handle_command(self.now, receive, out);
        for peer in 1..self.peers.len() {
            let plan = DownTrackPlan {
                down: DownTrackId(peer as u64),
                up: UpTrackId(1),
                kind: Kind::Video,
                transport: TransportId(peer as u64),
                mid: Mid::from("0"),
                ssrc: Ssrc(1_000),
                rtx_ssrc: Some(Ssrc(1_001)),
                formats: vec![SendFormat {
                    format: VP8,
                    pt: PayloadType(96),
                    rtx: Some(PayloadType(97)),
                }],
                extensions: IDS,
                nack: true,
                cname: String::new(),
                wanted: Wanted {
                    paused: false,
                    max_spatial: 255,
                    max_temporal: 255,
                },
                playout_delay: None,
                sif_trailer: Bytes::new(),
                needs_packets: false,
            };
            let open = Command::OpenDown {
                plan: Box::new(plan),
            };
            self.plane.handle_command(self.now, open, out);
        }
    }

    /// The publisher's packet, sealed.
    fn packet(&mut self, number: u64) -> Vec<u8> {
        let mut buffer = vec![0; 1_500];
        let frame = number / BURST;
        let header = Outgoing {
            marker: number % BURST == BURST - 1,
            pt: PayloadType(96),
            seq: number as u16,
            timestamp: (frame * 900) as u32,
            ssrc: Ssrc(1),
        };
        buffer[..FIXED_LEN].copy_from_slice(&header.bytes());
        buffer[0] |= EXTENSION_BIT;
        let mut writer = ExtensionWriter::new(&mut buffer[FIXED_LEN..]);
        writer.push(6, &(number as u16).to_be_bytes());
        let header_len = FIXED_LEN + writer.finish();
        let descriptor = Vp8Descriptor {
            partition_start: number.is_multiple_of(BURST),
            picture_id: Some((frame & 0x7fff) as u16),
            long_picture_id: true,
            tl0_picture_index: Some(frame as u8),
            temporal: Some(0),
            key_index: Some(1),
            ..Vp8Descriptor::default()
        };
        let mut bytes = [0; MAX_LEN];
        let len = descriptor.write(&mut bytes).expect("there is room");
        buffer[header_len..header_len + len].copy_from_slice(&bytes[..len]);
        // Only the first frame is a key frame.
        buffer[header_len + len] = u8::from(frame > 0);
        let sealer = self.peers[0].sealer().expect("it is connected");
        let len = sealer.seal_rtp(&mut buffer, header_len, PACKET, number);
        buffer.truncate(len);
        buffer
    }
}

/// Copy and seal alone, ns a packet, keys rotated as for so many subscribers.
fn floor(profile: Profile, subscribers: usize) -> f64 {
    let mut random = Random::seeded(7);
    let mut sealers = Vec::new();
    for _ in 0..subscribers {
        let mut material = [0; 128];
        random.fill(&mut material);
        let (sealer, _) = srtp::derive(profile, &material, true).expect("there is enough of it");
        sealers.push(sealer);
    }
    let plain: Vec<Vec<u8>> = (0..BURST).map(|_| vec![0x80; PACKET]).collect();
    let mut slab = vec![0; 1 << 20];
    let mut at = 0;
    let mut times = Vec::new();
    for round in 0..BURSTS {
        let begin = Instant::now();
        for sealer in &sealers {
            for (n, packet) in plain.iter().enumerate() {
                if at + PACKET + 64 > slab.len() {
                    at = 0;
                }
                let buffer = &mut slab[at..at + PACKET + 64];
                buffer[..PACKET].copy_from_slice(packet);
                at += sealer.seal_rtp(buffer, FIXED_LEN, PACKET, round * BURST + n as u64);
            }
        }
        times.push(begin.elapsed());
    }
    black_box(&slab);
    median(times, subscribers)
}

/// Of bursts to so many, ns a packet: whatever else the machine did meanwhile is not in it.
fn median(mut times: Vec<Duration>, subscribers: usize) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64 / (BURST * subscribers as u64) as f64
}

fn forward(subscribers: usize) {
    let mut scene = Scene::connect(subscribers + 1);
    let mut slab = Slab {
        bytes: vec![0; 1 << 20],
        at: 0,
        datagrams: 0,
    };
    scene.publish(&mut slab);
    let from = path(SERVER, address(0));
    let mut times = Vec::new();
    let mut sent = 0;
    for burst in 0..BURSTS + 100 {
        let mut packets: Vec<Vec<u8>> = (0..BURST)
            .map(|n| scene.packet(burst * BURST + n))
            .collect();
        scene.now += Duration::from_millis(10);
        let now = scene.now;
        let before = slab.datagrams;
        let begin = Instant::now();
        for packet in &mut packets {
            scene.plane.handle_datagram(now, &from, packet, &mut slab);
        }
        scene.plane.finish_batch(now, &mut slab);
        if burst >= 100 {
            times.push(begin.elapsed());
            sent += slab.datagrams - before;
        }
        scene.plane.handle_timeout(now, &mut slab);
    }
    let expected = BURSTS * BURST * subscribers as u64;
    assert!(
        sent >= expected && sent < expected + expected / 100,
        "{sent} {expected}"
    );
    let floors = [Profile::Gcm128, Profile::Gcm256].map(|profile| floor(profile, subscribers));
    let cost = median(times, subscribers);
    let memory = scene.plane.memory() / subscribers;
    println!(
        "{subscribers:>4} subscribers: {cost:>6.1} ns a packet; copy and seal alone {:.1} (GCM-128) {:.1} (GCM-256); \
         {memory} bytes of caches and histories each",
        floors[0], floors[1]
    );
}

fn main() {
    for subscribers in [1, 10, 50, 100] {
        forward(subscribers);
    }
}
