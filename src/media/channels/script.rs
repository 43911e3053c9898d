//! A peer that writes its packets by hand, as bytes tell it: what the fuzz target and `tests/hostile.rs` play against an
//! association.

use super::guard::{DATA, FORWARD_TSN, I_FORWARD_TSN, RECONFIG, SACK, word};
use super::window::write_checksum;
use super::{COMMON_HEADER, ChannelEvent, Channels, MAX_MESSAGE};
use crate::plan::Channel;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The ports of both sides (RFC 8831 §5).
const PORTS: [u8; 4] = [0x13, 0x88, 0x13, 0x88];

/// The association, and what its peer has to know of it.
struct Scene {
    now: Instant,
    ours: Channels,
    /// Our verification tag.
    tag: [u8; 4],
    /// The TSN that we have to get next.
    wanted: u32,
    /// The last TSN that we sent.
    sent: u32,
}

/// Plays a script: commands of one byte, each with what it needs. What the peer writes gets the tag, the checksum, and
/// sequence numbers near the right ones, so that it is read.
pub fn play(now: Instant, script: &[u8]) {
    let mut rest = script;
    let Some(mut scene) = Scene::new(now, take(&mut rest, 1)[0] & 1 == 0) else {
        return;
    };
    while let Some((&command, after)) = rest.split_first() {
        rest = after;
        match command % 8 {
            0 => scene.wait(u64::from(take(&mut rest, 1)[0]) * 10),
            1 => {
                let what = take(&mut rest, 1)[0];
                let channel = [Channel::Reliable, Channel::Lossy][usize::from(what & 1)];
                let payload = Bytes::from(vec![what; usize::from(what) * 16]);
                scene.ours.send(scene.now, channel, &payload);
            }
            2 => scene.read(command & 8 > 0),
            _ => {
                let words = usize::from(take(&mut rest, 1)[0]).max(1);
                scene.give(take(&mut rest, words * 4).into_owned());
            }
        }
        scene.hear();
    }
    scene.read(false);
}

/// The next `count` bytes, as many as there are; zeros for those that are not.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> std::borrow::Cow<'a, [u8]> {
    let (taken, after) = rest.split_at(count.min(rest.len()));
    *rest = after;
    if taken.len() == count {
        taken.into()
    } else {
        let mut padded = taken.to_vec();
        padded.resize(count, 0);
        padded.into()
    }
}

impl Scene {
    /// An association that both sides have made as they should. `peer_dials`: as its server.
    fn new(mut now: Instant, peer_dials: bool) -> Option<Self> {
        let mut ends = [
            Channels::new(true, peer_dials),
            Channels::new(false, !peer_dials),
        ];
        ends[usize::from(!peer_dials)].dial();
        let mut scene = None;
        for _ in 0..8 {
            for from in 0..2 {
                let mut packets: Vec<Vec<u8>> = Vec::new();
                ends[from].transmit(now, |packet| packets.push(packet.to_vec()));
                for packet in packets {
                    ends[1 - from].handle(now, &packet);
                    while ends[1 - from].poll(false).is_some() {}
                    if from == 0 && packet[COMMON_HEADER] == DATA {
                        let tag = packet[4..8].try_into().ok()?;
                        scene = Some((tag, word(&packet, COMMON_HEADER + 4)?));
                    }
                }
            }
            now += Duration::from_millis(100);
            for end in &mut ends {
                end.handle_timeout(now);
            }
        }
        let [_, ours] = ends;
        let (tag, last) = scene?;
        let wanted = last.wrapping_add(1);
        Some(Self {
            now,
            ours,
            tag,
            wanted,
            sent: 0,
        })
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.ours.handle_timeout(self.now);
    }

    fn read(&mut self, hold: bool) {
        while let Some(event) = self.ours.poll(hold) {
            if let ChannelEvent::Data(_, message) = event {
                assert!(message.len() <= MAX_MESSAGE);
            }
        }
    }

    fn give(&mut self, mut chunks: Vec<u8>) {
        let mut at = 0;
        while at + 8 <= chunks.len() {
            let base = match chunks[at] {
                DATA | FORWARD_TSN | I_FORWARD_TSN | RECONFIG => self.wanted,
                SACK => self.sent,
                _ => 0,
            };
            // As far away as the lower half says, either way.
            let field = if chunks[at] == RECONFIG {
                at + 8
            } else {
                at + 4
            };
            if let Some(number) = chunks.get_mut(field..field + 4).filter(|_| base != 0) {
                let far = i16::from_be_bytes([number[2], number[3]]);
                number.copy_from_slice(&base.wrapping_add_signed(far.into()).to_be_bytes());
            }
            let len = usize::from(u16::from_be_bytes([chunks[at + 2], chunks[at + 3]]));
            at += len.max(4).next_multiple_of(4);
        }
        let mut packet = PORTS.to_vec();
        packet.extend(self.tag);
        packet.extend([0; 4]);
        packet.extend(chunks);
        write_checksum(&mut packet);
        self.ours.handle(self.now, &packet);
    }

    /// What we answer, as the peer learns from it.
    fn hear(&mut self) {
        let (wanted, sent) = (&mut self.wanted, &mut self.sent);
        self.ours.transmit(self.now, |packet| {
            let number = word(packet, COMMON_HEADER + 4).unwrap_or_default();
            match packet.get(COMMON_HEADER) {
                Some(&SACK) => *wanted = number.wrapping_add(1),
                Some(&DATA) => *sent = number,
                _ => {}
            }
        });
    }
}
