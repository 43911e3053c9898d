//! The spatial layers that one encoding holds (SVC), and which of them a down track passes on.
//!
//! Owned by its down track. Every layer up to the highest allowed goes out, also those that the highest does not refer
//! to between key frames (L3T3_KEY): so a layer is given up between two pictures, without asking the publisher for
//! anything, and only a layer taken up waits for a key frame. livekit 1.13.5 pkg/sfu/videolayerselector sends the frames
//! of one decode target alone: whatever refers to a frame that was left out waits for a key frame, also on the way down.

use super::cache::{Facts, Packet};
use super::codec::dependency::{self, Tracker};
use super::layer::Survey;
use crate::plan::Codec;
use crate::rtp::sequence::is_newer_timestamp;

/// Longest dependency descriptor, with the mask that may be added to it.
const MAX_DESCRIPTOR: usize = 260;
/// Ticks of video, 5 s: no packet of a picture comes later than this.
const LATEST: u32 = 5 * 90_000;
/// Room for a descriptor that differs from the one received; most do not.
pub type Rewritten = Option<[u8; MAX_DESCRIPTOR]>;

/// Which spatial layers of its encoding a down track passes on.
#[derive(Debug, Clone, Copy)]
pub struct Ladder {
    /// The highest layer that is passed on; 255: all.
    top: u8,
    /// The highest layer that may be passed on from the next picture that allows the change.
    allowed: u8,
    /// Timestamp of the first picture that `top` counts for, and what counted before it.
    before: Option<(u32, u8)>,
    /// Timestamp of the newest picture.
    newest: Option<u32>,
    /// The highest layer that lives; `None` for an encoding of one layer.
    highest: Option<u8>,
    /// A layer lives that is allowed and not passed on.
    lacks: bool,
    /// The down track carried another track before.
    follows: bool,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            top: u8::MAX,
            allowed: u8::MAX,
            before: None,
            newest: None,
            highest: None,
            lacks: false,
            follows: false,
        }
    }
}

impl Ladder {
    /// Of a down track that goes on with another track.
    pub fn following() -> Self {
        Self {
            follows: true,
            ..Self::default()
        }
    }

    /// Layers up to `most` may be had, of those that live; `None`: the encoding holds but one.
    pub fn allow(&mut self, most: u8, layers: Option<&Survey>) {
        self.allowed = most;
        self.highest = layers.and_then(Survey::highest);
        self.lacks = layers.is_some_and(|layers| {
            layers
                .live
                .iter()
                .zip(0u8..)
                .any(|(&lives, layer)| lives && layer > self.top && layer <= most)
        });
    }

    /// A key frame is needed for a layer that is allowed and lives.
    pub fn waits_for_key_frame(&self) -> bool {
        self.lacks && self.allowed > self.top
    }

    /// The highest layer sent; `None` for an encoding of one layer.
    pub fn current(&self) -> Option<u8> {
        self.highest.map(|highest| highest.min(self.top))
    }

    /// The encoding begins with a key frame: all that is allowed goes out.
    pub fn begin(&mut self) {
        *self = Self {
            top: self.allowed,
            before: None,
            newest: None,
            ..*self
        };
    }

    /// Whether a packet is passed on. The first packet of a new picture is where a layer is given up, and, when it is
    /// a key frame's, where one is taken up.
    pub fn passes(&mut self, facts: &Facts) -> bool {
        let is_new = self
            .newest
            .is_none_or(|newest| newest.wrapping_sub(facts.timestamp) > LATEST);
        if is_new {
            self.newest = Some(facts.timestamp);
            // Half the range of timestamps on, its picture would seem to be still to come.
            self.before = self
                .before
                .filter(|(since, _)| facts.timestamp.wrapping_sub(*since) <= LATEST);
            if self.allowed < self.top || (facts.key_frame && self.allowed > self.top) {
                self.before = Some((facts.timestamp, self.top));
                self.top = self.allowed;
            }
        }
        facts.svc_layer <= self.top_of(facts.timestamp)
    }

    /// Whether a packet that is passed on is the last of its picture, now that what follows is not.
    pub fn ends_picture(&self, facts: &Facts) -> bool {
        self.highest.is_some() && facts.frame_end && facts.svc_layer == self.top_of(facts.timestamp)
    }

