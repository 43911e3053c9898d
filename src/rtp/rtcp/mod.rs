//! RTCP: a compound packet as a list of borrowed parts, and a writer into a caller's buffer.
//!
//! Read by a worker for every decrypted SRTCP packet; what a part holds many of is an iterator over its bytes. A part
//! that contradicts itself is one fault, and the parts after it are still read; a length beyond the datagram ends the
//! list. Followed: RFC 3550 §6, RFC 3611, RFC 4585 §6, RFC 5104 §4.3.1, RFC 5506, draft-alvestrand-rmcat-remb.

use super::transport_cc::TransportFeedback;
use super::{RtpFault, u16_at, u24_at, u32_at, u64_at};
use crate::ids::Ssrc;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// SDES item: the canonical name.
pub const CNAME: u8 = 1;
/// SDES item: the media section (RFC 8843 §15.2).
pub const MID: u8 = 15;
/// Most report blocks that one report holds.
pub const MAX_BLOCKS: usize = 31;

/// One packet of a compound packet.
#[derive(Debug, Clone)]
pub enum Feedback<'a> {
    /// Sources that have left.
    Bye(Numbers<'a>),
    /// Key frame requests (RFC 5104 §4.3.1).
    Fir {
        /// Who asks.
        sender: Ssrc,
        /// Of whom, with the number of the request.
        entries: FirEntries<'a>,
    },
    /// Lost packets (RFC 4585 §6.2.1).
    Nack {
        /// Who asks.
        sender: Ssrc,
        /// Whose packets.
        media: Ssrc,
        /// Their sequence numbers.
        lost: Lost<'a>,
    },
    /// A packet that is not for us.
    Other {
        /// Its packet type.
        kind: u8,
        /// Its count or feedback message type.
        count: u8,
    },
    /// A key frame is needed (RFC 4585 §6.3.1).
    Pli {
        /// Who asks.
        sender: Ssrc,
        /// Of whom.
        media: Ssrc,
    },
    /// RR.
    ReceiverReport {
        /// The reporter.
        sender: Ssrc,
        /// Its reports.
        blocks: ReportBlocks<'a>,
    },
    /// The receiver's estimate of what it can take.
    Remb {
        /// In bits per second.
        bitrate_bps: u64,
        /// Of these sources together.
        ssrcs: Numbers<'a>,
    },
    /// Source descriptions.
    Sdes(SdesItems<'a>),
    /// SR.
    SenderReport {
        /// The reporter.
        sender: Ssrc,
        /// What it has sent.
        info: SenderInfo,
        /// What it has received.
        blocks: ReportBlocks<'a>,
    },
    /// Arrival times of packets with transport-wide sequence numbers.
    TransportCc(TransportFeedback<'a>),
    /// XR.
    Xr {
        /// The reporter.
        sender: Ssrc,
        /// Its blocks that we know.
        blocks: XrBlocks<'a>,
    },
}

/// What a sender report says of its sender (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// NTP time: seconds since 1900 in the high half, fraction in the low half.
    pub ntp: u64,
    /// The RTP timestamp of that moment.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// A report on one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost in all, 24 bits signed.
    pub cumulative_lost: i32,
    /// Cycles and highest sequence number received.
    pub highest_seq: u32,
    /// Interarrival jitter in timestamp ticks.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last SR; 0 without one.
    pub last_sr: u32,
    /// Since then, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// A block of an extended report that we know.
#[derive(Debug, Clone)]
pub enum XrBlock<'a> {
    /// Answers to RRTR (RFC 3611 §4.5).
    Dlrr(DlrrItems<'a>),
    /// A receiver's NTP time (RFC 3611 §4.4).
    Rrtr {
        /// The time.
        ntp: u64,
    },
}

/// One answer to an RRTR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DlrrItem {
    /// Who had sent the RRTR.
    pub ssrc: Ssrc,
    /// Middle 32 bits of its time; 0 without one.
    pub last_rr: u32,
    /// Since then, in 1/65536 s.
    pub delay: u32,
}

/// The packets of a decrypted RTCP datagram, in order.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

/// Splits a decrypted RTCP datagram. Reduced-size packets (RFC 5506) are as good as compound ones.
pub fn parse(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Feedback<'a>, RtpFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some(words) = u16_at(rest, 2) else {
            return Some(Err(RtpFault::Truncated));
        };
        if rest[0] >> 6 != 2 {
            return Some(Err(RtpFault::Version));
        }
        let len = 4 * (usize::from(words) + 1);
        let Some((packet, rest_after)) = rest.split_at_checked(len) else {
            return Some(Err(RtpFault::Truncated));
        };
        self.rest = rest_after;
        Some(read(packet))
    }
}

