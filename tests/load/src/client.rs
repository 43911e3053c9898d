//! One peer connection of the load: its socket, its transport, and what it has counted.
//!
//! Driven by [`crate::swarm`]. A subscriber that is not sampled counts media by its clear header alone; a sampled one
//! opens each packet and checks the stamp at its end. Payload stamp, last 24 bytes: magic, send time, number.

use crate::sdp::Local;
use anyhow::{Context, Result};
use parlor::ids::{Ssrc, TransportId};
use parlor::media::certificate::Certificate;
use parlor::media::io::{Path, Sink, Socket};
use parlor::media::transport::{Transport, TransportConfig, TransportEvent};
use parlor::plan::{DataChannels, IceCredentials, LocalCandidate, Proto};
use parlor::random::Random;
use parlor::rtp::header::{Header, is_rtcp};
use parlor::rtp::rtcp;
use parlor::secret::Secret;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First bytes of a stamp.
pub const MAGIC: [u8; 8] = *b"parlorld";
/// Bytes of a stamp.
pub const STAMP: usize = 24;
/// Receiver reports, as often as a browser's.
const REPORT_PAUSE: Duration = Duration::from_secs(1);
/// Messages of one receive call.
const MESSAGES: usize = 8;

/// A UDP socket with the calls of the server.
#[derive(Debug)]
pub struct Udp {
    pub socket: UdpSocket,
    pub state: UdpSocketState,
    pub local: SocketAddr,
}

impl Udp {
    pub fn bind(ip: IpAddr) -> Result<Self> {
        let socket = UdpSocket::bind((ip, 0)).context("binding a client's socket")?;
        let reference = socket2::SockRef::from(&socket);
        // What the system refuses of it shows as loss, and is said in the report.
        let _ = reference.set_recv_buffer_size(4 << 20);
        let _ = reference.set_send_buffer_size(4 << 20);
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            state,
            local,
        })
    }

    /// Sends datagrams of `segment` bytes each, by one call.
    pub fn send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> std::io::Result<()> {
        self.state.try_send(
            (&self.socket).into(),
            &Transmit {
                destination: to,
                ecn: None,
                contents,
                segment_size: Some(segment),
                src_ip: None,
            },
        )
    }
}

/// Where all sockets are read into.
pub struct Slab {
    bytes: Vec<u8>,
    meta: [RecvMeta; MESSAGES],
}

impl Slab {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; MESSAGES << 16],
            meta: [RecvMeta::default(); MESSAGES],
        }
    }
}

/// What a client has seen since the last reset.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Media packets.
    pub received: u64,
    /// Those opened and found as they were sent.
    pub verified: u64,
    /// Those that could not be opened, or were changed, repeated or out of order.
    pub wrong: u64,
    /// From stamp to receipt, ns; of sampled clients.
    pub delays: Vec<u64>,
    /// Key frame requests.
    pub key_frame_requests: u64,
    /// Packets that the server asked for again.
    pub nacked: u64,
}

/// One peer connection, or a bare socket that only counts.
pub struct Client {
    pub udp: Udp,
    pub transport: Option<Transport>,
    pub is_sampled: bool,
    pub counts: Counts,
    /// Payload types that are media.
    pub payload_types: Vec<u8>,
    /// Bytes of the media packet seen last, as on the wire and, where sampled, in clear.
    pub wire_len: usize,
    pub clear_len: usize,
    pub is_connected: bool,
    pub is_lost: bool,
    pub wants_key_frame: bool,
    media_ssrc: u32,
    highest_seq: u16,
    last_number: u64,
    next_report: Instant,
}

struct Out<'a>(&'a Udp);

impl Sink for Out<'_> {
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut buffer = vec![0; max_len];
        let len = fill(&mut buffer);
        if len > 0 {
            // A lost check or flight is sent again.
            let _ = self.0.send(path.remote, &buffer[..len], len);
        }
    }
}

impl Client {
    /// A socket that counts what comes in.
    pub fn bare(ip: IpAddr, now: Instant) -> Result<Self> {
        Ok(Self {
            udp: Udp::bind(ip)?,
            transport: None,
            is_sampled: false,
            counts: Counts::default(),
            payload_types: vec![crate::sdp::VP8, crate::sdp::OPUS],
            wire_len: 0,
            clear_len: 0,
            is_connected: true,
            is_lost: false,
            wants_key_frame: true,
            media_ssrc: 0,
            highest_seq: 0,
            last_number: 0,
            next_report: now,
        })
    }

    /// A peer connection; `offers`: we make the offer and open the channels.
    pub fn new(
        ip: IpAddr,
        now: Instant,
        offers: bool,
        is_sampled: bool,
        certificate: &Arc<Certificate>,
    ) -> Result<(Self, Local)> {
        let mut client = Self::bare(ip, now)?;
        let mut random = Random::system();
        let mut word = || format!("{:016x}", random.u64());
        let credentials = IceCredentials {
            ufrag: word()[..8].to_owned(),
            password: Secret::new(word() + &word()),
        };
        let address = client.udp.local;
        let candidates = [LocalCandidate {
            proto: Proto::Udp,
            address,
            preference: 65_535,
        }];
        client.transport = Some(Transport::new(
            now,
            TransportId(u64::from(address.port()) as _),
            TransportConfig {
                local: credentials.clone(),
                controlling: offers,
                lite: false,
                channels: if offers {
                    DataChannels::Ours
                } else {
                    DataChannels::Theirs
                },
                candidates: &candidates,
                certificate: Arc::clone(certificate),
            },
        ));
        client.is_sampled = is_sampled;
        client.is_connected = false;
        let local = Local {
            credentials,
            fingerprint: certificate.fingerprint(),
            address,
        };
        Ok((client, local))
    }

