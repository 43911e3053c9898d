//! Just enough of STUN (RFC 8489 §5) to find the transport that a message is for. Nothing is believed yet.

/// Whose a STUN message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressee<'a> {
    /// A response or indication: whose path it came on.
    Path,
    /// A request: the local part of its USERNAME.
    Ufrag(&'a str),
}

/// Reads a message as far as that; `None`: no STUN message, or a request that names nobody.
pub(super) fn addressee(message: &[u8]) -> Option<Addressee<'_>> {
    let header = message.first_chunk::<20>()?;
    if header[4..8] != [0x21, 0x12, 0xa4, 0x42] {
        return None;
    }
    let kind = u16::from_be_bytes([header[0], header[1]]);
    if kind & 0x0110 != 0 {
        return Some(Addressee::Path);
    }
    let mut rest = &message[20..];
    while let Some(head) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(4..4 + len)?;
        if head[..2] == [0, 6] {
            let name = std::str::from_utf8(value).ok()?;
            return name
                .split_once(':')
                .map(|(local, _)| Addressee::Ufrag(local));
        }
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_addressee() {
        let mut message = vec![0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        message.extend([0, 6, 0, 5, b'A', b'b', b':', b'c', b'd', 0, 0, 0]);
        assert_eq!(addressee(&message), Some(Addressee::Ufrag("Ab")));
        for len in 0..message.len() - 3 {
            assert_eq!(addressee(&message[..len]), None, "{len}");
        }
        message[0] = 1;
        assert_eq!(addressee(&message), Some(Addressee::Path));
        message[4] = 0;
        assert_eq!(addressee(&message), None);
    }
}