fn read(packet: &[u8]) -> Result<Feedback<'_>, RtpFault> {
    let count = packet[0] & 0x1f;
    let kind = packet[1];
    let mut body = &packet[4..];
    if packet[0] & 0x20 != 0 {
        let padding = usize::from(*body.last().ok_or(RtpFault::Inconsistent)?);
        let end = body.len().checked_sub(padding);
        body = match end {
            Some(end) if padding > 0 => &body[..end],
            _ => return Err(RtpFault::Inconsistent),
        };
    }
    let ssrc = |at| u32_at(body, at).map(Ssrc).ok_or(RtpFault::Truncated);
    let blocks = |at: usize| {
        let len = usize::from(count) * 24;
        body.get(at..at + len)
            .map(|data| ReportBlocks { data })
            .ok_or(RtpFault::Truncated)
    };
    Ok(match (kind, count) {
        (SENDER_REPORT, _) => Feedback::SenderReport {
            sender: ssrc(0)?,
            info: SenderInfo {
                ntp: u64_at(body, 4).ok_or(RtpFault::Truncated)?,
                rtp_timestamp: u32_at(body, 12).ok_or(RtpFault::Truncated)?,
                packets: u32_at(body, 16).ok_or(RtpFault::Truncated)?,
                octets: u32_at(body, 20).ok_or(RtpFault::Truncated)?,
            },
            blocks: blocks(24)?,
        },
        (RECEIVER_REPORT, _) => Feedback::ReceiverReport {
            sender: ssrc(0)?,
            blocks: blocks(4)?,
        },
        (SDES, _) => Feedback::Sdes(SdesItems {
            data: body,
            source: None,
        }),
        (BYE, _) => Feedback::Bye(Numbers {
            data: body
                .get(..4 * usize::from(count))
                .ok_or(RtpFault::Truncated)?,
        }),
        (TRANSPORT_FEEDBACK, 1) => Feedback::Nack {
            sender: ssrc(0)?,
            media: ssrc(4)?,
            lost: Lost {
                data: &body[8..],
                pid: 0,
                bits: 0,
            },
        },
        (TRANSPORT_FEEDBACK, 15) => Feedback::TransportCc(TransportFeedback::parse(body)?),
        (PAYLOAD_FEEDBACK, 1) => Feedback::Pli {
            sender: ssrc(0)?,
            media: ssrc(4)?,
        },
        (PAYLOAD_FEEDBACK, 4) => Feedback::Fir {
            sender: ssrc(0)?,
            entries: FirEntries {
                data: body.get(8..).ok_or(RtpFault::Truncated)?,
            },
        },
        (PAYLOAD_FEEDBACK, 15) if body.get(8..12) == Some(b"REMB") => remb(body)?,
        (EXTENDED_REPORT, _) => Feedback::Xr {
            sender: ssrc(0)?,
            blocks: XrBlocks { data: &body[4..] },
        },
        _ => Feedback::Other { kind, count },
    })
}

fn remb(body: &[u8]) -> Result<Feedback<'_>, RtpFault> {
    let count = usize::from(*body.get(12).ok_or(RtpFault::Truncated)?);
    let value = u24_at(body, 13).ok_or(RtpFault::Truncated)?;
    let mantissa = u64::from(value & 0x3_ffff);
    let exponent = value >> 18;
    // An exponent may shift the mantissa out: that is "without limit".
    let bitrate_bps = if exponent > mantissa.leading_zeros() {
        u64::MAX
    } else {
        mantissa << exponent
    };
    Ok(Feedback::Remb {
        bitrate_bps,
        ssrcs: Numbers {
            data: body.get(16..16 + 4 * count).ok_or(RtpFault::Truncated)?,
        },
    })
}

/// Sources, four bytes each.
#[derive(Debug, Clone)]
pub struct Numbers<'a> {
    data: &'a [u8],
}

