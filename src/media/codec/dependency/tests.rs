use super::*;
use proptest::prelude::*;

/// Writes descriptors for tests, from the syntax of the specification.
pub(in crate::media) struct Draft {
    bytes: Vec<u8>,
    at: usize,
}

impl Draft {
    pub(in crate::media) fn new() -> Self {
        Self {
            bytes: vec![0; 512],
            at: 0,
        }
    }

    pub(in crate::media) fn bits(&mut self, count: u32, value: u32) -> &mut Self {
        for bit in (0..count).rev() {
            if (value >> bit) & 1 == 1 {
                self.bytes[self.at / 8] |= 0x80 >> (self.at % 8);
            }
            self.at += 1;
        }
        self
    }

    pub(in crate::media) fn head(&mut self, id: u32, number: u32) -> &mut Self {
        self.bits(1, 1).bits(1, 0).bits(6, id).bits(16, number)
    }

    pub(in crate::media) fn done(&self) -> Vec<u8> {
        self.bytes[..self.at.div_ceil(8)].to_vec()
    }
}

/// L1T2 with one chain, ids from 60, 640×360: template 60 is the key frame, 61 a base frame, 62 the upper layer.
fn l1t2(draft: &mut Draft) {
    draft.bits(6, 60).bits(5, 1);
    // Layers: same, next temporal, end.
    draft.bits(2, 0).bits(2, 1).bits(2, 3);
    // Indications of targets 0 and 1: switch switch, switch switch, not present discardable.
    draft.bits(8, 0b1010_1010).bits(4, 0b0001);
    // Differences: none; 2; 1.
    draft.bits(1, 0);
    draft.bits(1, 1).bits(4, 1).bits(1, 0);
    draft.bits(1, 1).bits(4, 0).bits(1, 0);
    // One chain of up to 2 (ns(3)): 1 is "10"; both targets by chain 0 take no bits.
    draft.bits(2, 0b10);
    draft.bits(4, 0).bits(4, 2).bits(4, 1);
    draft.bits(1, 1).bits(16, 639).bits(16, 359);
}

fn key_frame() -> Vec<u8> {
    let mut draft = Draft::new();
    draft.head(60, 500).bits(5, 0b10000);
    l1t2(&mut draft);
    draft.done()
}

#[test]
fn a_key_frame_brings_a_structure() {
    let mut tracker = Tracker::default();
    let frame = tracker.handle(&key_frame()).unwrap();
    assert!(frame.first_packet && !frame.last_packet && frame.has_structure);
    assert_eq!((frame.number, frame.spatial, frame.temporal), (500, 0, 0));
    assert_eq!(frame.active_targets, Some(0b11));
    assert_eq!(frame.resolution, Some((640, 360)));
    assert_eq!(frame.differences.as_slice(), [0u16; 0]);
    let structure = tracker.structure().unwrap();
    let target = |temporal| Target {
        spatial: 0,
        temporal,
        chain: Some(0),
    };
    assert_eq!(structure.targets(), [target(0), target(1)]);
    assert_eq!((structure.chains(), structure.all_targets()), (1, 0b11));
}

#[test]
fn the_frames_after_it_are_read_by_its_templates() {
    let mut tracker = Tracker::default();
    tracker.handle(&key_frame()).unwrap();
    let frame = tracker.handle(&[0xfe, 0x01, 0xf5]).unwrap();
    assert!(frame.first_packet && frame.last_packet && !frame.has_structure);
    assert_eq!((frame.number, frame.temporal), (501, 1));
    assert_eq!(frame.indications.get(0), Indication::NotPresent);
    assert_eq!(frame.indications.get(1), Indication::Discardable);
    assert_eq!(frame.indications.get(7), Indication::NotPresent);
    assert!(frame.is_discardable() && !frame.is_switch());
    assert_eq!(frame.differences.as_slice(), [1]);
    assert_eq!(frame.chains.as_slice(), [1]);
    assert_eq!(frame.active_targets, None);
}

#[test]
fn custom_fields_override_the_template() {
    let mut tracker = Tracker::default();
    tracker.handle(&key_frame()).unwrap();
    let mut draft = Draft::new();
    draft.head(61, 502).bits(5, 0b01111);
    draft.bits(2, 0b01);
    draft.bits(4, 0b1101);
    draft
        .bits(2, 1)
        .bits(4, 3)
        .bits(2, 3)
        .bits(12, 299)
        .bits(2, 0);
    draft.bits(8, 200);
    let frame = tracker.handle(&draft.done()).unwrap();
    assert_eq!(frame.active_targets, Some(0b01));
    assert_eq!(frame.indications.get(0), Indication::Required);
    assert_eq!(frame.indications.get(1), Indication::Discardable);
    assert_eq!(frame.differences.as_slice(), [4, 300]);
    assert_eq!(frame.chains.as_slice(), [200]);
}

