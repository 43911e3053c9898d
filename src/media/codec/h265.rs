//! H.265 payloads (RFC 7798): where frames and key frames begin.

/// What a payload tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct H265Facts {
    /// Holds the start of a random access picture, or a video or sequence parameter set.
    pub key_frame: bool,
    /// Holds the first unit of a frame: a delimiter, a parameter set, or a first slice.
    pub frame_start: bool,
    /// Temporal layer.
    pub temporal: u8,
    /// A temporal sub-layer access picture (TSA, STSA).
    pub switch_up: bool,
}

/// BLA, IDR and CRA pictures (H.265 table 7-1).
const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=21;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const DELIMITER: u8 = 35;
const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

/// Reads a payload: a single unit, an aggregation packet or a fragment (RFC 7798 §4.4), without DONL fields.
pub fn facts(payload: &[u8]) -> H265Facts {
    let Some((&[first, second], rest)) = payload.split_first_chunk::<2>() else {
        return H265Facts::default();
    };
    let mut facts = H265Facts {
        temporal: (second & 0x07).saturating_sub(1),
        ..H265Facts::default()
    };
    match (first >> 1) & 0x3f {
        AGGREGATION => {
            let mut rest = rest;
            while let Some((len, after)) = rest.split_first_chunk::<2>() {
                let len = usize::from(u16::from_be_bytes(*len));
                let Some((unit, after)) = after.split_at_checked(len) else {
                    break;
                };
                if let Some((head, body)) = unit.split_first_chunk::<2>() {
                    unit_facts(&mut facts, (head[0] >> 1) & 0x3f, body);
                }
                rest = after;
            }
        }
        FRAGMENT => {
            if let Some((&head, body)) = rest.split_first()
                && head & 0x80 != 0
            {
                unit_facts(&mut facts, head & 0x3f, body);
            }
        }
        kind @ 0..=47 => unit_facts(&mut facts, kind, rest),
        _ => {}
    }
    facts
}

fn unit_facts(facts: &mut H265Facts, kind: u8, body: &[u8]) {
    facts.key_frame |= RANDOM_ACCESS.contains(&kind) || kind == VPS || kind == SPS;
    facts.switch_up |= (2..=5).contains(&kind);
    facts.frame_start |= match kind {
        // first_slice_segment_in_pic_flag.
        0..=31 => body.first().is_some_and(|byte| byte & 0x80 != 0),
        _ => matches!(kind, VPS | SPS | PPS | DELIMITER),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_found_in_every_packing() {
        let cases: [(&[u8], bool, bool); 11] = [
            (&[VPS << 1, 1, 0], true, true),
            (&[SPS << 1, 1, 0], true, true),
            (&[PPS << 1, 1, 0], false, true),
            (&[19 << 1, 1, 0x80], true, true),
            (&[21 << 1, 1, 0x00], true, false),
            (&[1 << 1, 1, 0x80], false, true),
            (&[AGGREGATION << 1, 1, 0, 3, VPS << 1, 1, 0], true, true),
            (&[AGGREGATION << 1, 1, 0, 4, VPS << 1, 1, 0], false, false),
            (&[FRAGMENT << 1, 1, 0x93, 0x80], true, true),
            (&[FRAGMENT << 1, 1, 19, 0x80], false, false),
            (&[50 << 1, 1, 0x80], false, false),
        ];
        for (payload, key_frame, frame_start) in cases {
            let facts = facts(payload);
            assert_eq!(
                (facts.key_frame, facts.frame_start),
                (key_frame, frame_start),
                "{payload:x?}"
            );
        }
    }

    #[test]
    fn the_temporal_layer_is_in_the_second_byte() {
        // TSA_N in temporal layer 2.
        let facts = facts(&[2 << 1, 3, 0x80]);
        assert_eq!((facts.temporal, facts.switch_up), (2, true));
    }
}