    /// The dependency descriptor of a packet, for somebody who gets no more than these layers: a key frame's tells
    /// which decode targets are sent. Copied into `buffer` when it differs. Frames of another track are numbered
    /// otherwise, and libwebrtc ignores a key frame whose number lies before that of the last one; all codecs but AV1 do
    /// without.
    pub fn descriptor<'a>(&self, packet: &Packet<'a>, buffer: &'a mut Rewritten) -> &'a [u8] {
        if self.follows && packet.facts.format.codec != Codec::Av1 {
            return &[];
        }
        let received = packet.descriptor();
        let top = self.top_of(packet.facts.timestamp);
        let is_whole = self.highest.is_none_or(|highest| highest <= top);
        if is_whole || !packet.facts.key_frame || received.is_empty() {
            return received;
        }
        // The structure comes with it, so that it is read by itself.
        let mut tracker = Tracker::default();
        let Ok(frame) = tracker.handle(received) else {
            return received;
        };
        let Some(structure) = tracker.structure() else {
            return received;
        };
        let sent = structure
            .targets()
            .iter()
            .enumerate()
            .filter(|(_, target)| target.spatial <= top)
            .fold(0, |mask, (index, _)| mask | 1 << index);
        let active = frame.active_targets.unwrap_or(u32::MAX) & sent;
        let buffer = buffer.insert([0; MAX_DESCRIPTOR]);
        match dependency::rewrite(received, &frame, frame.number, Some(active), buffer) {
            Some(len) => &buffer[..len],
            None => received,
        }
    }

