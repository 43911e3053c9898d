//! ICE over TCP, passive only (RFC 6544): accepts connections and carries their RFC 4571 frames to a worker and back.
//!
//! Connections live with tokio, two bounded channels each: towards the worker one channel that all its connections
//! share (full: the connection is not read, TCP slows the peer down), back one of its own (full: dropped and counted,
//! as a network would). A connection says where it belongs with its first frame: a STUN binding request whose USERNAME
//! begins with our ufrag, whose first character names the worker. Nothing else is decided here.
//!
//! A connection ends when the peer closes it, a frame is too long, nobody answers its first frame within 10 s, or the
//! peer is silent for 30 s (consent checks come every 5 s, RFC 7675).

use super::doorbell::Doorbell;
use super::stun;
use super::udp::canonical;
use crate::ids::WorkerId;
use crate::media::io::{Path, Socket};
use crate::task::Tasks;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Connections of the process.
const CONNECTIONS: u32 = 1024;
/// Connections from one address (an IPv6 /64). A proxy in front makes everybody one address.
const CONNECTIONS_PER_ADDRESS: u32 = 256;
/// Until the first frame, and from then until the worker's first answer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Silence after which a connection is dead.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of a frame. What we announce stays below 1,500; a DTLS record may be 8 kB.
const FRAME: usize = 8192;
/// Bytes that wait for one connection, and blocks of frames.
const QUEUE_BYTES: usize = 512 * 1024;
const QUEUE_BLOCKS: usize = 256;
/// Blocks from all connections that wait for one worker.
pub(super) const INBOX: usize = 128;

/// From a connection to its worker.
#[derive(Debug)]
pub(super) enum TcpInput {
    /// It is there; `Frames` follow.
    Opened(Path, Stream),
    /// Whole frames, one after the other.
    Frames(u32, BytesMut),
    /// It is gone.
    Closed(u32),
}

/// The way into one worker.
#[derive(Debug)]
pub(super) struct Gate {
    worker: WorkerId,
    inbox: mpsc::Sender<TcpInput>,
    doorbell: Arc<Doorbell>,
    next: AtomicU32,
}

impl Gate {
    pub(super) fn new(
        worker: WorkerId,
        inbox: mpsc::Sender<TcpInput>,
        doorbell: Arc<Doorbell>,
    ) -> Self {
        Self {
            worker,
            inbox,
            doorbell,
            next: AtomicU32::new(0),
        }
    }

    /// `false`: the worker has ended.
    async fn send(&self, input: TcpInput) -> bool {
        let sent = self.inbox.send(input).await.is_ok();
        self.doorbell.ring();
        sent
    }
}

/// The worker's end of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    blocks: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<u32, (Path, Stream)>);

impl Streams {
    /// `path` is that of a connection.
    pub(super) fn open(&mut self, path: Path, stream: Stream) {
        if let Socket::Tcp(id) = path.socket {
            self.0.insert(id, (path, stream));
        }
    }

    pub(super) fn close(&mut self, id: u32) {
        self.0.remove(&id);
    }

    pub(super) fn path(&self, id: u32) -> Option<Path> {
        self.0.get(&id).map(|(path, _)| *path)
    }

    /// Queues a block of frames; `false`: the connection is gone or too slow.
    pub(super) fn send(&self, id: u32, frames: &[u8]) -> bool {
        let Some((_, stream)) = self.0.get(&id) else {
            return false;
        };
        if stream.queued.load(Ordering::Relaxed) + frames.len() > QUEUE_BYTES {
            return false;
        }
        stream.queued.fetch_add(frames.len(), Ordering::Relaxed);
        stream
            .blocks
            .try_send(Bytes::copy_from_slice(frames))
            .inspect_err(|_| {
                stream.queued.fetch_sub(frames.len(), Ordering::Relaxed);
            })
            .is_ok()
    }
}

/// A listening socket.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM.nonblocking().cloexec(),
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of the last run in TIME_WAIT do not hold the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Accepts connections until the tasks are stopped.
pub(super) async fn listen(
    listener: TcpListener,
    gates: Arc<[Gate]>,
    census: Arc<Census>,
    tasks: Tasks,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.cancelled() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let remote = canonical(remote);
                let Some(place) = Census::admit(&census, remote.ip()) else {
                    census.count(Fault::Refused);
                    tracing::debug!(%remote, "ICE-TCP connection refused: too many");
                    continue;
                };
                let gates = Arc::clone(&gates);
                let own = tasks.clone();
                tasks.spawn("ice-tcp connection", async move {
                    let place = place;
                    tokio::select! {
                        end = serve(stream, remote, &gates) => {
                            if let Some(fault) = end.fault() {
                                place.census.count(fault);
                            }
                            tracing::debug!(%remote, cause = %end, "ICE-TCP connection ended");
                        }
                        () = own.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an ICE-TCP connection cannot be accepted");
                // Out of file descriptors: the next try would fail at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer closed it")]
    Closed,
    #[error("the first frame is no binding request for us")]
    Foreign,
    #[error("no answer to its first frame")]
    Ignored,
    #[error("a frame of {0} bytes")]
    Long(usize),
    #[error("silence")]
    Silent,
    #[error("the worker has ended")]
    Worker,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a peer did wrong on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Foreign,
    Ignored,
    Long,
    /// There were too many connections.
    Refused,
    Silent,
}

/// How these are called in the metrics.
const FAULTS: [&str; 5] = ["foreign", "ignored", "long_frame", "refused", "silent"];

impl End {
    /// `None`: nobody's.
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Foreign => Some(Fault::Foreign),
            Self::Ignored => Some(Fault::Ignored),
            Self::Long(_) => Some(Fault::Long),
            Self::Silent => Some(Fault::Silent),
            Self::Closed | Self::Io(_) | Self::Worker => None,
        }
    }
}

async fn serve(stream: TcpStream, remote: SocketAddr, gates: &[Gate]) -> End {
    let (path, gate, id, reader, writer, buffer) = match attach(stream, remote, gates).await {
        Ok(attached) => attached,
        Err(end) => return end,
    };
    let (blocks, outbox) = mpsc::channel(QUEUE_BLOCKS);
    let queued = Arc::new(AtomicUsize::new(0));
    let stream = Stream {
        blocks,
        queued: Arc::clone(&queued),
    };
    if !gate.send(TcpInput::Opened(path, stream)).await {
        return End::Worker;
    }
    // Whichever way ends first ends both.
    let Err(end) = tokio::select! {
        end = read(reader, buffer, gate, id) => end,
        end = write(writer, outbox, &queued) => end,
    };
    gate.send(TcpInput::Closed(id)).await;
    end
}

type Attached<'a> = (Path, &'a Gate, u32, OwnedReadHalf, OwnedWriteHalf, BytesMut);

