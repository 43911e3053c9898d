//! Two transports over a seeded link in virtual time: how they connect, what they carry, and how they end.

mod lab;
mod pacing;
mod paths;

use super::*;
use crate::media::channels::{LOSSY_BACKLOG, RELIABLE_BACKLOG};
use crate::media::io::Socket;
use crate::media::srtp::RTP_OVERHEAD;
use crate::plan::CandidateKind;
use crate::random::Random;
use lab::{Lab, Link, Options, SERVER, Side, ms, secs};
use std::net::IpAddr;

const CHANNELS: [Channel; 3] = [Channel::DataTrack, Channel::Lossy, Channel::Reliable];

fn open_channels(lab: &Lab, side: Side) -> Vec<Channel> {
    let mut open: Vec<_> = lab
        .events(side)
        .iter()
        .filter_map(|event| match event {
            TransportEvent::ChannelOpen(channel) => Some(*channel),
            _ => None,
        })
        .collect();
    open.sort_by_key(|channel| channel.label());
    open
}

fn messages(lab: &Lab, side: Side, channel: Channel) -> Vec<Bytes> {
    lab.events(side)
        .iter()
        .filter_map(|event| match event {
            TransportEvent::Data {
                channel: c,
                payload,
            } if *c == channel => Some(payload.clone()),
            _ => None,
        })
        .collect()
}

fn count(lab: &Lab, side: Side, wanted: &TransportEvent) -> usize {
    lab.events(side)
        .iter()
        .filter(|event| *event == wanted)
        .count()
}

/// Sends one RTP packet from one side to the other, past the link.
fn media_flows(lab: &mut Lab, from: Side, index: u64) -> bool {
    let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    packet.extend_from_slice(b"media");
    packet.resize(17 + RTP_OVERHEAD, 0);
    let Some(sealer) = lab.transport(from).sealer() else {
        return false;
    };
    let len = sealer.seal_rtp(&mut packet, 12, 17, index);
    let to = from.other();
    let now = lab.now();
    match lab.transport(to).open_rtp(now, &mut packet[..len], 12) {
        Ok(plain) => &packet[12..plain] == b"media",
        Err(_) => false,
    }
}

#[test]
fn two_sides_connect_and_open_their_channels() {
    for options in [
        Options::default(),
        Options {
            server_offers: true,
            ..Options::default()
        },
        Options {
            lite: true,
            ..Options::default()
        },
        Options {
            tcp: true,
            ..Options::default()
        },
        Options {
            server_is_dtls_client: true,
            ..Options::default()
        },
        Options {
            server_offers: true,
            client_waits: true,
            ..Options::default()
        },
    ] {
        let mut lab = Lab::new(1, Link::default(), options);
        lab.run(secs(2));
        for side in [Side::Client, Side::Server] {
            assert!(lab.transport(side).is_connected(), "{side:?} {options:?}");
            assert_eq!(open_channels(&lab, side), CHANNELS, "{side:?} {options:?}");
            assert!(media_flows(&mut lab, side, 60_000), "{side:?} {options:?}");
        }
        let connected = |event: &&TransportEvent| matches!(event, TransportEvent::Connected { .. });
        assert_eq!(lab.events(Side::Server).iter().filter(connected).count(), 1);
    }
}

#[test]
fn who_opens_the_channels_begins_sctp_only_if_the_client_does_not() {
    for (server_offers, client_waits) in [(true, false), (false, true)] {
        let options = Options {
            server_offers,
            client_waits,
            ..Options::default()
        };
        let mut lab = Lab::new(1, Link::default(), options);
        lab.run(ms(400));
        assert!(lab.transport(Side::Server).is_connected());
        assert_eq!(lab.transport(Side::Server).dial_at, None, "{options:?}");
        lab.run(secs(2));
        assert_eq!(open_channels(&lab, Side::Client).is_empty(), client_waits);
    }
}

#[test]
fn connecting_takes_few_round_trips() {
    let mut lab = Lab::new(1, Link::default(), Options::default());
    lab.run(ms(400));
    assert!(lab.transport(Side::Server).is_connected());
    assert!(lab.transport(Side::Client).is_connected());
}

