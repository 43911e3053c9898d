//! The UDP sockets of the workers: binding them, receiving into a slab, sending a run of equal datagrams.
//!
//! One socket per address family (or per address of `bind`), never shared by workers, never SO_REUSEPORT. IPv6 sockets
//! take IPv6 only, so that each family's addresses mean what they say. `quinn-udp` does GRO, recvmmsg, GSO and tells
//! and sets the local address of each datagram.

use super::StartError;
use crate::plan::Proto;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Socket buffers that are asked for, bytes each way: 300 ms of 100 Mbit/s.
const BUFFER: usize = 4 * 1024 * 1024;
/// Messages of one receive call. A message may be 64 datagrams (GRO).
const MESSAGES: usize = 16;
/// Bytes for one message: the kernel's largest GRO list fits, or its end would be lost. Pages that no message
/// reaches are never touched and cost no memory.
const MESSAGE_LEN: usize = 65_536;
/// How often a socket whose offload was switched off by an error of one path is set up again.
const REVIVE_PAUSE: Duration = Duration::from_millis(100);

/// A bound UDP socket of one worker.
#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    revival: Revival,
}

/// When a socket is set up again because the error of one path has switched its offload off.
#[derive(Debug, Default)]
struct Revival {
    is_owed: bool,
    last: Option<Instant>,
}

impl Revival {
    /// `true`: now.
    fn poll(&mut self, now: Instant) -> bool {
        let is_early = || {
            self.last
                .is_some_and(|last| now.saturating_duration_since(last) < REVIVE_PAUSE)
        };
        if !self.is_owed || is_early() {
            return false;
        }
        self.is_owed = false;
        self.last = Some(now);
        true
    }
}

/// Why datagrams did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendError {
    /// The socket's buffer is full.
    Blocked,
    /// The system will not send this many of them: no route, the local address is gone, too big.
    Refused(usize),
}

impl Udp {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        // A refusal is seen in the sizes and told once for all sockets ([`report_buffers`]).
        for refused in [
            socket.set_recv_buffer_size(BUFFER),
            socket.set_send_buffer_size(BUFFER),
        ] {
            if let Err(error) = refused {
                tracing::debug!(%address, %error, "socket buffer");
            }
        }
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            state,
            local,
            revival: Revival::default(),
        })
    }

    /// The address it is bound to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Datagrams that one send may carry.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Fills the slab; returns the number of messages, and whether there may be more.
    pub(super) fn receive(&self, slab: &mut RxSlab) -> io::Result<(usize, bool)> {
        let mut chunks = slab.bytes.chunks_exact_mut(MESSAGE_LEN);
        let mut buffers: [IoSliceMut<'_>; MESSAGES] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = self
            .state
            .recv((&self.socket).into(), &mut buffers, &mut slab.meta)?;
        Ok((count, count == MESSAGES))
    }

    /// Sends `contents`, datagrams of `segment` bytes each (the last may be shorter), as one call where the system can.
    pub(super) fn send(
        &mut self,
        now: Instant,
        local: IpAddr,
        remote: SocketAddr,
        contents: &[u8],
        segment: usize,
    ) -> Result<(), SendError> {
        let transmit = |contents| Transmit {
            destination: remote,
            ecn: None,
            contents,
            segment_size: Some(segment),
            src_ip: (!local.is_unspecified()).then_some(local),
        };
        self.revive_if_owed(now);
        let could_offload = self.max_segments() > 1;
        if contents.len() <= segment || could_offload {
            match self.try_send(&transmit(contents)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(SendError::Blocked);
                }
                Err(error) if contents.len() <= segment => {
                    tracing::trace!(%remote, %local, %error, "send");
                    self.revival.is_owed |= could_offload && self.max_segments() == 1;
                    self.revive_if_owed(now);
                    return Err(SendError::Refused(1));
                }
                // Either this path cannot be sent to, or the device cannot segment: the single datagrams tell.
                Err(_) => {}
            }
        }
        let mut refused = 0;
        let mut sent = 0;
        for datagram in contents.chunks(segment) {
            match self.try_send(&transmit(datagram)) {
                Ok(()) => sent += 1,
                Err(error) => {
                    if sent + refused == 0 && error.kind() == io::ErrorKind::WouldBlock {
                        return Err(SendError::Blocked);
                    }
                    refused += 1;
                }
            }
        }
        if refused == 0 {
            return Ok(());
        }
        self.revival.is_owed |= sent == 0 && could_offload && self.max_segments() == 1;
        self.revive_if_owed(now);
        Err(SendError::Refused(refused))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.try_send((&self.socket).into(), transmit)
    }

    /// `quinn-udp` takes EINVAL for a device without offload and stops using it on this socket for ever. A local
    /// address that has gone says EINVAL too; then the other paths shall have their offload back, with the next send
    /// when it was lost twice within the pause.
    fn revive_if_owed(&mut self, now: Instant) {
        if !self.revival.poll(now) {
            return;
        }
        match UdpSocketState::new((&self.socket).into()) {
            Ok(state) => self.state = state,
            Err(error) => tracing::debug!(%error, "a UDP socket cannot be set up again"),
        }
    }
}

