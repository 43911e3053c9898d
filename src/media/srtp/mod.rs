//! SRTP and SRTCP, in place (RFC 3711; AES-GCM: RFC 7714). [`Sealer`] protects what leaves, [`Opener`] checks and
//! decrypts what comes in.
//!
//! Driven by [`super::transport::Transport`] with keys from DTLS (RFC 5764). It never allocates per packet. The sender
//! gives each packet's 48-bit index itself; a packet is sealed once, a resend is RTX: sealing other bytes under the
//! same SSRC and index would break AES-GCM.

mod cipher;
mod window;

#[cfg(test)]
mod tests;

use cipher::Cipher;
use std::fmt;
use window::Streams;

/// Bytes that [`Sealer::seal_rtp`] may add: the tag of AES-GCM.
pub const RTP_OVERHEAD: usize = 16;
/// Bytes that [`Sealer::seal_rtcp`] may add: tag and index.
pub const RTCP_OVERHEAD: usize = RTP_OVERHEAD + 4;

/// The fixed RTP header, bytes.
const RTP_HEADER: usize = 12;
/// The part of an RTCP packet that stays readable: first header word and sender SSRC, bytes.
const RTCP_HEADER: usize = 8;
/// E flag and index behind an SRTCP packet, bytes.
const RTCP_INDEX: usize = 4;
/// The E flag: encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// Packets of one SSRC that may overtake each other: a second of 4K video.
const RTP_WINDOW_WORDS: usize = 16;
/// The same for RTCP.
const RTCP_WINDOW_WORDS: usize = 4;
/// SSRCs remembered per transport; beyond, the one idle for longest is forgotten.
const MAX_STREAMS: usize = 512;

/// How a transport's media is protected (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `AEAD_AES_128_GCM`.
    Gcm128,
    /// `AEAD_AES_256_GCM`.
    Gcm256,
    /// `AES128_CM_HMAC_SHA1_80`.
    Cm128,
}

impl Profile {
    /// Master key and salt lengths, bytes.
    fn lengths(self) -> (usize, usize) {
        match self {
            Self::Gcm128 => (16, 12),
            Self::Gcm256 => (32, 12),
            Self::Cm128 => (16, 14),
        }
    }

    /// Bytes of the authentication tag.
    fn tag(self) -> usize {
        match self {
            Self::Gcm128 | Self::Gcm256 => 16,
            Self::Cm128 => 10,
        }
    }
}

/// Why a packet was not opened. Peer faults: counted, dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpFault {
    /// The tag does not match: other keys, or changed on the way.
    #[error("authentication failed")]
    Forged,
    /// There are no keys yet.
    #[error("no keys yet")]
    NoKeys,
    /// So far behind that a replay could not be told.
    #[error("older than the replay window")]
    Old,
    /// Seen before.
    #[error("replayed")]
    Replayed,
    /// Too short, or header lengths that do not fit.
    #[error("too short")]
    Short,
    /// An SRTCP packet without encryption, which DTLS-SRTP profiles do not allow.
    #[error("not encrypted")]
    Unencrypted,
}

/// Derives both directions from the keys that DTLS exported (RFC 5764 §4.2). `None` when `material` is too short.
pub fn derive(profile: Profile, material: &[u8], is_dtls_client: bool) -> Option<(Sealer, Opener)> {
    let (key, salt) = profile.lengths();
    let (client_key, rest) = material.split_at_checked(key)?;
    let (server_key, rest) = rest.split_at_checked(key)?;
    let (client_salt, rest) = rest.split_at_checked(salt)?;
    let server_salt = rest.get(..salt)?;
    let client = (client_key, client_salt);
    let server = (server_key, server_salt);
    let (ours, theirs) = if is_dtls_client {
        (client, server)
    } else {
        (server, client)
    };
    let sealer = Sealer {
        tag: profile.tag(),
        rtp: Cipher::derive(profile, ours.0, ours.1, 0)?,
        rtcp: Cipher::derive(profile, ours.0, ours.1, 3)?,
        rtcp_index: 0,
    };
    let opener = Opener {
        tag: profile.tag(),
        rtp: Cipher::derive(profile, theirs.0, theirs.1, 0)?,
        rtcp: Cipher::derive(profile, theirs.0, theirs.1, 3)?,
        rtp_streams: Streams::new(MAX_STREAMS),
        rtcp_streams: Streams::new(MAX_STREAMS),
    };
    Some((sealer, opener))
}

/// Protects packets to one peer.
pub struct Sealer {
    tag: usize,
    rtp: Cipher,
    rtcp: Cipher,
    /// Of the next SRTCP packet; one count for all SSRCs.
    rtcp_index: u32,
}

impl Sealer {
    /// Bytes that every RTP packet grows by: 16 or 10.
    pub fn rtp_overhead(&self) -> usize {
        self.tag
    }

