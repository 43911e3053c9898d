use super::*;

pub(super) fn rtc() -> config::Rtc {
    config::Rtc {
        udp_ports: vec![0],
        udp_spares: None,
        external_ips: Vec::new(),
        tcp_port: Some(0),
        bind: vec![[127, 0, 0, 1].into()],
        node_ip: Vec::new(),
        use_external_ip: false,
        use_ice_lite: false,
        force_tcp: false,
        ips: config::Filter::default(),
        interfaces: config::Filter::default(),
        enable_loopback_candidate: false,
        stun_servers: Vec::new(),
        ice_servers: Vec::new(),
    }
}

#[tokio::test]
async fn it_starts_tells_its_addresses_reports_and_stops() {
    let tasks = Tasks::new();
    let net = Net::start(&rtc(), Random::seeded(1), &tasks).unwrap();
    let handle = net.handle();
    assert_eq!(handle.worker_ids().count(), 1);
    assert_eq!(handle.place(None), WorkerId(0));
    let candidates = handle.candidates(WorkerId(0));
    let protos: Vec<_> = candidates.iter().map(|told| told.proto).collect();
    assert_eq!(protos, [Proto::Udp, Proto::Tcp]);
    assert!(
        candidates
            .iter()
            .all(|told| told.address.ip().is_loopback())
    );
    let named: Vec<_> = candidates
        .iter()
        .map(|told| match told.proto {
            Proto::Tcp => format!("TCP {}", told.address),
            Proto::Udp => format!("UDP {}", told.address),
        })
        .collect();
    assert_eq!(handle.bound(), named);
    assert_eq!(handle.reports().await.len(), 1);
    net.stop().await;
    assert!(handle.reports().await.is_empty());
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test]
async fn a_port_in_use_names_port_protocol_and_option() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let rtc = config::Rtc {
        udp_ports: vec![port],
        ..rtc()
    };
    let error = Net::start(&rtc, Random::seeded(1), &Tasks::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "UDP port {port} is in use by another program: stop that program, or set \
             `rtc.udp_port` to a free port"
        )
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let rtc = config::Rtc {
        tcp_port: Some(port),
        ..self::rtc()
    };
    let error = Net::start(&rtc, Random::seeded(1), &Tasks::new()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("TCP port {port}")));
    assert!(error.to_string().contains("`rtc.tcp_port`"));
}

#[tokio::test]
async fn a_taken_port_of_a_range_without_spares_is_passed_over_and_all_taken_end_the_start() {
    let free = |socket: &std::net::UdpSocket| socket.local_addr().unwrap().port();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (first, last) = (free(&taken), free(&other));
    let rtc = config::Rtc {
        udp_ports: vec![first, last],
        udp_spares: Some(Vec::new()),
        ..rtc()
    };
    let sockets = |count| media_sockets(&rtc, count);
    assert_eq!(
        sockets(2).unwrap_err().to_string(),
        format!(
            "every UDP port from {first} to {last} is in use by another program: stop that program, or set \
             `rtc_udp_port_min` and `rtc_udp_port_max` to free ports"
        )
    );
    drop(other);
    let ports: Vec<_> = sockets(2)
        .unwrap()
        .iter()
        .flatten()
        .map(|socket| socket.local().port())
        .collect();
    assert_eq!(ports, [last]);
}

#[tokio::test]
async fn an_address_of_another_host_is_named() {
    let rtc = config::Rtc {
        bind: vec![[198, 51, 100, 1].into()],
        ..rtc()
    };
    let error = Net::start(&rtc, Random::seeded(1), &Tasks::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this host does not have the address 198.51.100.1: correct `bind_addresses`"
    );
}

#[tokio::test]
async fn one_worker_for_each_port_but_no_more_than_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let rtc = config::Rtc {
        udp_ports: vec![0; cores + 1],
        force_tcp: true,
        ..rtc()
    };
    let tasks = Tasks::new();
    let net = Net::start(&rtc, Random::seeded(1), &tasks).unwrap();
    let handle = net.handle();
    assert_eq!(handle.worker_ids().count(), cores);
    let last = WorkerId(cores as u8 - 1);
    let candidates = handle.candidates(last);
    assert!(candidates.iter().all(|told| told.proto == Proto::Tcp));
    assert_eq!(candidates.len(), 1);
    assert_eq!(handle.reports().await.len(), cores);
    net.stop().await;
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test]
async fn a_transport_is_open_when_the_first_datagram_for_it_comes() {
    let tasks = Tasks::new();
    let net = Net::start(&rtc(), Random::seeded(1), &tasks).unwrap();
    let handle = net.handle();
    let worker = WorkerId(0);
    // So that it sleeps.
    assert_eq!(handle.reports().await.len(), 1);
    tokio::time::sleep(Duration::from_millis(50)).await;

    let (events, _room) = mpsc::channel(8);
    let open = Command::OpenTransport {
        id: crate::ids::TransportId(1),
        local: crate::plan::IceCredentials {
            ufrag: "0abc".to_owned(),
            password: crate::secret::Secret::new("password".repeat(3)),
        },
        controlling: false,
        lite: false,
        channels: crate::plan::DataChannels::Theirs,
        events,
    };
    handle.send(worker, open).await;
    let check = [
        &[0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42][..],
        &[7; 12],
        &[0, 6, 0, 6],
        b"0abc:x\0\0",
    ]
    .concat();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = handle.candidates(worker)[0].address;
    for addressee in [*b"0abc", *b"none"] {
        let mut check = check.clone();
        check[24..28].copy_from_slice(&addressee);
        client.send_to(&check, port).unwrap();
    }
    let strangers = async {
        loop {
            let report = handle.reports().await.remove(0);
            assert_eq!(report.transports, 1);
            let mut dropped = report.dropped.into_iter();
            let unknown = dropped.find(|(cause, _)| *cause == "unknown_stun");
            if let Some((_, count @ 1..)) = unknown {
                break count;
            }
        }
    };
    let strangers = tokio::time::timeout(Duration::from_secs(5), strangers);
    assert_eq!(strangers.await, Ok(1), "the first was for the transport");
    net.stop().await;
}

#[tokio::test]
async fn however_many_transports_are_opened_the_worker_takes_them() {
    let tasks = Tasks::new();
    let net = Net::start(&rtc(), Random::seeded(1), &tasks).unwrap();
    let handle = net.handle();
    // More than the queue holds, and nobody else wakes the worker.
    let opened = async {
        for number in 0..COMMANDS as u64 + 100 {
            let (events, _room) = mpsc::channel(1);
            let open = Command::OpenTransport {
                id: crate::ids::TransportId(number),
                local: crate::plan::IceCredentials {
                    ufrag: format!("0u{number}"),
                    password: crate::secret::Secret::new("password".repeat(3)),
                },
                controlling: false,
                lite: false,
                channels: crate::plan::DataChannels::Theirs,
                events,
            };
            handle.send(WorkerId(0), open).await;
        }
    };
    let opened = tokio::time::timeout(Duration::from_secs(20), opened).await;
    assert!(opened.is_ok(), "the queue is full and the worker asleep");
    net.stop().await;
}
