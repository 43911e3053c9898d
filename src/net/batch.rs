//! What a worker is about to send: a slab that the plane seals into, cut into runs.
//!
//! Equal-size neighbours on one UDP path are one run and leave as one GSO send; neighbours on one TCP connection are
//! one run and leave as one block of RFC 4571 frames. The worker flushes after every batch of received packets; a full
//! slab flushes itself. When a socket's buffer is full, the worker waits for it at most 20 ms a flush; what does not
//! leave is dropped and counted, never queued.

use super::tcp::Streams;
use super::udp::{SendError, Udp};
use crate::media::io::{Path, Sink, Socket};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Bytes of the slab: some twenty bursts of ten. It is filled from its start each time, so that a quiet worker touches
/// few of its pages, and it is flushed when full, so that the first receivers do not wait for the last to be sealed.
const SLAB: usize = 256 * 1024;
/// Bytes of one UDP run: the headers fit into a 64 KiB IP packet.
const UDP_RUN: usize = 65_000;
/// Segments of one GSO send (UDP_MAX_SEGMENTS of Linux before 6.9).
const SEGMENTS: usize = 64;
/// Bytes of one block to a TCP connection.
const TCP_RUN: usize = 16 * 1024;
/// How long a full socket buffer may hold the worker up.
const WAIT: Duration = Duration::from_millis(20);

/// The sink of a worker's plane.
#[derive(Debug)]
pub(super) struct TxBatch {
    slab: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
    sockets: Vec<Udp>,
    streams: Streams,
    writable: Poll,
    now: Instant,
    drops: TxDrops,
}

/// Datagrams that were not sent, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TxDrops {
    /// The socket's buffer stayed full.
    pub(super) blocked: u64,
    /// The system refused them: no route, address gone, too big.
    pub(super) refused: u64,
    /// The TCP connection is gone or too slow.
    pub(super) stream: u64,
    /// Larger than the slab.
    pub(super) oversized: u64,
}

#[derive(Debug)]
struct Run {
    path: Path,
    start: usize,
    len: usize,
    /// Bytes of each datagram but the last.
    segment: usize,
    count: usize,
    /// Its last datagram is a shorter one: nothing can follow it.
    closed: bool,
}

impl TxBatch {
    pub(super) fn new(sockets: Vec<Udp>, now: Instant) -> io::Result<Self> {
        Ok(Self {
            slab: vec![0; SLAB].into_boxed_slice(),
            used: 0,
            runs: Vec::with_capacity(64),
            sockets,
            streams: Streams::default(),
            writable: Poll::new()?,
            now,
            drops: TxDrops::default(),
        })
    }

    pub(super) fn sockets(&self) -> &[Udp] {
        &self.sockets
    }

    pub(super) fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    pub(super) fn drops(&self) -> TxDrops {
        self.drops
    }

    /// The time of this turn.
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Sends all of it.
    pub(super) fn flush(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let mut may_wait = true;
        let mut runs = std::mem::take(&mut self.runs);
        for run in runs.drain(..) {
            match run.path.socket {
                Socket::Tcp(id) => {
                    let frames = &self.slab[run.start..run.start + run.len];
                    if !self.streams.send(id, frames) {
                        self.drops.stream += run.count as u64;
                    }
                }
                Socket::Udp(index) => self.send(&run, usize::from(index), &mut may_wait),
            }
        }
        self.runs = runs;
        self.used = 0;
    }

