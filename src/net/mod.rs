//! The sockets: media workers on their threads, the ICE-TCP listener, and the addresses that clients are told.
//!
//! [`Net::start`] binds everything or says what to change; [`Handle`] is what rooms use. Each UDP port belongs to one
//! worker, each worker to one thread (`worker.rs`), each transport for life to the worker whose port its candidates
//! name. TCP connections live with tokio and reach their worker by bounded channels (`tcp/`). Nothing here knows what
//! the datagrams mean: that is [`crate::media`]'s.
//!
//! | channel | bound | when full |
//! | --- | --- | --- |
//! | commands to a worker | 1024 | the sender waits |
//! | TCP blocks to a worker | 128 | the connections are not read |
//! | blocks to a TCP connection | 256, 512 KiB | dropped, counted |
//! | link messages between workers | 256 | packets dropped, counted; the newest of the rest waits, 256 |
//! | events to a room | the room's | merged, data held back |

mod addresses;
mod advertise;
mod batch;
mod doorbell;
mod events;
mod external;
mod links;
mod load;
mod netlink;
mod stun;
mod tcp;
mod udp;
mod worker;

use crate::clock::Clock;
use crate::config;
use crate::ids::WorkerId;
use crate::media::plane::{Certificate, Plane, PlaneConfig};
use crate::plan::{Command, Fingerprint, LocalCandidate, Proto, WorkerReport};
use crate::random::Random;
use crate::task::Tasks;
use addresses::Bound;
use advertise::Advertiser;
use doorbell::Doorbell;
use links::Link;
use load::Load;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use worker::{Inbox, Input, Worker};

/// Commands that wait for a worker.
const COMMANDS: usize = 1024;
/// Commands that may wait for a worker before it is woken for one that can wait.
const UNRUNG: usize = worker::SHARE / 2;
/// Messages in a worker's ring.
const RING: usize = 256;
/// More workers than first characters of a ufrag cannot be told apart.
const WORKERS: usize = 52;
/// How long a worker may take to close its transports.
const STOP: Duration = Duration::from_secs(2);

/// Why the sockets cannot be opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program has the port.
    #[error(
        "{proto} port {port} is in use by another program: stop that program, or set `{option}` to a free port"
    )]
    InUse {
        /// The port.
        port: u16,
        /// "UDP" or "TCP".
        proto: &'static str,
        /// Where the port is configured.
        option: &'static str,
    },
    /// Other programs have every port of the range.
    #[error(
        "every UDP port from {first} to {last} is in use by another program: stop that program, or set \
         `rtc_udp_port_min` and `rtc_udp_port_max` to free ports"
    )]
    AllInUse {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The port is reserved for root.
    #[error("{proto} port {port} is not allowed to this user: set `{option}` to a port above 1023")]
    Denied {
        /// The port.
        port: u16,
        /// "UDP" or "TCP".
        proto: &'static str,
        /// Where the port is configured.
        option: &'static str,
    },
    /// An address to bind is not of this host.
    #[error("this host does not have the address {ip}: correct `bind_addresses`")]
    NotOurs {
        /// The address.
        ip: IpAddr,
    },
    /// Any other failure to bind.
    #[error("{proto} {address} cannot be opened (`{option}`)")]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// "UDP" or "TCP".
        proto: &'static str,
        /// Where the port is configured.
        option: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// No thread, no epoll.
    #[error("a media worker cannot be started")]
    Worker(#[from] io::Error),
}

impl StartError {
    fn bind(address: SocketAddr, proto: Proto, source: io::Error) -> Self {
        let port = address.port();
        let (proto, option) = match proto {
            Proto::Tcp => ("TCP", "rtc.tcp_port"),
            Proto::Udp => ("UDP", "rtc.udp_port"),
        };
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse {
                port,
                proto,
                option,
            },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { ip: address.ip() },
            io::ErrorKind::PermissionDenied => Self::Denied {
                port,
                proto,
                option,
            },
            _ => Self::Bind {
                address,
                proto,
                option,
                source,
            },
        }
    }
}

/// The running workers. Dropping it tells them to stop; [`Net::stop`] also waits.
#[derive(Debug)]
pub struct Net {
    handle: Handle,
    threads: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
}

/// What rooms and the status page use; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seats: Vec<Seat>,
    fingerprint: Fingerprint,
    bound: Vec<String>,
    placed: AtomicUsize,
    census: Arc<tcp::Census>,
    /// Rings when the candidates of the seats have changed.
    moved: watch::Sender<()>,
}

/// The async side's end of one worker.
#[derive(Debug)]
struct Seat {
    inputs: mpsc::Sender<Input>,
    doorbell: Arc<Doorbell>,
    load: Arc<Load>,
    candidates: watch::Sender<Arc<[LocalCandidate]>>,
}

