//! Opus payloads (RFC 6716, RFC 7587): silence.

/// 20 ms of silence at 48 kHz: CELT, full band, mono, one frame of nothing.
pub const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];
/// Timestamp ticks of [`SILENCE`].
pub const SILENCE_TICKS: u32 = 960;

/// A packet of discontinuous transmission: a table of contents and at most one byte (RFC 6716 §3.1, RFC 7587 §3.1.3).
/// It is forwarded like any other; it just says that silence follows.
pub fn is_dtx(payload: &[u8]) -> bool {
    (1..=2).contains(&payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_that_we_send_is_no_dtx() {
        assert!(!is_dtx(SILENCE));
        assert!(is_dtx(&[0xf8]));
        assert!(!is_dtx(&[]));
    }
}