impl Iterator for Numbers<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let ssrc = u32_at(self.data, 0)?;
        self.data = &self.data[4..];
        Some(Ssrc(ssrc))
    }
}

/// Entries of a FIR: the source and the number of the request, which is repeated while it is the same request.
#[derive(Debug, Clone)]
pub struct FirEntries<'a> {
    data: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (Ssrc, u8);

    fn next(&mut self) -> Option<(Ssrc, u8)> {
        let entry = self.data.first_chunk::<8>()?;
        self.data = &self.data[8..];
        Some((
            Ssrc(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])),
            entry[4],
        ))
    }
}

/// Lost sequence numbers of a NACK.
#[derive(Debug, Clone)]
pub struct Lost<'a> {
    data: &'a [u8],
    pid: u16,
    bits: u16,
}

impl Iterator for Lost<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.bits != 0 {
            let skip = self.bits.trailing_zeros() as u16;
            self.bits &= self.bits - 1;
            return Some(self.pid.wrapping_add(1 + skip));
        }
        self.pid = u16_at(self.data, 0)?;
        self.bits = u16_at(self.data, 2)?;
        self.data = &self.data[4..];
        Some(self.pid)
    }
}

/// Report blocks of an SR or RR.
#[derive(Debug, Clone)]
pub struct ReportBlocks<'a> {
    data: &'a [u8],
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let block = ReportBlock {
            ssrc: u32_at(self.data, 0)?,
            fraction_lost: *self.data.get(4)?,
            // Sign-extends 24 bits.
            cumulative_lost: ((u24_at(self.data, 5)? << 8) as i32) >> 8,
            highest_seq: u32_at(self.data, 8)?,
            jitter: u32_at(self.data, 12)?,
            last_sr: u32_at(self.data, 16)?,
            delay_since_last_sr: u32_at(self.data, 20)?,
        };
        self.data = &self.data[24..];
        Some(block)
    }
}

/// Items of all chunks of an SDES packet: source, item type, text.
#[derive(Debug, Clone)]
pub struct SdesItems<'a> {
    data: &'a [u8],
    /// The chunk that `data` is within.
    source: Option<Ssrc>,
}

impl<'a> Iterator for SdesItems<'a> {
    type Item = (Ssrc, u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(source) = self.source else {
                self.source = Some(Ssrc(u32_at(self.data, 0)?));
                self.data = &self.data[4..];
                continue;
            };
            let kind = *self.data.first()?;
            if kind == 0 {
                // The end of a chunk and padding to the next word. A packet is whole words, so what is left of the
                // word can be counted from the end; RFC 3550 §6.5 asks for at least one zero byte.
                let skip = match self.data.len() % 4 {
                    0 => 4,
                    rest => rest,
                };
                self.data = self.data.get(skip..)?;
                self.source = None;
                continue;
            }
            let len = usize::from(*self.data.get(1)?);
            let text = self.data.get(2..2 + len)?;
            self.data = &self.data[2 + len..];
            return Some((source, kind, text));
        }
    }
}

/// The blocks of an extended report that we know.
#[derive(Debug, Clone)]
pub struct XrBlocks<'a> {
    data: &'a [u8],
}

impl<'a> Iterator for XrBlocks<'a> {
    type Item = XrBlock<'a>;

    fn next(&mut self) -> Option<XrBlock<'a>> {
        loop {
            let kind = *self.data.first()?;
            let len = 4 * usize::from(u16_at(self.data, 2)?);
            let body = self.data.get(4..4 + len)?;
            self.data = &self.data[4 + len..];
            match kind {
                4 => {
                    if let Some(ntp) = u64_at(body, 0) {
                        return Some(XrBlock::Rrtr { ntp });
                    }
                }
                5 => return Some(XrBlock::Dlrr(DlrrItems { data: body })),
                _ => {}
            }
        }
    }
}

/// Items of a DLRR block.
#[derive(Debug, Clone)]
pub struct DlrrItems<'a> {
    data: &'a [u8],
}

impl Iterator for DlrrItems<'_> {
    type Item = DlrrItem;

    fn next(&mut self) -> Option<DlrrItem> {
        let item = DlrrItem {
            ssrc: Ssrc(u32_at(self.data, 0)?),
            last_rr: u32_at(self.data, 4)?,
            delay: u32_at(self.data, 8)?,
        };
        self.data = &self.data[12..];
        Some(item)
    }
}

