//! Media and data from one peer to another through the real sockets and threads, with one worker and with two.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::panic, reason = "a test ends at the first surprise")]

use aws_lc_rs::hmac;
use bytes::Bytes;
use is::stun::{StunMessage, TransId};
use parlor::config::{Filter, Rtc};
use parlor::ids::{DownTrackId, PayloadType, Ssrc, TransportId, UpTrackId, WorkerId};
use parlor::media::certificate::Certificate;
use parlor::media::io::{Path, Sink, Socket};
use parlor::media::transport::{Transport, TransportConfig, TransportEvent};
use parlor::net::{Handle, Net};
use parlor::plan::{
    CandidateKind, Channel, Codec, Command, DataChannels, DownTrackPlan, DtlsRole, Event,
    Extensions, Format, IceCredentials, Kind, LocalCandidate, Proto, ReceiveFormat, ReceiveLayer,
    ReceivePlan, ReceiveTrack, RemoteCandidate, RemoteTransport, SendFormat, Wanted,
};
use parlor::random::Random;
use parlor::rtp::header::Header;
use parlor::secret::Secret;
use parlor::task::Tasks;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// No step of these stories takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
const UP: UpTrackId = UpTrackId(1);
const DOWN: DownTrackId = DownTrackId(2);
const OPUS: Format = Format {
    codec: Codec::Opus,
    variant: 0,
};
const UP_SSRC: Ssrc = Ssrc(0x1111);
const DOWN_SSRC: Ssrc = Ssrc(0x2222);

fn now() -> Instant {
    Instant::now()
}

fn rtc(workers: usize) -> Rtc {
    Rtc {
        udp_ports: vec![0; workers],
        tcp_port: Some(0),
        bind: vec![[127, 0, 0, 1].into()],
        udp_spares: None,
        external_ips: Vec::new(),
        node_ip: Vec::new(),
        use_external_ip: false,
        use_ice_lite: false,
        force_tcp: false,
        ips: Filter::default(),
        interfaces: Filter::default(),
        enable_loopback_candidate: false,
        stun_servers: Vec::new(),
        ice_servers: Vec::new(),
    }
}

fn credentials(worker: WorkerId, name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{}{name}", worker.ufrag_char()),
        password: Secret::new(format!("password-of-{name}-0123456789")),
    }
}

/// What a transport wants to send.
#[derive(Default)]
struct Outgoing(Vec<(SocketAddr, Vec<u8>)>);

impl Sink for Outgoing {
    fn datagram(&mut self, path: &Path, max_len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut bytes = vec![0; max_len];
        let len = fill(&mut bytes);
        bytes.truncate(len);
        if len > 0 {
            self.0.push((path.remote, bytes));
        }
    }
}

/// A participant's side: one transport on one UDP socket.
struct Client {
    id: TransportId,
    worker: WorkerId,
    transport: Transport,
    socket: UdpSocket,
    /// From the worker, as its room gets them.
    room: mpsc::Receiver<Event>,
    connected: bool,
    channels: usize,
    messages: Vec<Bytes>,
    packets: Vec<Vec<u8>>,
}

impl Client {
    /// Both sides know each other.
    async fn join(net: &Handle, id: u64, worker: WorkerId) -> Self {
        let id = TransportId(id);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let certificate = Arc::new(Certificate::generate());
        let (events, room) = mpsc::channel(64);
        let server = credentials(worker, &format!("server{}", id.0));
        let own = credentials(worker, &format!("client{}", id.0));
        net.send(
            worker,
            Command::OpenTransport {
                id,
                local: server.clone(),
                controlling: false,
                lite: false,
                channels: DataChannels::Theirs,
                events,
            },
        )
        .await;
        let remote = RemoteTransport {
            ice: own.clone(),
            fingerprint: certificate.fingerprint(),
            role: DtlsRole::Server,
        };
        let local = None;
        net.send(worker, Command::SetRemote { id, remote, local })
            .await;
        let candidates = [LocalCandidate {
            proto: Proto::Udp,
            address,
            preference: u16::MAX,
        }];
        let config = TransportConfig {
            local: own,
            controlling: true,
            lite: false,
            channels: DataChannels::Ours,
            candidates: &candidates,
            certificate,
        };
        let mut transport = Transport::new(now(), id, config);
        let remote = RemoteTransport {
            ice: server,
            fingerprint: net.fingerprint(),
            role: DtlsRole::Client,
        };
        transport.set_remote(now(), &remote, None);
        transport.add_remote_candidate(
            now(),
            RemoteCandidate {
                proto: Proto::Udp,
                address: address_of(net, worker, Proto::Udp),
                priority: 1,
                kind: CandidateKind::Host,
            },
        );
        Self {
            id,
            worker,
            transport,
            socket,
            room,
            connected: false,
            channels: 0,
            messages: Vec::new(),
            packets: Vec::new(),
        }
    }