    fn send(&mut self, run: &Run, index: usize, may_wait: &mut bool) {
        let Path { local, remote, .. } = run.path;
        let v4 = remote.is_ipv4();
        // An address that nothing was heard of yet is checked by a path that knows neither socket nor local address.
        let fits = |udp: &Udp| udp.local().is_ipv4() == v4;
        let named = self.sockets.get(index).is_some_and(fits);
        let index = if named {
            Some(index)
        } else {
            self.sockets.iter().position(fits)
        };
        let Some(udp) = index.and_then(|index| self.sockets.get_mut(index)) else {
            self.drops.refused += run.count as u64;
            return;
        };
        let contents = &self.slab[run.start..run.start + run.len];
        let mut result = udp.send(self.now, local, remote, contents, run.segment);
        if result == Err(SendError::Blocked) && *may_wait {
            *may_wait = false;
            match wait_writable(&mut self.writable, udp) {
                Ok(true) => result = udp.send(self.now, local, remote, contents, run.segment),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "waiting for a socket"),
            }
        }
        match result {
            Ok(()) => {}
            Err(SendError::Blocked) => self.drops.blocked += run.count as u64,
            Err(SendError::Refused(count)) => self.drops.refused += count as u64,
        }
    }

    fn push_udp(&mut self, path: &Path, index: u8, start: usize, len: usize) {
        let segments = self
            .sockets
            .get(usize::from(index))
            .map_or(1, Udp::max_segments)
            .min(SEGMENTS);
        if let Some(run) = self.runs.last_mut()
            && !run.closed
            && run.path == *path
            && len <= run.segment
            && run.count < segments
            && run.len + len <= UDP_RUN
        {
            run.len += len;
            run.count += 1;
            run.closed = len < run.segment;
        } else {
            self.push_run(path, start, len);
        }
    }

    fn push_tcp(&mut self, path: &Path, start: usize, len: usize) {
        if let Some(run) = self.runs.last_mut()
            && run.path == *path
            && run.len + len <= TCP_RUN
        {
            run.len += len;
            run.count += 1;
        } else {
            self.push_run(path, start, len);
        }
    }

    fn push_run(&mut self, path: &Path, start: usize, len: usize) {
        self.runs.push(Run {
            path: *path,
            start,
            len,
            segment: len,
            count: 1,
            closed: false,
        });
    }
}

impl Sink for TxBatch {
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        // RFC 4571: two bytes of length before each datagram.
        let head = match path.socket {
            Socket::Tcp(_) => 2,
            Socket::Udp(_) => 0,
        };
        if max_len + head > self.slab.len() - self.used {
            self.flush();
        }
        let start = self.used;
        let Some(space) = self.slab.get_mut(start..start + head + max_len) else {
            self.drops.oversized += 1;
            return;
        };
        let (prefix, space) = space.split_at_mut(head);
        let len = fill(space).min(max_len);
        if len == 0 {
            return;
        }
        match path.socket {
            Socket::Tcp(_) => {
                let Ok(frame_len) = u16::try_from(len) else {
                    self.drops.oversized += 1;
                    return;
                };
                prefix.copy_from_slice(&frame_len.to_be_bytes());
                self.push_tcp(path, start, head + len);
            }
            Socket::Udp(index) => self.push_udp(path, index, start, len),
        }
        self.used = start + head + len;
    }
}