impl Seat {
    /// Waits while the worker has too much to do. Nothing happens when it has ended.
    async fn send(&self, input: Input) {
        // A transport has nothing to do until its peer is known or heard: it is opened when that wakes the worker. Few
        // may wait so, fewer than a worker takes in one turn.
        let is_opening = matches!(input, Input::Command(Command::OpenTransport { .. }));
        if self.inputs.send(input).await.is_err() {
            tracing::debug!("a command to a worker that has ended");
        }
        let waiting = self.inputs.max_capacity() - self.inputs.capacity();
        if !is_opening || waiting >= UNRUNG {
            self.doorbell.ring();
        }
    }
}

impl Net {
    /// Binds the sockets and starts the workers: one for each UDP port, at most one for each core. To be called inside
    /// a tokio runtime.
    pub fn start(rtc: &config::Rtc, mut random: Random, tasks: &Tasks) -> Result<Self, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = rtc.udp_ports.len().min(cores).clamp(1, WORKERS);
        if rtc.udp_ports.len() > count {
            tracing::info!(
                ports = rtc.udp_ports.len(),
                workers = count,
                "more UDP ports than cores: the last ones stay closed"
            );
        }
        let listeners = match rtc.tcp_port {
            Some(port) => udp::bind_all(&rtc.bind, port, Proto::Tcp, tcp::bind)?,
            None => Vec::new(),
        };
        let sockets = media_sockets(rtc, count)?;
        udp::report_buffers(sockets.iter().flatten());
        let tcp_bound = listeners
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<Vec<_>>>()?;
        let bound: Vec<_> = sockets
            .iter()
            .map(|sockets| Bound {
                udp: sockets.iter().map(udp::Udp::local).collect(),
                tcp: tcp_bound.clone(),
            })
            .collect();
        let names = names(&bound, &tcp_bound);
        let advertiser = Advertiser::new(rtc, bound);
        let addresses = advertiser.addresses();
        let candidates = advertiser.candidates(&addresses);

        let certificate = Arc::new(Certificate::generate());
        let wall = Duration::from_millis(Clock::System.unix_ms());
        let epoch = (now(), UNIX_EPOCH + wall);
        let mut seats = Vec::new();
        let mut gates = Vec::new();
        let mut links = Vec::new();
        let mut parts = Vec::new();
        for ((index, sockets), candidates) in (0_u8..).zip(sockets).zip(candidates) {
            let worker = WorkerId(index);
            let (poll, doorbell) = Worker::poll()?;
            let (inputs, inputs_out) = mpsc::channel(COMMANDS);
            let (frames, frames_out) = mpsc::channel(tcp::INBOX);
            let (ring, ring_out) = std::sync::mpsc::sync_channel(RING);
            let load = Arc::new(Load::new(epoch.0));
            gates.push(tcp::Gate::new(worker, frames, Arc::clone(&doorbell)));
            links.push(Link {
                ring,
                doorbell: Arc::clone(&doorbell),
            });
            seats.push(Seat {
                inputs,
                doorbell: Arc::clone(&doorbell),
                load: Arc::clone(&load),
                candidates: watch::Sender::new(candidates.clone().into()),
            });
            let config = PlaneConfig {
                worker,
                certificate: Arc::clone(&certificate),
                candidates,
                epoch,
            };
            let plane = Plane::new(config, branch(&mut random));
            let inbox = Inbox {
                inputs: inputs_out,
                tcp: frames_out,
                links: ring_out,
            };
            parts.push((worker, plane, sockets, (poll, doorbell), inbox, load));
        }
        let census = Arc::<tcp::Census>::default();
        let handle = Handle(Arc::new(Shared {
            seats,
            fingerprint: certificate.fingerprint(),
            bound: names,
            placed: AtomicUsize::new(0),
            census: Arc::clone(&census),
            moved: watch::Sender::new(()),
        }));
        // From here on an early return drops it, and that stops what has started.
        let mut net = Self {
            handle: handle.clone(),
            threads: Vec::new(),
        };
        for (id, plane, sockets, poll, inbox, load) in parts {
            let worker = Worker::new(id, plane, sockets, poll, inbox, links.clone(), load)?;
            let (ended, has_ended) = oneshot::channel();
            let thread = std::thread::Builder::new()
                .name(format!("media-{}", id.0))
                .spawn(move || {
                    // Dropped at the end of the thread, however it ends.
                    let _ended: oneshot::Sender<()> = ended;
                    worker.run();
                })?;
            net.threads.push((thread, has_ended));
        }
        let gates: Arc<[tcp::Gate]> = gates.into();
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            let listen = tcp::listen(
                listener,
                Arc::clone(&gates),
                Arc::clone(&census),
                tasks.clone(),
            );
            tasks.spawn("ice-tcp listener", listen);
        }
        if advertiser.has_work() {
            let run = advertiser.run(addresses, handle, random, tasks.clone());
            tasks.spawn("addresses", run);
        }
        Ok(net)
    }

    /// What others use.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops the workers, which close their transports with close_notify, and waits for them, 2 s at most.
    pub async fn stop(mut self) {
        for seat in self.handle.seats() {
            seat.send(Input::Command(Command::Stop)).await;
        }
        for (thread, ended) in std::mem::take(&mut self.threads) {
            // The sender is dropped, not used: the error is the end.
            if tokio::time::timeout(STOP, ended).await.is_err() {
                tracing::warn!("a media worker does not stop");
            } else if thread.join().is_err() {
                tracing::error!("a media worker has panicked");
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for seat in self.handle.seats() {
            // Full or closed: then it has more to do than to hear this, or has heard it.
            if seat.inputs.try_send(Input::Command(Command::Stop)).is_ok() {
                seat.doorbell.ring();
            }
        }
    }
}

impl Handle {
    /// The workers, at least one.
    pub fn worker_ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.0.seats.len() as u8).map(WorkerId)
    }

    /// Hands a command to a worker; waits while 1024 wait for it. Nothing happens after [`Net::stop`].
    pub async fn send(&self, worker: WorkerId, command: Command) {
        if let Some(seat) = self.seat(worker) {
            seat.send(Input::Command(command)).await;
        }
    }

    /// The worker for a participant of a room whose first participant is on `home`: the same until it is busy more than
    /// 60 % of its time, then the least busy one.
    pub fn place(&self, home: Option<WorkerId>) -> WorkerId {
        let turn = self.0.placed.fetch_add(1, Ordering::Relaxed);
        let loads: Vec<&Load> = self.seats().map(|seat| &*seat.load).collect();
        load::place(&loads, home, turn, now())
    }

    /// Where clients reach a worker, best first. TCP only when so configured.
    pub fn candidates(&self, worker: WorkerId) -> Arc<[LocalCandidate]> {
        self.seat(worker).map_or_else(
            || Arc::new([]) as Arc<_>,
            |seat| seat.candidates.borrow().clone(),
        )
    }

    /// Marked as changed when [`Self::candidates`] answers otherwise than before, for whichever worker.
    pub fn watch_addresses(&self) -> watch::Receiver<()> {
        self.0.moved.subscribe()
    }

    /// SHA-256 of the DTLS certificate, the same for all transports until the process ends.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Every bound socket, for the log: `UDP [::]:7882`.
    pub fn bound(&self) -> Vec<String> {
        self.0.bound.clone()
    }

    /// The counters of every worker that answers within a second, in their order.
    pub async fn reports(&self) -> Vec<WorkerReport> {
        let mut answers = Vec::new();
        for seat in self.seats() {
            let (to, answer) = oneshot::channel();
            seat.send(Input::Command(Command::Report { to })).await;
            answers.push(answer);
        }
        let mut reports = Vec::new();
        for answer in answers {
            if let Ok(Ok(report)) = tokio::time::timeout(Duration::from_secs(1), answer).await {
                reports.push(report);
            }
        }
        reports
    }

    /// ICE-TCP connections that were refused or ended by a fault of the peer, by cause.
    pub fn dropped_connections(&self) -> Vec<(&'static str, u64)> {
        self.0.census.faults()
    }

    fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.0.seats.iter()
    }

    fn seat(&self, worker: WorkerId) -> Option<&Seat> {
        let seat = self.0.seats.get(usize::from(worker.0));
        debug_assert!(seat.is_some(), "{worker:?} was never started");
        seat
    }
}

