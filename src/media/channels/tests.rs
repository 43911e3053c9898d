//! Two associations without DTLS between them: who dials, who wins, and what a hostile peer can do.

use super::window::write_checksum;
use super::*;
use crate::random::Random;

struct Pair {
    now: Instant,
    ends: [Channels; 2],
    events: [Vec<ChannelEvent>; 2],
}

impl Pair {
    fn new(opens: [bool; 2]) -> Self {
        Self {
            now: Instant::now(),
            ends: [
                Channels::new(opens[0], true),
                Channels::new(opens[1], false),
            ],
            events: [Vec::new(), Vec::new()],
        }
    }

    fn take(&mut self, from: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.ends[from].transmit(self.now, |packet| packets.push(packet.to_vec()));
        packets
    }

    fn give(&mut self, to: usize, packet: &[u8]) {
        self.ends[to].handle(self.now, packet);
        while let Some(event) = self.ends[to].poll(false) {
            self.events[to].push(event);
        }
    }

    /// Carries everything both ways until nothing moves; `change` may spoil packets of the first end.
    fn run(&mut self, steps: usize, mut change: impl FnMut(&mut Vec<u8>)) {
        for _ in 0..steps {
            for from in 0..2 {
                for mut packet in self.take(from) {
                    if from == 0 {
                        change(&mut packet);
                    }
                    self.give(1 - from, &packet);
                }
            }
            self.now += Duration::from_millis(100);
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }
    }

    /// Carries what there is both ways, a hundred packets at a time to the second end, and 20 ms pass. `hold`: nobody asks
    /// that end for messages.
    fn step(&mut self, hold: bool, mut is_lost: impl FnMut() -> bool) {
        for packets in self.take(0).chunks(100) {
            for packet in packets {
                if !is_lost() {
                    self.ends[1].handle(self.now, packet);
                }
            }
            while let Some(event) = self.ends[1].poll(hold) {
                self.events[1].push(event);
            }
        }
        for packet in self.take(1) {
            self.give(0, &packet);
        }
        self.now += Duration::from_millis(20);
        for end in &mut self.ends {
            end.handle_timeout(self.now);
        }
    }

    fn is_open(&self, end: usize, channel: Channel) -> bool {
        self.events[end].contains(&ChannelEvent::Open(channel))
    }
}

#[test]
fn either_side_may_open_the_channels() {
    for opens in [[true, false], [false, true]] {
        let mut pair = Pair::new(opens);
        pair.ends[0].dial();
        pair.run(20, |_| {});
        for end in 0..2 {
            for channel in [Channel::DataTrack, Channel::Lossy, Channel::Reliable] {
                assert!(pair.is_open(end, channel), "{opens:?} {end} {channel:?}");
            }
        }
    }
}

#[test]
fn two_that_dial_at_once_come_together() {
    // The second end stands for a browser, which dials although it is the DTLS server.
    for first in 0..2 {
        let mut pair = Pair::new([true, false]);
        pair.ends[0].dial();
        pair.ends[1].dial();
        let (ours, theirs) = (pair.take(0), pair.take(1));
        if first == 0 {
            // Ours is lost.
            for packet in &theirs {
                pair.give(0, packet);
            }
        } else {
            // Theirs is late.
            for packet in &ours {
                pair.give(1, packet);
            }
            pair.run(3, |_| {});
            for packet in &theirs {
                pair.give(0, packet);
            }
        }
        pair.run(40, |_| {});
        for end in 0..2 {
            assert!(pair.is_open(end, Channel::Reliable), "{first} {end}");
        }
        let now = pair.now;
        let hello = Bytes::from_static(b"hello");
        assert_eq!(
            pair.ends[0].send(now, Channel::Reliable, &hello),
            SendOutcome::Sent
        );
        pair.run(5, |_| {});
        assert!(pair.events[1].contains(&ChannelEvent::Data(Channel::Reliable, hello)));
    }
}

#[test]
fn a_late_copy_of_init_does_no_harm() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    let init = pair.take(0);
    pair.give(1, &init[0]);
    pair.run(20, |_| {});
    pair.give(1, &init[0]);
    pair.run(5, |_| {});
    assert!(!pair.events[1].contains(&ChannelEvent::Lost));
    assert!(pair.ends[1].association.is_some());
}

