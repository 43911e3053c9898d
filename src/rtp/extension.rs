//! RTP header extensions (RFC 8285): the elements of a block, the known ones in one pass, and a writer.

use super::header::{ExtensionForm, Header};
use super::{Span, u16_at, u24_at};
use crate::plan::Extensions;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Its id on this transport: 1–14, or 1–255 in the two-byte form.
    pub id: u8,
    /// Its data.
    pub data: Span,
}

/// The elements of one block, in order; ends at the first one that does not fit.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    packet: &'a [u8],
    at: usize,
    end: usize,
    form: ExtensionForm,
}

/// The elements of a packet whose header this is.
pub fn elements<'a>(packet: &'a [u8], header: &Header) -> Elements<'a> {
    let at = usize::from(header.extensions.offset);
    let end = at + usize::from(header.extensions.len);
    Elements {
        packet,
        at,
        end: end.min(packet.len()),
        form: header.extension_form,
    }
}

impl Iterator for Elements<'_> {
    type Item = Element;

    fn next(&mut self) -> Option<Element> {
        while self.at < self.end {
            let first = self.packet[self.at];
            let (id, start, len) = match self.form {
                ExtensionForm::None => return None,
                // RFC 8285 §4.2: 0 is padding, id 0 with a length and id 15 end the block.
                ExtensionForm::OneByte => {
                    if first == 0 {
                        self.at += 1;
                        continue;
                    }
                    if first >> 4 == 0 || first >> 4 == 15 {
                        self.at = self.end;
                        return None;
                    }
                    (first >> 4, self.at + 1, usize::from(first & 0x0f) + 1)
                }
                ExtensionForm::TwoByte => {
                    if first == 0 {
                        self.at += 1;
                        continue;
                    }
                    if self.at + 1 >= self.end {
                        self.at = self.end;
                        return None;
                    }
                    (first, self.at + 2, usize::from(self.packet[self.at + 1]))
                }
            };
            if start + len > self.end {
                self.at = self.end;
                return None;
            }
            self.at = start + len;
            return Some(Element {
                id,
                data: Span {
                    offset: start as u16,
                    len: len as u16,
                },
            });
        }
        None
    }
}

/// Loudness of the audio in one packet (RFC 6464).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// In −dBov: 0 the loudest, 127 silence.
    pub level: u8,
    /// The sender thinks that it is speech.
    pub voice: bool,
}

/// The known extensions of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// The media section (RFC 8843 §15).
    pub mid: Option<Span>,
    /// The simulcast layer (RFC 8852).
    pub rid: Option<Span>,
    /// The simulcast layer that a retransmission belongs to.
    pub repaired_rid: Option<Span>,
    /// Loudness.
    pub audio_level: Option<AudioLevel>,
    /// Transport-wide sequence number.
    pub transport_cc: Option<u16>,
    /// Send time in units of 2^-18 s, 24 bits.
    pub abs_send_time: Option<u32>,
    /// AV1 dependency descriptor.
    pub dependency_descriptor: Option<Span>,
    /// Capture time: NTP, 8 bytes, or 16 with a clock offset.
    pub abs_capture_time: Option<Span>,
    /// Playout delay limits, 3 bytes.
    pub playout_delay: Option<Span>,
}

impl Found {
    /// Picks the known elements of a packet. An element of the wrong size is as good as absent.
    pub fn extract(packet: &[u8], header: &Header, ids: &Extensions) -> Self {
        let mut found = Self::default();
        for Element { id, data } in elements(packet, header) {
            let id = Some(id);
            let at = usize::from(data.offset);
            if id == ids.transport_cc {
                if data.len >= 2 {
                    found.transport_cc = u16_at(packet, at);
                }
            } else if id == ids.abs_send_time {
                if data.len >= 3 {
                    found.abs_send_time = u24_at(packet, at);
                }
            } else if id == ids.audio_level {
                if data.len >= 1 {
                    found.audio_level = packet.get(at).map(|byte| AudioLevel {
                        level: byte & 0x7f,
                        voice: byte & 0x80 != 0,
                    });
                }
            } else if id == ids.dependency_descriptor {
                found.dependency_descriptor = Some(data);
            } else if id == ids.mid {
                found.mid = Some(data);
            } else if id == ids.rid {
                found.rid = Some(data);
            } else if id == ids.repaired_rid {
                found.repaired_rid = Some(data);
            } else if id == ids.abs_capture_time {
                if data.len == 8 || data.len == 16 {
                    found.abs_capture_time = Some(data);
                }
            } else if id == ids.playout_delay && data.len == 3 {
                found.playout_delay = Some(data);
            }
        }
        found
    }
}

