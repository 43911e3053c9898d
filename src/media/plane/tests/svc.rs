//! A stream that holds several spatial layers: who gets which, and what a decoder makes of it.

use super::lab::*;
use super::*;
use crate::ids::{PayloadType, Ssrc};
use crate::media::codec::vp9::Vp9Descriptor;
use crate::plan::{Codec, DownTrackPlan, Format, ReceiveFormat, ReceiveTrack, SendFormat};

const VP9: Format = Format {
    codec: Codec::Vp9,
    variant: 0,
};
const LAYERS: u8 = 3;
const SSRC: u32 = 300;

fn track() -> ReceiveTrack {
    let mut track = video_track(1, 1);
    track.formats[0] = ReceiveFormat {
        pt: PayloadType(PT_VP8),
        format: VP9,
        rtx: Some(PayloadType(PT_RTX)),
    };
    track.layers[0].rid = None;
    track.layers[0].ssrc = Some(Ssrc(SSRC));
    track
}

/// The same as Safari offers it: with three RIDs, of which it sends the highest.
fn track_by_rid() -> ReceiveTrack {
    let mut track = track();
    track.layers = video_track(1, LAYERS).layers;
    track
}

fn down(lab: &Lab, track: &ReceiveTrack) -> DownTrackPlan {
    let mut plan = lab.down(1, track);
    plan.formats = vec![SendFormat {
        format: VP9,
        pt: PayloadType(SUB_VP8),
        rtx: Some(PayloadType(SUB_RTX)),
    }];
    plan
}

/// A publisher of L3T1_KEY at 30 pictures a second: 1, 2 and 4 packets a layer. Makes a key frame when asked.
struct Camera {
    seq: u16,
    picture: u16,
    timestamp: u32,
    asked: usize,
    rid: Option<&'static str>,
}

impl Camera {
    fn new() -> Self {
        Self::of(&track())
    }

    fn of(track: &ReceiveTrack) -> Self {
        Self {
            rid: (track.layers.len() > 1).then_some("f"),
            seq: 65_000,
            picture: 0x7ff0,
            timestamp: u32::MAX - 200_000,
            asked: 0,
        }
    }

    fn pictures(&mut self, lab: &mut Lab, count: usize) {
        for _ in 0..count {
            let asked = lab.people[0].plis.len();
            let is_key = self.seq == 65_000 || asked > self.asked;
            self.asked = asked;
            self.picture = (self.picture + 1) & 0x7fff;
            self.timestamp = self.timestamp.wrapping_add(3_000);
            for layer in 0..LAYERS {
                let packets = 1 << layer;
                for packet in 0..packets {
                    // I, L, F; P but in key frames; B and E at the ends.
                    let mut head = 0xb0;
                    head |= if is_key { 0 } else { 0x40 };
                    head |= if packet == 0 { 0x08 } else { 0 };
                    head |= if packet + 1 == packets { 0x04 } else { 0 };
                    let [high, low] = (self.picture | 0x8000).to_be_bytes();
                    let depends = u8::from(is_key && layer > 0);
                    let mut payload = vec![head, high, low, layer << 1 | depends];
                    if !is_key {
                        payload.push(1 << 1);
                    }
                    payload.extend([packet, packets]);
                    payload.resize(1_000, 0);
                    self.seq = self.seq.wrapping_add(1);
                    let draft = Draft {
                        ssrc: SSRC,
                        pt: PT_VP8,
                        seq: self.seq,
                        timestamp: self.timestamp,
                        marker: layer + 1 == LAYERS && packet + 1 == packets,
                        mid: "1",
                        rid: self.rid,
                        level: None,
                        payload,
                    };
                    lab.send(0, &draft);
                }
            }
            lab.run(Duration::from_nanos(33_333_333));
        }
    }
}

/// A picture as a subscriber puts it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picture {
    id: u16,
    is_key: bool,
    /// The highest layer in it.
    top: u8,
}

/// What arrived without loss: no gap in the numbers, every layer whole, and of every picture all layers up to one, which ends
/// with the marker and which the picture before, or a key frame, lets a decoder decode.
fn watch(got: &[Got], ssrc: u32) -> Vec<Picture> {
    let mut pictures: Vec<Picture> = Vec::new();
    let mut expected: Option<(u64, u8, u8)> = None;
    for got in got.iter().filter(|got| got.ssrc == ssrc) {
        let descriptor = Vp9Descriptor::parse(&got.payload).unwrap();
        let [packet, of, ..] = got.payload[usize::from(descriptor.len)..] else {
            panic!("a short packet");
        };
        let at = (got.seq, descriptor.spatial, packet);
        assert_eq!(
            at,
            *expected.get_or_insert(at),
            "after {:?}",
            pictures.last()
        );
        if descriptor.spatial == 0 && packet == 0 {
            pictures.push(Picture {
                id: descriptor.picture_id.unwrap(),
                is_key: !descriptor.predicted,
                top: 0,
            });
        }
        let [.., before, picture] = &mut pictures[..] else {
            assert!(!descriptor.predicted);
            expected = Some(next(got.seq, descriptor.spatial, packet, of, got.marker));
            pictures[0].top = descriptor.spatial;
            continue;
        };
        picture.top = descriptor.spatial;
        assert!(
            picture.is_key || picture.top <= before.top,
            "{before:?} {picture:?}"
        );
        expected = Some(next(got.seq, descriptor.spatial, packet, of, got.marker));
    }
    pictures
}

