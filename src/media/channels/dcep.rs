//! The Data Channel Establishment Protocol (RFC 8832 §5): who opens a channel, and how it delivers.

use crate::plan::Channel;
use sctp_proto::ReliabilityType;

/// DATA_CHANNEL_ACK.
pub(super) const ACK: [u8; 1] = [2];
const OPEN: u8 = 3;
/// Fixed part of DATA_CHANNEL_OPEN, bytes.
const OPEN_HEADER: usize = 12;
/// Set in the channel type: unordered.
const UNORDERED: u8 = 0x80;

#[derive(Debug, PartialEq)]
pub(super) enum Message<'a> {
    Ack,
    Open(Open<'a>),
}

/// DATA_CHANNEL_OPEN.
#[derive(Debug, PartialEq)]
pub(super) struct Open<'a> {
    pub(super) label: &'a [u8],
    pub(super) unordered: bool,
    pub(super) reliability: ReliabilityType,
    /// Retransmissions, or milliseconds.
    pub(super) limit: u32,
}

impl Open<'static> {
    pub(super) fn of(channel: Channel) -> Self {
        let reliable = channel == Channel::Reliable;
        Self {
            label: channel.label().as_bytes(),
            unordered: !reliable,
            reliability: if reliable {
                ReliabilityType::Reliable
            } else {
                ReliabilityType::Rexmit
            },
            limit: 0,
        }
    }
}

impl Open<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let kind = self.reliability as u8 | if self.unordered { UNORDERED } else { 0 };
        let mut out = vec![OPEN, kind, 0, 0];
        out.extend_from_slice(&self.limit.to_be_bytes());
        out.extend_from_slice(&(self.label.len() as u16).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(self.label);
        out
    }
}

/// `None`: not DCEP, or cut short.
pub(super) fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    match *bytes.first()? {
        2 => Some(Message::Ack),
        OPEN => {
            let header = bytes.get(..OPEN_HEADER)?;
            let length = usize::from(u16::from_be_bytes([header[8], header[9]]));
            let reliability = match header[1] & !UNORDERED {
                0 => ReliabilityType::Reliable,
                1 => ReliabilityType::Rexmit,
                2 => ReliabilityType::Timed,
                _ => return None,
            };
            Some(Message::Open(Open {
                label: bytes.get(OPEN_HEADER..OPEN_HEADER + length)?,
                unordered: header[1] & UNORDERED != 0,
                reliability,
                limit: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_is_written_as_browsers_write_it() {
        let open = Open::of(Channel::Lossy);
        let bytes = open.encode();
        assert_eq!(bytes, b"\x03\x81\0\0\0\0\0\0\0\x06\0\0_lossy");
        assert_eq!(parse(&bytes), Some(Message::Open(open)));
        assert_eq!(Open::of(Channel::Reliable).encode()[1], 0);
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let bytes = Open::of(Channel::DataTrack).encode();
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(parse(&[9]), None);
    }
}