#[test]
fn a_channel_under_another_label_gives_its_messages_and_is_not_told_to_be_open() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    let (_, association) = pair.ends[0].association.as_mut().unwrap();
    let open = Open {
        label: b"chat",
        unordered: false,
        reliability: sctp_proto::ReliabilityType::Reliable,
        limit: 0,
    };
    let mut stream = association.open_stream(20, Ppid::Binary).unwrap();
    stream.write_with_ppi(&open.encode(), Ppid::Dcep).unwrap();
    stream.write_with_ppi(b"hi", Ppid::String).unwrap();
    let before = pair.events[1].len();
    pair.run(5, |_| {});
    let message = ChannelEvent::Data(Channel::Other, Bytes::from_static(b"hi"));
    assert_eq!(pair.events[1][before..], [message]);
    assert_eq!(pair.ends[1].take_ignored(), 0);
}

#[test]
fn text_counts_as_a_message() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    let id = pair.ends[0]
        .streams
        .iter()
        .find(|stream| stream.channel == Channel::Reliable)
        .unwrap()
        .id;
    let (_, association) = pair.ends[0].association.as_mut().unwrap();
    let mut stream = association.stream(id).unwrap();
    stream.write_with_ppi(b"text", Ppid::String).unwrap();
    stream.write_with_ppi(b"\0", Ppid::StringEmpty).unwrap();
    pair.run(5, |_| {});
    let got: Vec<_> = pair.events[1]
        .iter()
        .filter_map(|event| match event {
            ChannelEvent::Data(Channel::Reliable, payload) => Some(payload.as_ref()),
            _ => None,
        })
        .collect();
    assert_eq!(got, [&b"text"[..], b""]);
}

#[test]
fn a_message_beyond_the_limit_ends_the_association_with_notice() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    let (_, association) = pair.ends[0].association.as_mut().unwrap();
    association.set_max_send_message_size(1024 * 1024);
    let id = 0;
    let mut stream = association.stream(id).unwrap();
    stream
        .write_with_ppi(&vec![0; MAX_MESSAGE + 1], Ppid::Binary)
        .unwrap();
    pair.run(50, |_| {});
    assert_eq!(
        pair.events[1].last(),
        Some(&ChannelEvent::Lost),
        "{:?}",
        pair.events[1].len()
    );
}

#[test]
fn a_peer_that_spoils_its_packets_breaks_only_itself() {
    let seeds = 60;
    for seed in 0..seeds {
        let mut random = Random::seeded(seed);
        let mut pair = Pair::new([seed % 2 == 0, seed % 2 == 1]);
        pair.ends[0].dial();
        if seed % 3 > 0 {
            pair.run(12, |_| {});
        }
        for round in 0..30 {
            let now = pair.now;
            let payload = Bytes::from(vec![round; 1 + (random.u32() % 4000) as usize]);
            for channel in [Channel::Lossy, Channel::Reliable] {
                for end in &mut pair.ends {
                    end.send(now, channel, &payload);
                }
            }
            pair.run(1, |packet| {
                if random.u32().is_multiple_of(3) {
                    for _ in 0..=random.u32() % 4 {
                        // Mostly where the chunk headers are.
                        let reach = if random.u32().is_multiple_of(2) {
                            40
                        } else {
                            1200
                        };
                        let at = 12 + random.u32() as usize % reach;
                        if let Some(byte) = packet.get_mut(at) {
                            *byte = match random.u32() % 4 {
                                0 => 0,
                                1 => 255,
                                2 => byte.wrapping_add(1),
                                _ => random.u32() as u8,
                            };
                        }
                    }
                    if random.u32().is_multiple_of(8) {
                        packet.truncate(12 + random.u32() as usize % packet.len().max(13));
                    }
                    if packet.len() >= 12 {
                        write_checksum(packet);
                    }
                }
            });
        }
    }
}

/// What stands between an open pair: the first end is a peer that writes its packets by hand from here on.
struct Hand {
    pair: Pair,
    tag: [u8; 4],
    tsn: u32,
}

