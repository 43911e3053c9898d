//! What participants publish, and how a subscriber puts video together again.

use super::lab::*;
use super::*;
use crate::ids::{Mid, Rid, Ssrc};
use crate::media::codec::vp8::MAX_LEN;
use crate::plan::{Format, Kind, ReceiveFormat, ReceiveLayer, ReceiveTrack};
use crate::rtp::SequenceUnwrapper;
use crate::rtp::rtcp::SenderInfo;
use std::collections::BTreeMap;

/// An audio track, signalled by SSRC.
pub(super) fn audio_track(up: u64, format: Format, pt: u8) -> ReceiveTrack {
    ReceiveTrack {
        up: UpTrackId(up),
        mid: Mid::from("0"),
        kind: Kind::Audio,
        formats: vec![ReceiveFormat {
            pt: PayloadType(pt),
            format,
            rtx: None,
        }],
        layers: vec![ReceiveLayer {
            spatial: 0,
            rid: None,
            ssrc: Some(Ssrc(11)),
            rtx_ssrc: None,
        }],
        nack: false,
    }
}

/// A simulcast track of as many layers, signalled by RID alone.
pub(super) fn video_track(up: u64, layers: u8) -> ReceiveTrack {
    ReceiveTrack {
        up: UpTrackId(up),
        mid: Mid::from("1"),
        kind: Kind::Video,
        formats: vec![ReceiveFormat {
            pt: PayloadType(PT_VP8),
            format: VP8,
            rtx: Some(PayloadType(PT_RTX)),
        }],
        layers: (0..layers)
            .map(|spatial| ReceiveLayer {
                spatial,
                rid: Some(Rid::from(["q", "h", "f"][usize::from(spatial)])),
                ssrc: None,
                rtx_ssrc: None,
            })
            .collect(),
        nack: true,
    }
}

/// One simulcast encoding of a [`Camera`].
#[derive(Debug, Clone)]
pub(super) struct Encoding {
    pub(super) ssrc: u32,
    rid: &'static str,
    seq: u16,
    base: u32,
    picture: u16,
    tl0: u8,
    key_index: u8,
    packets: usize,
    pub(super) on: bool,
    frames: u64,
    asked: usize,
}

/// A VP8 simulcast publisher at 30 frames a second, two temporal layers; makes a key frame when asked.
pub(super) struct Camera {
    pub(super) person: usize,
    pub(super) encodings: Vec<Encoding>,
    pub(super) frame: u64,
    began: Instant,
    /// What it sends is lost.
    pub(super) is_cut: bool,
}

impl Camera {
    pub(super) fn new(lab: &Lab, person: usize, layers: usize) -> Self {
        Self {
            person,
            encodings: (0..layers)
                .map(|layer| Encoding {
                    ssrc: 100 + layer as u32,
                    rid: ["q", "h", "f"][layer],
                    // Near their ends, so that all wrap.
                    seq: 65_500 - 700 * layer as u16,
                    base: u32::MAX - 90_000 * (layer as u32 + 1),
                    picture: 0x7ff0 - 40 * layer as u16,
                    tl0: 250 - 7 * layer as u8,
                    key_index: 30,
                    packets: [1, 3, 6][layer],
                    on: true,
                    frames: 0,
                    asked: 0,
                })
                .collect(),
            frame: 0,
            is_cut: false,
            began: lab.now,
        }
    }

    /// Sends one frame of each encoding and lets its time pass.
    pub(super) fn frame(&mut self, lab: &mut Lab) {
        let ticks = ticks(lab.now - self.began);
        let asked: Vec<u32> = lab.people[self.person]
            .plis
            .iter()
            .map(|(_, ssrc)| *ssrc)
            .collect();
        for (layer, encoding) in self.encodings.iter_mut().enumerate() {
            let plis = asked.iter().filter(|ssrc| **ssrc == encoding.ssrc).count();
            if !encoding.on {
                encoding.asked = plis;
                encoding.frames = 0;
                continue;
            }
            let is_key = encoding.frames == 0 || plis > encoding.asked;
            encoding.asked = plis;
            let temporal = u8::from(!is_key && encoding.frames % 2 == 1);
            if is_key {
                encoding.frames = 0;
                encoding.key_index = (encoding.key_index + 1) & 0x1f;
            }
            if temporal == 0 {
                encoding.tl0 = encoding.tl0.wrapping_add(1);
            }
            encoding.frames += 1;
            encoding.picture = (encoding.picture + 1) & 0x7fff;
            for packet in 0..encoding.packets {
                let descriptor = Vp8Descriptor {
                    partition_start: packet == 0,
                    picture_id: Some(encoding.picture),
                    long_picture_id: true,
                    tl0_picture_index: Some(encoding.tl0),
                    temporal: Some(temporal),
                    layer_sync: temporal == 1,
                    key_index: Some(encoding.key_index),
                    ..Vp8Descriptor::default()
                };
                let mut bytes = [0; MAX_LEN];
                let len = descriptor.write(&mut bytes).unwrap();
                let mut payload = bytes[..len].to_vec();
                payload.push(u8::from(!is_key));
                payload.push(layer as u8);
                payload.extend((self.frame as u32).to_be_bytes());
                payload.push(packet as u8);
                payload.push(encoding.packets as u8);
                payload.resize(1_000, layer as u8);
                encoding.seq = encoding.seq.wrapping_add(1);
                let draft = Draft {
                    ssrc: encoding.ssrc,
                    pt: PT_VP8,
                    seq: encoding.seq,
                    timestamp: encoding.base.wrapping_add(ticks),
                    marker: packet + 1 == encoding.packets,
                    mid: "1",
                    rid: Some(encoding.rid),
                    level: None,
                    payload,
                };
                if !self.is_cut {
                    lab.send(self.person, &draft);
                }
            }
        }
        self.frame += 1;
        lab.run(Duration::from_nanos(33_333_333));
    }

