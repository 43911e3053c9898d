//! Redundant audio (RFC 2198): the blocks of a payload.

use super::CodecFault;

/// More blocks than any encoder makes: two or three earlier frames and the primary one.
const MAX_BLOCKS: usize = 32;

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Payload type of its data.
    pub pt: u8,
    /// How many ticks before the packet's timestamp it begins; 0 for the primary block.
    pub timestamp_offset: u16,
    /// Its data.
    pub data: &'a [u8],
}

/// A checked payload.
#[derive(Debug, Clone, Copy)]
pub struct Red<'a> {
    heads: &'a [u8],
    data: &'a [u8],
}

impl<'a> Red<'a> {
    /// Reads the block headers (RFC 2198 §3).
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecFault> {
        let mut at = 0;
        let mut redundant = 0;
        for _ in 0..MAX_BLOCKS {
            let first = *payload.get(at).ok_or(CodecFault::Truncated)?;
            if first & 0x80 == 0 {
                let (heads, data) = payload.split_at(at + 1);
                return if redundant > data.len() {
                    Err(CodecFault::Truncated)
                } else {
                    Ok(Self { heads, data })
                };
            }
            redundant += head(payload.get(at..).unwrap_or(&[]))
                .ok_or(CodecFault::Truncated)?
                .1;
            at += 4;
        }
        Err(CodecFault::Malformed)
    }

    /// The redundant blocks as written, oldest first, and then the primary one. An empty redundant block stands for
    /// a frame that was not sent.
    pub fn blocks(&self) -> Blocks<'a> {
        Blocks {
            heads: self.heads,
            data: self.data,
        }
    }

    /// The block for this packet's own timestamp.
    pub fn primary(&self) -> Block<'a> {
        // `parse` found one head byte without the F bit at the end.
        self.blocks().last().unwrap_or(Block {
            pt: 0,
            timestamp_offset: 0,
            data: &[],
        })
    }
}

/// Timestamp offset and length in a redundant block's head.
fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let [_, a, b, c] = *bytes.first_chunk::<4>()?;
    let rest = u32::from_be_bytes([0, a, b, c]);
    Some(((rest >> 10) as u16, (rest & 0x3ff) as usize))
}

/// The blocks of a payload.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    heads: &'a [u8],
    data: &'a [u8],
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        let first = *self.heads.first()?;
        let (timestamp_offset, len) = if first & 0x80 == 0 {
            self.heads = &[];
            (0, self.data.len())
        } else {
            let read = head(self.heads)?;
            self.heads = &self.heads[4..];
            read
        };
        let (data, rest) = self.data.split_at_checked(len)?;
        self.data = rest;
        Some(Block {
            pt: first & 0x7f,
            timestamp_offset,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two redundant blocks of 3 and 2 bytes, 1,920 and 960 ticks back, and a primary of 4.
    const PAYLOAD: [u8; 18] = [
        0xef, 0x1e, 0x00, 0x03, 0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 1, 1, 2, 2, 3, 3, 3, 3,
    ];

    #[test]
    fn blocks_are_read_oldest_first() {
        let red = Red::parse(&PAYLOAD).unwrap();
        let blocks: Vec<_> = red
            .blocks()
            .map(|block| (block.pt, block.timestamp_offset, block.data.to_vec()))
            .collect();
        assert_eq!(
            blocks,
            [
                (111, 1_920, vec![1; 3]),
                (111, 960, vec![2; 2]),
                (111, 0, vec![3; 4])
            ]
        );
        assert_eq!(red.primary().data, [3; 4]);
    }

    #[test]
    fn a_primary_block_alone_is_the_rest() {
        let red = Red::parse(&[0x6f, 9, 8]).unwrap();
        assert_eq!(red.primary().data, [9, 8]);
        assert_eq!(red.blocks().count(), 1);
    }

    #[test]
    fn a_truncated_payload_is_a_fault() {
        for len in 0..14 {
            assert_eq!(
                Red::parse(&PAYLOAD[..len]).map(|_| ()),
                Err(CodecFault::Truncated),
                "{len}"
            );
        }
        // The primary block may be empty.
        assert!(Red::parse(&PAYLOAD[..14]).is_ok());
    }

    #[test]
    fn heads_without_end_are_a_fault() {
        assert_eq!(
            Red::parse(&[0x80, 0, 0, 0].repeat(40)).map(|_| ()),
            Err(CodecFault::Malformed)
        );
    }
}
