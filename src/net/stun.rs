//! As much of STUN (RFC 8489) as sockets need: to learn our own public address, and to see for which transport a new
//! TCP connection asks. What decides anything (integrity, nomination) is the plane's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC: u32 = 0x2112_a442;
const HEADER: usize = 20;
const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// A binding request without attributes.
pub(super) fn binding_request(transaction: [u8; 12]) -> [u8; HEADER] {
    let mut message = [0; HEADER];
    message[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
    message[4..8].copy_from_slice(&MAGIC.to_be_bytes());
    message[8..].copy_from_slice(&transaction);
    message
}

/// The address that a success response to `transaction` tells; `None` for anything else.
pub(super) fn mapped_address(message: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let attributes = Attributes::of(message, BINDING_SUCCESS)?;
    if message[8..HEADER] != transaction {
        return None;
    }
    let mut plain = None;
    for (kind, value) in attributes {
        match kind {
            XOR_MAPPED_ADDRESS => return address(value, &message[4..HEADER]),
            // RFC 3489 servers know no other.
            MAPPED_ADDRESS => plain = address(value, &[0; 16]),
            _ => {}
        }
    }
    plain
}

/// The USERNAME of a binding request; `None` for anything else.
pub(super) fn username(message: &[u8]) -> Option<&str> {
    let (_, value) =
        Attributes::of(message, BINDING_REQUEST)?.find(|(kind, _)| *kind == USERNAME)?;
    std::str::from_utf8(value).ok()
}

/// RFC 8489 §14.1 and §14.2; `mask` is the magic cookie and the transaction, or zeros.
fn address(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let [_, family, port @ ..] = value.get(..4)? else {
        return None;
    };
    let mut bytes = [0; 16];
    let rest = value.get(4..)?;
    let ip = match (family, rest.len()) {
        (1, 4) => {
            for (byte, (value, mask)) in bytes.iter_mut().zip(rest.iter().zip(mask)) {
                *byte = value ^ mask;
            }
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        }
        (2, 16) => {
            for (byte, (value, mask)) in bytes.iter_mut().zip(rest.iter().zip(mask)) {
                *byte = value ^ mask;
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    let port = [port[0] ^ mask[0], port[1] ^ mask[1]];
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

/// The attributes of a message, in order; ends at the first that does not fit.
struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// `None` unless `message` is one whole STUN message of this type.
    fn of(message: &'a [u8], kind: u16) -> Option<Self> {
        let (header, body) = message.split_at_checked(HEADER)?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        (header[..2] == kind.to_be_bytes() && header[4..8] == MAGIC.to_be_bytes()).then_some(())?;
        (body.len() == len && len.is_multiple_of(4)).then_some(Self(body))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_at_checked(4)?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..len)?;
        self.0 = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 5769 §2.1.
    const REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74,
        0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e,
        0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36,
        0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20,
        0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e,
        0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5,
        0x7a, 0x3b, 0xcf,
    ];

    /// RFC 5769 §2.2.
    const RESPONSE_V4: [u8; 80] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1,
        0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3,
        0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00,
        0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];

    /// RFC 5769 §2.3, its XOR-MAPPED-ADDRESS.
    const XOR_V6: [u8; 24] = [
        0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1,
        0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
    ];

    const TRANSACTION: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    /// A binding request with this USERNAME and no integrity.
    pub(crate) fn request_for(name: &str) -> Vec<u8> {
        let mut message = binding_request(TRANSACTION).to_vec();
        let padded = name.len().next_multiple_of(4);
        message[2..4].copy_from_slice(&(padded as u16 + 4).to_be_bytes());
        message.extend(USERNAME.to_be_bytes());
        message.extend((name.len() as u16).to_be_bytes());
        message.extend(name.bytes());
        message.resize(HEADER + 4 + padded, 0);
        message
    }

    /// The success response to `request` that tells `mapped`.
    pub(crate) fn response_to(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
        let SocketAddr::V4(mapped) = mapped else {
            panic!("tests map to IPv4")
        };
        let mut message = request[..HEADER].to_vec();
        message[..4].copy_from_slice(&[1, 1, 0, 12]);
        message.extend([0, 0x20, 0, 8, 0, 1]);
        let port = mapped.port().to_be_bytes();
        let plain = [&port[..], &mapped.ip().octets()[..]].concat();
        let mask = [0x21, 0x12, 0x21, 0x12, 0xa4, 0x42];
        message.extend(plain.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        message
    }

    #[test]
    fn username_of_the_rfc_5769_request() {
        assert_eq!(username(&REQUEST), Some("evtj:h6vY"));
        assert_eq!(username(&RESPONSE_V4), None);
        assert_eq!(username(&request_for("Abcd:x")), Some("Abcd:x"));
    }

    #[test]
    fn addresses_of_the_rfc_5769_responses() {
        assert_eq!(
            mapped_address(&RESPONSE_V4, TRANSACTION),
            Some("192.0.2.1:32853".parse().unwrap())
        );
        let mut v6 = RESPONSE_V4[..HEADER].to_vec();
        v6[3] = 24;
        v6.extend(XOR_V6);
        assert_eq!(
            mapped_address(&v6, TRANSACTION),
            Some(
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
                    .parse()
                    .unwrap()
            )
        );
        assert_eq!(mapped_address(&RESPONSE_V4, [0; 12]), None);
    }

    #[test]
    fn a_plain_mapped_address_is_good_enough() {
        let mut message = binding_request(TRANSACTION).to_vec();
        message[..4].copy_from_slice(&[1, 1, 0, 12]);
        message.extend([0, 1, 0, 8, 0, 1, 0x12, 0x34, 198, 51, 100, 7]);
        assert_eq!(
            mapped_address(&message, TRANSACTION),
            Some("198.51.100.7:4660".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            at in 0_usize..108,
            cut in 0_usize..108,
            byte: u8,
            noise in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut request = REQUEST;
            request[at] = byte;
            username(&request[..cut]);
            let mut response = RESPONSE_V4;
            response[at % 80] = byte;
            mapped_address(&response[..cut % 81], TRANSACTION);
            username(&noise);
            mapped_address(&noise, TRANSACTION);
        }
    }
}
