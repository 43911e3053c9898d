//! A client and a server transport, a link that loses, delays and reorders by a seed, and a clock that jumps.

use super::super::*;
use crate::media::io::Socket;
use crate::plan::{CandidateKind, DataChannels, Fingerprint};
use crate::random::Random;
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

pub(super) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5)), 7882);
const CLIENT: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 77)), 5555);

/// The client's and the server's.
static CERTIFICATES: LazyLock<[Arc<Certificate>; 2]> =
    LazyLock::new(|| std::array::from_fn(|_| Arc::new(Certificate::generate())));

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) loss: f64,
    pub(super) delay: Duration,
    /// At most this much is added to the delay of a datagram.
    pub(super) jitter: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            loss: 0.0,
            delay: ms(25),
            jitter: ms(0),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// The server controls, and opens the channels.
    pub(super) server_offers: bool,
    pub(super) lite: bool,
    pub(super) tcp: bool,
    pub(super) server_is_dtls_client: bool,
    pub(super) wrong_fingerprint: bool,
    /// The server's STUN messages of these numbers are lost.
    pub(super) lost: &'static [usize],
    /// The client does not begin SCTP.
    pub(super) client_waits: bool,
    /// How long the server waits for the client's description.
    pub(super) late_description: Duration,
}

struct End {
    transport: Transport,
    credentials: IceCredentials,
    fingerprint: Fingerprint,
    role: DtlsRole,
    events: Vec<TransportEvent>,
}

pub(super) struct Lab {
    now: Instant,
    random: Random,
    link: Link,
    client: End,
    server: End,
    options: Options,
    /// By time and a number that keeps order.
    wire: BTreeMap<(Instant, u64), (Side, Path, Vec<u8>)>,
    sent: u64,
    largest: usize,
    /// Local addresses of the server; the client's checks go to each.
    addresses: Vec<IpAddr>,
    answers: Vec<IpAddr>,
    misdirected: usize,
    undeliverable: usize,
    description_at: Option<Instant>,
    /// The client's latest check.
    check: Vec<u8>,
    /// Checks of the server's own.
    checks: usize,
    /// STUN messages of the server.
    stun: usize,
    /// Where the server sees the client.
    client_seen: SocketAddr,
}

/// Gathers what a transport sends.
#[derive(Default)]
struct Outbox(Vec<(Path, Vec<u8>)>);

impl Sink for Outbox {
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut buffer = vec![0; max_len];
        let len = fill(&mut buffer);
        buffer.truncate(len);
        if len > 0 {
            self.0.push((*path, buffer));
        }
    }
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{name}-ufrag"),
        password: Secret::new(format!("{name}-password-of-22-chars")),
    }
}

impl Lab {
    /// Two ends that know each other; nothing has been sent.
    pub(super) fn new(seed: u64, link: Link, options: Options) -> Self {
        let now = Instant::now();
        let proto = if options.tcp { Proto::Tcp } else { Proto::Udp };
        let end = |name, address, controlling, lite, opens, role| {
            let certificate = Arc::clone(if name == "client" {
                &CERTIFICATES[0]
            } else {
                &CERTIFICATES[1]
            });
            let credentials = credentials(name);
            let candidates = [LocalCandidate {
                proto,
                address,
                preference: 1,
            }];
            let config = TransportConfig {
                local: credentials.clone(),
                controlling,
                lite,
                channels: if opens {
                    DataChannels::Ours
                } else {
                    DataChannels::Theirs
                },
                candidates: &candidates,
                certificate: Arc::clone(&certificate),
            };
            End {
                transport: Transport::new(now, TransportId(1), config),
                credentials,
                fingerprint: certificate.fingerprint(),
                role,
                events: Vec::new(),
            }
        };
        let (client_role, server_role) = if options.server_is_dtls_client {
            (DtlsRole::Server, DtlsRole::Client)
        } else {
            (DtlsRole::Client, DtlsRole::Server)
        };
        let offers = options.server_offers;
        let mut lab = Self {
            now,
            random: Random::seeded(seed),
            link,
            client: end("client", CLIENT, !offers, false, !offers, client_role),
            server: end("Server", SERVER, offers, options.lite, offers, server_role),
            options,
            wire: BTreeMap::new(),
            sent: 0,
            largest: 0,
            addresses: vec![SERVER.ip()],
            answers: Vec::new(),
            misdirected: 0,
            undeliverable: 0,
            description_at: None,
            check: Vec::new(),
            checks: 0,
            stun: 0,
            client_seen: CLIENT,
        };
        let to_client = lab.description(Side::Server);
        lab.client.transport.set_remote(now, &to_client, None);
        if !options.tcp {
            lab.tell_addresses();
        }
        if options.late_description.is_zero() {
            lab.tell_server();
        } else {
            lab.description_at = Some(now + options.late_description);
        }
        lab
    }

