//! The receive window that the peer is told.
//!
//! `sctp-proto` counts what waits in its own queues, and tells its window with the SACKs that arriving data causes, only
//! with those. Here messages leave its queues at once and wait in [`super::inbox`]. So each SACK gets the window that
//! is left there; and when that has grown the last SACK is repeated with it, or the peer would notice by its probes,
//! seconds later (RFC 9260 §6.1 A, §6.2).

use super::COMMON_HEADER;
use super::guard::CREDIT;
use crc::{CRC_32_ISCSI, Crc};
use std::ops::Range;

/// RFC 9260 appendix A.
static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Where the checksum of a packet stands, little-endian.
const CHECKSUM: Range<usize> = 8..12;
/// In a packet of a SACK (RFC 9260 §3.3.4): the chunk's length, and the numbers of gaps and duplicates.
const LENGTH: Range<usize> = COMMON_HEADER + 2..COMMON_HEADER + 4;
const GAPS: Range<usize> = COMMON_HEADER + 12..COMMON_HEADER + 14;
const DUPLICATES: Range<usize> = COMMON_HEADER + 14..COMMON_HEADER + 16;

#[derive(Debug)]
pub(super) struct Window {
    whole: u32,
    /// The last SACK as it left; empty before the first.
    sack: Vec<u8>,
    /// What the association would have told with it, bytes.
    free: u32,
    /// What the peer was told, bytes.
    told: u32,
}

impl Window {
    /// Of `whole` bytes, all of them free.
    pub(super) fn new(whole: u32) -> Self {
        Self {
            whole,
            sack: Vec::new(),
            free: whole,
            told: whole,
        }
    }

    /// The SACK as it leaves, where the association has `free` bytes left and `held` wait to be asked for.
    pub(super) fn amend(&mut self, sack: &[u8], free: u32, held: usize) -> &[u8] {
        self.sack.clear();
        self.sack.extend_from_slice(sack);
        self.free = free;
        self.told = free;
        self.tell(held);
        &self.sack
    }

    /// The last SACK again, if much more is free than it told.
    pub(super) fn reopen(&mut self, held: usize) -> Option<&[u8]> {
        // All that the association has free, if that is little.
        let step = (self.whole / 4).min(self.free).max(1);
        if self.sack.is_empty() || self.left(held) < self.told + step {
            return None;
        }
        self.forget_duplicates();
        self.tell(held);
        Some(&self.sack)
    }

    /// They are told once (RFC 9260 §3.3.4).
    fn forget_duplicates(&mut self) {
        let Some(&[high, low]) = self.sack.get(GAPS) else {
            return;
        };
        let length = 16 + 4 * u16::from_be_bytes([high, low]);
        self.sack.truncate(COMMON_HEADER + usize::from(length));
        self.sack[LENGTH].copy_from_slice(&length.to_be_bytes());
        self.sack[DUPLICATES].fill(0);
    }

    fn left(&self, held: usize) -> u32 {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.free.min(self.whole.saturating_sub(held))
    }

    fn tell(&mut self, held: usize) {
        let left = self.left(held);
        if left == self.told {
            return;
        }
        self.told = left;
        self.sack[CREDIT].copy_from_slice(&left.to_be_bytes());
        write_checksum(&mut self.sack);
    }
}

/// Makes a packet's checksum that of its contents (RFC 9260 §6.8). Of a whole common header at least.
pub(super) fn write_checksum(packet: &mut [u8]) {
    packet[CHECKSUM].fill(0);
    let checksum = CRC32C.checksum(packet);
    packet[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: u32 = 1_000;

    /// A SACK as the association writes it.
    fn sack(free: u32) -> Vec<u8> {
        sack_with(free, 0, 0)
    }

    fn sack_with(free: u32, gaps: u8, duplicates: u8) -> Vec<u8> {
        let mut packet = vec![0; 12];
        packet.extend([3, 0, 0, 16 + 4 * (gaps + duplicates), 0, 0, 0, 9]);
        packet.extend(free.to_be_bytes());
        packet.extend([0, gaps, 0, duplicates]);
        packet.extend((0..gaps).flat_map(|at| [0, 2 * at + 2, 0, 2 * at + 2]));
        packet.extend((0..duplicates).flat_map(|at| [0, 0, 0, at]));
        write_checksum(&mut packet);
        packet
    }

    #[test]
    fn a_sack_leaves_with_the_window_that_is_left() {
        let mut window = Window::new(WHOLE);
        assert_eq!(window.amend(&sack(1_000), 1_000, 0), sack(1_000));
        assert_eq!(window.amend(&sack(1_000), 1_000, 300), sack(700));
        assert_eq!(window.amend(&sack(600), 600, 300), sack(600));
        assert_eq!(window.amend(&sack(600), 600, 5_000), sack(0));
    }

    #[test]
    fn a_window_that_grows_is_told_at_each_quarter() {
        let mut window = Window::new(WHOLE);
        assert_eq!(window.reopen(0), None, "there was no SACK");
        window.amend(&sack(1_000), 1_000, 990);
        assert_eq!(window.reopen(741), None, "too little more");
        assert_eq!(window.reopen(740), Some(&sack(260)[..]));
        assert_eq!(window.reopen(740), None);
        assert_eq!(window.reopen(0), Some(&sack(1_000)[..]));
        assert_eq!(window.reopen(0), None);
    }

    #[test]
    fn what_little_the_association_has_free_is_told_as_well() {
        let mut window = Window::new(WHOLE);
        window.amend(&sack(100), 100, 1_000);
        assert_eq!(window.reopen(901), None);
        assert_eq!(window.reopen(900), Some(&sack(100)[..]));
        window.amend(&sack(0), 0, 1_000);
        assert_eq!(window.reopen(0), None);
    }

    #[test]
    fn gaps_are_told_again_and_duplicates_are_not() {
        let mut window = Window::new(WHOLE);
        let first = window.amend(&sack_with(1_000, 2, 3), 1_000, 1_000);
        assert_eq!(first, sack_with(0, 2, 3));
        assert_eq!(window.reopen(0), Some(&sack_with(1_000, 2, 0)[..]));
    }
}