    /// Protects the RTP packet `buf[..len]`, of which `header_len` bytes are header (CSRCs and extensions included),
    /// and returns its new length; `buf` has room for [`RTP_OVERHEAD`] more. `index` is the packet's extended sequence
    /// number, 48 bits, whose low 16 are those in the header. 0 when the lengths do not fit.
    pub fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        if header_len < RTP_HEADER || header_len > len || buf.len() < len + self.tag {
            return 0;
        }
        debug_assert_eq!(
            index as u16,
            u16::from_be_bytes([buf[2], buf[3]]),
            "the index is that of the header"
        );
        let ssrc = be32(buf, 8);
        let iv = self.rtp.rtp_iv(ssrc, index);
        let roc = ((index >> 16) as u32).to_be_bytes();
        match &self.rtp {
            Cipher::Gcm(gcm) => {
                let (header, rest) = buf.split_at_mut(header_len);
                let (payload, tag) = rest.split_at_mut(len - header_len);
                if !gcm.seal(&iv, header, payload, &mut tag[..self.tag]) {
                    return 0;
                }
            }
            Cipher::Cm(cm) => {
                if !cm.crypt(&iv, &mut buf[header_len..len]) {
                    return 0;
                }
                let tag = cm.tag(&[&buf[..len], &roc]);
                buf[len..len + self.tag].copy_from_slice(&tag);
            }
        }
        len + self.tag
    }

    /// Protects the compound RTCP packet `buf[..len]` and returns its new length; `buf` has room for
    /// [`RTCP_OVERHEAD`] more. 0 when the lengths do not fit, or after 2³¹ packets.
    pub fn seal_rtcp(&mut self, buf: &mut [u8], len: usize) -> usize {
        let total = len + self.tag + RTCP_INDEX;
        if len < RTCP_HEADER || buf.len() < total || self.rtcp_index >= ENCRYPTED {
            return 0;
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        let word = (index | ENCRYPTED).to_be_bytes();
        let iv = self.rtcp.rtcp_iv(be32(buf, 4), index);
        match &self.rtcp {
            Cipher::Gcm(gcm) => {
                let aad = rtcp_aad(buf, word);
                let (payload, rest) = buf[RTCP_HEADER..].split_at_mut(len - RTCP_HEADER);
                if !gcm.seal(&iv, &aad, payload, &mut rest[..self.tag]) {
                    return 0;
                }
                buf[total - RTCP_INDEX..total].copy_from_slice(&word);
            }
            Cipher::Cm(cm) => {
                if !cm.crypt(&iv, &mut buf[RTCP_HEADER..len]) {
                    return 0;
                }
                buf[len..len + RTCP_INDEX].copy_from_slice(&word);
                let tag = cm.tag(&[&buf[..len + RTCP_INDEX]]);
                buf[len + RTCP_INDEX..total].copy_from_slice(&tag);
            }
        }
        total
    }
}

/// Opens packets of one peer.
pub struct Opener {
    tag: usize,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams<RTP_WINDOW_WORDS>,
    rtcp_streams: Streams<RTCP_WINDOW_WORDS>,
}

impl Opener {
    /// Opens an RTP packet whose header takes `header_len` bytes, and returns the length of header and payload. After
    /// a fault the payload is worthless.
    pub fn open_rtp(&mut self, packet: &mut [u8], header_len: usize) -> Result<usize, SrtpFault> {
        if header_len < RTP_HEADER || packet.len() < header_len + self.tag {
            return Err(SrtpFault::Short);
        }
        let ssrc = be32(packet, 8);
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        let index = self.rtp_streams.estimate(ssrc, seq)?;
        let end = packet.len() - self.tag;
        let iv = self.rtp.rtp_iv(ssrc, index);
        let opened = match &self.rtp {
            Cipher::Gcm(gcm) => {
                let (header, rest) = packet.split_at_mut(header_len);
                gcm.open(&iv, header, rest)
            }
            Cipher::Cm(cm) => {
                let (data, tag) = packet.split_at_mut(end);
                let roc = ((index >> 16) as u32).to_be_bytes();
                cm.verify(&[data, &roc], tag) && cm.crypt(&iv, &mut data[header_len..])
            }
        };
        if !opened {
            return Err(SrtpFault::Forged);
        }
        self.rtp_streams.accept(ssrc, index);
        Ok(end)
    }

    /// Opens a compound RTCP packet and returns its length.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpFault> {
        let Some(end) = packet
            .len()
            .checked_sub(self.tag + RTCP_INDEX)
            .filter(|end| *end >= RTCP_HEADER)
        else {
            return Err(SrtpFault::Short);
        };
        let ssrc = be32(packet, 4);
        let word_at = match &self.rtcp {
            Cipher::Gcm(_) => packet.len() - RTCP_INDEX,
            Cipher::Cm(_) => end,
        };
        let word = be32(packet, word_at);
        if word & ENCRYPTED == 0 {
            return Err(SrtpFault::Unencrypted);
        }
        let index = word & !ENCRYPTED;
        self.rtcp_streams.check(ssrc, u64::from(index))?;
        let iv = self.rtcp.rtcp_iv(ssrc, index);
        let opened = match &self.rtcp {
            Cipher::Gcm(gcm) => {
                let aad = rtcp_aad(packet, word.to_be_bytes());
                gcm.open(&iv, &aad, &mut packet[RTCP_HEADER..word_at])
            }
            Cipher::Cm(cm) => {
                let (data, tag) = packet.split_at_mut(end + RTCP_INDEX);
                cm.verify(&[data], tag) && cm.crypt(&iv, &mut data[RTCP_HEADER..end])
            }
        };
        if !opened {
            return Err(SrtpFault::Forged);
        }
        self.rtcp_streams.accept(ssrc, u64::from(index));
        Ok(end)
    }
}

/// What SRTCP authenticates in clear: the first two words and E with the index (RFC 7714 §9.2).
fn rtcp_aad(packet: &[u8], word: [u8; RTCP_INDEX]) -> [u8; RTCP_HEADER + RTCP_INDEX] {
    let mut aad = [0; RTCP_HEADER + RTCP_INDEX];
    aad[..RTCP_HEADER].copy_from_slice(&packet[..RTCP_HEADER]);
    aad[RTCP_HEADER..].copy_from_slice(&word);
    aad
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("rtcp_index", &self.rtcp_index)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}