    /// The same over a good line, where the server controls or the client does.
    pub(super) fn offered(server_offers: bool) -> Self {
        let options = Options {
            server_offers,
            ..Options::default()
        };
        Self::new(1, Link::default(), options)
    }

    /// Both ends connected, all channels open.
    pub(super) fn connected(link: Link) -> Self {
        let mut lab = Self::new(1, link, Options::default());
        lab.run(secs(2));
        assert!(lab.client.transport.is_connected() && lab.server.transport.is_connected());
        lab
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn transport(&mut self, side: Side) -> &mut Transport {
        &mut self.end(side).transport
    }

    pub(super) fn events(&self, side: Side) -> &[TransportEvent] {
        match side {
            Side::Client => &self.client.events,
            Side::Server => &self.server.events,
        }
    }

    pub(super) fn set_link(&mut self, seed: u64, link: Link) {
        self.random = Random::seeded(seed);
        self.link = link;
    }

    /// What the other side is told of `side`.
    pub(super) fn description(&self, side: Side) -> RemoteTransport {
        let (end, other) = match side {
            Side::Client => (&self.client, &self.server),
            Side::Server => (&self.server, &self.client),
        };
        RemoteTransport {
            ice: end.credentials.clone(),
            fingerprint: end.fingerprint,
            role: other.role,
        }
    }

    pub(super) fn set_server_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
        self.tell_addresses();
    }

    pub(super) fn send(&mut self, side: Side, channel: Channel, payload: &Bytes) -> SendOutcome {
        let now = self.now;
        let outcome = self.transport(side).send_data(now, channel, payload);
        self.collect(side);
        outcome
    }

    pub(super) fn repeat_remote(&mut self) {
        let now = self.now;
        let remote = self.description(Side::Client);
        self.server.transport.set_remote(now, &remote, None);
    }

    /// New credentials on both sides.
    pub(super) fn restart_ice(&mut self) {
        let now = self.now;
        let (client, server) = (credentials("client2"), credentials("Server2"));
        self.client.credentials = client.clone();
        self.server.credentials = server.clone();
        let to_server = self.description(Side::Client);
        let to_client = self.description(Side::Server);
        self.server
            .transport
            .set_remote(now, &to_server, Some(&server));
        self.client
            .transport
            .set_remote(now, &to_client, Some(&client));
        self.tell_addresses();
        self.collect(Side::Client);
        self.collect(Side::Server);
    }

    /// The client's latest check comes again, from another address.
    pub(super) fn repeat_check_from(&mut self, remote: SocketAddr) {
        let path = Path {
            socket: Socket::Udp(0),
            local: SERVER.ip(),
            remote,
        };
        let check = self.check.clone();
        assert!(self.server.transport.handle_stun(self.now, &path, &check));
        self.collect(Side::Server);
    }

    /// A browser's regular check: the latest one again.
    pub(super) fn repeat_check(&mut self) {
        self.repeat_check_from(self.client_seen);
    }

    /// The server is told of a further address of the client, where nobody answers.
    pub(super) fn tell_dead_address(&mut self, last: u8, priority: u32) -> SocketAddr {
        let address = SocketAddr::from(([172, 17, 0, last], 5555));
        let now = self.now;
        self.server.transport.add_remote_candidate(
            now,
            RemoteCandidate {
                proto: Proto::Udp,
                address,
                priority,
                kind: CandidateKind::Host,
            },
        );
        self.collect(Side::Server);
        address
    }

    /// From now on the client is seen at another address, and not reached at the one before.
    pub(super) fn rebind_client(&mut self, address: SocketAddr) {
        self.client_seen = address;
    }

    pub(super) fn checks(&self) -> usize {
        self.checks
    }

    pub(super) fn largest(&self) -> usize {
        self.largest
    }

    pub(super) fn misdirected(&self) -> usize {
        self.misdirected
    }

    pub(super) fn undeliverable(&self) -> usize {
        self.undeliverable
    }

