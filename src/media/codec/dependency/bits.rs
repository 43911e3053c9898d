//! Bits, most significant first, with bounds.

use super::CodecFault;

/// Reads bits.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bits read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bits, at most 32.
    pub(super) fn read(&mut self, count: u32) -> Result<u32, CodecFault> {
        if self.at + count as usize > self.data.len() * 8 {
            return Err(CodecFault::Truncated);
        }
        let mut value = 0u64;
        let mut left = count;
        while left > 0 {
            let within = (self.at % 8) as u32;
            let take = left.min(8 - within);
            let byte = u32::from(self.data[self.at / 8]);
            let part = (byte >> (8 - within - take)) & ((1 << take) - 1);
            value = (value << take) | u64::from(part);
            self.at += take as usize;
            left -= take;
        }
        Ok(value as u32)
    }

    /// A number below `bound` in the non-symmetric code `ns(n)`; `bound` is 1–33.
    pub(super) fn read_up_to(&mut self, bound: u32) -> Result<u32, CodecFault> {
        let width = 32 - bound.leading_zeros();
        let short = (1 << width) - bound;
        let value = self.read(width - 1)?;
        if value < short {
            return Ok(value);
        }
        Ok((value << 1) - short + self.read(1)?)
    }

    /// Passes over bits, if they are there.
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = Some(self.at + count).filter(|at| *at <= self.data.len() * 8)?;
        Some(())
    }
}

/// Writes bits.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Appends the low `count` bits of `value`, at most 32.
    pub(super) fn write(&mut self, count: u32, value: u32) -> Option<()> {
        if self.at + count as usize > self.out.len() * 8 {
            return None;
        }
        let mut left = count;
        while left > 0 {
            let within = (self.at % 8) as u32;
            let take = left.min(8 - within);
            let part = (u64::from(value) >> (left - take)) as u32 & ((1 << take) - 1);
            let byte = &mut self.out[self.at / 8];
            if within == 0 {
                *byte = 0;
            }
            *byte |= (part << (8 - within - take)) as u8;
            self.at += take as usize;
            left -= take;
        }
        Some(())
    }

    /// Appends `count` bits of `from`.
    pub(super) fn copy(&mut self, from: &mut BitReader<'_>, count: usize) -> Option<()> {
        let mut left = count;
        while left > 0 {
            let take = left.min(32);
            self.write(take as u32, from.read(take as u32).ok()?)?;
            left -= take;
        }
        Some(())
    }

    /// Bytes written; the last one is filled with zeros.
    pub(super) fn finish(self) -> usize {
        self.at.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_non_symmetric_code_is_that_of_av1() {
        // n = 5: 00, 01, 10, 110, 111.
        let mut bits = BitReader::new(&[0b0001_1011, 0b0111_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.read_up_to(5).unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        assert_eq!(bits.position(), 12);
        assert_eq!(BitReader::new(&[]).read_up_to(1), Ok(0));
    }

    proptest! {
        #[test]
        fn written_bits_are_read_back(values in prop::collection::vec((1u32..=32, any::<u32>()), 0..40)) {
            let mut out = [0xff; 160];
            let mut writer = BitWriter::new(&mut out);
            let mut total = 0;
            for (count, value) in &values {
                writer.write(*count, *value).unwrap();
                total += *count as usize;
            }
            let len = writer.finish();
            prop_assert_eq!(len, total.div_ceil(8));
            let mut copied = [0xff; 160];
            let mut writer = BitWriter::new(&mut copied);
            writer.copy(&mut BitReader::new(&out[..len]), total).unwrap();
            let copied_len = writer.finish();
            prop_assert_eq!(&copied[..copied_len], &out[..len]);
            let mut reader = BitReader::new(&out[..len]);
            for (count, value) in values {
                let mask = u32::MAX >> (32 - count);
                prop_assert_eq!(reader.read(count), Ok(value & mask));
            }
            prop_assert_eq!(reader.read(8), Err(CodecFault::Truncated));
            prop_assert_eq!(BitWriter::new(&mut out[..0]).write(1, 1), None);
        }
    }
}