    fn top_of(&self, timestamp: u32) -> u8 {
        match self.before {
            Some((since, top)) if is_newer_timestamp(since, timestamp) => top,
            _ => self.top,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::dependency::tests::Draft;
    use crate::media::layer::{Activity, MAX_LAYERS};
    use crate::plan::Format;
    use std::time::Instant;

    /// The only packet of layer `svc_layer` in the picture of that timestamp.
    fn frame(timestamp: u32, svc_layer: u8, key_frame: bool) -> Facts {
        Facts {
            index: 0,
            arrival: Instant::now(),
            timestamp,
            format: Format {
                codec: Codec::Av1,
                variant: 0,
            },
            spatial: 0,
            marker: svc_layer == 2,
            key_frame,
            frame_start: true,
            frame_end: true,
            svc_layer,
            temporal: 0,
            switch_up: false,
            vp8: None,
            audio_level: None,
            descriptor_len: 0,
            capture_len: 0,
        }
    }

    fn alive(layers: usize) -> Survey {
        let now = Instant::now();
        let mut activity = Activity::default();
        activity.handle(now, 1, 1_000);
        Survey::new(
            now,
            std::array::from_fn::<_, MAX_LAYERS, _>(|n| (n < layers).then_some(&activity)),
        )
    }

    /// The layers of a picture that pass.
    fn picture(ladder: &mut Ladder, timestamp: u32, is_key: bool) -> Vec<u8> {
        (0..3)
            .filter(|&layer| ladder.passes(&frame(timestamp, layer, is_key && layer == 0)))
            .collect()
    }

    #[test]
    fn a_layer_is_given_up_between_pictures_and_taken_up_with_a_key_frame() {
        let mut ladder = Ladder::default();
        let three = alive(3);
        ladder.begin();
        assert_eq!(picture(&mut ladder, 10, true), [0, 1, 2]);
        assert!(ladder.passes(&frame(20, 0, false)));
        ladder.allow(0, Some(&three));
        assert!(ladder.passes(&frame(20, 2, false)), "its picture has begun");
        assert_eq!(picture(&mut ladder, 30, false), [0]);
        assert!(ladder.ends_picture(&frame(30, 0, false)));
        assert_eq!(ladder.current(), Some(0));
        ladder.allow(1, Some(&three));
        assert!(ladder.waits_for_key_frame());
        assert_eq!(picture(&mut ladder, 40, false), [0]);
        assert_eq!(picture(&mut ladder, 50, true), [0, 1]);
        assert!(ladder.ends_picture(&frame(50, 1, false)));
        assert!(!ladder.ends_picture(&frame(50, 0, false)));
        ladder.allow(1, Some(&three));
        assert!(!ladder.waits_for_key_frame());
    }

    #[test]
    fn packets_of_an_older_picture_go_by_what_counted_then() {
        let mut ladder = Ladder::default();
        let three = alive(3);
        ladder.allow(0, Some(&three));
        ladder.begin();
        assert_eq!(picture(&mut ladder, u32::MAX, false), [0]);
        ladder.allow(255, Some(&three));
        assert_eq!(picture(&mut ladder, 9, true), [0, 1, 2]);
        assert_eq!(picture(&mut ladder, u32::MAX, false), [0]);
        assert!(ladder.ends_picture(&frame(u32::MAX, 0, false)));
    }

    #[test]
    fn what_counted_before_a_change_does_not_count_again_half_a_circle_later() {
        let three = alive(3);
        for hours in 1..14 {
            let mut ladder = Ladder::default();
            ladder.allow(0, Some(&three));
            ladder.begin();
            ladder.allow(255, Some(&three));
            assert_eq!(picture(&mut ladder, 9, true), [0, 1, 2]);
            for second in (0..hours * 3_600_u32).step_by(60) {
                assert_eq!(
                    picture(&mut ladder, second.wrapping_mul(90_000) + 99, false),
                    [0, 1, 2]
                );
            }
        }
    }

    #[test]
    fn a_key_frame_whose_first_packet_came_late_takes_nothing_up() {
        let mut ladder = Ladder::default();
        let two = alive(2);
        ladder.allow(0, Some(&two));
        ladder.begin();
        assert!(ladder.passes(&frame(10, 0, true)));
        ladder.allow(255, Some(&two));
        assert!(!ladder.passes(&frame(20, 1, false)));
        assert!(ladder.passes(&frame(20, 0, true)));
        assert_eq!(picture(&mut ladder, 30, false), [0]);
        assert!(ladder.waits_for_key_frame());
    }

    #[test]
    fn a_layer_that_nobody_sends_is_not_waited_for() {
        let mut ladder = Ladder::default();
        ladder.allow(0, Some(&alive(2)));
        ladder.begin();
        ladder.allow(255, Some(&alive(1)));
        assert!(!ladder.waits_for_key_frame());
        ladder.allow(255, None);
        assert!(!ladder.waits_for_key_frame());
        ladder.allow(255, Some(&alive(2)));
        assert!(ladder.waits_for_key_frame());
    }

    #[test]
    fn a_key_frame_tells_which_targets_are_sent() {
        let mut draft = Draft::new();
        draft.head(0, 700).bits(5, 0b10000);
        // L2T1: two templates of each layer; target 0 is the lower layer, target 1 both.
        draft.bits(6, 0).bits(5, 1);
        draft.bits(2, 0).bits(2, 2).bits(2, 0).bits(2, 3);
        draft.bits(8, 0b1010_1011).bits(8, 0b0010_0010);
        draft.bits(1, 0).bits(6, 0b10_0010);
        draft.bits(6, 0b10_0000).bits(6, 0b10_0010);
        // No chains, no sizes.
        draft.bits(1, 0).bits(1, 0);
        let received = draft.done();
        let facts = Facts {
            descriptor_len: received.len() as u8,
            ..frame(10, 0, true)
        };
        let packet = Packet {
            facts: &facts,
            body: &received,
        };
        let mut ladder = Ladder::default();
        ladder.allow(255, Some(&alive(2)));
        ladder.begin();
        let mut room = None;
        assert_eq!(ladder.descriptor(&packet, &mut room), received);
        ladder.allow(0, Some(&alive(2)));
        ladder.begin();
        let sent = ladder.descriptor(&packet, &mut room);
        let frame = Tracker::default().handle(sent).unwrap();
        assert_eq!((frame.number, frame.active_targets), (700, Some(0b01)));
        assert!(frame.has_structure);
    }
    #[test]
    fn what_follows_another_track_tells_no_frame_numbers_unless_it_is_av1() {
        let received = [1, 2, 3];
        for (codec, told) in [(Codec::Vp8, 0), (Codec::Av1, 3)] {
            let facts = Facts {
                descriptor_len: 3,
                format: Format { codec, variant: 0 },
                ..frame(10, 0, true)
            };
            let packet = Packet {
                facts: &facts,
                body: &received,
            };
            let mut room = None;
            let first = Ladder::default().descriptor(&packet, &mut room).len();
            let then = Ladder::following().descriptor(&packet, &mut room).len();
            assert_eq!((first, then), (3, told), "{codec:?}");
        }
    }
}
