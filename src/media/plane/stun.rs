//! Just enough of STUN (RFC 8489 §5) to find the transport that a message is for. Nothing is believed yet. Who only wants
//! to know its own address is told it, as by any STUN server (§12).

use std::net::{IpAddr, SocketAddr};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Most bytes of a [`mapping`].
pub(super) const MAPPING: usize = 44;

/// Whose a STUN message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressee<'a> {
    /// A response or indication: whose path it came on.
    Path,
    /// A request: the local part of its USERNAME.
    Ufrag(&'a str),
    /// A Binding request without a USERNAME.
    Server,
}

/// Reads a message as far as that; `None`: no STUN message, or a request of another kind that names nobody.
pub(super) fn addressee(message: &[u8]) -> Option<Addressee<'_>> {
    let header = message.first_chunk::<20>()?;
    if header[4..8] != COOKIE {
        return None;
    }
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let length = u16::from_be_bytes([header[2], header[3]]);
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
    let is_whole = rest.is_empty() && usize::from(length) == message.len() - 20;
    (kind == 1 && is_whole).then_some(Addressee::Server)
}

/// Answers a request to the server: where it came from, as XOR-MAPPED-ADDRESS (RFC 8489 §14.2). Returns its length.
pub(super) fn mapping(request: &[u8], remote: SocketAddr, out: &mut [u8]) -> usize {
    let Some(id) = request.get(8..20) else {
        return 0;
    };
    let port = remote.port().to_be_bytes();
    let (family, address) = match remote.ip() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let value = [0, family].into_iter();
    let masked = port.iter().zip(&COOKIE).map(|(byte, mask)| byte ^ mask);
    let mask = COOKIE.iter().chain(id);
    let masked = masked.chain(address.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    let length = 4 + address.len() as u8;
    let header = [1, 1, 0, 4 + length].into_iter().chain(COOKIE);
    let attribute = [0, 0x20, 0, length].into_iter().chain(value).chain(masked);
    let bytes = header.chain(id.iter().copied()).chain(attribute);
    let mut len = 0;
    for (place, byte) in out.iter_mut().zip(bytes) {
        *place = byte;
        len += 1;
    }
    len
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
    #[test]
    fn a_request_to_the_server_is_told_where_it_came_from() {
        let mut request = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        request.extend([7; 12]);
        request.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        assert_eq!(addressee(&request), Some(Addressee::Server));
        for len in 0..request.len() {
            assert_eq!(addressee(&request[..len]), None, "{len}");
        }
        for remote in ["192.0.2.7:5555", "[2001:db8::7]:5555"] {
            let remote: SocketAddr = remote.parse().unwrap();
            let mut answer = [0; MAPPING];
            let len = mapping(&request, remote, &mut answer);
            let answer = &answer[..len];
            let attribute = usize::from(answer[3]);
            assert_eq!(
                (answer[..3].as_ref(), 20 + attribute),
                (&[1, 1, 0][..], len)
            );
            assert_eq!(answer[4..20], request[4..20]);
            let family = 1 + u8::from(remote.is_ipv6());
            assert_eq!(answer[20..26], [0, 0x20, 0, answer[3] - 4, 0, family]);
            let mut plain = answer[26..].to_vec();
            let mask = [&COOKIE[..2], &request[4..20]].concat();
            plain
                .iter_mut()
                .zip(mask)
                .for_each(|(byte, mask)| *byte ^= mask);
            let address = match remote.ip() {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            assert_eq!(plain, [&remote.port().to_be_bytes()[..], &address].concat());
            assert_eq!(
                mapping(&request, remote, &mut [0; 3]),
                3,
                "never beyond the buffer"
            );
        }
        // An allocation, for one, is nothing that is done here.
        request[1] = 3;
        assert_eq!(addressee(&request), None);
    }
}
