//! Two associations without DTLS between them: who dials, who wins, and what a hostile peer can do.

use super::*;
use crate::random::Random;

struct Pair {
    now: Instant,
    ends: [Channels; 2],
    events: [Vec<ChannelEvent>; 2],
}

impl Pair {
    fn new(opens: [bool; 2]) -> Self {
        Self {
            now: Instant::now(),
            ends: [
                Channels::new(opens[0], true),
                Channels::new(opens[1], false),
            ],
            events: [Vec::new(), Vec::new()],
        }
    }

    fn take(&mut self, from: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.ends[from].transmit(self.now, |packet| packets.push(packet.to_vec()));
        packets
    }

    fn give(&mut self, to: usize, packet: &[u8]) {
        self.ends[to].handle(self.now, packet);
        while let Some(event) = self.ends[to].poll(false) {
            self.events[to].push(event);
        }
    }

    /// Carries everything both ways until nothing moves; `change` may spoil packets of the first end.
    fn run(&mut self, steps: usize, mut change: impl FnMut(&mut Vec<u8>)) {
        for _ in 0..steps {
            for from in 0..2 {
                for mut packet in self.take(from) {
                    if from == 0 {
                        change(&mut packet);
                    }
                    self.give(1 - from, &packet);
                }
            }
            self.now += Duration::from_millis(100);
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }
    }

    fn is_open(&self, end: usize, channel: Channel) -> bool {
        self.events[end].contains(&ChannelEvent::Open(channel))
    }
}

/// CRC-32C (RFC 9260 appendix A) into its place, little end first.
fn sign(packet: &mut [u8]) {
    packet[8..12].fill(0);
    let mut crc = u32::MAX;
    for byte in &*packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}

#[test]
fn either_side_may_open_the_channels() {
    for opens in [[true, false], [false, true]] {
        let mut pair = Pair::new(opens);
        pair.ends[0].dial();
        pair.run(20, |_| {});
        for end in 0..2 {
            for channel in [Channel::DataTrack, Channel::Lossy, Channel::Reliable] {
                assert!(pair.is_open(end, channel), "{opens:?} {end} {channel:?}");
            }
        }
    }
}

#[test]
fn two_that_dial_at_once_come_together() {
    // The second end stands for a browser, which dials although it is the DTLS server.
    for first in 0..2 {
        let mut pair = Pair::new([true, false]);
        pair.ends[0].dial();
        pair.ends[1].dial();
        let (ours, theirs) = (pair.take(0), pair.take(1));
        if first == 0 {
            // Ours is lost.
            for packet in &theirs {
                pair.give(0, packet);
            }
        } else {
            // Theirs is late.
            for packet in &ours {
                pair.give(1, packet);
            }
            pair.run(3, |_| {});
            for packet in &theirs {
                pair.give(0, packet);
            }
        }
        pair.run(40, |_| {});
        for end in 0..2 {
            assert!(pair.is_open(end, Channel::Reliable), "{first} {end}");
        }
        let now = pair.now;
        let hello = Bytes::from_static(b"hello");
        assert_eq!(
            pair.ends[0].send(now, Channel::Reliable, &hello),
            SendOutcome::Sent
        );
        pair.run(5, |_| {});
        assert!(pair.events[1].contains(&ChannelEvent::Data(Channel::Reliable, hello)));
    }
}

#[test]
fn a_late_copy_of_init_does_no_harm() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    let init = pair.take(0);
    pair.give(1, &init[0]);
    pair.run(20, |_| {});
    pair.give(1, &init[0]);
    pair.run(5, |_| {});
    assert!(!pair.events[1].contains(&ChannelEvent::Lost));
    assert!(pair.ends[1].association.is_some());
}

#[test]
fn messages_on_other_channels_are_counted_and_dropped() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    let (_, association) = pair.ends[0].association.as_mut().unwrap();
    let open = Open {
        label: b"chat",
        unordered: false,
        reliability: sctp_proto::ReliabilityType::Reliable,
        limit: 0,
    };
    let mut stream = association.open_stream(20, Ppid::Binary).unwrap();
    stream.write_with_ppi(&open.encode(), Ppid::Dcep).unwrap();
    stream.write_with_ppi(b"hi", Ppid::String).unwrap();
    let before = pair.events[1].len();
    pair.run(5, |_| {});
    assert_eq!(pair.ends[1].ignored(), 1);
    assert_eq!(pair.events[1].len(), before);
}

#[test]
fn text_counts_as_a_message() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    let id = pair.ends[0]
        .streams
        .iter()
        .find(|stream| stream.channel == Some(Channel::Reliable))
        .unwrap()
        .id;
    let (_, association) = pair.ends[0].association.as_mut().unwrap();
    let mut stream = association.stream(id).unwrap();
    stream.write_with_ppi(b"text", Ppid::String).unwrap();
    stream.write_with_ppi(b"\0", Ppid::StringEmpty).unwrap();
    pair.run(5, |_| {});
    let got: Vec<_> = pair.events[1]
        .iter()
        .filter_map(|event| match event {
            ChannelEvent::Data(Channel::Reliable, payload) => Some(payload.as_ref()),
            _ => None,
        })
        .collect();
    assert_eq!(got, [&b"text"[..], b""]);
}

#[test]
fn a_message_beyond_the_limit_ends_the_association_with_notice() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    let (_, association) = pair.ends[0].association.as_mut().unwrap();
    association.set_max_send_message_size(1024 * 1024);
    let id = 0;
    let mut stream = association.stream(id).unwrap();
    stream
        .write_with_ppi(&vec![0; MAX_MESSAGE + 1], Ppid::Binary)
        .unwrap();
    pair.run(50, |_| {});
    assert_eq!(
        pair.events[1].last(),
        Some(&ChannelEvent::Lost),
        "{:?}",
        pair.events[1].len()
    );
}

#[test]
fn a_peer_that_spoils_its_packets_breaks_only_itself() {
    let seeds = 60;
    for seed in 0..seeds {
        let mut random = Random::seeded(seed);
        let mut pair = Pair::new([seed % 2 == 0, seed % 2 == 1]);
        pair.ends[0].dial();
        if seed % 3 > 0 {
            pair.run(12, |_| {});
        }
        for round in 0..30 {
            let now = pair.now;
            let payload = Bytes::from(vec![round; 1 + (random.u32() % 4000) as usize]);
            for channel in [Channel::Lossy, Channel::Reliable] {
                for end in &mut pair.ends {
                    end.send(now, channel, &payload);
                }
            }
            pair.run(1, |packet| {
                if random.u32().is_multiple_of(3) {
                    for _ in 0..=random.u32() % 4 {
                        // Mostly where the chunk headers are.
                        let reach = if random.u32().is_multiple_of(2) {
                            40
                        } else {
                            1200
                        };
                        let at = 12 + random.u32() as usize % reach;
                        if let Some(byte) = packet.get_mut(at) {
                            *byte = match random.u32() % 4 {
                                0 => 0,
                                1 => 255,
                                2 => byte.wrapping_add(1),
                                _ => random.u32() as u8,
                            };
                        }
                    }
                    if random.u32().is_multiple_of(8) {
                        packet.truncate(12 + random.u32() as usize % packet.len().max(13));
                    }
                    if packet.len() >= 12 {
                        sign(packet);
                    }
                }
            });
        }
    }
}