/// Reads the first frame and finds the worker. The frame stays in the buffer.
async fn attach(
    stream: TcpStream,
    remote: SocketAddr,
    gates: &[Gate],
) -> Result<Attached<'_>, End> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?.ip().to_canonical();
    let (mut reader, writer) = stream.into_split();
    let mut buffer = BytesMut::with_capacity(2048);
    let first = async {
        while whole_frames(&buffer)? == 0 {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(End::Closed);
            }
        }
        Ok(())
    };
    timeout(HANDSHAKE, first).await.map_err(|_| End::Silent)??;
    let len = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
    let gate = stun::username(&buffer[2..2 + len])
        .and_then(|name| name.chars().next())
        .and_then(|first| gates.iter().find(|gate| gate.worker.ufrag_char() == first))
        .ok_or(End::Foreign)?;
    let id = gate.next.fetch_add(1, Ordering::Relaxed);
    let path = Path {
        socket: Socket::Tcp(id),
        local,
        remote,
    };
    Ok((path, gate, id, reader, writer, buffer))
}

async fn read(
    mut reader: OwnedReadHalf,
    mut buffer: BytesMut,
    gate: &Gate,
    id: u32,
) -> Result<std::convert::Infallible, End> {
    loop {
        let whole = whole_frames(&buffer)?;
        if whole > 0 {
            let frames = buffer.split_to(whole);
            if !gate.send(TcpInput::Frames(id, frames)).await {
                return Err(End::Worker);
            }
        }
        // Room for the rest of the longest frame; blocks in flight keep their own memory.
        buffer.reserve(2 + FRAME);
        let read = timeout(IDLE, reader.read_buf(&mut buffer)).await;
        if read.map_err(|_| End::Silent)?? == 0 {
            return Err(End::Closed);
        }
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut outbox: mpsc::Receiver<Bytes>,
    queued: &AtomicUsize,
) -> Result<std::convert::Infallible, End> {
    let mut block = timeout(HANDSHAKE, outbox.recv())
        .await
        .map_err(|_| End::Ignored)?;
    while let Some(frames) = block {
        writer.write_all(&frames).await?;
        queued.fetch_sub(frames.len(), Ordering::Relaxed);
        block = outbox.recv().await;
    }
    Err(End::Worker)
}

/// Bytes of the whole frames at the start of `buffer`.
fn whole_frames(buffer: &[u8]) -> Result<usize, End> {
    let mut whole = 0;
    while let Some(head) = buffer.get(whole..whole + 2) {
        let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        if len > FRAME {
            return Err(End::Long(len));
        }
        if buffer.len() < whole + 2 + len {
            break;
        }
        whole += 2 + len;
    }
    Ok(whole)
}

/// Hands out the datagrams of a block of whole frames; empty ones are left out (RFC 4571 §2 allows them).
pub(super) fn each_frame(mut block: &mut [u8], mut handle: impl FnMut(&mut [u8])) {
    while let Some((head, rest)) = block.split_at_mut_checked(2) {
        let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let Some((frame, rest)) = rest.split_at_mut_checked(len) else {
            return;
        };
        if !frame.is_empty() {
            handle(frame);
        }
        block = rest;
    }
}

/// Counts connections, in all and by address, and what went wrong with them.
#[derive(Debug, Default)]
pub(super) struct Census(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
    faults: [u64; FAULTS.len()],
}

/// A connection's place in the census, given back when dropped.
#[derive(Debug)]
struct Place {
    census: Arc<Census>,
    address: IpAddr,
}

impl Census {
    fn admit(census: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let address = network(ip);
        let mut counts = census.counts();
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.all >= CONNECTIONS || here >= CONNECTIONS_PER_ADDRESS {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        drop(counts);
        Some(Place {
            census: Arc::clone(census),
            address,
        })
    }

    fn count(&self, fault: Fault) {
        self.counts().faults[fault as usize] += 1;
    }

    /// Connections that were refused or ended by a fault of the peer, by cause.
    pub(super) fn faults(&self) -> Vec<(&'static str, u64)> {
        FAULTS.into_iter().zip(self.counts().faults).collect()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // No code that holds the lock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts();
        counts.all -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// One household: an IPv4 address, an IPv6 /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests;