    pub(super) fn frames(&mut self, lab: &mut Lab, count: usize) {
        for _ in 0..count {
            self.frame(lab);
        }
    }

    /// Tells each encoding's clock.
    pub(super) fn report(&self, lab: &mut Lab) {
        let passed = lab.now - self.began;
        let ntp = (1u64 << 32) * 1_000 + ((passed.as_micros() as u64) << 32) / 1_000_000;
        for encoding in &self.encodings {
            let info = SenderInfo {
                ntp,
                rtp_timestamp: encoding.base.wrapping_add(ticks(passed)),
                packets: 1,
                octets: 1,
            };
            lab.send_rtcp(self.person, |writer| {
                writer.sender_report(Ssrc(encoding.ssrc), info, &[]);
            });
        }
    }
}

/// Of 90 kHz.
fn ticks(passed: Duration) -> u32 {
    ((passed.as_nanos() * 90 + 500_000) / 1_000_000) as u32
}

/// A frame as a subscriber puts it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) layer: u8,
    pub(super) number: u32,
    pub(super) is_key: bool,
    pub(super) timestamp: u32,
    pub(super) picture: u16,
    pub(super) tl0: u8,
    pub(super) key_index: u8,
    pub(super) temporal: u8,
}

/// Puts a subscriber's packets together, retransmissions included: no gap in sequence numbers, every frame whole,
/// timestamps rising, picture ids without a hole, and no layer but from a key frame on.
pub(super) fn watch(got: &[Got], ssrc: u32) -> Vec<Frame> {
    let mut packets: BTreeMap<u64, (u32, bool, Vec<u8>)> = BTreeMap::new();
    let mut unwrapper = SequenceUnwrapper::default();
    for packet in got {
        if packet.ssrc == ssrc {
            let seq = unwrapper.unwrap(packet.seq as u16);
            let old = packets.insert(
                seq,
                (packet.timestamp, packet.marker, packet.payload.clone()),
            );
            assert!(old.is_none(), "{seq} came twice");
        } else if packet.ssrc == ssrc + 1 {
            let osn = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
            let seq = unwrapper.peek(osn);
            let repair = (
                packet.timestamp,
                packet.marker,
                packet.payload[2..].to_vec(),
            );
            if let Some(there) = packets.get(&seq) {
                assert_eq!(there, &repair, "a retransmission differs");
            }
            packets.insert(seq, repair);
        }
    }
    let mut frames: Vec<Frame> = Vec::new();
    let mut next_packet = 0;
    let mut last_seq = None;
    for (seq, (timestamp, marker, payload)) in packets {
        if let Some(last) = last_seq {
            assert_eq!(seq, last + 1, "a gap");
        }
        last_seq = Some(seq);
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        let body = &payload[usize::from(descriptor.len)..];
        let (layer, packet, of) = (body[1], body[6], body[7]);
        let frame = Frame {
            layer,
            number: u32::from_be_bytes([body[2], body[3], body[4], body[5]]),
            is_key: body[0] & 1 == 0,
            timestamp,
            picture: descriptor.picture_id.unwrap(),
            tl0: descriptor.tl0_picture_index.unwrap(),
            key_index: descriptor.key_index.unwrap(),
            temporal: descriptor.temporal.unwrap(),
        };
        assert_eq!(packet, next_packet, "a torn frame before {frame:?}");
        assert_eq!(marker, packet + 1 == of);
        next_packet = if packet + 1 == of { 0 } else { packet + 1 };
        if packet > 0 {
            assert_eq!(frames.last(), Some(&frame));
            continue;
        }
        match frames.last() {
            None => assert!(frame.is_key),
            Some(last) => {
                assert!(
                    frame.layer == last.layer || frame.is_key,
                    "{last:?} {frame:?}"
                );
                let ahead = frame.timestamp.wrapping_sub(last.timestamp) as i32;
                assert!(ahead > 0, "{last:?} {frame:?}");
                assert_eq!(
                    frame.picture,
                    (last.picture + 1) & 0x7fff,
                    "{last:?} {frame:?}"
                );
                let tl0 = last.tl0.wrapping_add(u8::from(frame.temporal == 0));
                assert_eq!(frame.tl0, tl0, "{last:?} {frame:?}");
                let key = (last.key_index + u8::from(frame.is_key)) & 0x1f;
                assert_eq!(frame.key_index, key, "{last:?} {frame:?}");
            }
        }
        frames.push(frame);
    }
    frames
}
