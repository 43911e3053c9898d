//! H.264 payloads (RFC 6184): where frames and key frames begin.

/// What a payload tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct H264Facts {
    /// Begins with, or holds, an IDR slice's start or a sequence parameter set.
    pub key_frame: bool,
    /// Holds the first unit of a frame: a delimiter, a parameter set, or a slice of the first macroblock.
    pub frame_start: bool,
    /// `nal_ref_idc` of 0: no other frame depends on it.
    pub discardable: bool,
}

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Reads a payload: a single unit, a STAP-A or an FU-A (RFC 6184 §5.6–5.8). Others tell nothing.
pub fn facts(payload: &[u8]) -> H264Facts {
    let Some((&indicator, rest)) = payload.split_first() else {
        return H264Facts::default();
    };
    let mut facts = H264Facts {
        discardable: indicator & 0x60 == 0,
        ..H264Facts::default()
    };
    match indicator & 0x1f {
        STAP_A => {
            let mut rest = rest;
            while let Some((len, after)) = rest.split_first_chunk::<2>() {
                let len = usize::from(u16::from_be_bytes(*len));
                let Some((unit, after)) = after.split_at_checked(len) else {
                    break;
                };
                if let Some((&head, body)) = unit.split_first() {
                    unit_facts(&mut facts, head & 0x1f, body);
                }
                rest = after;
            }
        }
        FU_A => {
            // S: the first fragment.
            if let Some((&head, body)) = rest.split_first()
                && head & 0x80 != 0
            {
                unit_facts(&mut facts, head & 0x1f, body);
            }
        }
        kind @ 1..=23 => unit_facts(&mut facts, kind, rest),
        _ => {}
    }
    facts
}

fn unit_facts(facts: &mut H264Facts, kind: u8, body: &[u8]) {
    facts.key_frame |= kind == IDR || kind == SPS;
    facts.frame_start |= match kind {
        // first_mb_in_slice is 0, written as one set bit.
        SLICE | IDR => body.first().is_some_and(|byte| byte & 0x80 != 0),
        _ => matches!(kind, SPS | PPS | DELIMITER),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_found_in_every_packing() {
        let cases: [(&[u8], bool, bool); 12] = [
            (&[0x65, 0x88], true, true),
            (&[0x65, 0x40], true, false),
            (&[0x67, 0x42], true, true),
            (&[0x68, 0xce], false, true),
            (&[0x41, 0x9a], false, true),
            (&[0x41, 0x40], false, false),
            (&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce], true, true),
            (&[0x78, 0, 2, 0x06, 0x05, 0, 2, 0x65, 0x88], true, true),
            (&[0x78, 0, 9, 0x67, 0x42], false, false),
            (&[0x7c, 0x85, 0x88], true, true),
            (&[0x7c, 0x05, 0x88], false, false),
            (&[0x7c, 0x45, 0x88], false, false),
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
    fn a_unit_that_nothing_refers_to_is_discardable() {
        assert!(facts(&[0x01, 0x9a]).discardable);
        assert!(!facts(&[0x41, 0x9a]).discardable);
    }
}
