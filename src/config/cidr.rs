//! Ranges of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A range such as `192.168.1.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    len: u8,
}

impl Cidr {
    /// `const` for ranges that are known beforehand; `len` is at most 32.
    pub(crate) const fn v4(base: Ipv4Addr, len: u8) -> Self {
        Self {
            base: IpAddr::V4(base),
            len,
        }
    }

    /// An address, or an address and the length of its prefix in bits.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, len) = match text.split_once('/') {
            Some((base, len)) if len.bytes().all(|byte| byte.is_ascii_digit()) => {
                (base.parse::<IpAddr>().ok()?, Some(len.parse().ok()?))
            }
            Some(_) => return None,
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(bits);
        (len <= bits).then_some(Self { base, len })
    }

    /// Whether an address lies in it. IPv4 in IPv6's clothing counts as IPv4.
    pub fn contains(self, ip: IpAddr) -> bool {
        let left_aligned = |v4: Ipv4Addr| u128::from(v4.to_bits()) << 96;
        let differing = match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => left_aligned(base) ^ left_aligned(ip),
            (IpAddr::V6(base), IpAddr::V6(ip)) => base.to_bits() ^ ip.to_bits(),
            _ => return false,
        };
        differing.leading_zeros() >= u32::from(self.len)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_shares_their_prefix() {
        let bridge = Cidr::v4(Ipv4Addr::new(172, 30, 32, 0), 23);
        for (ip, inside) in [
            ("172.30.32.0", true),
            ("172.30.33.255", true),
            ("::ffff:172.30.32.2", true),
            ("172.30.34.0", false),
            ("::1", false),
        ] {
            assert_eq!(bridge.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        let one = Cidr::parse("192.0.2.7").unwrap();
        assert!(one.contains("192.0.2.7".parse().unwrap()));
        assert!(!one.contains("192.0.2.6".parse().unwrap()));
        let all = Cidr::parse("::/0").unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("192.0.2.6".parse().unwrap()));
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "x",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3/8",
            "host",
        ] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }
}
