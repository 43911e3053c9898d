//! Picture ids, base layer counts and key frame counts of a VP8 stream that is put together from several encodings
//! and of which temporal layers are left out.
//!
//! Driven by a down track beside its [`super::munger::Munger`], with the same decisions: what is left out there is
//! left out here, a switch is a switch. Receivers take a gap in picture ids for a lost picture, so there must be none.
//! RFC 7741 §4.2; livekit 1.13.5 `pkg/sfu/codecmunger/vp8.go` has the same purpose.

use super::codec::vp8::Vp8Descriptor;
use super::places::{Place, Places};

/// How many of the latest pictures are remembered, in words of 64.
const WORDS: usize = 2;

/// The rewriting of the descriptors of one down track.
#[derive(Debug, Clone)]
pub struct Vp8Munger {
    pictures: Places<WORDS>,
    /// The highest picture number of the source, without wrapping.
    highest: u64,
    /// The fields of the newest picture sent, as sent: what comes next is one more.
    tl0_picture_index: u8,
    key_index: u8,
    /// Added to the fields of the source.
    tl0_shift: u8,
    key_shift: u8,
    started: bool,
}

impl Vp8Munger {
    /// Begins at a random picture id of the caller's, of which 15 bits are taken.
    pub fn new(picture_id: u16) -> Self {
        Self {
            pictures: Places::new(u64::from(picture_id & 0x7fff)),
            highest: 0,
            tl0_picture_index: 0,
            key_index: 0,
            tl0_shift: 0,
            key_shift: 0,
            started: false,
        }
    }

    /// Continues with another source, or the same one after frames of our own, at the key frame that this descriptor
    /// is of (to be handed to [`Self::rewrite`] next).
    pub fn switch(&mut self, descriptor: &Vp8Descriptor) {
        // One circle above 0, so that the numbers of late pictures do not go below it.
        self.highest = 0x8000 + u64::from(descriptor.picture_id.unwrap_or(0));
        self.pictures.restart(self.highest);
        let step = u8::from(self.started);
        if let Some(index) = descriptor.tl0_picture_index {
            let next = self.tl0_picture_index.wrapping_add(step);
            self.tl0_shift = next.wrapping_sub(index);
        }
        if let Some(index) = descriptor.key_index {
            let next = self.key_index.wrapping_add(step);
            self.key_shift = next.wrapping_sub(index);
        }
    }

    /// The descriptor to send a packet with; `None`: its picture was left out, or is older than what is remembered.
    pub fn rewrite(&mut self, descriptor: &Vp8Descriptor) -> Option<Vp8Descriptor> {
        let mut out = *descriptor;
        out.len = 0;
        let mut is_newest = true;
        if let Some(number) = self.number(descriptor) {
            is_newest = number >= self.highest;
            self.highest = self.highest.max(number);
            match self.pictures.place(number) {
                Place::At(picture) => {
                    out.picture_id = Some((picture & 0x7fff) as u16);
                    out.long_picture_id = true;
                }
                Place::LeftOut | Place::TooOld => return None,
            }
        }
        if let Some(index) = descriptor.tl0_picture_index {
            let index = index.wrapping_add(self.tl0_shift);
            out.tl0_picture_index = Some(index);
            if is_newest {
                self.tl0_picture_index = index;
            }
        }
        if let Some(index) = descriptor.key_index {
            let index = index.wrapping_add(self.key_shift) & 0x1f;
            out.key_index = Some(index);
            if is_newest {
                self.key_index = index;
            }
        }
        self.started = true;
        Some(out)
    }

    /// Leaves out the picture that a packet of a filtered temporal layer belongs to.
    pub fn leave_out(&mut self, descriptor: &Vp8Descriptor) {
        if let Some(number) = self.number(descriptor) {
            self.highest = self.highest.max(number);
            self.pictures.leave_out(number);
        }
    }

    /// The descriptor of a key frame of our own, in one packet. What follows of the source needs a key frame and
    /// [`Self::switch`].
    pub fn insert(&mut self) -> Vp8Descriptor {
        let step = u8::from(self.started);
        self.started = true;
        self.tl0_picture_index = self.tl0_picture_index.wrapping_add(step);
        self.key_index = self.key_index.wrapping_add(step) & 0x1f;
        Vp8Descriptor {
            partition_start: true,
            picture_id: Some((self.pictures.insert() & 0x7fff) as u16),
            long_picture_id: true,
            tl0_picture_index: Some(self.tl0_picture_index),
            temporal: Some(0),
            layer_sync: true,
            key_index: Some(self.key_index),
            ..Vp8Descriptor::default()
        }
    }

