//! What the plane exchanges with the loop that drives it: paths, datagrams out, batches between workers.

use std::net::{IpAddr, SocketAddr};

/// Which socket or stream of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// An ICE-TCP connection, numbered by the worker's driver; datagrams are framed by RFC 4571 there.
    Tcp(u32),
    /// A UDP socket of the worker, by index in its list.
    Udp(u8),
}

/// How a datagram came or is to go. Never a bare address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The socket or stream.
    pub socket: Socket,
    /// The local address that was addressed, and from which replies leave; unspecified when the system does not tell.
    pub local: IpAddr,
    /// The peer; v4-mapped addresses are normalised to v4.
    pub remote: SocketAddr,
}

/// Takes datagrams to send. Equal-size neighbours on one path leave as one GSO send.
pub trait Sink {
    /// Gives `fill` at least `max_len` bytes; what it returns is the length of the datagram (0: nothing is sent).
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize);
}