/// Where received messages land.
#[derive(Debug)]
pub(super) struct RxSlab {
    bytes: Box<[u8]>,
    meta: [RecvMeta; MESSAGES],
}

impl RxSlab {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; MESSAGES * MESSAGE_LEN].into_boxed_slice(),
            meta: [RecvMeta::default(); MESSAGES],
        }
    }

    /// Each datagram of the first `messages`, with the local address it was sent to and its sender.
    pub(super) fn datagrams(
        &mut self,
        messages: usize,
        mut handle: impl FnMut(IpAddr, SocketAddr, &mut [u8]),
    ) {
        let filled = self.bytes.chunks_exact_mut(MESSAGE_LEN).zip(&self.meta);
        for (buffer, meta) in filled.take(messages) {
            let remote = canonical(meta.addr);
            let local = meta
                .dst_ip
                .map_or_else(|| unspecified_like(remote.ip()), |ip| ip.to_canonical());
            let len = meta.len.min(MESSAGE_LEN);
            let stride = if meta.stride == 0 { len } else { meta.stride };
            if len == 0 {
                continue;
            }
            for datagram in buffer[..len].chunks_mut(stride) {
                handle(local, remote, datagram);
            }
        }
    }
}

/// An IPv4 address in IPv6's clothing is an IPv4 address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

