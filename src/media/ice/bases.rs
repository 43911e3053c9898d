//! Which local candidate of the agent stands for which path: the bases of [`super`].

use super::{Base, Ice, MAX_HEARD, Place, proto_of, protocol};
use crate::media::io::{Path, Socket};
use crate::plan::Proto;
use is::{Candidate, IceAgent, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bases per protocol and family: the first, and local addresses beyond it.
const MAX_BASES: usize = 4;

impl Ice {
    /// The path between a base and an address of the peer, as the agent names them.
    pub(super) fn place(
        &self,
        proto: Protocol,
        source: SocketAddr,
        remote: SocketAddr,
    ) -> Option<Place> {
        let base = self
            .bases
            .iter()
            .position(|base| protocol(base.proto) == proto && base.address == source)?;
        if let Some(heard) = self
            .heard
            .iter()
            .find(|heard| heard.base == base && heard.path.remote == remote)
        {
            return Some(*heard);
        }
        // Checks to an address not heard from leave by the route that the system chooses; by the other bases and by
        // TCP there is no way.
        let first = self
            .bases_of(Proto::Udp, remote.is_ipv4())
            .next()
            .is_some_and(|first| first == base);
        first.then(|| Place {
            base,
            path: Path {
                socket: Socket::Udp(0),
                local: unspecified(remote),
                remote,
            },
        })
    }

    /// Remembers the path of an authentic message; returns the base that stands for it.
    pub(super) fn learn(&mut self, path: &Path) -> usize {
        if let Some(known) = self.heard.iter().find(|heard| heard.path == *path) {
            return known.base;
        }
        self.learned += 1;
        let proto = proto_of(path);
        let v4 = path.remote.is_ipv4();
        let taken = |base: &usize| {
            self.heard.iter().any(|heard| {
                heard.base == *base
                    && heard.path.remote == path.remote
                    && proto_of(&heard.path) == proto
            })
        };
        // A TCP connection's remote address is its own: the same again is a new connection in its place.
        let free = self
            .bases_of(proto, v4)
            .find(|base| proto == Proto::Tcp || !taken(base));
        let count = self.bases_of(proto, v4).count();
        let base = match free {
            Some(base) => base,
            None if count < MAX_BASES => self.add_base(proto, spare_address(v4, count)),
            None => self.bases_of(proto, v4).next().unwrap_or(0),
        };
        let place = Place { base, path: *path };
        if let Some(selected) = &mut self.selected
            && selected.base == base
            && selected.path.remote == path.remote
            && proto_of(&selected.path) == proto
        {
            *selected = place;
        }
        self.heard.retain(|heard| {
            !(heard.base == base
                && heard.path.remote == path.remote
                && proto_of(&heard.path) == proto)
        });
        if self.heard.len() >= MAX_HEARD {
            let oldest = self
                .heard
                .iter()
                .position(|heard| Some(*heard) != self.selected)
                .unwrap_or(0);
            self.heard.remove(oldest);
        }
        self.heard.push(place);
        base
    }

    pub(super) fn bases_of(&self, proto: Proto, v4: bool) -> impl Iterator<Item = usize> + '_ {
        self.bases
            .iter()
            .enumerate()
            .filter(move |(_, base)| base.proto == proto && base.address.is_ipv4() == v4)
            .map(|(at, _)| at)
    }

    pub(super) fn add_base(&mut self, proto: Proto, address: SocketAddr) -> usize {
        let mut base = Base { proto, address };
        if !add_local(&mut self.agent, base) {
            let spare = spare_address(address.is_ipv4(), 0);
            base.address = SocketAddr::new(spare.ip(), address.port());
            add_local(&mut self.agent, base);
        }
        self.bases.push(base);
        self.bases.len() - 1
    }
}

/// `false` when the agent does not like the address: a link-local one.
pub(super) fn add_local(agent: &mut IceAgent, base: Base) -> bool {
    Candidate::host(base.address, protocol(base.proto))
        .ok()
        .and_then(|candidate| agent.add_local_candidate(candidate).map(|_| ()))
        .is_some()
}

/// Names for bases that have no advertised address (documentation ranges, RFC 5737, RFC 3849).
fn spare_address(v4: bool, number: usize) -> SocketAddr {
    let port = 1 + number as u16;
    if v4 {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
    } else {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        SocketAddr::new(IpAddr::V6(ip), port)
    }
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