    pub(super) fn answers_from(&self, address: IpAddr) -> usize {
        self.answers.iter().filter(|from| **from == address).count()
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.collect(Side::Client);
        self.collect(Side::Server);
        for _ in 0..1_000_000 {
            let next = [
                self.wire.keys().next().map(|(at, _)| *at),
                self.client.transport.next_timeout(),
                self.server.transport.next_timeout(),
                self.description_at,
            ]
            .into_iter()
            .flatten()
            .min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if self.description_at.is_some_and(|at| at <= self.now) {
                self.description_at = None;
                self.tell_server();
                self.collect(Side::Server);
            }
            let now = self.now;
            if let Some(entry) = self.wire.first_entry()
                && entry.key().0 <= now
            {
                let (to, path, datagram) = entry.remove();
                self.deliver(to, &path, &datagram);
                continue;
            }
            for side in [Side::Client, Side::Server] {
                if self
                    .transport(side)
                    .next_timeout()
                    .is_some_and(|at| at <= now)
                {
                    self.transport(side).handle_timeout(now);
                    self.collect(side);
                }
            }
        }
        panic!("the lab does not come to rest");
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The client learns where the server is; the server learns the client from its checks.
    fn tell_addresses(&mut self) {
        let now = self.now;
        for ip in self.addresses.clone() {
            self.client.transport.add_remote_candidate(
                now,
                RemoteCandidate {
                    proto: Proto::Udp,
                    address: SocketAddr::new(ip, SERVER.port()),
                    priority: 2_000_000_000,
                    kind: CandidateKind::Host,
                },
            );
        }
    }

    fn tell_server(&mut self) {
        let now = self.now;
        let mut remote = self.description(Side::Client);
        if self.options.wrong_fingerprint {
            remote.fingerprint.0[5] ^= 1;
        }
        self.server.transport.set_remote(now, &remote, None);
        // Nobody connects to a browser by TCP: its first check comes by itself, here by our hand.
        if self.options.tcp {
            self.client.transport.ice.dial_tcp(
                now,
                &Path {
                    socket: Socket::Tcp(1),
                    local: CLIENT.ip(),
                    remote: SERVER,
                },
            );
        }
    }

    fn deliver(&mut self, to: Side, path: &Path, datagram: &[u8]) {
        let now = self.now;
        let waits = to == Side::Client && self.options.client_waits;
        let transport = self.transport(to);
        let dials = waits && transport.channels.is_none();
        match datagram[0] {
            0..=3 => {
                transport.handle_stun(now, path, datagram);
            }
            _ => transport.handle_dtls(now, datagram),
        }
        if dials && transport.channels.is_some() {
            transport.channels = Some(Box::new(Channels::new(transport.opens_channels, true)));
        }
        self.collect(to);
    }

    /// Takes events and datagrams of one side.
    fn collect(&mut self, side: Side) {
        let now = self.now;
        let end = self.end(side);
        while let Some(event) = end.transport.poll_event() {
            end.events.push(event);
        }
        let mut outbox = Outbox::default();
        end.transport.flush(now, &mut outbox);
        assert!(!end.transport.wants_flush() || end.transport.ice.reply_path().is_none());
        for (path, datagram) in outbox.0 {
            self.post(side, path, datagram);
        }
    }

    fn post(&mut self, from: Side, path: Path, datagram: Vec<u8>) {
        self.largest = self.largest.max(datagram.len());
        if from == Side::Client && datagram[..2] == [0, 1] {
            self.check.clone_from(&datagram);
        }
        let target = match from {
            Side::Client => {
                path.remote.port() == SERVER.port() && self.addresses.contains(&path.remote.ip())
            }
            Side::Server => path.remote == self.client_seen,
        };
        self.checks += usize::from(from == Side::Server && datagram[..2] == [0, 1]);
        if !target {
            self.undeliverable += 1;
            return;
        }
        // The other end's view of the same way.
        let (local, remote) = match from {
            Side::Client => (path.remote.ip(), self.client_seen),
            Side::Server => {
                let source = if path.local.is_unspecified() {
                    self.addresses[0]
                } else {
                    path.local
                };
                if datagram[..2] == [1, 1] {
                    self.answers.push(source);
                    self.misdirected += usize::from(path.local.is_unspecified());
                }
                (CLIENT.ip(), SocketAddr::new(source, SERVER.port()))
            }
        };
        if self.chance() < self.link.loss {
            return;
        }
        if from == Side::Server && datagram[0] < 2 {
            self.stun += 1;
            if self.options.lost.contains(&(self.stun - 1)) {
                return;
            }
        }
        let jitter = self.link.jitter.mul_f64(self.chance());
        let at = self.now + self.link.delay + jitter;
        let path = Path {
            socket: path.socket,
            local,
            remote,
        };
        self.sent += 1;
        self.wire
            .insert((at, self.sent), (from.other(), path, datagram));
    }

    fn chance(&mut self) -> f64 {
        f64::from(self.random.u32()) / f64::from(u32::MAX)
    }
}