    /// Reads what has come.
    pub fn receive(&mut self, now: Instant, origin: Instant, slab: &mut Slab) {
        loop {
            let mut chunks = slab.bytes.chunks_exact_mut(1 << 16);
            let mut buffers: [IoSliceMut<'_>; MESSAGES] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let Ok(count) =
                self.udp
                    .state
                    .recv((&self.udp.socket).into(), &mut buffers, &mut slab.meta)
            else {
                return;
            };
            let mut control = false;
            let bytes = slab.bytes.chunks_exact_mut(1 << 16);
            for (buffer, meta) in bytes.zip(&slab.meta).take(count) {
                if meta.len == 0 {
                    continue;
                }
                let stride = meta.stride.max(1);
                for datagram in buffer[..meta.len].chunks_mut(stride) {
                    control |= self.take(now, origin, meta.addr, datagram);
                }
            }
            if control {
                self.settle(now);
            }
            if count < MESSAGES {
                return;
            }
        }
    }

    /// Handles one datagram; `true` for STUN and DTLS.
    fn take(
        &mut self,
        now: Instant,
        origin: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> bool {
        match datagram.first() {
            Some(128..=191) if datagram.len() >= 12 => {
                if is_rtcp(datagram) {
                    self.take_rtcp(now, datagram);
                } else if self.payload_types.contains(&(datagram[1] & 0x7f)) {
                    self.take_rtp(now, origin, datagram);
                }
                return false;
            }
            _ => {}
        }
        let Some(transport) = &mut self.transport else {
            return false;
        };
        let path = Path {
            socket: Socket::Udp(0),
            local: self.udp.local.ip(),
            remote: from,
        };
        match datagram.first() {
            Some(0..=3) => {
                transport.handle_stun(now, &path, datagram);
            }
            Some(20..=63) => transport.handle_dtls(now, datagram),
            _ => {}
        }
        true
    }

    fn take_rtp(&mut self, now: Instant, origin: Instant, packet: &mut [u8]) {
        self.counts.received += 1;
        self.wire_len = packet.len();
        self.highest_seq = u16::from_be_bytes([packet[2], packet[3]]);
        self.media_ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let Some(transport) = self.transport.as_mut().filter(|_| self.is_sampled) else {
            return;
        };
        let opened = Header::parse(packet)
            .ok()
            .and_then(|header| transport.open_rtp(now, packet, header.payload_offset).ok());
        let Some(len) = opened else {
            self.counts.wrong += 1;
            return;
        };
        self.clear_len = len;
        let stamp = &packet[len.saturating_sub(STAMP)..len];
        let (magic, rest) = stamp.split_at(8);
        let (time, number) = rest.split_at(8);
        let time = u64::from_be_bytes(time.try_into().unwrap_or_default());
        let number = u64::from_be_bytes(number.try_into().unwrap_or_default());
        if magic != MAGIC || number <= self.last_number {
            self.counts.wrong += 1;
            return;
        }
        self.last_number = number;
        self.counts.verified += 1;
        let elapsed = origin.elapsed().as_nanos() as u64;
        self.counts.delays.push(elapsed.saturating_sub(time));
    }

    fn take_rtcp(&mut self, now: Instant, packet: &mut [u8]) {
        let Some(transport) = &mut self.transport else {
            return;
        };
        let Ok(len) = transport.open_rtcp(now, packet) else {
            return;
        };
        for feedback in rtcp::parse(&packet[..len]).flatten() {
            match feedback {
                rtcp::Feedback::Pli { .. } | rtcp::Feedback::Fir { .. } => {
                    self.counts.key_frame_requests += 1;
                    self.wants_key_frame = true;
                }
                rtcp::Feedback::Nack { lost, .. } => self.counts.nacked += lost.count() as u64,
                _ => {}
            }
        }
    }

    /// Timers, events and what waits to be sent.
    pub fn settle(&mut self, now: Instant) {
        let Some(transport) = &mut self.transport else {
            return;
        };
        if transport.next_timeout().is_some_and(|at| at <= now) {
            transport.handle_timeout(now);
        }
        while let Some(event) = transport.poll_event() {
            match event {
                TransportEvent::Connected { .. } => self.is_connected = true,
                TransportEvent::Disconnected | TransportEvent::Closed => self.is_lost = true,
                _ => {}
            }
        }
        transport.flush(now, &mut Out(&self.udp));
        if self.media_ssrc != 0 && self.next_report <= now {
            self.next_report = now + REPORT_PAUSE;
            self.report();
        }
    }

    fn report(&mut self) {
        let Some(transport) = &mut self.transport else {
            return;
        };
        let Some(to) = transport.path().map(|path| path.remote) else {
            return;
        };
        let mut buffer = [0; 128];
        let mut writer = rtcp::Writer::new(&mut buffer);
        let block = rtcp::ReportBlock {
            ssrc: self.media_ssrc,
            highest_seq: u32::from(self.highest_seq),
            ..rtcp::ReportBlock::default()
        };
        writer.receiver_report(Ssrc(1), &[block]);
        let len = writer.len();
        if let Some(sealer) = transport.sealer() {
            let len = sealer.seal_rtcp(&mut buffer, len);
            let _ = self.udp.send(to, &buffer[..len], len);
        }
    }
}
