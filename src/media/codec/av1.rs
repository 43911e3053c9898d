//! AV1 payloads (RTP Payload Format For AV1 1.0, §4): key frames and layers where there is no dependency descriptor.

/// What a payload tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Av1Facts {
    /// Begins a coded video sequence: the N bit, or a sequence header.
    pub key_frame: bool,
    /// The first element begins an OBU (Z is not set).
    pub starts_obu: bool,
    /// Temporal layer of the first OBU that has one.
    pub temporal: u8,
    /// Spatial layer of the first OBU that has one.
    pub spatial: u8,
}

const SEQUENCE_HEADER: u8 = 1;

/// Reads the aggregation header and the heads of the OBUs.
pub fn facts(payload: &[u8]) -> Av1Facts {
    let Some((&head, mut rest)) = payload.split_first() else {
        return Av1Facts::default();
    };
    let starts_obu = head & 0x80 == 0;
    let count = usize::from((head >> 4) & 3);
    let mut facts = Av1Facts {
        starts_obu,
        key_frame: starts_obu && head & 0x08 != 0,
        ..Av1Facts::default()
    };
    let mut index = 0_usize;
    let mut layered = false;
    while !rest.is_empty() {
        index += 1;
        // With W set, the last element has no length.
        let element = if index == count {
            std::mem::take(&mut rest)
        } else {
            let Some((len, after)) = leb128(rest) else {
                break;
            };
            let Some((element, after)) = after.split_at_checked(len) else {
                break;
            };
            rest = after;
            element
        };
        if index == 1 && !starts_obu {
            continue;
        }
        let Some(&obu) = element.first() else {
            continue;
        };
        facts.key_frame |= (obu >> 3) & 0x0f == SEQUENCE_HEADER;
        if obu & 0x04 != 0
            && !layered
            && let Some(extension) = element.get(1)
        {
            facts.temporal = extension >> 5;
            facts.spatial = (extension >> 3) & 3;
            layered = true;
        }
    }
    facts
}

/// A number of seven bits a byte, lowest first, that is no longer than a datagram, and what follows it.
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in data.iter().enumerate().take(3) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &data[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_header_or_the_n_bit_is_a_key_frame() {
        // W = 2: a sequence header of 2 bytes, a frame of the rest.
        assert!(facts(&[0x20, 2, 0x08, 0, 0x30, 1, 2]).key_frame);
        assert!(facts(&[0x18, 0x30, 1, 2]).key_frame);
        assert!(!facts(&[0x10, 0x30, 1, 2]).key_frame);
        // W = 0: every element has a length.
        assert!(facts(&[0x00, 1, 0x30, 2, 0x08, 0]).key_frame);
    }

    #[test]
    fn the_rest_of_an_obu_is_not_read_as_one() {
        // Z: what looks like a sequence header is in the middle of something.
        let facts = facts(&[0x90, 0x08, 0]);
        assert!(!facts.key_frame && !facts.starts_obu);
    }

    #[test]
    fn layers_are_read_from_the_obu_extension() {
        let facts = facts(&[0x10, 0x34, 0x50, 0]);
        assert_eq!((facts.temporal, facts.spatial), (2, 2));
    }

    #[test]
    fn a_length_beyond_the_payload_ends_it() {
        assert!(!facts(&[0x20, 9, 0x08, 0]).key_frame);
        assert!(!facts(&[0x00, 0x80, 0x80, 0x80, 0x08]).key_frame);
    }

    #[test]
    fn elements_may_be_many_and_empty() {
        // A sequence header after more than a byte can count, and one that an element's length hides.
        for (tail, is_key) in [([1, 0x08], true), ([2, 0x08], false)] {
            let mut payload = vec![0; 300];
            payload.extend(tail);
            assert_eq!(facts(&payload).key_frame, is_key);
        }
    }
}
