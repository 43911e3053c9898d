//! The RTP header (RFC 3550 §5.1): read without copying, written into a caller's buffer.

use super::{RtpFault, Span, u16_at, u32_at};
use crate::ids::{PayloadType, Ssrc};

/// Bytes of the fixed header, which all that this server sends has without contributing sources.
pub const FIXED_LEN: usize = 12;

/// The form of an extension block, from its profile field (RFC 8285 §4.2, §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExtensionForm {
    /// There is no block, or one of an unknown profile.
    #[default]
    None,
    /// `0xBEDE`.
    OneByte,
    /// `0x100` with any application bits.
    TwoByte,
}

/// What the header of one packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The marker: last packet of a video frame, first packet of a talk spurt.
    pub marker: bool,
    /// The payload type.
    pub pt: PayloadType,
    /// The sequence number.
    pub seq: u16,
    /// The timestamp, in ticks of the payload's clock.
    pub timestamp: u32,
    /// The source.
    pub ssrc: Ssrc,
    /// The P bit: the last byte of the decrypted packet counts padding, see [`Header::payload_end`].
    pub has_padding: bool,
    /// The X bit.
    pub has_extension: bool,
    /// How the elements of the extension block are written.
    pub extension_form: ExtensionForm,
    /// The elements of the extension block, without its four bytes of profile and length.
    pub extensions: Span,
    /// Where the payload begins.
    pub payload_offset: usize,
}

impl Header {
    /// Reads the header of an RTP packet, encrypted or not. A payload of no bytes is no fault.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpFault> {
        let fixed = packet
            .first_chunk::<FIXED_LEN>()
            .ok_or(RtpFault::Truncated)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpFault::Version);
        }
        let has_extension = fixed[0] & 0x10 != 0;
        let mut header = Self {
            marker: fixed[1] & 0x80 != 0,
            pt: PayloadType(fixed[1] & 0x7f),
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: Ssrc(u32::from_be_bytes([
                fixed[8], fixed[9], fixed[10], fixed[11],
            ])),
            has_padding: fixed[0] & 0x20 != 0,
            has_extension,
            extension_form: ExtensionForm::None,
            extensions: Span::default(),
            payload_offset: FIXED_LEN + 4 * usize::from(fixed[0] & 0x0f),
        };
        if has_extension {
            let at = header.payload_offset;
            let profile = u16_at(packet, at).ok_or(RtpFault::Truncated)?;
            let len = 4 * usize::from(u16_at(packet, at + 2).ok_or(RtpFault::Truncated)?);
            header.payload_offset = at + 4 + len;
            header.extension_form = match profile {
                0xbede => ExtensionForm::OneByte,
                0x1000..=0x100f => ExtensionForm::TwoByte,
                _ => ExtensionForm::None,
            };
            header.extensions = Span {
                offset: (at + 4) as u16,
                len: u16::try_from(len).map_err(|_| RtpFault::Truncated)?,
            };
        }
        if header.payload_offset > packet.len() {
            return Err(RtpFault::Truncated);
        }
        Ok(header)
    }

    /// Where the payload of the decrypted packet ends: before its padding. Payload and padding may both be empty.
    pub fn payload_end(&self, packet: &[u8]) -> Result<usize, RtpFault> {
        if !self.has_padding {
            return Ok(packet.len());
        }
        let padding = usize::from(*packet.last().ok_or(RtpFault::Truncated)?);
        match packet.len().checked_sub(padding) {
            Some(end) if padding > 0 && end >= self.payload_offset => Ok(end),
            _ => Err(RtpFault::Inconsistent),
        }
    }

    /// The payload of the decrypted packet, without padding.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], RtpFault> {
        let end = self.payload_end(packet)?;
        packet
            .get(self.payload_offset..end)
            .ok_or(RtpFault::Truncated)
    }
}

/// The fields of a header that this server writes: no contributing sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The marker.
    pub marker: bool,
    /// The payload type, 0–127.
    pub pt: PayloadType,
    /// The sequence number.
    pub seq: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The source.
    pub ssrc: Ssrc,
}