    /// Does what is to be done now, then waits for datagrams or a timer, 20 ms at most.
    async fn step(&mut self) {
        self.settle().await;
        let longest = now() + Duration::from_millis(20);
        let due = self
            .transport
            .next_timeout()
            .map_or(longest, |due| due.min(longest));
        let mut buffer = [0; 2048];
        let received = tokio::select! {
            received = self.socket.recv_from(&mut buffer) => Some(received.unwrap()),
            () = tokio::time::sleep_until(due.into()) => None,
        };
        if let Some((len, from)) = received {
            self.receive(&mut buffer[..len], from);
        }
        while let Ok((len, from)) = self.socket.try_recv_from(&mut buffer) {
            self.receive(&mut buffer[..len], from);
        }
        if self.transport.next_timeout().is_some_and(|at| at <= now()) {
            self.transport.handle_timeout(now());
        }
        self.settle().await;
    }

    fn receive(&mut self, datagram: &mut [u8], remote: SocketAddr) {
        let path = Path {
            socket: Socket::Udp(0),
            local: self.socket.local_addr().unwrap().ip(),
            remote,
        };
        match datagram[0] {
            0..=3 => {
                self.transport.handle_stun(now(), &path, datagram);
            }
            20..=63 => self.transport.handle_dtls(now(), datagram),
            _ if parlor::rtp::header::is_rtcp(datagram) => {}
            _ => {
                let header = Header::parse(datagram).unwrap();
                let len = self
                    .transport
                    .open_rtp(now(), datagram, header.payload_offset)
                    .unwrap();
                self.packets.push(datagram[..len].to_vec());
            }
        }
    }

    async fn settle(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                TransportEvent::ChannelOpen(_) => self.channels += 1,
                TransportEvent::Connected { .. } => self.connected = true,
                TransportEvent::Data { payload, .. } => self.messages.push(payload),
                TransportEvent::PathChanged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let mut out = Outgoing::default();
        self.transport.flush(now(), &mut out);
        for (to, datagram) in out.0 {
            self.socket.send_to(&datagram, to).await.unwrap();
        }
    }

    async fn send_rtp(&mut self, seq: u16, payload: &[u8]) {
        let to = self.transport.path().unwrap().remote;
        let mut packet = vec![0x80, 111];
        packet.extend(seq.to_be_bytes());
        packet.extend((u32::from(seq) * 960).to_be_bytes());
        packet.extend(UP_SSRC.0.to_be_bytes());
        packet.extend(payload);
        let len = packet.len();
        packet.resize(len + 32, 0);
        let sealer = self.transport.sealer().unwrap();
        let sealed = sealer.seal_rtp(&mut packet, 12, len, u64::from(seq));
        self.socket.send_to(&packet[..sealed], to).await.unwrap();
    }
}

fn address_of(net: &Handle, worker: WorkerId, proto: Proto) -> SocketAddr {
    let candidates = net.candidates(worker);
    let candidate = candidates.iter().find(|told| told.proto == proto);
    candidate.unwrap().address
}

/// Steps both until `done`.
async fn until(
    one: &mut Client,
    two: &mut Client,
    what: &str,
    mut done: impl FnMut(&mut Client, &mut Client) -> bool,
) {
    let end = now() + PATIENCE;
    while !done(one, two) {
        assert!(now() < end, "{what}");
        tokio::join!(one.step(), two.step());
    }
}

async fn publish(net: &Handle, publisher: &Client) {
    let track = ReceiveTrack {
        up: UP,
        mid: "0".into(),
        kind: Kind::Audio,
        formats: vec![ReceiveFormat {
            pt: PayloadType(111),
            format: OPUS,
            rtx: None,
        }],
        layers: vec![ReceiveLayer {
            spatial: 0,
            rid: None,
            ssrc: Some(UP_SSRC),
            rtx_ssrc: None,
        }],
        nack: false,
    };
    let plan = ReceivePlan {
        extensions: Extensions::default(),
        tracks: vec![track],
    };
    let id = publisher.id;
    net.send(publisher.worker, Command::SetReceive { id, plan })
        .await;
}

async fn subscribe(net: &Handle, publisher: &Client, subscriber: &Client) {
    let (from, to) = (publisher.worker, subscriber.worker);
    if from != to {
        let kind = Kind::Audio;
        let open = Command::OpenMirror { up: UP, from, kind };
        net.send(to, open).await;
        let on = true;
        net.send(from, Command::SetMirror { up: UP, to, on }).await;
    }
    let plan = DownTrackPlan {
        down: DOWN,
        up: UP,
        kind: Kind::Audio,
        transport: subscriber.id,
        mid: "1".into(),
        ssrc: DOWN_SSRC,
        rtx_ssrc: None,
        formats: vec![SendFormat {
            format: OPUS,
            pt: PayloadType(96),
            rtx: None,
        }],
        extensions: Extensions::default(),
        nack: false,
        cname: "stream".to_owned(),
        wanted: Wanted {
            paused: false,
            max_spatial: 255,
            max_temporal: 255,
        },
        playout_delay: None,
        sif_trailer: Bytes::new(),
        needs_packets: false,
    };
    let plan = Box::new(plan);
    net.send(to, Command::OpenDown { plan }).await;
}