/// Writes an extension block into the bytes that follow a fixed header. In the one-byte form until an element needs
/// the two-byte form, which then holds for the whole block.
#[derive(Debug)]
pub struct ExtensionWriter<'a> {
    out: &'a mut [u8],
    len: usize,
    two_byte: bool,
}

impl<'a> ExtensionWriter<'a> {
    /// Begins a block at the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            len: 4,
            two_byte: false,
        }
    }

    /// Appends an element. `false`: it does not fit or the id is 0, and nothing is changed.
    pub fn push(&mut self, id: u8, data: &[u8]) -> bool {
        if id == 0 || data.len() > 255 {
            return false;
        }
        let needs_two = id > 14 || data.is_empty() || data.len() > 16;
        if needs_two && !self.two_byte && !self.widen(2 + data.len()) {
            return false;
        }
        let head = 1 + usize::from(self.two_byte);
        let end = self.len + head + data.len();
        // Whatever padding is due must fit too.
        if end.next_multiple_of(4) > self.out.len() {
            return false;
        }
        if self.two_byte {
            self.out[self.len] = id;
            self.out[self.len + 1] = data.len() as u8;
        } else {
            self.out[self.len] = (id << 4) | (data.len() as u8 - 1);
        }
        self.out[self.len + head..end].copy_from_slice(data);
        self.len = end;
        true
    }

    /// Rewrites what is there in the two-byte form, if it and `more` bytes have room then.
    fn widen(&mut self, more: usize) -> bool {
        let mut count = 0;
        let mut at = 4;
        while at < self.len {
            at += 2 + usize::from(self.out[at] & 0x0f);
            count += 1;
        }
        if (self.len + count + more).next_multiple_of(4) > self.out.len() {
            return false;
        }
        at = 4;
        while at < self.len {
            let (id, len) = (self.out[at] >> 4, (self.out[at] & 0x0f) + 1);
            self.out.copy_within(at + 1..self.len, at + 2);
            self.out[at] = id;
            self.out[at + 1] = len;
            self.len += 1;
            at += 2 + usize::from(len);
        }
        self.two_byte = true;
        true
    }

    /// Pads and closes the block. Its length in bytes, a multiple of four; 0 when no element was written, and then no
    /// X bit must be set.
    pub fn finish(self) -> usize {
        if self.len == 4 {
            return 0;
        }
        let end = self.len.next_multiple_of(4);
        self.out[self.len..end].fill(0);
        let profile: u16 = if self.two_byte { 0x1000 } else { 0xbede };
        self.out[..2].copy_from_slice(&profile.to_be_bytes());
        self.out[2..4].copy_from_slice(&((end / 4 - 1) as u16).to_be_bytes());
        end
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::{EXTENSION_BIT, Outgoing};
    use super::*;
    use crate::ids::{PayloadType, Ssrc};
    use proptest::prelude::*;

    fn packet(block: &[u8]) -> Vec<u8> {
        let mut packet = Outgoing {
            marker: false,
            pt: PayloadType(96),
            seq: 1,
            timestamp: 2,
            ssrc: Ssrc(3),
        }
        .bytes()
        .to_vec();
        packet[0] |= EXTENSION_BIT;
        packet.extend_from_slice(block);
        packet
    }

    fn read(block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let packet = packet(block);
        let header = Header::parse(&packet).unwrap();
        elements(&packet, &header)
            .map(|element| (element.id, element.data.of(&packet).to_vec()))
            .collect()
    }

    #[test]
    fn padding_between_one_byte_elements_is_skipped() {
        // The example of RFC 8285 §4.2 with padding.
        let block = [
            0xbe, 0xde, 0, 3, 0x10, 0xaa, 0x21, 0xbb, 0xbb, 0, 0, 0x33, 0xcc, 0xcc, 0xcc, 0xcc,
        ];
        assert_eq!(
            read(&block),
            [(1, vec![0xaa]), (2, vec![0xbb; 2]), (3, vec![0xcc; 4])]
        );
    }

    #[test]
    fn id_15_ends_a_one_byte_block() {
        assert_eq!(
            read(&[0xbe, 0xde, 0, 2, 0x10, 1, 0xf0, 2, 0x30, 3, 0, 0]),
            [(1, vec![1])]
        );
    }

    #[test]
    fn two_byte_elements_may_be_empty() {
        let block = [
            0x10, 0x00, 0, 3, 1, 0, 2, 1, 0xbb, 0, 3, 4, 0xcc, 0xcc, 0xcc, 0xcc,
        ];
        assert_eq!(
            read(&block),
            [(1, vec![]), (2, vec![0xbb]), (3, vec![0xcc; 4])]
        );
    }

    #[test]
    fn an_element_longer_than_its_block_is_not_read() {
        assert_eq!(read(&[0xbe, 0xde, 0, 1, 0x17, 1, 2, 3]), []);
        assert_eq!(read(&[0x10, 0, 0, 1, 1, 3, 2, 3]), []);
        assert_eq!(read(&[0x10, 0, 0, 1, 1, 1, 2, 3]), [(1, vec![2])]);
    }

    #[test]
    fn an_unknown_profile_has_no_elements() {
        assert_eq!(read(&[0x12, 0x34, 0, 1, 0x10, 1, 2, 3]), []);
    }

    #[test]
    fn known_elements_are_found_by_the_ids_of_the_transport() {
        let ids = Extensions {
            mid: Some(1),
            rid: Some(2),
            audio_level: Some(3),
            transport_cc: Some(4),
            abs_send_time: Some(5),
            ..Extensions::default()
        };
        let mut out = [0; 64];
        let mut writer = ExtensionWriter::new(&mut out);
        assert!(writer.push(1, b"0"));
        assert!(writer.push(2, b"q"));
        assert!(writer.push(3, &[0x91]));
        assert!(writer.push(4, &[0x12, 0x34]));
        assert!(writer.push(5, &[1, 2, 3]));
        assert!(writer.push(6, &[9]));
        let len = writer.finish();
        let packet = packet(&out[..len]);
        let header = Header::parse(&packet).unwrap();
        let found = Found::extract(&packet, &header, &ids);
        assert_eq!(found.mid.unwrap().of(&packet), b"0");
        assert_eq!(found.rid.unwrap().of(&packet), b"q");
        assert_eq!(
            found.audio_level,
            Some(AudioLevel {
                level: 17,
                voice: true
            })
        );
        assert_eq!(found.transport_cc, Some(0x1234));
        assert_eq!(found.abs_send_time, Some(0x01_0203));
        assert_eq!(found.dependency_descriptor, None);
    }

    #[test]
    fn a_full_buffer_refuses_an_element_and_stays_valid() {
        let mut out = [0; 8];
        let mut writer = ExtensionWriter::new(&mut out);
        assert!(writer.push(1, &[1, 2]));
        assert!(!writer.push(2, &[3]));
        assert!(!writer.push(20, &[]));
        assert_eq!(writer.finish(), 8);
        assert_eq!(read(&out), [(1, vec![1, 2])]);
    }

    #[test]
    fn no_element_is_no_block() {
        assert_eq!(ExtensionWriter::new(&mut [0; 16]).finish(), 0);
        assert_eq!(ExtensionWriter::new(&mut []).finish(), 0);
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_read(
            pushed in prop::collection::vec((1u8..=255, prop::collection::vec(any::<u8>(), 0..40)), 1..12),
            room in 0usize..400,
        ) {
            let mut out = vec![0xff; room];
            let mut kept = Vec::new();
            let mut writer = ExtensionWriter::new(&mut out);
            for (id, data) in pushed {
                // Id 15 of the one-byte form is never written: it is two-byte then.
                if writer.push(id, &data) {
                    kept.push((id, data));
                }
            }
            let len = writer.finish();
            prop_assert_eq!(len % 4, 0);
            if kept.is_empty() {
                prop_assert_eq!(len, 0);
            } else {
                prop_assert_eq!(read(&out[..len]), kept);
            }
        }
    }
}
