use super::*;
use crate::net::stun::tests::request_for;

struct Lab {
    address: SocketAddr,
    inboxes: Vec<mpsc::Receiver<TcpInput>>,
    census: Arc<Census>,
    tasks: Tasks,
    _polls: Vec<mio::Poll>,
}

/// A listener in front of two workers.
fn lab() -> Lab {
    let mut gates = Vec::new();
    let mut inboxes = Vec::new();
    let mut polls = Vec::new();
    for number in 0..2 {
        let poll = mio::Poll::new().unwrap();
        let doorbell = Arc::new(Doorbell::new(poll.registry(), mio::Token(0)).unwrap());
        let (sender, inbox) = mpsc::channel(INBOX);
        gates.push(Gate::new(WorkerId(number), sender, doorbell));
        inboxes.push(inbox);
        polls.push(poll);
    }
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let tasks = Tasks::new();
    let census = Arc::<Census>::default();
    let listen = listen(listener, gates.into(), Arc::clone(&census), tasks.clone());
    tasks.spawn("listener", listen);
    Lab {
        address,
        inboxes,
        census,
        tasks,
        _polls: polls,
    }
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = (bytes.len() as u16).to_be_bytes().to_vec();
    frame.extend(bytes);
    frame
}

#[tokio::test]
async fn a_connection_finds_its_worker_and_frames_cross_both_ways() {
    let mut lab = lab();
    let mut client = TcpStream::connect(lab.address).await.unwrap();
    let request = request_for("Bxyz:peer");
    let mut bytes = frame(&request);
    bytes.extend(frame(b""));
    bytes.extend(frame(b"second"));
    // In pieces that respect nothing.
    for piece in bytes.chunks(7) {
        client.write_all(piece).await.unwrap();
    }
    let Some(TcpInput::Opened(path, stream)) = lab.inboxes[1].recv().await else {
        panic!("opened comes first")
    };
    assert_eq!(path.remote, client.local_addr().unwrap());
    assert_eq!(path.local, lab.address.ip());
    let mut got = Vec::new();
    while got.len() < 2 {
        let Some(TcpInput::Frames(id, mut block)) = lab.inboxes[1].recv().await else {
            panic!("frames come next")
        };
        assert_eq!(path.socket, Socket::Tcp(id));
        each_frame(&mut block, |frame| got.push(frame.to_vec()));
    }
    assert_eq!(got, [request, b"second".to_vec()]);

    let mut streams = Streams::default();
    streams.open(path, stream);
    assert!(streams.send(0, &frame(b"answer")));
    let mut answer = [0; 8];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"\x00\x06answer");

    drop(client);
    let Some(TcpInput::Closed(_)) = lab.inboxes[1].recv().await else {
        panic!("closed comes last")
    };
    assert!(lab.inboxes[0].try_recv().is_err());
    assert!(lab.tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test]
async fn what_does_not_begin_with_a_request_for_us_is_closed_and_counted() {
    let mut lab = lab();
    let strangers = [
        frame(b"GET / HTTP/1.1"),
        frame(&request_for("Zxyz:peer")),
        frame(&request_for("")),
        vec![0xff, 0xff, 0],
    ];
    for bytes in strangers {
        let mut client = TcpStream::connect(lab.address).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        // End of stream or reset: both are closed.
        let read = timeout(IDLE / 3, client.read_to_end(&mut rest));
        let read = read.await.unwrap();
        assert!(read.is_err() || rest.is_empty());
    }
    assert!(lab.inboxes[0].try_recv().is_err());
    assert!(lab.inboxes[1].try_recv().is_err());
    let faults = lab.census.faults();
    assert_eq!(
        faults[..3],
        [("foreign", 3), ("ignored", 0), ("long_frame", 1)]
    );
}

#[tokio::test]
async fn stopping_closes_connections() {
    let mut lab = lab();
    let mut client = TcpStream::connect(lab.address).await.unwrap();
    client
        .write_all(&frame(&request_for("Axyz:peer")))
        .await
        .unwrap();
    assert!(matches!(
        lab.inboxes[0].recv().await,
        Some(TcpInput::Opened(..))
    ));
    assert!(lab.tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_slow_connection_holds_half_a_megabyte_and_no_more() {
    let (blocks, outbox) = mpsc::channel(QUEUE_BLOCKS);
    let stream = Stream {
        blocks,
        queued: Arc::default(),
    };
    let mut streams = Streams::default();
    let path = Path {
        socket: Socket::Tcp(3),
        local: "127.0.0.1".parse().unwrap(),
        remote: "127.0.0.1:9".parse().unwrap(),
    };
    streams.open(path, stream);
    let block = vec![0; 16 * 1024];
    let taken = (0..100).filter(|_| streams.send(3, &block)).count();
    assert_eq!(taken, 32);
    drop(outbox);
    assert!(!streams.send(3, &[0; 4]));
}

#[test]
fn the_census_limits_an_address_and_forgets_who_left() {
    let census = Arc::<Census>::default();
    let home = "2001:db8::1".parse().unwrap();
    let neighbour = "2001:db8::2".parse().unwrap();
    let mut places: Vec<_> = (0..CONNECTIONS_PER_ADDRESS)
        .map(|_| Census::admit(&census, home).unwrap())
        .collect();
    assert!(Census::admit(&census, neighbour).is_none());
    assert!(Census::admit(&census, "2001:db8:0:1::1".parse().unwrap()).is_some());
    places.pop();
    assert!(Census::admit(&census, neighbour).is_some());
    places.clear();
    assert!(census.counts().by_address.is_empty());
    assert_eq!(census.counts().all, 0);
}

#[test]
fn whole_frames_end_at_the_first_part() {
    assert_eq!(whole_frames(&[]).unwrap(), 0);
    assert_eq!(whole_frames(&[0]).unwrap(), 0);
    assert_eq!(whole_frames(&[0, 1, 9, 0, 0, 0, 2, 1]).unwrap(), 5);
    assert!(matches!(whole_frames(&[0x20, 1]), Err(End::Long(8193))));
}
