//! RTP and RTCP on the wire: headers, header extensions, sequence numbers, control packets.
//!
//! Everything here reads a borrowed datagram or writes into a borrowed buffer; nothing allocates, and no input makes
//! it panic. It never decrypts: an RTP header is in the clear, what comes after it is looked at once it is decrypted.
//! Followed: RFC 3550, RFC 3611, RFC 4585, RFC 5104, RFC 5506, RFC 8285.

pub mod extension;
pub mod header;
pub mod rtcp;
pub mod sequence;
pub mod transport_cc;

pub use extension::{AudioLevel, ExtensionWriter, Found};
pub use header::Header;
pub use sequence::{SequenceUnwrapper, TimestampUnwrapper};

/// What is wrong with a packet of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtpFault {
    /// A field contradicts another one.
    #[error("inconsistent fields")]
    Inconsistent,
    /// It ends before what its fields announce.
    #[error("truncated packet")]
    Truncated,
    /// Not version 2.
    #[error("unknown version")]
    Version,
}

/// A stretch of a packet: what a parser found, without borrowing the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Bytes before it.
    pub offset: u16,
    /// Its bytes.
    pub len: u16,
}

impl Span {
    /// The bytes of it in the packet that it was found in; empty in a packet that is too short for it.
    pub fn of(self, packet: &[u8]) -> &[u8] {
        let start = usize::from(self.offset);
        packet
            .get(start..start + usize::from(self.len))
            .unwrap_or(&[])
    }
}

/// The big-endian number at `at`, when it is there.
pub(crate) fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The 24-bit big-endian number at `at`, when it is there.
pub(crate) fn u24_at(data: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *data.get(at..)?.first_chunk::<3>()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The big-endian number at `at`, when it is there.
pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The big-endian number at `at`, when it is there.
pub(crate) fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}
