//! All clients of a run in one thread, which polls their sockets and publishes on time.
//!
//! It never sleeps on a socket: a receiver that is woken by each packet would be woken by the sender, on the sender's
//! account (14 % of it were seen). It looks every 50 µs, and that is the error of the delays.

use crate::client::{Client, Counts, MAGIC, STAMP, Slab};
use crate::sdp::{Remote, TRANSPORT_CC, VP8};
use anyhow::{Context, Result, bail};
use parlor::plan::RemoteCandidate;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Between two looks at all sockets.
const PAUSE: Duration = Duration::from_micros(50);
/// Between two looks at all timers.
const TIMERS: Duration = Duration::from_millis(5);
/// Bytes of a publisher's header: the fixed one, and one word of extension with its own header.
const HEADER: usize = 20;

/// What is published.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of an RTP packet before it is sealed.
    pub packet_size: usize,
    /// Packets that are sent at once: a video frame.
    pub burst: usize,
    /// Packets a second.
    pub rate: u32,
    /// Opus instead of VP8.
    pub audio: bool,
}

impl Shape {
    /// From one burst to the next.
    pub fn period(&self) -> Duration {
        Duration::from_secs(1) * self.burst as u32 / self.rate
    }
}

pub enum Command {
    Add(Box<Client>),
    Remote(usize, Remote),
    Candidate(usize, RemoteCandidate),
    /// The first client publishes under this SSRC, or stops.
    Publish(Option<u32>),
    /// Begins to count anew.
    Reset,
    /// Drops the delays measured so far.
    ForgetDelays,
    Look(Sender<View>),
    Stop,
}

/// What all clients have seen.
#[derive(Debug, Default, Clone)]
pub struct View {
    pub connected: usize,
    pub lost: usize,
    /// Packets published.
    pub sent: u64,
    /// Bursts that could not be sent at once.
    pub refused: u64,
    /// Bursts that left over 5 ms late: this machine was busy.
    pub late: u64,
    pub counts: Vec<Counts>,
    pub wire_len: usize,
    pub clear_len: usize,
}

impl View {
    /// Packets of all.
    pub fn received(&self) -> u64 {
        self.counts.iter().map(|counts| counts.received).sum()
    }
}

/// A handle on the thread.
#[derive(Clone)]
pub struct Swarm(Sender<Command>);