/// The payloads of the subscriber's packets of the track, each once, in order.
fn heard(subscriber: &Client) -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = subscriber
        .packets
        .iter()
        .filter_map(|packet| {
            let header = Header::parse(packet).unwrap();
            assert_eq!((header.ssrc, header.pt), (DOWN_SSRC, PayloadType(96)));
            header.payload(packet).ok().map(<[u8]>::to_vec)
        })
        .collect();
    payloads.sort();
    payloads.dedup();
    payloads
}

async fn media_and_data_cross(workers: usize) {
    let tasks = Tasks::new();
    let net = Net::start(&rtc(workers), Random::system(), &tasks).unwrap();
    let handle = net.handle();
    let last = handle.worker_ids().last().unwrap();
    let mut publisher = Client::join(&handle, 1, WorkerId(0)).await;
    let mut subscriber = Client::join(&handle, 2, last).await;
    until(&mut publisher, &mut subscriber, "connect", |one, two| {
        one.connected && two.connected && one.channels == 3 && two.channels == 3
    })
    .await;
    assert!(matches!(
        publisher.room.recv().await,
        Some(Event::Connected { id: TransportId(1), proto: Proto::Udp, remote })
            if remote == publisher.socket.local_addr().unwrap()
    ));

    publish(&handle, &publisher).await;
    subscribe(&handle, &publisher, &subscriber).await;
    let payload = |seq: u16| [b"opus ".to_vec(), seq.to_be_bytes().to_vec()].concat();
    let mut seq = 0;
    // Packets that come before the plan has taken effect are nobody's; then every one is to arrive.
    let end = now() + PATIENCE;
    while heard(&subscriber).is_empty() {
        assert!(now() < end, "first packet");
        seq += 1;
        publisher.send_rtp(seq, &payload(seq)).await;
        tokio::join!(publisher.step(), subscriber.step());
    }
    let counted = seq + 1..=seq + 100;
    for seq in counted.clone() {
        publisher.send_rtp(seq, &payload(seq)).await;
    }
    until(&mut publisher, &mut subscriber, "all packets", |_, two| {
        let heard = heard(two);
        counted.clone().all(|seq| heard.contains(&payload(seq)))
    })
    .await;

    let message = Bytes::from_static(b"hello room");
    let outcome = publisher
        .transport
        .send_data(now(), Channel::Reliable, &message);
    assert_eq!(outcome, parlor::media::channels::SendOutcome::Sent);
    let mut told = None;
    until(&mut publisher, &mut subscriber, "data in", |one, _| {
        while let Ok(event) = one.room.try_recv() {
            if let Event::Data { payload, .. } = event {
                told = Some(payload);
            }
        }
        told.is_some()
    })
    .await;
    assert_eq!(told, Some(message.clone()));
    handle
        .send(
            last,
            Command::SendData {
                to: vec![subscriber.id],
                channel: Channel::Reliable,
                payload: message.clone(),
            },
        )
        .await;
    until(&mut publisher, &mut subscriber, "data out", |_, two| {
        !two.messages.is_empty()
    })
    .await;
    assert_eq!(subscriber.messages, [message]);

    let reports = handle.reports().await;
    assert_eq!(
        reports.iter().map(|report| report.transports).sum::<u32>(),
        2
    );
    assert!(reports.iter().map(|report| report.packets_out).sum::<u64>() >= 100);
    net.stop().await;
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn media_and_data_cross_one_worker() {
    media_and_data_cross(1).await;
}

#[tokio::test]
async fn media_and_data_cross_two_workers() {
    media_and_data_cross(2).await;
}

#[tokio::test]
async fn a_check_over_tcp_reaches_its_worker_and_is_answered() {
    let tasks = Tasks::new();
    let net = Net::start(&rtc(2), Random::system(), &tasks).unwrap();
    let handle = net.handle();
    let worker = handle.worker_ids().last().unwrap();
    // Only to have a transport there; its UDP socket stays silent.
    let _client = Client::join(&handle, 1, worker).await;
    let server = credentials(worker, "server1");
    let name = format!("{}:{}", server.ufrag, credentials(worker, "client1").ufrag);
    let transaction = TransId::new();
    let request = StunMessage::binding_request(&name, transaction, true, 7, 1, true);
    let mut bytes = [0; 300];
    let len = request
        .to_bytes(Some(server.password.reveal().as_bytes()), &mut bytes, sha1)
        .unwrap();

    let address = address_of(&handle, worker, Proto::Tcp);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_u16(len as u16).await.unwrap();
    stream.write_all(&bytes[..len]).await.unwrap();
    loop {
        let len = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
        let mut frame = vec![0; usize::from(len)];
        stream.read_exact(&mut frame).await.unwrap();
        // Its own check of us may come first.
        let answer = StunMessage::parse(&frame).unwrap();
        if answer.is_successful_binding_response() {
            assert_eq!(answer.trans_id(), transaction);
            assert_eq!(answer.mapped_address(), stream.local_addr().ok());
            break;
        }
    }
    net.stop().await;
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

fn sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let tag = hmac::sign(&key, &parts.concat());
    tag.as_ref().try_into().unwrap()
}