#[test]
fn without_a_structure_nothing_can_be_read() {
    let mut tracker = Tracker::default();
    assert_eq!(tracker.handle(&[0xc0, 0, 1]), Err(CodecFault::NoStructure));
}

#[test]
fn an_unknown_template_is_a_fault_and_changes_nothing() {
    let mut tracker = Tracker::default();
    tracker.handle(&key_frame()).unwrap();
    assert_eq!(tracker.handle(&[0x3f, 0, 1]), Err(CodecFault::Malformed));
    let mut draft = Draft::new();
    draft.head(0, 1).bits(5, 0b10000);
    l1t2(&mut draft);
    assert_eq!(tracker.handle(&draft.done()), Err(CodecFault::Malformed));
    assert_eq!(tracker.structure().unwrap().id_offset, 60);
}

#[test]
fn every_truncation_of_a_structure_is_a_fault() {
    let whole = key_frame();
    for len in 0..whole.len() {
        let read = Tracker::default().handle(&whole[..len]);
        assert!(read.is_err(), "{len}");
    }
}

#[test]
fn endless_templates_and_differences_are_faults() {
    let mut draft = Draft::new();
    draft.head(0, 0).bits(5, 0b10000).bits(11, 0);
    draft.at = 8 * 400;
    assert_eq!(
        Tracker::default().handle(&draft.done()),
        Err(CodecFault::Malformed)
    );
    let mut tracker = Tracker::default();
    tracker.handle(&key_frame()).unwrap();
    let mut draft = Draft::new();
    draft.head(61, 1).bits(5, 0b00010);
    for _ in 0..=MAX_DIFFERENCES {
        draft.bits(2, 1).bits(4, 0);
    }
    draft.bits(2, 0);
    assert_eq!(tracker.handle(&draft.done()), Err(CodecFault::Malformed));
}

#[test]
fn a_rewritten_key_frame_has_other_targets_and_nothing_else_changed() {
    let data = key_frame();
    let mut tracker = Tracker::default();
    let frame = tracker.handle(&data).unwrap();
    let mut out = [0xff; 64];
    let len = rewrite(&data, &frame, 7, Some(0b01), &mut out).unwrap();
    let mut other = Tracker::default();
    let read = other.handle(&out[..len]).unwrap();
    assert_eq!((read.number, read.active_targets), (7, Some(0b01)));
    assert_eq!(other.structure(), tracker.structure());
    assert_eq!(
        Frame {
            number: 500,
            active_targets: frame.active_targets,
            layout: frame.layout,
            ..read
        },
        frame
    );
    assert_eq!(
        rewrite(&data, &frame, 7, Some(1), &mut out[..len - 1]),
        None
    );
}

#[test]
fn a_short_descriptor_grows_to_hold_a_mask() {
    let mut tracker = Tracker::default();
    tracker.handle(&key_frame()).unwrap();
    let data = [0xfe, 0x01, 0xf5];
    let frame = tracker.handle(&data).unwrap();
    let mut out = [0xff; 8];
    let len = rewrite(&data, &frame, 501, Some(0b10), &mut out).unwrap();
    assert_eq!(len, 4);
    let read = tracker.handle(&out[..len]).unwrap();
    assert_eq!(read.active_targets, Some(0b10));
    assert_eq!((read.temporal, read.differences), (1, frame.differences));
}

proptest! {
    #[test]
    fn without_a_mask_only_the_number_changes(number: u16, tail in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut tracker = Tracker::default();
        tracker.handle(&key_frame()).unwrap();
        let mut data = vec![0xbd, 1, 2];
        data.extend(tail);
        if let Ok(frame) = tracker.clone().handle(&data) {
            let mut out = [0xff; 64];
            let len = rewrite(&data, &frame, number, None, &mut out).unwrap();
            data[1..3].copy_from_slice(&number.to_be_bytes());
            prop_assert_eq!(&out[..len], &data[..]);
        }
    }

    #[test]
    fn a_mask_is_replaced_in_whatever_can_be_read(mask in 0u32..4, tail in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut tracker = Tracker::default();
        tracker.handle(&key_frame()).unwrap();
        let mut data = vec![0xbd, 1, 2];
        // No structure: a random one is hardly ever valid.
        data.extend(tail.iter().enumerate().map(|(index, byte)| if index == 0 { byte & 0x7f } else { *byte }));
        if let Ok(frame) = tracker.handle(&data) {
            let mut out = [0xff; 64];
            let len = rewrite(&data, &frame, frame.number, Some(mask), &mut out).unwrap();
            let read = tracker.handle(&out[..len]).unwrap();
            prop_assert_eq!(
                Frame { active_targets: frame.active_targets, layout: frame.layout, ..read },
                frame
            );
            prop_assert_eq!(read.active_targets, Some(mask));
        }
    }
}