impl Swarm {
    pub fn start(shape: Shape, origin: Instant) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || run(shape, origin, &receiver));
        Self(sender)
    }

    pub fn tell(&self, command: Command) -> Result<()> {
        self.0
            .send(command)
            .ok()
            .context("the polling thread has ended")
    }

    pub fn look(&self) -> Result<View> {
        let (sender, receiver) = channel();
        self.tell(Command::Look(sender))?;
        receiver.recv().context("the polling thread has ended")
    }

    /// Waits until `count` are connected.
    pub fn wait_connected(&self, count: usize, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let view = self.look()?;
            if view.connected >= count {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "{} of {count} clients are connected after {patience:?}",
                    view.connected
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until each of the clients from `first` on has media.
    pub fn wait_media(&self, first: usize, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let view = self.look()?;
            let without = view.counts[first..]
                .iter()
                .filter(|counts| counts.received == 0)
                .count();
            if without == 0 {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "{without} clients have no media after {patience:?}; {} packets sent",
                    view.sent
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

struct Publisher {
    shape: Shape,
    ssrc: Option<u32>,
    next: Instant,
    seq: u64,
    frame: u16,
    number: u64,
    sent: u64,
    refused: u64,
    late: u64,
    slab: Vec<u8>,
}

fn run(shape: Shape, origin: Instant, commands: &Receiver<Command>) {
    let mut clients: Vec<Client> = Vec::new();
    let mut slab = Slab::new();
    let mut timers = Instant::now();
    let mut publisher = Publisher {
        shape,
        ssrc: None,
        next: timers,
        seq: 1,
        frame: 0,
        number: 0,
        sent: 0,
        refused: 0,
        late: 0,
        slab: vec![0; (shape.packet_size + 32) * shape.burst],
    };
    loop {
        loop {
            match commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Ok(command) => obey(command, &mut clients, &mut publisher),
                Err(TryRecvError::Empty) => break,
            }
        }
        let now = Instant::now();
        if publisher.ssrc.is_some() && publisher.next <= now {
            publisher.late += u64::from(now - publisher.next > Duration::from_millis(5));
            // What was missed is not made up for: a burst of bursts would be another load.
            publisher.next = (publisher.next + shape.period()).max(now);
            if let Some(client) = clients.first_mut() {
                publisher.publish(origin, client);
            }
        }
        for client in &mut clients {
            client.receive(Instant::now(), origin, &mut slab);
        }
        if timers <= now {
            timers = now + TIMERS;
            for client in &mut clients {
                client.settle(now);
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn obey(command: Command, clients: &mut Vec<Client>, publisher: &mut Publisher) {
    let now = Instant::now();
    match command {
        Command::Add(client) => clients.push(*client),
        Command::Remote(index, remote) => {
            let client = &mut clients[index];
            if !remote.payload_types.is_empty() {
                client.payload_types = remote.payload_types;
            }
            if let Some(transport) = &mut client.transport {
                transport.set_remote(now, &remote.transport, None);
                for candidate in remote.candidates {
                    transport.add_remote_candidate(now, candidate);
                }
            }
            client.settle(now);
        }
        Command::Candidate(index, candidate) => {
            if let Some(transport) = &mut clients[index].transport {
                transport.add_remote_candidate(now, candidate);
            }
            clients[index].settle(now);
        }
        Command::Publish(ssrc) => {
            publisher.ssrc = ssrc;
            publisher.next = now;
        }
        Command::Reset => {
            publisher.sent = 0;
            publisher.refused = 0;
            publisher.late = 0;
            for client in clients {
                client.counts = Counts::default();
            }
        }
        Command::ForgetDelays => {
            publisher.late = 0;
            for client in clients {
                client.counts.delays.clear();
            }
        }
        Command::Look(reply) => {
            let of_clients = |len: fn(&Client) -> usize| clients.iter().map(len).max().unwrap_or(0);
            let view = View {
                connected: clients.iter().filter(|client| client.is_connected).count(),
                lost: clients.iter().filter(|client| client.is_lost).count(),
                sent: publisher.sent,
                refused: publisher.refused,
                late: publisher.late,
                counts: clients.iter().map(|client| client.counts.clone()).collect(),
                wire_len: of_clients(|client| client.wire_len),
                clear_len: of_clients(|client| client.clear_len),
            };
            // Whoever asked may have given up.
            let _ = reply.send(view);
        }
        Command::Stop => {}
    }
}

impl Publisher {
    fn publish(&mut self, origin: Instant, client: &mut Client) {
        let Some(transport) = &mut client.transport else {
            return;
        };
        let Some(to) = transport.path().map(|path| path.remote) else {
            return;
        };
        let Some(sealer) = transport.sealer() else {
            return;
        };
        let Shape {
            packet_size: size,
            burst,
            audio,
            ..
        } = self.shape;
        let clock: u64 = if audio { 48_000 } else { 90_000 };
        let now = origin.elapsed().as_nanos() as u64;
        let timestamp = (u128::from(now) * u128::from(clock) / 1_000_000_000) as u32;
        let is_key = std::mem::take(&mut client.wants_key_frame);
        self.frame = (self.frame + 1) & 0x7fff;
        let stride = size + sealer.rtp_overhead();
        for (place, packet) in self.slab.chunks_exact_mut(stride).take(burst).enumerate() {
            let index = self.seq;
            let seq = (index as u16).to_be_bytes();
            self.seq += 1;
            self.number += 1;
            let marker = if !audio && place + 1 == burst {
                0x80
            } else {
                0
            };
            packet[0] = 0x90;
            packet[1] = marker | client.payload_types.first().copied().unwrap_or(VP8);
            packet[2..4].copy_from_slice(&seq);
            packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&self.ssrc.unwrap_or(0).to_be_bytes());
            packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, 1]);
            packet[16..20].copy_from_slice(&[TRANSPORT_CC << 4 | 1, seq[0], seq[1], 0]);
            let payload = &mut packet[HEADER..size];
            payload.fill(0x5a);
            if !audio {
                // RFC 7741: X; S on the first; I with 15 bits of picture id. Then the frame's own header, of which
                // bit 0 says "no key frame", and a key frame's start code and size.
                let start = if place == 0 { 0x10 } else { 0 };
                let [high, low] = self.frame.to_be_bytes();
                payload[..4].copy_from_slice(&[0x80 | start, 0x80, 0x80 | high, low]);
                if place == 0 {
                    let frame = [
                        u8::from(!is_key),
                        0,
                        0,
                        0x9d,
                        0x01,
                        0x2a,
                        0x80,
                        0x02,
                        0xe0,
                        0x01,
                    ];
                    payload[4..14].copy_from_slice(&frame);
                }
            }
            let stamp = payload.len() - STAMP;
            payload[stamp..stamp + 8].copy_from_slice(&MAGIC);
            payload[stamp + 8..stamp + 16].copy_from_slice(&now.to_be_bytes());
            payload[stamp + 16..].copy_from_slice(&self.number.to_be_bytes());
            sealer.seal_rtp(packet, HEADER, size, index);
        }
        match client.udp.send(to, &self.slab[..stride * burst], stride) {
            Ok(()) => self.sent += burst as u64,
            Err(_) => self.refused += 1,
        }
    }
}