/// Waits until the socket takes more, at most [`WAIT`]. It is registered for this wait only: a standing interest in
/// writability costs a callback in the kernel for every packet sent.
fn wait_writable(poll: &mut Poll, udp: &Udp) -> io::Result<bool> {
    let fd = udp.socket().as_raw_fd();
    let mut source = SourceFd(&fd);
    poll.registry()
        .register(&mut source, Token(0), Interest::WRITABLE)?;
    let mut events = Events::with_capacity(1);
    let polled = poll.poll(&mut events, Some(WAIT));
    poll.registry().deregister(&mut source)?;
    polled?;
    Ok(!events.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn batch() -> TxBatch {
        let udp = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        TxBatch::new(vec![udp], crate::net::now()).unwrap()
    }

    fn receiver() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    }

    fn path_to(socket: &UdpSocket) -> Path {
        Path {
            socket: Socket::Udp(0),
            local: "127.0.0.1".parse().unwrap(),
            remote: socket.local_addr().unwrap(),
        }
    }

    fn put(batch: &mut TxBatch, path: &Path, len: usize, mark: u8) {
        batch.datagram(path, len + 50, |space| {
            space[..len].fill(mark);
            len
        });
    }

    fn shape(batch: &TxBatch) -> Vec<(usize, usize)> {
        batch
            .runs
            .iter()
            .map(|run| (run.count, run.segment))
            .collect()
    }

    #[test]
    fn equal_neighbours_on_one_path_are_one_run() {
        let mut batch = batch();
        let (one, two) = (receiver(), receiver());
        for _ in 0..3 {
            put(&mut batch, &path_to(&one), 100, 1);
        }
        put(&mut batch, &path_to(&one), 60, 2);
        put(&mut batch, &path_to(&one), 60, 3);
        put(&mut batch, &path_to(&one), 80, 4);
        put(&mut batch, &path_to(&two), 80, 5);
        assert_eq!(shape(&batch), [(4, 100), (1, 60), (1, 80), (1, 80)]);
        batch.flush();
        let mut buffer = [0; 2000];
        let mut got = Vec::new();
        for _ in 0..6 {
            let (len, _) = one.recv_from(&mut buffer).unwrap();
            got.push((len, buffer[0]));
        }
        assert_eq!(
            got,
            [(100, 1), (100, 1), (100, 1), (60, 2), (60, 3), (80, 4)]
        );
        let (len, _) = two.recv_from(&mut buffer).unwrap();
        assert_eq!((len, buffer[0]), (80, 5));
        assert_eq!(batch.drops(), TxDrops::default());
    }

    #[test]
    fn a_run_ends_at_64_segments_and_below_64_kib() {
        let mut batch = batch();
        let to = receiver();
        for _ in 0..65 {
            put(&mut batch, &path_to(&to), 10, 1);
        }
        for _ in 0..60 {
            put(&mut batch, &path_to(&to), 1_200, 1);
        }
        assert_eq!(shape(&batch), [(64, 10), (1, 10), (54, 1_200), (6, 1_200)]);
        batch.flush();
        let mut buffer = [0; 2000];
        for _ in 0..125 {
            to.recv_from(&mut buffer).unwrap();
        }
        assert_eq!(batch.drops(), TxDrops::default());
    }

    #[test]
    fn a_full_slab_flushes_itself_and_loses_nothing() {
        let mut batch = batch();
        let to = receiver();
        socket2::SockRef::from(&to)
            .set_recv_buffer_size(4 << 20)
            .unwrap();
        let path = path_to(&to);
        let mut buffer = [0; 2000];
        let mut sent = 0_u32;
        let mut received = 0_u32;
        while sent < 1_200 {
            batch.datagram(&path, 1_100, |space| {
                space[..4].copy_from_slice(&sent.to_be_bytes());
                1_100
            });
            sent += 1;
            // The receiver's buffer shall not be what loses them.
            if batch.runs.len() == 1 && batch.runs[0].count == 1 && sent > 1 {
                while received < sent - 1 {
                    to.recv_from(&mut buffer).unwrap();
                    assert_eq!(buffer[..4], received.to_be_bytes());
                    received += 1;
                }
            }
        }
        assert!(received > 900, "the slab never filled");
        batch.flush();
        while received < sent {
            to.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..4], received.to_be_bytes());
            received += 1;
        }
    }

    #[test]
    fn a_path_without_a_socket_of_its_family_takes_another() {
        let v6 = Udp::bind("[::1]:0".parse().unwrap()).unwrap();
        let v4 = Udp::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = v4.local().port();
        let mut batch = TxBatch::new(vec![v6, v4], crate::net::now()).unwrap();
        let to = receiver();
        let path = Path {
            local: "0.0.0.0".parse().unwrap(),
            ..path_to(&to)
        };
        put(&mut batch, &path, 10, 7);
        batch.flush();
        let (len, from) = to.recv_from(&mut [0; 20]).unwrap();
        assert_eq!((len, from.port()), (10, port));
    }

    #[test]
    fn nothing_is_sent_for_an_empty_fill_or_an_absurd_size() {
        let mut batch = batch();
        let to = receiver();
        batch.datagram(&path_to(&to), 100, |_| 0);
        batch.datagram(&path_to(&to), 2 * SLAB, |_| 1);
        assert!(batch.runs.is_empty());
        assert_eq!(batch.drops().oversized, 1);
    }

    #[test]
    fn an_unknown_stream_is_counted() {
        let mut batch = batch();
        let path = Path {
            socket: Socket::Tcp(7),
            local: "127.0.0.1".parse().unwrap(),
            remote: "127.0.0.1:9".parse().unwrap(),
        };
        put(&mut batch, &path, 10, 1);
        put(&mut batch, &path, 20, 1);
        batch.flush();
        assert_eq!(batch.drops().stream, 2);
    }
}
