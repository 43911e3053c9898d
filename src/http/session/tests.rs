use super::*;
use crate::hub::SessionId;
use crate::protocol::livekit::LeaveRequest;
use prost::Message as _;
use std::convert::Infallible;

#[test]
fn the_bucket_lets_a_burst_through_and_then_the_rate() {
    let start = Instant::now();
    let mut bucket = Bucket::new(start);
    assert_eq!((0..2000).filter(|_| bucket.take(start, 0)).count(), 1000);
    let later = start + Duration::from_millis(100);
    assert_eq!((0..2000).filter(|_| bucket.take(later, 0)).count(), 50);
    let much_later = start + Duration::from_secs(3600);
    assert_eq!(
        (0..2000).filter(|_| bucket.take(much_later, 0)).count(),
        1000
    );
    let last = much_later + Duration::from_secs(3600);
    let large = (0..10).filter(|_| bucket.take(last, 2 << 20)).count();
    assert_eq!(large, 3, "what takes long to read counts as much as many");
}

fn request(message: signal_request::Message) -> SignalRequest {
    SignalRequest {
        message: Some(message),
    }
}

fn binary(message: signal_request::Message) -> Message {
    Message::Binary(request(message).encode_to_vec().into())
}

struct Read {
    end: End,
    is_json: bool,
    requests: Vec<SignalRequest>,
    malformed: usize,
    pongs: Vec<signal_response::Message>,
}

/// What a reader makes of frames, with a room that has space for `room` requests.
async fn read(frames: Vec<Message>, room: usize) -> Read {
    let (inbox, mut requests) = mpsc::channel(room);
    let (pong, mut pongs) = mpsc::channel(PONGS);
    let form = Form::new(false);
    let mut reader = Reader {
        inbox: Some(Inbox::to(SessionId(7), inbox)),
        form: &form,
        is_writing: &AtomicBool::new(false),
        pong,
        bucket: Bucket::new(Instant::now()),
        malformed: 0,
        limit: 100,
        clock: Clock::Fixed(1_800_000_000_123),
    };
    let mut stream = stream::iter(frames.into_iter().map(Ok::<_, Infallible>));
    let end = reader.run(&mut stream).await;
    drop(reader);
    let mut read = Read {
        end,
        is_json: form.is_json.load(Ordering::Relaxed),
        requests: Vec::new(),
        malformed: 0,
        pongs: Vec::new(),
    };
    while let Some((id, inbound)) = requests.recv().await {
        assert_eq!(id, SessionId(7));
        match inbound {
            Inbound::Request(request) => read.requests.push(*request),
            Inbound::Malformed => read.malformed += 1,
            Inbound::Gone => panic!("the reader does not say that"),
        }
    }
    while let Some(pong) = pongs.recv().await {
        read.pongs.extend(pong.message().cloned());
    }
    read
}

#[tokio::test]
async fn pings_are_answered_here_and_requests_go_to_the_room() {
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    let read = read(
        vec![
            binary(signal_request::Message::Ping(5)),
            Message::Text(r#"{"pingReq":{"timestamp":"42","rtt":"9"}}"#.into()),
            Message::Ping(bytes::Bytes::new()),
            Message::Binary(bytes::Bytes::new()),
            binary(leave.clone()),
        ],
        4,
    )
    .await;
    assert_eq!(read.end, End::Gone);
    assert_eq!(read.requests, [request(leave)]);
    assert_eq!(
        read.pongs,
        [
            signal_response::Message::Pong(1_800_000_000_123),
            signal_response::Message::PongResp(Pong {
                last_ping_timestamp: 42,
                timestamp: 1_800_000_000_123,
            })
        ]
    );
    assert!(!read.is_json, "a binary frame came last");
}

#[tokio::test]
async fn a_text_frame_asks_for_json_even_when_it_is_nonsense() {
    let read = read(vec![Message::Text("hello".into())], 1).await;
    assert!(read.is_json && read.requests.is_empty());
    let form = Form::new(true);
    let pong = Encoded::new(signal_response::Message::Pong(1));
    assert_eq!(form.frame(&pong), Message::Text(r#"{"pong":"1"}"#.into()));
    form.is_json.store(false, Ordering::Relaxed);
    assert_eq!(form.frame(&pong), Message::Binary(pong.protobuf()));
}

#[tokio::test]
async fn unbearable_clients_are_closed() {
    let nonsense = || Message::Binary(vec![0xff; 3].into());
    let some = read((0..100).map(|_| nonsense()).collect(), 100).await;
    assert_eq!(some.malformed, 100, "the room counts them");
    assert_eq!(some.end, End::Gone, "a hundred are ignored");
    let many = read((0..101).map(|_| nonsense()).collect(), 1).await;
    assert_eq!(many.end, End::Malformed);
    let large = read(vec![Message::Binary(vec![0; 101].into())], 1).await;
    assert_eq!(large.end, End::TooLarge);
    let ping = || binary(signal_request::Message::Ping(5));
    let flood = read((0..5000).map(|_| ping()).collect(), 1).await;
    assert_eq!(flood.end, End::Flood);
    assert_eq!(flood.pongs.len(), PONGS, "the rest is dropped");
}

#[tokio::test]
async fn a_full_inbox_makes_the_client_wait() {
    let leave = || binary(signal_request::Message::Leave(LeaveRequest::default()));
    let frames = (0..3).map(|_| leave()).collect();
    // Nobody takes requests out while the reader runs: it never gets to the third.
    let waiting = timeout(Duration::from_millis(50), read(frames, 2)).await;
    assert!(waiting.is_err());
}

fn message(value: i64) -> Outgoing {
    Outgoing::Message(Arc::new(Encoded::new(signal_response::Message::Pong(
        value,
    ))))
}

/// What `write` makes of what a room says.
async fn written(
    outbox: impl Stream<Item = Outgoing> + Unpin,
    pongs: mpsc::Receiver<Arc<Encoded>>,
) -> (End, Vec<Message>) {
    let (sent, frames) = std::sync::mpsc::sync_channel(16);
    let mut sink = pin!(futures_util::sink::unfold(sent, async |sent, frame| {
        sent.send(frame).map(|()| sent)
    }));
    let end = write(
        &mut sink,
        outbox,
        pongs,
        &Form::new(false),
        &AtomicBool::new(false),
    )
    .await;
    (end, frames.try_iter().collect())
}

fn frame(value: i64) -> Message {
    Form::new(false).frame(&Encoded::new(signal_response::Message::Pong(value)))
}

#[tokio::test]
async fn what_is_queued_before_a_close_is_sent_in_order_and_what_comes_after_is_not() {
    for end in [vec![Outgoing::Close, message(3)], vec![]] {
        let outbox = stream::iter([message(1), message(2)].into_iter().chain(end));
        let (_pong, pongs) = mpsc::channel(1);
        let written = written(outbox, pongs).await;
        assert_eq!(written, (End::Closed, vec![frame(1), frame(2)]));
    }
}

#[tokio::test]
async fn pongs_are_written_while_the_room_is_silent() {
    let (pong, pongs) = mpsc::channel(1);
    // The room says something only after the pong is through the channel.
    let outbox = pin!(stream::once(async move {
        let answer = Encoded::new(signal_response::Message::Pong(1));
        pong.send(Arc::new(answer)).await.unwrap();
        drop(pong.reserve().await.unwrap());
        Outgoing::Close
    }));
    let written = written(outbox, pongs).await;
    assert_eq!(written, (End::Closed, vec![frame(1)]));
}
