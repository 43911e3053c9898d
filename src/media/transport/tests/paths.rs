//! Which path is found, checked, kept and left.

use super::*;

/// Less than any that a peer-reflexive address has.
const LOW: u32 = 1_000_000;
/// More than any.
const HIGH: u32 = 2_130_706_431;

/// Each check costs both ends a wake, and what the peer's own checks say is as good.
#[test]
fn a_peer_that_checks_is_not_checked_and_a_silent_one_is() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.run(secs(10));
        let before = lab.checks();
        for _ in 0..30 {
            lab.repeat_check();
            lab.run(secs(2));
        }
        assert_eq!(lab.checks(), before, "server offers: {server_offers}");
        lab.set_link(
            2,
            Link {
                loss: 1.0,
                ..Link::default()
            },
        );
        lab.run(secs(6));
        assert!(lab.checks() > before, "server offers: {server_offers}");
    }
}

/// The agent alone would ask twice more, half a second and a second and a half after it.
#[test]
fn the_only_path_is_left_alone_once_it_has_answered() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.run(ms(250));
        assert!(lab.transport(Side::Server).is_connected());
        let before = lab.checks();
        lab.run(secs(2));
        assert_eq!(lab.checks(), before, "server offers: {server_offers}");
    }
}

/// The agent alone would check each for 18 s, and wake for each check: clients have addresses of containers and tunnels.
#[test]
fn addresses_that_do_not_answer_are_left_alone_once_a_path_is_certain() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        for last in 1..=5 {
            lab.tell_dead_address(last, LOW);
        }
        lab.run(ms(400));
        assert!(lab.transport(Side::Server).is_connected());
        assert!(
            lab.undeliverable() >= 5,
            "each is tried before a path is found"
        );
        let before = (lab.checks(), lab.undeliverable());
        for _ in 0..10 {
            lab.repeat_check();
            lab.run(secs(2));
        }
        assert_eq!(
            (lab.checks(), lab.undeliverable()),
            before,
            "server offers: {server_offers}"
        );
    }
}

/// Peers choose a while after both checks have succeeded. Here the first answer to theirs is lost, and our second check.
#[test]
fn a_path_that_answered_before_the_peer_chose_it_is_not_asked_again() {
    let options = Options {
        lost: &[0, 3],
        ..Options::default()
    };
    let mut lab = Lab::new(1, Link::default(), options);
    lab.tell_dead_address(1, LOW);
    lab.run(ms(500));
    assert!(lab.transport(Side::Server).is_connected());
    let before = lab.checks();
    lab.run(secs(2));
    assert_eq!(lab.checks(), before);
}

#[test]
fn an_address_that_answers_is_kept_in_reserve() {
    let mut lab = Lab::new(1, Link::default(), Options::default());
    let (one, two) = (IpAddr::from([192, 168, 1, 5]), IpAddr::from([10, 0, 0, 5]));
    lab.set_server_addresses(vec![one, two]);
    lab.run(ms(200));
    let client = lab.transport(Side::Client);
    assert!(client.is_connected());
    assert_eq!(client.ice.kept().1, 2);
    let before = lab.answers_from(two);
    lab.run(secs(10));
    assert!(lab.answers_from(two) > before);
}

#[test]
fn a_peer_that_checks_from_an_address_that_was_left_alone_is_answered_and_checked_there() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        let address = lab.tell_dead_address(1, LOW);
        lab.run(secs(1));
        let before = lab.undeliverable();
        lab.repeat_check_from(address);
        lab.run(ms(100));
        assert_eq!(
            lab.undeliverable(),
            before + 2,
            "server offers: {server_offers}"
        );
    }
}

/// The agent, told to forget that address, would forget its own.
#[test]
fn a_peer_that_names_our_address_as_its_own_does_not_take_it_from_us() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        let now = lab.now();
        let ours = RemoteCandidate {
            proto: Proto::Udp,
            address: SERVER,
            priority: LOW,
            kind: CandidateKind::Host,
        };
        let server = lab.transport(Side::Server);
        server.add_remote_candidate(now, ours);
        lab.run(secs(1));
        assert!(lab.transport(Side::Server).is_connected());
        let before = lab.answers_from(SERVER.ip());
        lab.repeat_check();
        lab.run(ms(100));
        assert!(
            lab.answers_from(SERVER.ip()) > before,
            "server offers: {server_offers}"
        );
    }
}

#[test]
fn all_addresses_are_tried_again_when_ours_is_gone() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.tell_dead_address(1, LOW);
        lab.run(secs(1));
        let before = lab.undeliverable();
        let now = lab.now();
        lab.transport(Side::Server)
            .handle_host_addresses(now, &[IpAddr::from([10, 0, 0, 5])]);
        lab.run(ms(100));
        assert!(
            lab.undeliverable() > before,
            "server offers: {server_offers}"
        );
    }
}

#[test]
fn a_better_address_is_checked_on_where_we_choose_the_path_but_not_where_the_peer_does() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.tell_dead_address(1, HIGH);
        lab.run(ms(400));
        let before = lab.undeliverable();
        for _ in 0..3 {
            lab.repeat_check();
            lab.run(secs(2));
        }
        assert_eq!(lab.undeliverable() > before, server_offers);
    }
}

#[test]
fn a_peer_is_followed_to_an_address_that_was_left_alone() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        let address = lab.tell_dead_address(1, LOW);
        lab.run(secs(20));
        lab.rebind_client(address);
        for _ in 0..3 {
            lab.run(ms(2_500));
            lab.repeat_check();
        }
        lab.run(ms(500));
        assert_eq!(
            lab.transport(Side::Server).path().map(|path| path.remote),
            Some(address),
            "server offers: {server_offers}"
        );
        assert!(media_flows(&mut lab, Side::Server, 1));
    }
}