const UNORDERED: u8 = 4;
const BEGINS: u8 = 2;
const ENDS: u8 = 1;

impl Hand {
    fn new() -> Self {
        let mut pair = Pair::new([true, false]);
        pair.ends[0].dial();
        pair.run(20, |_| {});
        let now = pair.now;
        pair.ends[0].send(now, Channel::Reliable, &Bytes::from_static(b"last"));
        let packets = pair.take(0);
        let packet = packets.iter().find(|packet| packet[12] == 0).unwrap();
        let tag = packet[4..8].try_into().unwrap();
        let tsn = u32::from_be_bytes(packet[16..20].try_into().unwrap()) + 1;
        pair.give(1, packet);
        pair.take(1);
        pair.events[1].clear();
        Self { pair, tag, tsn }
    }

    fn data(&self, ahead: u32, stream: u16, ssn: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut chunk = vec![0, flags];
        chunk.extend((16 + payload.len() as u16).to_be_bytes());
        chunk.extend(self.tsn.wrapping_add(ahead).to_be_bytes());
        chunk.extend(stream.to_be_bytes());
        chunk.extend(ssn.to_be_bytes());
        chunk.extend(53_u32.to_be_bytes());
        chunk.extend(payload);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    /// Sends chunks as packets of 58, a twentieth of a second apart, and takes what is answered.
    fn send(&mut self, chunks: &[Vec<u8>]) {
        for chunks in chunks.chunks(58) {
            self.send_packet(&chunks.concat());
            self.pair.take(1);
            self.pair.now += Duration::from_millis(50);
        }
    }

    fn send_packet(&mut self, chunks: &[u8]) {
        let packet = self.packet(chunks);
        self.pair.give(1, &packet);
    }

    fn packet(&self, chunks: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x13, 0x88, 0x13, 0x88];
        packet.extend(self.tag);
        packet.extend([0; 4]);
        packet.extend(chunks);
        write_checksum(&mut packet);
        packet
    }

    fn is_lost(&self) -> bool {
        self.pair.events[1].contains(&ChannelEvent::Lost)
    }

    fn messages(&self) -> usize {
        let is_data = |event: &&ChannelEvent| matches!(event, ChannelEvent::Data(..));
        self.pair.events[1].iter().filter(is_data).count()
    }
}

#[test]
fn data_without_user_data_ends_the_association() {
    let mut hand = Hand::new();
    hand.send(&[hand.data(0, 0, 2, BEGINS, b"a")]);
    assert!(!hand.is_lost());
    hand.send(&[hand.data(1, 0, 2, 0, b"")]);
    assert!(hand.is_lost());
}

#[test]
fn a_message_of_endless_pieces_ends_the_association() {
    for flags in [0, UNORDERED] {
        let mut hand = Hand::new();
        let pieces: Vec<_> = (0..10_000)
            .map(|at| hand.data(at, 0, 2, if at == 0 { flags | BEGINS } else { flags }, b"a"))
            .collect();
        hand.send(&pieces[..4_000]);
        assert!(!hand.is_lost());
        hand.send(&pieces[4_000..]);
        assert!(hand.is_lost());
    }
}

#[test]
fn what_comes_beyond_a_gap_is_bounded_and_is_there_once_the_gap_is_closed() {
    let mut hand = Hand::new();
    let whole = |hand: &Hand, ahead| hand.data(ahead, 0, 0, UNORDERED | BEGINS | ENDS, b"a");
    let chunks: Vec<_> = (1..20_000).map(|at| whole(&hand, at)).collect();
    hand.send(&chunks);
    assert!(!hand.is_lost());
    let taken = hand.messages();
    assert!((3_500..=4_200).contains(&taken), "{taken} messages");
    hand.send(&[whole(&hand, 0)]);
    hand.send(&chunks[taken..taken + 1_000]);
    assert_eq!(hand.messages(), taken + 1_001);
}

