//! Randomness as an argument: the system's in production, a seeded generator in tests.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// The alphabet of LiveKit's SIDs: base 58 without the lookalikes (livekit protocol 1.13.5 `utils/guid`).
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A source of random bytes.
#[derive(Debug, Clone)]
pub enum Random {
    /// The operating system's generator, for everything that is a secret.
    System(SystemRandom),
    /// SplitMix64: the same seed, the same story. Tests only.
    Seeded(u64),
}

impl Random {
    /// The operating system's generator.
    pub fn system() -> Self {
        Self::System(SystemRandom::new())
    }

    /// A repeatable generator.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(seed)
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        match self {
            Self::System(system) => system
                .fill(out)
                .expect("the operating system's random generator never fails after boot"),
            Self::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let mut z = *state;
                    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                    z ^= z >> 31;
                    chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
                }
            }
        }
    }

    /// A uniform 64-bit number.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A uniform 32-bit number.
    pub fn u32(&mut self) -> u32 {
        self.u64() as u32
    }

    /// `len` letters and digits of the SID alphabet.
    pub fn text(&mut self, len: usize) -> String {
        // Drawn at once: for each call the system's generator takes new entropy in, which costs more than the bytes.
        let mut bytes = vec![0; len * 8];
        self.fill(&mut bytes);
        let (numbers, _) = bytes.as_chunks();
        numbers
            .iter()
            .map(|number| char::from(ALPHABET[(u64::from_le_bytes(*number) % 57) as usize]))
            .collect()
    }
}