/// Writes a compound or reduced-size packet into a buffer. Each method appends one packet and says `false`, changing
/// nothing, when there is no room for it. A compound packet begins with a report (RFC 3550 §6.1); where
/// `a=rtcp-rsize` holds, feedback may go without one (RFC 5506).
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Begins a reduced-size packet, or a compound packet whose first packet the caller writes.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Begins a compound packet with an empty receiver report, for peers without `a=rtcp-rsize`.
    pub fn compound(out: &'a mut [u8], sender: Ssrc) -> Self {
        let mut writer = Self::new(out);
        // In a buffer without room for it nothing else fits either.
        writer.receiver_report(sender, &[]);
        writer
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a packet that `fill` writes into the rest of the buffer; it returns the bytes, 0 for none.
    pub fn append(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let rest = &mut self.out[self.len..];
        let room = rest.len();
        let len = fill(rest).min(room);
        self.len += len;
        len > 0
    }

    /// A packet of `body` bytes after the header, a multiple of four.
    fn packet(&mut self, kind: u8, count: u8, body: usize) -> Option<&mut [u8]> {
        let start = self.len;
        let end = start + 4 + body;
        let packet = self.out.get_mut(start..end)?;
        self.len = end;
        packet[0] = 0x80 | (count & 0x1f);
        packet[1] = kind;
        packet[2..4].copy_from_slice(&((body / 4) as u16).to_be_bytes());
        Some(&mut packet[4..])
    }

    /// RR of at most [`MAX_BLOCKS`] blocks; more are left out.
    pub fn receiver_report(&mut self, sender: Ssrc, blocks: &[ReportBlock]) -> bool {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let Some(body) = self.packet(RECEIVER_REPORT, blocks.len() as u8, 4 + 24 * blocks.len())
        else {
            return false;
        };
        put32(body, 0, sender.0);
        put_blocks(&mut body[4..], blocks);
        true
    }

    /// SR of at most [`MAX_BLOCKS`] blocks; more are left out.
    pub fn sender_report(
        &mut self,
        sender: Ssrc,
        info: SenderInfo,
        blocks: &[ReportBlock],
    ) -> bool {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let Some(body) = self.packet(SENDER_REPORT, blocks.len() as u8, 24 + 24 * blocks.len())
        else {
            return false;
        };
        put32(body, 0, sender.0);
        body[4..12].copy_from_slice(&info.ntp.to_be_bytes());
        put32(body, 12, info.rtp_timestamp);
        put32(body, 16, info.packets);
        put32(body, 20, info.octets);
        put_blocks(&mut body[24..], blocks);
        true
    }

    /// SDES of one source: CNAME and, when given, MID. Texts over 255 bytes are cut.
    pub fn sdes(&mut self, source: Ssrc, cname: &str, mid: Option<&str>) -> bool {
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        let mid = mid.map(|mid| &mid.as_bytes()[..mid.len().min(255)]);
        let items = 2 + cname.len() + mid.map_or(0, |mid| 2 + mid.len());
        // At least one zero byte ends the chunk.
        let chunk = (4 + items + 1).next_multiple_of(4);
        let Some(body) = self.packet(SDES, 1, chunk) else {
            return false;
        };
        body.fill(0);
        put32(body, 0, source.0);
        let mut at = 4;
        for (kind, text) in [(CNAME, Some(cname)), (MID, mid)] {
            let Some(text) = text else { continue };
            body[at] = kind;
            body[at + 1] = text.len() as u8;
            body[at + 2..at + 2 + text.len()].copy_from_slice(text);
            at += 2 + text.len();
        }
        true
    }

    /// BYE of at most 31 sources; more are left out.
    pub fn bye(&mut self, sources: &[Ssrc]) -> bool {
        let sources = &sources[..sources.len().min(31)];
        let Some(body) = self.packet(BYE, sources.len() as u8, 4 * sources.len()) else {
            return false;
        };
        for (index, source) in sources.iter().enumerate() {
            put32(body, 4 * index, source.0);
        }
        true
    }

    /// PLI.
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> bool {
        let Some(body) = self.packet(PAYLOAD_FEEDBACK, 1, 8) else {
            return false;
        };
        put32(body, 0, sender.0);
        put32(body, 4, media.0);
        true
    }

    /// FIR; `number` goes up by one with each new request to this source.
    pub fn fir(&mut self, sender: Ssrc, media: Ssrc, number: u8) -> bool {
        let Some(body) = self.packet(PAYLOAD_FEEDBACK, 4, 16) else {
            return false;
        };
        put32(body, 0, sender.0);
        put32(body, 4, 0);
        put32(body, 8, media.0);
        put32(body, 12, u32::from(number) << 24);
        true
    }

    /// NACK of sequence numbers in rising order (modulo 2^16), packed into as few pairs as they allow.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, lost: &[u16]) -> bool {
        let pairs = pairs(lost).count();
        if pairs == 0 {
            return false;
        }
        let Some(body) = self.packet(TRANSPORT_FEEDBACK, 1, 8 + 4 * pairs) else {
            return false;
        };
        put32(body, 0, sender.0);
        put32(body, 4, media.0);
        for (index, (pid, bits)) in self::pairs(lost).enumerate() {
            put32(body, 8 + 4 * index, u32::from(pid) << 16 | u32::from(bits));
        }
        true
    }

    /// REMB for at most 255 sources; more are left out.
    pub fn remb(&mut self, sender: Ssrc, bitrate_bps: u64, ssrcs: &[Ssrc]) -> bool {
        let ssrcs = &ssrcs[..ssrcs.len().min(255)];
        let Some(body) = self.packet(PAYLOAD_FEEDBACK, 15, 16 + 4 * ssrcs.len()) else {
            return false;
        };
        // 18 bits of mantissa.
        let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        put32(body, 0, sender.0);
        put32(body, 4, 0);
        body[8..12].copy_from_slice(b"REMB");
        put32(
            body,
            12,
            (ssrcs.len() as u32) << 24 | exponent << 18 | mantissa,
        );
        for (index, ssrc) in ssrcs.iter().enumerate() {
            put32(body, 16 + 4 * index, ssrc.0);
        }
        true
    }

    /// XR with our time, to be answered by a DLRR.
    pub fn xr_rrtr(&mut self, sender: Ssrc, ntp: u64) -> bool {
        let Some(body) = self.packet(EXTENDED_REPORT, 0, 16) else {
            return false;
        };
        put32(body, 0, sender.0);
        put32(body, 4, 4 << 24 | 2);
        body[8..16].copy_from_slice(&ntp.to_be_bytes());
        true
    }

    /// XR that answers RRTRs, at most 64; more are left out.
    pub fn xr_dlrr(&mut self, sender: Ssrc, items: &[DlrrItem]) -> bool {
        let items = &items[..items.len().min(64)];
        let Some(body) = self.packet(EXTENDED_REPORT, 0, 8 + 12 * items.len()) else {
            return false;
        };
        put32(body, 0, sender.0);
        put32(body, 4, (5 << 24) | (3 * items.len() as u32));
        for (index, item) in items.iter().enumerate() {
            let at = 8 + 12 * index;
            put32(body, at, item.ssrc.0);
            put32(body, at + 4, item.last_rr);
            put32(body, at + 8, item.delay);
        }
        true
    }
}

fn put32(body: &mut [u8], at: usize, value: u32) {
    body[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put_blocks(body: &mut [u8], blocks: &[ReportBlock]) {
    for (index, block) in blocks.iter().enumerate() {
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let at = 24 * index;
        put32(body, at, block.ssrc);
        put32(body, at + 4, u32::from(block.fraction_lost) << 24 | lost);
        put32(body, at + 8, block.highest_seq);
        put32(body, at + 12, block.jitter);
        put32(body, at + 16, block.last_sr);
        put32(body, at + 20, block.delay_since_last_sr);
    }
}

/// Pairs of packet id and bit mask for rising sequence numbers.
fn pairs(lost: &[u16]) -> impl Iterator<Item = (u16, u16)> {
    let mut rest = lost;
    std::iter::from_fn(move || {
        let (&pid, mut after) = rest.split_first()?;
        let mut bits = 0u16;
        while let Some((&next, tail)) = after.split_first() {
            match next.wrapping_sub(pid) {
                0 => {}
                ahead @ 1..=16 => bits |= 1 << (ahead - 1),
                _ => break,
            }
            after = tail;
        }
        rest = after;
        Some((pid, bits))
    })
}

#[cfg(test)]
mod tests;