#[test]
fn ordered_messages_behind_a_missing_one_are_bounded_and_come_with_it() {
    let mut hand = Hand::new();
    let whole = |hand: &Hand, at: u32| hand.data(at, 0, at as u16 + 2, BEGINS | ENDS, b"a");
    let chunks: Vec<_> = (1..20_000).map(|at| whole(&hand, at)).collect();
    hand.send(&chunks);
    assert!(!hand.is_lost());
    assert_eq!(hand.messages(), 0);
    hand.send(&[whole(&hand, 0)]);
    let taken = hand.messages();
    assert!((3_500..=4_200).contains(&taken), "{taken} messages");
}

#[test]
fn chunks_in_the_worst_order_get_a_share_of_the_time_only() {
    let mut hand = Hand::new();
    // All within a second, again and again: a FORWARD TSN empties the queue.
    let mut walked = 0;
    for round in 0..20_u32 {
        let base = round * 4_000;
        for first in (0..3_900).step_by(39).rev() {
            let chunks: Vec<_> = (first..first + 39)
                .rev()
                .map(|at| hand.data(base + at + 1, 0, 0, UNORDERED | BEGINS, b"a"))
                .collect();
            let refused = hand.pair.ends[1].refused;
            hand.send_packet(&chunks.concat());
            hand.pair.take(1);
            if hand.pair.ends[1].refused == refused {
                walked += 39 * (3_900 - first as usize - 39);
            }
        }
        let mut forward = vec![192, 0, 0, 8];
        forward.extend((hand.tsn + base + 3_999).to_be_bytes());
        hand.send_packet(&forward);
    }
    assert!(!hand.is_lost());
    assert!(walked < 8_000_000, "{walked} chunks");
}

#[test]
fn streams_beyond_those_of_channels_end_the_association() {
    let mut hand = Hand::new();
    let open = |hand: &Hand, at: u16| {
        hand.data(u32::from(at), 100 + at, 0, BEGINS | ENDS | UNORDERED, b"a")
    };
    hand.send(&(0..40).map(|at| open(&hand, at)).collect::<Vec<_>>());
    assert!(!hand.is_lost());
    hand.send(&(40..80).map(|at| open(&hand, at)).collect::<Vec<_>>());
    assert!(hand.is_lost());
}

#[test]
fn a_peer_that_begins_anew_leaves_nothing_behind() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    let init = pair.take(0).remove(0);
    for tag in 1..200_u32 {
        let mut init = init.clone();
        init[16..20].copy_from_slice(&tag.to_be_bytes());
        write_checksum(&mut init);
        pair.give(1, &init);
        pair.take(1);
    }
    let kept = format!("{:#?}", pair.ends[1].endpoint);
    assert_eq!(kept.matches("AssociationMeta").count(), 1);
    pair.give(1, &init);
    pair.run(20, |_| {});
    assert!(pair.is_open(1, Channel::Reliable));
}

#[test]
fn data_before_the_association_is_not_kept() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    let init = pair.take(0).remove(0);
    pair.give(1, &init);
    let answer = pair.take(1).remove(0);
    let tsn = u32::from_be_bytes(init[28..32].try_into().unwrap());
    let tag = answer[16..20].try_into().unwrap();
    let mut hand = Hand { pair, tag, tsn };
    hand.send(&[hand.data(0, 0, 0, BEGINS | ENDS, b"early")]);
    assert_eq!(hand.pair.ends[1].refused, 1);
}

#[test]
fn chunks_hidden_in_others_are_not_found() {
    let hidden = |hand: &Hand| hand.data(0, 0, 2, BEGINS | ENDS, b"hidden");
    let around: [fn(&mut Vec<u8>); 4] = [
        // COOKIE ACK with a value.
        |packet| packet.extend([11, 0, 0, 28]),
        // HEARTBEAT whose parameter is shorter than it.
        |packet| packet.extend([4, 0, 0, 32, 0, 1, 0, 4]),
        // RECONFIG with more than two.
        |packet| {
            packet.extend([130, 0, 0, 52]);
            packet.extend([0, 16, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0].repeat(2));
        },
        // SACK without gaps.
        |packet| {
            packet.extend([3, 0, 0, 40]);
            packet.extend([0; 12]);
        },
    ];
    for around in around {
        let mut hand = Hand::new();
        let mut packet = Vec::new();
        around(&mut packet);
        packet.extend(hidden(&hand));
        hand.send_packet(&packet);
        assert_eq!((hand.pair.ends[1].refused, hand.messages()), (1, 0));
    }
}

