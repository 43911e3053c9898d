//! Peers that have to wait, and readers that are slow.

use super::lab::{Lab, Link, Side, ms, secs};
use super::*;
use crate::media::channels::{BEHIND, CAUGHT_UP};

fn block(number: u8) -> Bytes {
    Bytes::from(vec![number; 20_000])
}

fn bytes(lab: &Lab, side: Side) -> usize {
    let messages = messages(lab, side, Channel::Reliable);
    messages.iter().map(Bytes::len).sum()
}

#[test]
fn a_peer_that_had_to_wait_goes_on_as_soon_as_it_may() {
    let mut lab = Lab::connected(Link::default());
    lab.transport(Side::Server)
        .set_data_hold(HoldReason::Readers, true);
    for number in 0..200 {
        lab.send(Side::Client, Channel::Reliable, &block(number));
    }
    // It probes the closed window, five times a second at most.
    lab.run(secs(15));
    assert_eq!(bytes(&lab, Side::Server), 0);
    lab.transport(Side::Server)
        .set_data_hold(HoldReason::Readers, false);
    lab.run(ms(20));
    let waited = bytes(&lab, Side::Server);
    assert!((900_000..1_200_000).contains(&waited), "{waited}");
    lab.run(ms(100));
    let more = bytes(&lab, Side::Server) - waited;
    assert!(more > 0, "the next comes within two round trips");
    lab.run(secs(10));
    let first: Vec<u8> = messages(&lab, Side::Server, Channel::Reliable)
        .iter()
        .map(|message| message[0])
        .collect();
    assert_eq!(first, (0..200).collect::<Vec<_>>());
}

#[test]
fn each_reason_to_hold_a_peer_counts_for_itself() {
    let mut lab = Lab::connected(Link::default());
    let server = lab.transport(Side::Server);
    server.set_data_hold(HoldReason::Readers, true);
    server.set_data_hold(HoldReason::Room, true);
    server.set_data_hold(HoldReason::Room, false);
    lab.send(Side::Client, Channel::Reliable, &block(1));
    lab.run(secs(1));
    assert_eq!(bytes(&lab, Side::Server), 0);
    lab.transport(Side::Server)
        .set_data_hold(HoldReason::Readers, false);
    lab.run(secs(1));
    assert_eq!(bytes(&lab, Side::Server), 20_000);
}

#[test]
fn a_reader_that_falls_behind_is_told_of_and_so_it_is_when_it_has_caught_up() {
    let behind = TransportEvent::Behind(true);
    let caught_up = TransportEvent::Behind(false);
    let mut lab = Lab::connected(Link::default());
    lab.transport(Side::Client)
        .set_data_hold(HoldReason::Room, true);
    let mut sent = 0;
    while count(&lab, Side::Server, &behind) == 0 {
        assert!(sent < 3 * BEHIND, "{sent}");
        lab.send(Side::Server, Channel::Reliable, &block(1));
        sent += 20_000;
        lab.run(ms(20));
    }
    // The reader's own window has taken its megabyte.
    assert!(sent > BEHIND + 900_000, "{sent}");
    assert_eq!(count(&lab, Side::Server, &caught_up), 0);
    lab.transport(Side::Client)
        .set_data_hold(HoldReason::Room, false);
    let read = sent - CAUGHT_UP;
    while count(&lab, Side::Server, &caught_up) == 0 {
        assert!(bytes(&lab, Side::Client) < sent, "all is read");
        lab.run(ms(5));
    }
    assert!(bytes(&lab, Side::Client) + 100_000 > read);
    lab.run(secs(5));
    assert_eq!(count(&lab, Side::Server, &behind), 1);
    assert_eq!(count(&lab, Side::Server, &caught_up), 1);
    assert_eq!(count(&lab, Side::Server, &TransportEvent::ChannelStuck), 0);
}