/// The sockets of each worker. Where the app's range has a taken port, a spare one stands in; fewer workers are better
/// than none.
fn media_sockets(rtc: &config::Rtc, count: usize) -> Result<Vec<Vec<udp::Udp>>, StartError> {
    let mut sockets = Vec::new();
    let mut taken = Vec::new();
    let mut failure = None;
    let ports = || rtc.udp_ports.iter().chain(rtc.udp_spares.iter().flatten());
    for &port in ports() {
        if sockets.len() == count {
            break;
        }
        match udp::bind_all(&rtc.bind, port, Proto::Udp, udp::Udp::bind) {
            Ok(bound) => sockets.push(bound),
            Err(error @ StartError::InUse { .. }) if rtc.udp_spares.is_some() => {
                taken.push(port.to_string());
                failure = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match failure {
        Some(_) if sockets.is_empty() => Err(StartError::AllInUse {
            first: ports().next().copied().unwrap_or_default(),
            last: ports().next_back().copied().unwrap_or_default(),
        }),
        _ => {
            if !taken.is_empty() {
                tracing::info!(
                    "UDP ports in use by other programs are passed over: {}",
                    taken.join(", ")
                );
            }
            // Media may be on TCP alone: then there is one worker without a UDP socket.
            if sockets.is_empty() {
                sockets.push(Vec::new());
            }
            Ok(sockets)
        }
    }
}

/// A generator of its own for each worker.
fn branch(random: &mut Random) -> Random {
    match random {
        Random::Seeded(_) => Random::seeded(random.u64()),
        Random::System(_) => random.clone(),
    }
}

fn names(bound: &[Bound], tcp: &[SocketAddr]) -> Vec<String> {
    let udp = bound.iter().flat_map(|bound| &bound.udp);
    udp.map(|address| format!("UDP {address}"))
        .chain(tcp.iter().map(|address| format!("TCP {address}")))
        .collect()
}

/// The clock, read here and nowhere else in this module.
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