#[test]
fn resets_without_end_are_ignored() {
    let mut hand = Hand::new();
    // A piece of a message keeps each reset waiting.
    hand.send(&[hand.data(0, 0, 2, BEGINS, b"a")]);
    for at in 0..1_000 {
        let mut reset = vec![130, 0, 0, 22, 0, 13, 0, 18];
        for number in [hand.tsn - 1 + at, 0, hand.tsn] {
            reset.extend(number.to_be_bytes());
        }
        reset.extend([0; 4]);
        hand.send_packet(&reset);
    }
    assert_eq!(hand.pair.ends[1].refused, 1_000 - 256);
}

#[test]
fn what_clients_send_is_never_too_much() {
    for (seed, (count, len)) in [(2_500, 20), (300, 15_000), (60, 65_000), (8, 250_000)]
        .into_iter()
        .enumerate()
    {
        let mut random = Random::seeded(seed as u64);
        let mut pair = Pair::new([true, false]);
        pair.ends[0].dial();
        pair.run(20, |_| {});
        let payload = Bytes::from(vec![7; len]);
        let mut sent = 0;
        for step in 0..2_000 {
            let now = pair.now;
            while sent < count
                && pair.ends[0].send(now, Channel::Reliable, &payload) == SendOutcome::Sent
            {
                pair.ends[0].send(now, Channel::Lossy, &payload);
                sent += 1;
            }
            pair.step(step % 50 < 3, || random.u32().is_multiple_of(20));
        }
        let got = pair.events[1]
            .iter()
            .filter(|event| matches!(event, ChannelEvent::Data(Channel::Reliable, _)))
            .count();
        assert_eq!((got, pair.ends[1].refused), (count, 0), "{len} bytes");
    }
}

#[test]
fn a_window_full_of_small_messages_is_taken_while_nobody_asks_for_them() {
    let mut pair = Pair::new([true, false]);
    pair.ends[0].dial();
    pair.run(20, |_| {});
    pair.events[1].clear();
    let message = |number: u32| Bytes::from([number.to_be_bytes(); 25].concat());
    let now = pair.now;
    for number in 0..20_000 {
        let outcome = pair.ends[0].send(now, Channel::Reliable, &message(number));
        assert_eq!(outcome, SendOutcome::Sent);
    }
    for _ in 0..1_000 {
        pair.step(true, || false);
    }
    assert_eq!(pair.events[1], []);
    let held = pair.ends[1].inbox.cost();
    assert!((1_000_000..1_200_000).contains(&held), "{held} bytes");
    // Two seconds, with a window that was closed for long.
    for _ in 0..100 {
        pair.step(false, || false);
    }
    let all: Vec<_> = (0..20_000)
        .map(|number| ChannelEvent::Data(Channel::Reliable, message(number)))
        .collect();
    assert!(pair.events[1] == all, "{} messages", pair.events[1].len());
    assert_eq!(pair.ends[1].refused, 0);
}

#[test]
fn a_peer_that_goes_on_against_its_window_is_ignored_until_there_is_room() {
    let mut hand = Hand::new();
    let send = |hand: &mut Hand, at: u32| {
        let data = |at| hand.data(at, 0, at as u16 + 2, BEGINS | ENDS, &[7; 500]);
        let packet = hand.packet(&[data(2 * at), data(2 * at + 1)].concat());
        hand.pair.ends[1].handle(hand.pair.now, &packet);
        hand.pair.take(1);
    };
    for at in 0..10_000 {
        send(&mut hand, at);
    }
    assert!(!hand.is_lost());
    let taken = 10_000 - hand.pair.ends[1].refused as u32;
    let most = MAX_HELD / 1_000 + 1;
    assert!((1_800..most).contains(&(taken as usize)), "{taken} packets");
    while let Some(event) = hand.pair.ends[1].poll(false) {
        hand.pair.events[1].push(event);
    }
    send(&mut hand, taken);
    assert_eq!(hand.pair.ends[1].refused, u64::from(10_000 - taken));
    assert_eq!(hand.messages(), 2 * taken as usize);
}
