//! Writes one outgoing RTP packet: header, the extensions that its receiver agreed to, payload. What depends on the
//! moment of leaving (abs-send-time, transport-wide number) is written here and nowhere earlier.

use super::codec::vp8::{MAX_LEN, Vp8Descriptor};
use crate::ids::{PayloadType, Ssrc};
use crate::plan::Extensions;
use crate::rtp::ExtensionWriter;
use crate::rtp::header::{EXTENSION_BIT, FIXED_LEN, Outgoing, PADDING_BIT};

/// More than header, extensions and tag add to a cached body.
pub const OVERHEAD: usize = 160;

/// What moment and path put into a packet.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// abs-send-time, 24 bits.
    pub send_time: u32,
    /// Transport-wide sequence number.
    pub transport_seq: u16,
}

/// A packet to write.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Payload type.
    pub pt: PayloadType,
    /// Marker.
    pub marker: bool,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Source.
    pub ssrc: Ssrc,
    /// MID, while the receiver does not know the source.
    pub mid: Option<&'a [u8]>,
    /// playout-delay, while the receiver does not know the source.
    pub playout_delay: Option<[u8; 3]>,
    /// Dependency descriptor, empty for none.
    pub descriptor: &'a [u8],
    /// abs-capture-time, empty for none.
    pub capture: &'a [u8],
    /// RFC 6464 byte.
    pub audio_level: Option<u8>,
    /// The original sequence number, in a retransmission.
    pub osn: Option<u16>,
    /// The VP8 descriptor: bytes that it has in `payload`, and what stands in it instead.
    pub vp8: Option<(u8, Vp8Descriptor)>,
    /// Payload.
    pub payload: &'a [u8],
    /// Bytes of padding after it (RFC 3550 §5.1); 0 for none.
    pub padding: u8,
}

impl Draft<'_> {
    /// Writes it; the lengths of its header and of all. `None`: the buffer is too small.
    pub fn write(
        &self,
        out: &mut [u8],
        extensions: &Extensions,
        leaving: Leaving,
    ) -> Option<(usize, usize)> {
        let header = Outgoing {
            marker: self.marker,
            pt: self.pt,
            seq: self.seq,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        out.get_mut(..FIXED_LEN)?.copy_from_slice(&header.bytes());
        let mut writer = ExtensionWriter::new(&mut out[FIXED_LEN..]);
        // An element that does not fit is left out, which `OVERHEAD` rules out.
        if let Some(id) = extensions.abs_send_time {
            writer.push(id, &leaving.send_time.to_be_bytes()[1..]);
        } else if let Some(id) = extensions.transport_cc {
            // Never both: a browser that sees a transport-wide number stops estimating by itself (livekit #3890).
            writer.push(id, &leaving.transport_seq.to_be_bytes());
        }
        if let (Some(id), Some(mid)) = (extensions.mid, self.mid) {
            writer.push(id, mid);
        }
        if let (Some(id), Some(delay)) = (extensions.playout_delay, self.playout_delay) {
            writer.push(id, &delay);
        }
        if let (Some(id), Some(level)) = (extensions.audio_level, self.audio_level) {
            writer.push(id, &[level]);
        }
        if let (Some(id), false) = (extensions.abs_capture_time, self.capture.is_empty()) {
            writer.push(id, self.capture);
        }
        if let (Some(id), false) = (extensions.dependency_descriptor, self.descriptor.is_empty()) {
            writer.push(id, self.descriptor);
        }
        let block = writer.finish();
        if block > 0 {
            out[0] |= EXTENSION_BIT;
        }
        let header_len = FIXED_LEN + block;
        let mut at = header_len;
        let mut put = |bytes: &[u8]| -> Option<()> {
            out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            at += bytes.len();
            Some(())
        };
        if let Some(osn) = self.osn {
            put(&osn.to_be_bytes())?;
        }
        match self.vp8 {
            Some((len, descriptor)) => {
                let (_, rest) = self.payload.split_at_checked(usize::from(len))?;
                let mut bytes = [0; MAX_LEN];
                let len = descriptor.write(&mut bytes)?;
                put(&bytes[..len])?;
                put(rest)?;
            }
            None => put(self.payload)?,
        }
        if self.padding > 0 {
            for _ in 1..self.padding {
                put(&[0])?;
            }
            put(&[self.padding])?;
            out[0] |= PADDING_BIT;
        }
        Some((header_len, at))
    }
}