impl Outgoing {
    /// The fixed header. Set [`EXTENSION_BIT`] in its first byte when a block follows (an
    /// [`super::ExtensionWriter`] writes it), [`PADDING_BIT`] when padding does.
    pub fn bytes(&self) -> [u8; FIXED_LEN] {
        let mut out = [0; FIXED_LEN];
        out[0] = 0x80;
        out[1] = (u8::from(self.marker) << 7) | (self.pt.0 & 0x7f);
        out[2..4].copy_from_slice(&self.seq.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..].copy_from_slice(&self.ssrc.0.to_be_bytes());
        out
    }
}

/// X in the first byte of a header.
pub const EXTENSION_BIT: u8 = 0x10;
/// P in the first byte of a header.
pub const PADDING_BIT: u8 = 0x20;

/// RTCP on the same port as RTP: payload types 64–95 with the marker (RFC 5761 §4). Holds for encrypted packets too.
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.len() >= 8 && packet[0] >> 6 == 2 && (192..=223).contains(&packet[1])
}

/// The source of an RTCP packet, in the clear even when the rest is encrypted.
pub fn rtcp_sender(packet: &[u8]) -> Option<Ssrc> {
    u32_at(packet, 4).map(Ssrc)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marker, PT 96, two CSRCs, a one-byte block of one word, three bytes of payload, two of padding.
    const PACKET: [u8; 33] = [
        0xb2, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef, 1, 1, 1, 1, 2, 2, 2, 2, 0xbe,
        0xde, 0, 1, 0x10, b'0', 0, 0, 7, 8, 9, 0, 2,
    ];

    #[test]
    fn a_header_with_everything_is_read() {
        let header = Header::parse(&PACKET).unwrap();
        assert!(header.marker && header.has_extension && header.has_padding);
        assert_eq!(header.pt, PayloadType(96));
        assert_eq!(header.seq, 0x1234);
        assert_eq!(header.timestamp, 9);
        assert_eq!(header.ssrc, Ssrc(0xdead_beef));
        assert_eq!(header.extension_form, ExtensionForm::OneByte);
        assert_eq!(header.extensions.of(&PACKET), [0x10, b'0', 0, 0]);
        assert_eq!(header.payload(&PACKET), Ok(&[7, 8, 9][..]));
    }

    #[test]
    fn every_truncation_of_a_header_is_a_fault() {
        for len in 0..28 {
            assert_eq!(
                Header::parse(&PACKET[..len]),
                Err(RtpFault::Truncated),
                "{len}"
            );
        }
        assert!(Header::parse(&PACKET[..28]).is_ok());
    }

    #[test]
    fn another_version_is_a_fault() {
        let mut packet = PACKET;
        packet[0] = 0x72;
        assert_eq!(Header::parse(&packet), Err(RtpFault::Version));
    }

    #[test]
    fn padding_of_none_or_more_than_the_payload_is_a_fault() {
        let header = Header::parse(&PACKET).unwrap();
        for (padding, end) in [
            (0, Err(RtpFault::Inconsistent)),
            (1, Ok(32)),
            (5, Ok(28)),
            (6, Err(RtpFault::Inconsistent)),
            (255, Err(RtpFault::Inconsistent)),
        ] {
            let mut packet = PACKET;
            packet[32] = padding;
            assert_eq!(header.payload_end(&packet), end, "{padding}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let out = Outgoing {
            marker: true,
            pt: PayloadType(111),
            seq: 65_535,
            timestamp: u32::MAX,
            ssrc: Ssrc(77),
        };
        let header = Header::parse(&out.bytes()).unwrap();
        assert_eq!(
            (
                header.marker,
                header.pt,
                header.seq,
                header.timestamp,
                header.ssrc
            ),
            (out.marker, out.pt, out.seq, out.timestamp, out.ssrc)
        );
        assert_eq!(header.payload_offset, FIXED_LEN);
        assert!(!header.has_padding && !header.has_extension);
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_second_byte() {
        assert!(is_rtcp(&[0x80, 200, 0, 1, 0, 0, 0, 7]));
        assert!(!is_rtcp(&[0x80, 0xe0, 0, 1, 0, 0, 0, 7]));
        assert!(!is_rtcp(&[0x80, 200, 0, 1]));
        assert_eq!(rtcp_sender(&[0x80, 200, 0, 1, 0, 0, 0, 7]), Some(Ssrc(7)));
    }
}