/// What is to come after a packet: sequence number, layer and packet of the layer.
fn next(seq: u64, layer: u8, packet: u8, of: u8, marker: bool) -> (u64, u8, u8) {
    match (packet + 1 < of, marker) {
        (true, false) => (seq + 1, layer, packet + 1),
        (false, false) => (seq + 1, layer + 1, 0),
        (false, true) => (seq + 1, 0, 0),
        (true, true) => panic!("a marker within a frame"),
    }
}

fn tops(pictures: &[Picture]) -> Vec<u8> {
    let mut tops: Vec<u8> = pictures.iter().map(|picture| picture.top).collect();
    tops.dedup();
    tops
}

#[test]
fn a_subscriber_gets_the_spatial_layers_it_wants_and_only_more_cost_a_key_frame() {
    for track in [track(), track_by_rid()] {
        everywhere(|mut lab| {
            lab.publish(0, vec![track.clone()]);
            let mut camera = Camera::of(&track);
            camera.pictures(&mut lab, 10);
            let plan = down(&lab, &track);
            let (down, ssrc) = (plan.down, plan.ssrc.0);
            lab.subscribe(1, 0, plan);
            camera.pictures(&mut lab, 40);
            let mut asked = vec![lab.people[0].plis.len()];
            for max_spatial in [1, 0, 255, 1] {
                let wanted = Wanted {
                    max_spatial,
                    ..WHOLE
                };
                lab.set_wanted(1, down, wanted);
                camera.pictures(&mut lab, 40);
                asked.push(lab.people[0].plis.len());
            }
            lab.run(ms(100));
            let pictures = watch(&lab.people[1].got, ssrc);
            assert_eq!(tops(&pictures), [2, 1, 0, 2, 1]);
            assert!(
                pictures
                    .windows(2)
                    .all(|pair| pair[1].id == (pair[0].id + 1) & 0x7fff)
            );
            assert_eq!(asked[1..3], [asked[0]; 2]);
            assert_eq!(asked[3..], [asked[0] + 1; 2]);
        });
    }
}

#[test]
fn congestion_takes_a_spatial_layer_away_at_once_and_time_gives_it_back() {
    everywhere(|mut lab| {
        let track = track();
        lab.publish(0, vec![track.clone()]);
        let mut camera = Camera::new();
        camera.pictures(&mut lab, 40);
        let plan = down(&lab, &track);
        let ssrc = plan.ssrc;
        lab.subscribe(1, 0, plan);
        camera.pictures(&mut lab, 60);
        let asked = lab.people[0].plis.len();
        // 240, 720 and 1,680 kbit/s with the layers below.
        for estimate in [2_000_000, 800_000] {
            lab.send_rtcp(1, |writer| {
                writer.remb(Ssrc(1), estimate, &[ssrc]);
            });
        }
        camera.pictures(&mut lab, 240);
        let pictures = watch(&lab.people[1].got, ssrc.0);
        assert_eq!(tops(&pictures), [2, 1]);
        assert_eq!(lab.people[0].plis.len(), asked);
        camera.pictures(&mut lab, 120);
        let pictures = watch(&lab.people[1].got, ssrc.0);
        assert_eq!(tops(&pictures), [2, 1, 2]);
    });
}

#[test]
fn what_is_lost_on_the_way_in_does_not_keep_layers_from_those_who_want_few() {
    let mut lab = Lab::new(9, 1, &[0, 0]);
    let track = track();
    lab.publish(0, vec![track.clone()]);
    let mut camera = Camera::new();
    lab.people[0].loss = (0.05, 0.0);
    let plan = down(&lab, &track);
    let (down, ssrc) = (plan.down, plan.ssrc.0);
    lab.subscribe(1, 0, plan);
    for max_spatial in [0, 255, 0, 1, 0, 255] {
        let wanted = Wanted {
            max_spatial,
            ..WHOLE
        };
        lab.set_wanted(1, down, wanted);
        let from = lab.people[1].got.len();
        camera.pictures(&mut lab, 120);
        let mut came = [0; LAYERS as usize];
        for got in &lab.people[1].got[from..] {
            if got.ssrc == ssrc {
                let layer = Vp9Descriptor::parse(&got.payload).unwrap().spatial;
                came[usize::from(layer)] += 1;
            }
        }
        // A picture has 1, 2 and 4 packets of its layers.
        for layer in 0..LAYERS {
            match came[usize::from(layer)] * 100 / (120 << layer) {
                most if layer <= max_spatial => assert!(most >= 80, "{max_spatial} {layer} {most}"),
                few => assert!(few <= 5, "{max_spatial} {layer} {few}"),
            }
        }
    }
}