#[test]
fn loss_and_reordering_delay_but_do_not_prevent_it() {
    for (loss, limit) in [(0.05, 4), (0.2, 12)] {
        for seed in 0..20 {
            let link = Link {
                loss,
                jitter: ms(20),
                ..Link::default()
            };
            let mut lab = Lab::new(seed, link, Options::default());
            lab.run(secs(limit));
            for side in [Side::Client, Side::Server] {
                assert!(lab.transport(side).is_connected(), "{loss} {seed} {side:?}");
                assert_eq!(open_channels(&lab, side), CHANNELS, "{loss} {seed}");
            }
        }
    }
}

#[test]
fn no_datagram_is_larger_than_1200_bytes() {
    let mut lab = Lab::connected(Link::default());
    for _ in 0..20 {
        lab.send(
            Side::Server,
            Channel::Reliable,
            &Bytes::from(vec![1; 60_000]),
        );
    }
    lab.run(secs(5));
    assert_eq!(messages(&lab, Side::Client, Channel::Reliable).len(), 20);
    assert!(lab.largest() <= 1200, "{}", lab.largest());
    assert!(lab.largest() > 1100, "{}", lab.largest());
}

#[test]
fn a_reliable_channel_keeps_order_and_loses_nothing() {
    for seed in 0..3 {
        let mut lab = Lab::connected(Link::default());
        lab.set_link(
            seed,
            Link {
                loss: 0.05,
                jitter: ms(30),
                ..Link::default()
            },
        );
        for side in [Side::Client, Side::Server] {
            for number in 0..300u32 {
                let mut payload = number.to_be_bytes().to_vec();
                payload.resize(4 + (number as usize * 37) % 3000, 7);
                let outcome = lab.send(side, Channel::Reliable, &payload.into());
                assert_eq!(outcome, SendOutcome::Sent);
            }
        }
        lab.run(secs(20));
        for side in [Side::Client, Side::Server] {
            let numbers: Vec<u32> = messages(&lab, side, Channel::Reliable)
                .iter()
                .map(|m| u32::from_be_bytes(m[..4].try_into().unwrap()))
                .collect();
            assert_eq!(numbers, (0..300).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

#[test]
fn messages_at_a_steady_pace_cross_a_bad_line_without_piling_up() {
    for seed in 0..3 {
        let mut lab = Lab::connected(Link::default());
        let link = Link {
            loss: 0.05,
            delay: ms(50),
            jitter: ms(20),
        };
        lab.set_link(seed, link);
        for number in 0..1_000u32 {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(200, 7);
            let outcome = lab.send(Side::Client, Channel::Reliable, &payload.into());
            assert_eq!(outcome, SendOutcome::Sent);
            lab.run(ms(20));
        }
        lab.run(secs(4));
        let numbers: Vec<u32> = messages(&lab, Side::Server, Channel::Reliable)
            .iter()
            .map(|m| u32::from_be_bytes(m[..4].try_into().unwrap()))
            .collect();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn empty_and_largest_messages_arrive_as_they_are() {
    let mut lab = Lab::connected(Link::default());
    for len in [0, 1, 65_535, 256 * 1024] {
        let outcome = lab.send(
            Side::Client,
            Channel::Reliable,
            &Bytes::from(vec![len as u8; len]),
        );
        assert_eq!(outcome, SendOutcome::Sent);
    }
    assert_eq!(
        lab.send(
            Side::Client,
            Channel::Reliable,
            &Bytes::from(vec![0; 256 * 1024 + 1])
        ),
        SendOutcome::Dropped
    );
    lab.run(secs(5));
    let lengths: Vec<_> = messages(&lab, Side::Server, Channel::Reliable)
        .iter()
        .map(Bytes::len)
        .collect();
    assert_eq!(lengths, [0, 1, 65_535, 256 * 1024]);
}

#[test]
fn a_lossy_channel_drops_what_it_cannot_send_at_once() {
    let mut lab = Lab::connected(Link::default());
    let payload = Bytes::from(vec![0; 1000]);
    let mut outcomes = Vec::new();
    let now = lab.now();
    for _ in 0..100 {
        outcomes.push(
            lab.transport(Side::Server)
                .send_data(now, Channel::Lossy, &payload),
        );
    }
    let sent = LOSSY_BACKLOG / payload.len();
    assert!(outcomes[..sent].iter().all(|o| *o == SendOutcome::Sent));
    assert!(outcomes[sent..].iter().all(|o| *o == SendOutcome::Dropped));
    lab.run(secs(1));
    assert_eq!(messages(&lab, Side::Client, Channel::Lossy).len(), sent);
}

#[test]
fn a_lossy_channel_that_keeps_up_may_hold_more() {
    let mut lab = Lab::connected(Link::default());
    let payload = Bytes::from(vec![0; 10_000]);
    let mut dropped = 0;
    for _ in 0..300 {
        // 500 kB a second: 50 kB in 100 ms.
        let outcome = lab.send(Side::Server, Channel::DataTrack, &payload);
        dropped += usize::from(outcome == SendOutcome::Dropped);
        lab.run(ms(20));
    }
    assert!(dropped < 30, "{dropped}");
}

#[test]
fn a_reliable_channel_that_nobody_reads_gets_stuck_and_says_so_once() {
    let mut lab = Lab::connected(Link::default());
    lab.transport(Side::Client)
        .set_data_hold(HoldReason::Room, true);
    let payload = Bytes::from(vec![0; 60_000]);
    let mut accepted = 0;
    let mut stuck = 0;
    for _ in 0..200 {
        match lab.send(Side::Server, Channel::Reliable, &payload) {
            SendOutcome::Sent => accepted += payload.len(),
            SendOutcome::Stuck => stuck += 1,
            other => panic!("{other:?}"),
        }
        lab.run(ms(50));
    }
    assert!(stuck > 10);
    // What we hold, and what the peer's window took.
    assert!(
        accepted <= RELIABLE_BACKLOG + 1024 * 1024 + payload.len(),
        "{accepted}"
    );
    assert_eq!(count(&lab, Side::Server, &TransportEvent::ChannelStuck), 1);
}

#[test]
fn held_messages_wait_in_order_until_they_are_wanted() {
    let mut lab = Lab::connected(Link::default());
    lab.transport(Side::Server)
        .set_data_hold(HoldReason::Room, true);
    for number in 0..100u8 {
        lab.send(
            Side::Client,
            Channel::Reliable,
            &Bytes::from(vec![number; 20_000]),
        );
    }
    lab.run(secs(5));
    assert!(messages(&lab, Side::Server, Channel::Reliable).is_empty());
    lab.transport(Side::Server)
        .set_data_hold(HoldReason::Room, false);
    lab.run(secs(10));
    let first: Vec<u8> = messages(&lab, Side::Server, Channel::Reliable)
        .iter()
        .map(|m| m[0])
        .collect();
    assert_eq!(first, (0..100).collect::<Vec<_>>());
}

#[test]
fn another_certificate_than_the_sdp_says_ends_it() {
    let mut lab = Lab::new(
        1,
        Link::default(),
        Options {
            wrong_fingerprint: true,
            ..Options::default()
        },
    );
    lab.run(secs(5));
    assert_eq!(lab.events(Side::Server), [TransportEvent::Closed]);
    assert!(lab.transport(Side::Server).sealer().is_none());
    assert!(!lab.transport(Side::Client).is_connected());
    assert_eq!(lab.transport(Side::Server).next_timeout(), None);
}

#[test]
fn an_ice_restart_keeps_keys_and_channels() {
    let mut lab = Lab::connected(Link::default());
    assert!(media_flows(&mut lab, Side::Client, 1));
    lab.restart_ice();
    // The old path serves while the new checks run.
    assert!(lab.transport(Side::Server).path().is_some());
    assert!(media_flows(&mut lab, Side::Server, 2));
    lab.send(Side::Client, Channel::Reliable, &Bytes::from_static(b"on"));
    lab.run(secs(30));
    assert!(lab.transport(Side::Server).is_connected());
    assert!(media_flows(&mut lab, Side::Client, 3));
    assert_eq!(messages(&lab, Side::Server, Channel::Reliable), ["on"]);
    assert_eq!(count(&lab, Side::Server, &TransportEvent::Disconnected), 0);
}

#[test]
fn the_same_description_again_changes_nothing() {
    let mut lab = Lab::connected(Link::default());
    let before = lab.events(Side::Server).len();
    lab.repeat_remote();
    lab.run(secs(5));
    assert_eq!(lab.events(Side::Server).len(), before);
    assert!(lab.transport(Side::Server).is_connected());
}

#[test]
fn a_vanished_peer_is_noticed_after_fourteen_seconds() {
    for options in [
        Options::default(),
        Options {
            lite: true,
            ..Options::default()
        },
        Options {
            server_offers: true,
            ..Options::default()
        },
    ] {
        let mut lab = Lab::new(1, Link::default(), options);
        lab.transport(Side::Client).be_patient();
        lab.run(secs(5));
        assert!(media_flows(&mut lab, Side::Client, 5));
        lab.set_link(
            2,
            Link {
                loss: 1.0,
                ..Link::default()
            },
        );
        let gone = &TransportEvent::Disconnected;
        lab.run(secs(9));
        assert_eq!(count(&lab, Side::Server, gone), 0, "{options:?}");
        lab.run(secs(7));
        assert_eq!(count(&lab, Side::Server, gone), 1, "{options:?}");
        assert!(lab.transport(Side::Server).path().is_none());
        lab.run(secs(10));
        // A browser that still checks comes back by itself.
        lab.set_link(3, Link::default());
        lab.run(secs(6));
        assert!(lab.transport(Side::Server).is_connected(), "{options:?}");
        // One that gave up comes back by an ICE restart.
        lab.set_link(
            4,
            Link {
                loss: 1.0,
                ..Link::default()
            },
        );
        lab.run(secs(200));
        assert_eq!(count(&lab, Side::Server, gone), 2, "{options:?}");
        lab.set_link(5, Link::default());
        lab.restart_ice();
        lab.run(secs(5));
        assert!(lab.transport(Side::Server).is_connected(), "{options:?}");
        assert!(media_flows(&mut lab, Side::Client, 6));
        lab.send(
            Side::Client,
            Channel::Reliable,
            &Bytes::from_static(b"back"),
        );
        lab.run(secs(3));
        assert_eq!(messages(&lab, Side::Server, Channel::Reliable), ["back"]);
    }
}

#[test]
fn a_peer_that_only_listens_is_not_gone() {
    for lite in [false, true] {
        let mut lab = Lab::new(
            1,
            Link::default(),
            Options {
                lite,
                ..Options::default()
            },
        );
        lab.run(secs(120));
        assert!(lab.transport(Side::Server).is_connected());
        assert_eq!(count(&lab, Side::Server, &TransportEvent::Disconnected), 0);
    }
}

#[test]
fn the_peer_closing_is_told_after_its_last_message() {
    let mut lab = Lab::connected(Link::default());
    lab.send(Side::Client, Channel::Reliable, &Bytes::from_static(b"bye"));
    lab.run(ms(10));
    let now = lab.now();
    lab.transport(Side::Client).close(now);
    lab.run(secs(1));
    let events = lab.events(Side::Server);
    assert_eq!(events.last(), Some(&TransportEvent::Closed));
    assert!(matches!(
        &events[events.len() - 2],
        TransportEvent::Data { payload, .. } if payload == "bye"
    ));
    assert!(!lab.transport(Side::Server).is_connected());
}

#[test]
fn checks_that_come_before_the_description_are_kept() {
    let mut lab = Lab::new(
        1,
        Link::default(),
        Options {
            late_description: ms(300),
            ..Options::default()
        },
    );
    lab.run(ms(290));
    assert!(!lab.transport(Side::Server).is_connected());
    lab.run(ms(400));
    assert!(lab.transport(Side::Server).is_connected());
}

#[test]
fn credentials_too_long_for_stun_close_instead_of_panicking() {
    let mut lab = Lab::new(1, Link::default(), Options::default());
    let mut remote = lab.description(Side::Client);
    remote.ice.ufrag = "x".repeat(256);
    let now = lab.now();
    lab.transport(Side::Server).set_remote(now, &remote, None);
    assert_eq!(
        lab.transport(Side::Server).poll_event(),
        Some(TransportEvent::Closed)
    );
}

#[test]
fn noise_of_every_kind_is_survived() {
    let mut random = Random::seeded(11);
    let mut lab = Lab::connected(Link::default());
    let path = Path {
        socket: Socket::Udp(0),
        local: SERVER.ip(),
        remote: "198.51.100.7:1234".parse().unwrap(),
    };
    for round in 0..20_000 {
        let mut bytes = vec![0; (random.u32() % 200) as usize];
        random.fill(&mut bytes);
        // Half of it looks like something.
        if round % 2 == 0 && bytes.len() >= 20 {
            match random.u32() % 3 {
                0 => {
                    bytes.truncate(bytes.len() / 4 * 4);
                    let len = (bytes.len() - 20) as u16;
                    bytes[..2].copy_from_slice(&[[0, 1], [1, 1], [1, 0x11]][round / 2 % 3]);
                    bytes[2..4].copy_from_slice(&len.to_be_bytes());
                    bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
                }
                1 => {
                    let len = (bytes.len() - 13) as u16;
                    bytes[..5].copy_from_slice(&[20 + (random.u32() % 5) as u8, 0xfe, 0xfd, 0, 0]);
                    bytes[11..13].copy_from_slice(&len.to_be_bytes());
                }
                _ => bytes[0] = 0x80,
            }
        }
        let now = lab.now();
        let server = lab.transport(Side::Server);
        assert!(!server.handle_stun(now, &path, &bytes));
        server.handle_dtls(now, &bytes);
        assert!(server.open_rtp(now, &mut bytes.clone(), 12).is_err());
        assert!(server.open_rtcp(now, &mut bytes).is_err());
    }
    lab.run(secs(5));
    assert!(lab.transport(Side::Server).is_connected());
    assert!(media_flows(&mut lab, Side::Client, 1));
}

#[test]
fn noise_before_and_during_the_handshake_is_survived() {
    for seed in 0..10 {
        let mut random = Random::seeded(seed);
        let mut lab = Lab::new(seed, Link::default(), Options::default());
        for _ in 0..200 {
            let mut bytes = vec![0; 14 + (random.u32() % 100) as usize];
            random.fill(&mut bytes);
            let len = (bytes.len() - 13) as u16;
            bytes[..5].copy_from_slice(&[20 + (random.u32() % 5) as u8, 0xfe, 0xfd, 0, 0]);
            bytes[11..13].copy_from_slice(&len.to_be_bytes());
            let now = lab.now();
            lab.transport(Side::Server).handle_dtls(now, &bytes);
            lab.run(ms(2));
        }
    }
}

#[test]
fn sctp_that_makes_no_sense_is_counted_once() {
    let mut lab = Lab::connected(Link::default());
    let now = lab.now();
    let mut datagrams = Vec::new();
    let dtls = lab.transport(Side::Client).dtls.as_mut().unwrap();
    dtls.send(&[9; 40], &mut |datagram| datagrams.push(datagram.to_vec()));
    let server = lab.transport(Side::Server);
    assert!(server.take_faults().iter().all(|(_, count)| *count == 0));
    server.handle_dtls(now, &datagrams[0]);
    assert!(server.take_faults().contains(&(Drop::Sctp, 1)));
    assert!(server.take_faults().contains(&(Drop::Sctp, 0)));
}

#[test]
fn a_transport_is_small() {
    assert!(size_of::<Transport>() < 3000, "{}", size_of::<Transport>());
}