#[test]
fn all_addresses_are_tried_again_when_the_path_falls_silent() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.tell_dead_address(1, LOW);
        lab.run(secs(5));
        let before = lab.undeliverable();
        lab.set_link(
            2,
            Link {
                loss: 1.0,
                ..Link::default()
            },
        );
        lab.run(secs(6));
        assert!(
            lab.undeliverable() > before,
            "server offers: {server_offers}"
        );
    }
}

/// A browser that was not told of the path goes on checking; that we hear it is no sign that it has heard us.
#[test]
fn a_lost_nomination_is_repeated_though_the_peer_goes_on_checking() {
    for seed in 0..60 {
        let bad = Link {
            loss: 0.35,
            ..Link::default()
        };
        let mut lab = Lab::new(
            seed,
            bad,
            Options {
                server_offers: true,
                ..Options::default()
            },
        );
        lab.run(ms(500));
        lab.set_link(seed, Link::default());
        for _ in 0..20 {
            lab.repeat_check();
            lab.run(ms(300));
        }
        assert!(lab.transport(Side::Client).is_connected(), "seed {seed}");
    }
}

#[test]
fn a_peer_whose_address_is_mapped_anew_is_followed() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.run(secs(20));
        let address = SocketAddr::from(([192, 168, 1, 77], 6666));
        lab.rebind_client(address);
        for _ in 0..3 {
            lab.run(ms(2_500));
            lab.repeat_check();
        }
        lab.run(ms(500));
        assert_eq!(
            lab.transport(Side::Server).path().map(|path| path.remote),
            Some(address),
            "server offers: {server_offers}"
        );
        assert!(media_flows(&mut lab, Side::Server, 1));
        let gone = TransportEvent::Disconnected;
        assert_eq!(count(&lab, Side::Server, &gone), 0);
    }
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let mut lab = Lab::new(1, Link::default(), Options::default());
    let (one, two) = (IpAddr::from([192, 168, 1, 5]), IpAddr::from([10, 0, 0, 5]));
    lab.set_server_addresses(vec![one, two]);
    lab.run(secs(3));
    assert!(lab.transport(Side::Server).is_connected());
    assert_eq!(lab.misdirected(), 0);
    assert!(lab.answers_from(one) > 0 && lab.answers_from(two) > 0);
}

/// The agent alone would keep the old pair until it has failed, some 18 s.
#[test]
fn media_follows_to_a_new_address_of_ours_at_once() {
    for server_offers in [false, true] {
        let mut lab = Lab::offered(server_offers);
        lab.run(secs(3));
        let (old, new) = (SERVER.ip(), IpAddr::from([10, 0, 0, 5]));
        assert_eq!(
            lab.transport(Side::Server).path().map(|path| path.local),
            Some(old)
        );
        lab.run(secs(3));
        lab.set_server_addresses(vec![new]);
        let now = lab.now();
        lab.transport(Side::Server)
            .handle_host_addresses(now, &[new]);
        lab.run(secs(2));
        assert_eq!(
            lab.transport(Side::Server).path().map(|path| path.local),
            Some(new),
            "server offers: {server_offers}"
        );
        let moved = TransportEvent::PathChanged { moved: true };
        assert_eq!(count(&lab, Side::Server, &moved), 1);
        assert!(media_flows(&mut lab, Side::Server, 1));
    }
}

#[test]
fn addresses_that_change_without_touching_the_path_change_nothing() {
    let mut lab = Lab::connected(Link::default());
    let before = lab.transport(Side::Server).path().copied();
    let host = [SERVER.ip(), IpAddr::from([10, 0, 0, 5])];
    lab.set_server_addresses(host.to_vec());
    let now = lab.now();
    lab.transport(Side::Server)
        .handle_host_addresses(now, &host);
    lab.run(secs(20));
    let moved = TransportEvent::PathChanged { moved: true };
    assert_eq!(count(&lab, Side::Server, &moved), 0);
    assert_eq!(lab.transport(Side::Server).path().copied(), before);
    assert!(media_flows(&mut lab, Side::Client, 1));
}

#[test]
fn a_tcp_candidate_is_never_checked() {
    let mut lab = Lab::new(1, Link::default(), Options::default());
    let now = lab.now();
    for (proto, address) in [
        (Proto::Tcp, "192.0.2.9:9"),
        (Proto::Udp, "192.0.2.9:0"),
        (Proto::Udp, "0.0.0.0:5"),
    ] {
        lab.transport(Side::Server).add_remote_candidate(
            now,
            RemoteCandidate {
                proto,
                address: address.parse().unwrap(),
                priority: 1,
                kind: CandidateKind::Host,
            },
        );
    }
    lab.run(secs(3));
    assert_eq!(lab.undeliverable(), 0);
}

#[test]
fn a_peer_of_a_thousand_addresses_costs_no_more_than_a_hundred() {
    let mut lab = Lab::connected(Link::default());
    for number in 0..1000u16 {
        lab.repeat_check_from(SocketAddr::from(([198, 51, 100, 1], 1024 + number)));
        if number % 10 == 0 {
            lab.run(ms(10));
        }
    }
    let (paths, addresses) = lab.transport(Side::Server).ice.kept();
    assert!(paths <= 64, "{paths}");
    assert!(addresses <= 200, "{addresses}");
    lab.run(secs(5));
    assert!(lab.transport(Side::Server).is_connected());
    assert!(media_flows(&mut lab, Side::Client, 1));
    assert_eq!(count(&lab, Side::Server, &TransportEvent::Disconnected), 0);
}