fn unspecified_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The addresses to bind a port on: those named, or the wildcard of each family.
pub(super) fn bind_all<T>(
    addresses: &[IpAddr],
    port: u16,
    proto: Proto,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, StartError> {
    let mut bound = Vec::new();
    let mut missing = None;
    let wildcards = [
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    ];
    let named = !addresses.is_empty();
    for &ip in if named { addresses } else { &wildcards } {
        let address = SocketAddr::new(ip, port);
        match bind(address) {
            Ok(socket) => bound.push(socket),
            Err(error) if !named && lacks_family(&error) => {
                tracing::debug!(%address, %error, "this address family is not there");
                missing = Some(StartError::bind(address, proto, error));
            }
            Err(error) => return Err(StartError::bind(address, proto, error)),
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

/// The kernel was started without IPv6 (EAFNOSUPPORT), or it is switched off on all interfaces (EADDRNOTAVAIL).
fn lacks_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// `EAFNOSUPPORT` on every Linux.
const EAFNOSUPPORT: i32 = 97;

/// Says once what to type when the system gave smaller buffers than asked for.
pub(super) fn report_buffers<'a>(sockets: impl Iterator<Item = &'a Udp> + Clone) {
    // Linux doubles what it grants and tells the double.
    let granted = |size: io::Result<usize>| size.map_or(BUFFER, |size| size / 2);
    let receive = sockets
        .clone()
        .map(|udp| granted(udp.state.recv_buffer_size((&udp.socket).into())))
        .min();
    let send = sockets
        .map(|udp| granted(udp.state.send_buffer_size((&udp.socket).into())))
        .min();
    let (Some(receive), Some(send)) = (receive, send) else {
        return;
    };
    if let Some(command) = buffer_remedy(receive, send) {
        tracing::warn!(
            "the system grants {} kB of {} kB socket buffer: bursts of video may get lost. Type: {command}",
            receive.min(send) / 1024,
            BUFFER / 1024,
        );
    }
}

/// The command that makes the system grant full buffers; `None` when it does.
fn buffer_remedy(receive: usize, send: usize) -> Option<String> {
    let too_small: Vec<_> = [(receive, "rmem_max"), (send, "wmem_max")]
        .into_iter()
        .filter(|(size, _)| *size < BUFFER)
        .map(|(_, name)| format!(" net.core.{name}={BUFFER}"))
        .collect();
    (!too_small.is_empty()).then(|| format!("sysctl -w{}", too_small.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedy_names_just_what_is_too_small() {
        assert_eq!(buffer_remedy(BUFFER, BUFFER), None);
        assert_eq!(
            buffer_remedy(212_992, BUFFER).as_deref(),
            Some("sysctl -w net.core.rmem_max=4194304")
        );
        assert_eq!(
            buffer_remedy(212_992, 212_992).as_deref(),
            Some("sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304")
        );
    }

    #[test]
    fn a_missing_family_is_no_error_unless_it_was_named() {
        let no_v6 = |address: SocketAddr| {
            if address.is_ipv6() {
                Err(io::Error::from_raw_os_error(EAFNOSUPPORT))
            } else {
                Ok(address)
            }
        };
        let bound = bind_all(&[], 7, Proto::Udp, no_v6).unwrap();
        assert_eq!(bound, ["0.0.0.0:7".parse().unwrap()]);
        let named = [IpAddr::V6(Ipv6Addr::LOCALHOST)];
        assert!(bind_all(&named, 7, Proto::Udp, no_v6).is_err());
    }

    #[test]
    fn no_family_at_all_is_an_error() {
        let none = |_| Err::<(), _>(io::Error::from_raw_os_error(EAFNOSUPPORT));
        assert!(bind_all(&[], 7, Proto::Udp, none).is_err());
    }

    #[test]
    fn a_refused_path_leaves_offload_on() {
        let mut udp = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let segments = udp.max_segments();
        let foreign = "198.51.100.1".parse().unwrap();
        let remote = "127.0.0.1:9".parse().unwrap();
        let error = udp.send(crate::net::now(), foreign, remote, &[1; 300], 100);
        assert_eq!(error, Err(SendError::Refused(3)));
        assert_eq!(udp.max_segments(), segments);
    }

    #[test]
    fn offload_that_is_lost_twice_in_a_moment_is_back_after_the_pause() {
        let now = crate::net::now();
        let mut revival = Revival::default();
        assert!(!revival.poll(now));
        revival.is_owed = true;
        assert!(revival.poll(now) && !revival.poll(now));
        revival.is_owed = true;
        assert!(!revival.poll(now + REVIVE_PAUSE / 2));
        assert!(revival.poll(now + REVIVE_PAUSE));
    }

    #[test]
    fn reply_leaves_from_the_address_that_was_addressed() {
        let mut server = Udp::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = server.local().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", ("127.0.0.2", port)).unwrap();
        server.socket.set_nonblocking(false).unwrap();
        let mut slab = RxSlab::new();
        server
            .socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        server.socket.peek(&mut [0; 8]).unwrap();
        server.socket.set_nonblocking(true).unwrap();
        let (messages, more) = server.receive(&mut slab).unwrap();
        assert_eq!((messages, more), (1, false));
        let mut seen = Vec::new();
        slab.datagrams(messages, |local, remote, bytes| {
            seen.push((local, remote, bytes.to_vec()));
        });
        let (local, remote, bytes) = seen.remove(0);
        assert_eq!(local, "127.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(remote, client.local_addr().unwrap());
        assert_eq!(bytes, b"hello");
        server
            .send(crate::net::now(), local, remote, b"answer", 6)
            .unwrap();
        let mut answer = [0; 16];
        let (len, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!(&answer[..len], b"answer");
        assert_eq!(from, SocketAddr::from(([127, 0, 0, 2], port)));
    }
}