    /// The picture id without wrapping: the one nearest to the highest. `None`: the source has none.
    fn number(&self, descriptor: &Vp8Descriptor) -> Option<u64> {
        let bits = if descriptor.long_picture_id { 15 } else { 7 };
        let circle = 1u64 << bits;
        let id = u64::from(descriptor.picture_id?) & (circle - 1);
        let ahead = id.wrapping_sub(self.highest) & (circle - 1);
        Some(if ahead < circle / 2 {
            self.highest + ahead
        } else {
            (self.highest + ahead).saturating_sub(circle)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn picture(id: u16, tl0: u8, temporal: u8) -> Vp8Descriptor {
        Vp8Descriptor {
            partition_start: true,
            picture_id: Some(id),
            long_picture_id: true,
            tl0_picture_index: Some(tl0),
            temporal: Some(temporal),
            key_index: Some(3),
            ..Vp8Descriptor::default()
        }
    }

    fn id(descriptor: Option<Vp8Descriptor>) -> Option<u16> {
        descriptor.and_then(|descriptor| descriptor.picture_id)
    }

    #[test]
    fn left_out_pictures_leave_no_gap() {
        let mut munger = Vp8Munger::new(100);
        munger.switch(&picture(0x7ffe, 5, 0));
        assert_eq!(id(munger.rewrite(&picture(0x7ffe, 5, 0))), Some(100));
        munger.leave_out(&picture(0x7fff, 5, 2));
        munger.leave_out(&picture(0x7fff, 5, 2));
        assert_eq!(id(munger.rewrite(&picture(0, 5, 1))), Some(101));
        assert_eq!(id(munger.rewrite(&picture(0, 5, 1))), Some(101));
        assert_eq!(munger.rewrite(&picture(0x7fff, 5, 2)), None);
        assert_eq!(id(munger.rewrite(&picture(2, 6, 0))), Some(103));
        assert_eq!(id(munger.rewrite(&picture(1, 5, 2))), Some(102));
    }

    #[test]
    fn a_switch_goes_on_by_one_in_every_field() {
        let mut munger = Vp8Munger::new(0x7fff);
        munger.switch(&picture(10, 250, 0));
        let first = munger.rewrite(&picture(10, 250, 0)).unwrap();
        assert_eq!(
            (first.tl0_picture_index, first.key_index),
            (Some(0), Some(0))
        );
        let second = munger.rewrite(&picture(11, 251, 0)).unwrap();
        assert_eq!(second.tl0_picture_index, Some(1));
        munger.switch(&picture(5_000, 7, 0));
        let third = munger.rewrite(&picture(5_000, 7, 0)).unwrap();
        assert_eq!(third.picture_id, Some(1));
        assert_eq!(
            (third.tl0_picture_index, third.key_index),
            (Some(2), Some(1))
        );
        // A picture of before the switch, late.
        assert_eq!(munger.rewrite(&picture(4_999, 6, 0)), None);
    }

    #[test]
    fn seven_bit_ids_become_fifteen_bit_ids() {
        let mut munger = Vp8Munger::new(1_000);
        let short = |id| Vp8Descriptor {
            long_picture_id: false,
            ..picture(id, 0, 0)
        };
        munger.switch(&short(126));
        let ids: Vec<_> = [126, 127, 0, 2, 1]
            .into_iter()
            .map(|picture| {
                let out = munger.rewrite(&short(picture)).unwrap();
                assert!(out.long_picture_id);
                out.picture_id.unwrap()
            })
            .collect();
        assert_eq!(ids, [1_000, 1_001, 1_002, 1_004, 1_003]);
    }

    #[test]
    fn frames_of_our_own_come_in_between() {
        let mut munger = Vp8Munger::new(50);
        munger.switch(&picture(9, 9, 0));
        munger.rewrite(&picture(9, 9, 0)).unwrap();
        let blank = munger.insert();
        assert_eq!(
            (blank.picture_id, blank.tl0_picture_index, blank.key_index),
            (Some(51), Some(1), Some(1))
        );
        assert_eq!(munger.insert().picture_id, Some(52));
        munger.switch(&picture(30, 20, 0));
        let next = munger.rewrite(&picture(30, 20, 0)).unwrap();
        assert_eq!(
            (next.picture_id, next.tl0_picture_index, next.key_index),
            (Some(53), Some(3), Some(3))
        );
    }

    #[test]
    fn a_stream_without_picture_ids_stays_without() {
        let mut munger = Vp8Munger::new(50);
        let bare = Vp8Descriptor {
            partition_start: true,
            len: 1,
            ..Vp8Descriptor::default()
        };
        munger.switch(&bare);
        let out = munger.rewrite(&bare).unwrap();
        assert_eq!(out, Vp8Descriptor { len: 0, ..bare });
    }

    #[test]
    fn a_late_base_picture_does_not_turn_the_count_back() {
        let mut munger = Vp8Munger::new(0);
        munger.switch(&picture(10, 0, 0));
        munger.rewrite(&picture(10, 0, 0)).unwrap();
        munger.rewrite(&picture(12, 2, 0)).unwrap();
        munger.rewrite(&picture(11, 1, 0)).unwrap();
        assert_eq!(munger.insert().tl0_picture_index, Some(3));
    }

    proptest! {
        /// Against a model that numbers the pictures of each source with a map, over pictures that come in disorder.
        #[test]
        fn ids_are_contiguous_over_what_is_sent(
            start in 0u16..0x8000,
            sources in prop::collection::vec(
                (0u16..0x8000, prop::collection::vec((0u64..4, prop::bool::weighted(0.3)), 1..80)),
                1..5,
            ),
        ) {
            let mut munger = Vp8Munger::new(start);
            let mut next = u64::from(start);
            for (first, pictures) in sources {
                munger.switch(&picture(first, 0, 0));
                // number → Some(sent) or None (left out)
                let mut model: BTreeMap<u64, Option<u64>> = BTreeMap::new();
                let mut end = 0u64;
                for (index, (back, filtered)) in pictures.into_iter().enumerate() {
                    // In disorder by up to three pictures, which makes gaps that fill up later, and repeats.
                    let number = (index as u64).saturating_sub(back);
                    let descriptor = picture((u64::from(first) + number) as u16 & 0x7fff, 0, 0);
                    let filtered = filtered && index > 0;
                    if number >= end {
                        for missing in end..number {
                            model.insert(missing, Some(next));
                            next += 1;
                        }
                        end = number + 1;
                        if filtered {
                            model.insert(number, None);
                        } else {
                            model.insert(number, Some(next));
                            next += 1;
                        }
                    }
                    if filtered {
                        munger.leave_out(&descriptor);
                    } else {
                        let expected = model[&number].map(|sent| (sent & 0x7fff) as u16);
                        prop_assert_eq!(id(munger.rewrite(&descriptor)), expected);
                    }
                }
            }
        }
    }
}
