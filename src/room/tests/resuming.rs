//! Clients that lose their WebSocket, or their media, and come back.

use super::calls::{JOIN, offer};
use super::*;
use crate::protocol::livekit::{
    SessionDescription, SimulateScenario, SyncState, TrackPublishedResponse, leave_request,
    simulate_scenario,
};
use std::net::SocketAddr;

fn resume(lab: &mut Lab, identity: &str, sid: &str) -> SessionId {
    lab.join_with(identity, |join| {
        join.resume = Some(Resume {
            participant_sid: sid.to_owned(),
            reason: ReconnectReason::RrSignalDisconnected,
            sync_state: None,
        });
    })
    .unwrap()
}

fn gone(lab: &mut Lab, session: SessionId) {
    lab.room.handle_gone(lab.now, session);
    lab.drain();
}

fn sid_of(lab: &Lab, session: SessionId) -> String {
    lab.room
        .participant_sid(session)
        .unwrap()
        .as_str()
        .to_owned()
}

#[test]
fn a_client_that_lost_its_socket_is_told_everything_again_and_nobody_else_anything() {
    let mut lab = Lab::new();
    let bob = lab.join("bob");
    lab.connect();
    let first = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, first);
    lab.wait(Duration::from_secs(7));
    lab.heard(bob);
    gone(&mut lab, first);
    let second = resume(&mut lab, "alice", &sid);
    let heard = lab.heard(second);
    let kinds: Vec<&str> = heard.iter().map(kind).collect();
    assert_eq!(
        kinds,
        ["reconnect", "update", "room_update", "refresh_token"]
    );
    let signal_response::Message::Update(update) = &heard[1] else {
        panic!()
    };
    let mut identities: Vec<&str> = update
        .participants
        .iter()
        .map(|p| p.identity.as_str())
        .collect();
    identities.sort_unstable();
    assert_eq!(identities, ["alice", "bob"]);
    assert_eq!(sid_of(&lab, second), sid);
    assert!(lab.heard(bob).is_empty());
}

#[test]
fn whoever_left_meanwhile_is_said_to_have_left_unless_the_identity_is_back() {
    let mut lab = Lab::new();
    let bob = lab.join("bob");
    lab.connect();
    let carol = lab.join("carol");
    lab.connect();
    let alice = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, alice);
    gone(&mut lab, alice);
    lab.wait(Duration::from_secs(1));
    for session in [bob, carol] {
        lab.request(
            session,
            signal_request::Message::Leave(LeaveRequest::default()),
        );
    }
    lab.join("carol");
    let back = resume(&mut lab, "alice", &sid);
    let heard = lab.heard(back);
    let signal_response::Message::Update(update) = &heard[1] else {
        panic!("{heard:?}")
    };
    let left: Vec<&str> = update
        .participants
        .iter()
        .filter(|p| p.state() == participant_info::State::Disconnected)
        .map(|p| p.identity.as_str())
        .collect();
    assert_eq!(left, ["bob"]);
}

/// Whom the first update after a resume says to have left.
fn left(lab: &mut Lab, session: SessionId) -> Vec<String> {
    let heard = lab.heard(session).into_iter();
    let update = heard.into_iter().find_map(|message| match message {
        signal_response::Message::Update(update) => Some(update),
        _ => None,
    });
    let infos = update.expect("an update").participants.into_iter();
    infos
        .filter(|p| p.state() == participant_info::State::Disconnected)
        .map(|p| p.identity)
        .collect()
}

#[test]
fn a_farewell_that_was_told_while_somebody_was_away_is_told_again() {
    let mut lab = Lab::new();
    let bob = lab.join("bob");
    lab.connect();
    let alice = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, alice);
    lab.wait(Duration::from_millis(6_100));
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    lab.request(bob, leave);
    lab.wait(Duration::from_secs(1));
    gone(&mut lab, alice);
    // The beat.
    lab.wait(Duration::from_secs(3));
    let back = resume(&mut lab, "alice", &sid);
    assert_eq!(left(&mut lab, back), ["bob"]);
}

#[test]
fn whoever_was_away_for_minutes_hears_of_all_who_left() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, alice);
    let others = ["bob", "carol", "dave"].map(|identity| {
        let other = lab.join(identity);
        lab.connect();
        other
    });
    gone(&mut lab, alice);
    for other in others {
        lab.wait(Duration::from_secs(50));
        lab.request(
            other,
            signal_request::Message::Leave(LeaveRequest::default()),
        );
    }
    let back = resume(&mut lab, "alice", &sid);
    assert_eq!(left(&mut lab, back), ["bob", "carol", "dave"]);
}

#[test]
fn a_client_may_have_been_away_before_anybody_noticed() {
    let mut lab = Lab::new();
    let bob = lab.join("bob");
    lab.connect();
    let alice = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, alice);
    lab.wait(Duration::from_secs(7));
    lab.request(bob, signal_request::Message::Leave(LeaveRequest::default()));
    lab.wait(Duration::from_secs(30));
    let back = resume(&mut lab, "alice", &sid);
    assert_eq!(left(&mut lab, back), ["bob"]);
    lab.wait(Duration::from_secs(60));
    let later = resume(&mut lab, "alice", &sid);
    assert!(left(&mut lab, later).is_empty(), "that is long ago");
}

#[test]
fn whoever_is_there_but_hidden_is_said_to_have_left() {
    for by_permission in [false, true] {
        let mut lab = Lab::new();
        lab.join("bob");
        lab.connect();
        let alice = lab.join("alice");
        lab.connect();
        let sid = sid_of(&lab, alice);
        lab.wait(Duration::from_secs(7));
        gone(&mut lab, alice);
        if by_permission {
            lab.permit("bob", |permission| permission.hidden = true);
        } else {
            lab.grant("bob", |grant| grant.hidden = true);
        }
        let back = resume(&mut lab, "alice", &sid);
        assert_eq!(left(&mut lab, back), ["bob"], "{by_permission}");
    }
}

#[test]
fn a_session_that_the_server_still_holds_is_closed_by_the_one_that_resumes() {
    let mut lab = Lab::new();
    let first = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, first);
    let second = resume(&mut lab, "alice", &sid);
    assert_eq!(lab.closed, [first]);
    gone(&mut lab, first);
    assert_eq!(sid_of(&lab, second), sid, "the old socket's end is no news");
}

#[test]
fn a_resume_of_somebody_who_was_replaced_is_refused() {
    let mut lab = Lab::new();
    let first = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, first);
    lab.join("alice");
    lab.connect();
    let back = resume(&mut lab, "alice", &sid);
    assert_eq!(lab.kinds(back), ["leave"]);
}

#[test]
fn publications_that_only_the_client_knows_make_it_join_anew() {
    let mut lab = Lab::new();
    let first = lab.join("alice");
    lab.connect();
    let sid = sid_of(&lab, first);
    gone(&mut lab, first);
    let second = resume(&mut lab, "alice", &sid);
    lab.heard(second);
    lab.request(
        second,
        signal_request::Message::SyncState(SyncState::default()),
    );
    assert!(lab.heard(second).is_empty());
    let track = proto::TrackInfo {
        sid: "TR_unknown".to_owned(),
        ..Default::default()
    };
    let published = TrackPublishedResponse {
        cid: "c".to_owned(),
        track: Some(track),
    };
    let state = SyncState {
        publish_tracks: vec![published],
        ..Default::default()
    };
    lab.request(second, signal_request::Message::SyncState(state));
    let heard = lab.heard(second);
    let leave = heard.iter().find_map(|message| match message {
        signal_response::Message::Leave(leave) => Some(leave),
        _ => None,
    });
    let leave = leave.expect("leave");
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
}

#[test]
fn a_client_whose_media_is_gone_is_asked_to_resume_and_stays_until_its_time_is_up() {
    let mut lab = Lab::new();
    let first = lab.join("alice");
    let id = lab.connect();
    let sid = sid_of(&lab, first);
    lab.heard(first);
    lab.event(Event::Disconnected { id });
    let heard = lab.heard(first);
    let [signal_response::Message::Leave(leave)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(leave.action(), leave_request::Action::Resume);
    assert_eq!(lab.closed, [first]);
    let second = resume(&mut lab, "alice", &sid);
    lab.wait(Duration::from_secs(10));
    assert_eq!(sid_of(&lab, second), sid);
    let remote = "127.0.0.1:9999".parse().unwrap();
    lab.event(Event::Connected {
        id,
        proto: Proto::Udp,
        remote,
    });
    lab.wait(Duration::from_secs(60));
    assert_eq!(sid_of(&lab, second), sid);
    lab.event(Event::Disconnected { id });
    lab.wait(Duration::from_secs(5));
    assert!(lab.room.is_empty());
}

#[test]
fn an_older_client_whose_media_is_gone_finds_its_socket_closed_and_hears_of_no_leave() {
    let mut lab = Lab::new();
    let alice = lab
        .join_with("alice", |join| join.protocol = 12)
        .expect("a session");
    let id = lab.connect();
    lab.heard(alice);
    lab.event(Event::Disconnected { id });
    assert!(lab.heard(alice).is_empty());
    assert_eq!(lab.closed, [alice]);
}

#[test]
fn who_spoke_and_left_while_a_client_was_away_speaks_no_more_when_it_is_back() {
    let mut lab = Lab::new();
    let bob = lab.join("bob");
    lab.connect();
    let alice = lab.join("alice");
    lab.connect();
    let (gone_sid, sid) = (sid_of(&lab, bob), sid_of(&lab, alice));
    let speaker = SimulateScenario {
        scenario: Some(simulate_scenario::Scenario::SpeakerUpdate(3)),
    };
    lab.request(bob, signal_request::Message::Simulate(speaker));
    gone(&mut lab, alice);
    lab.request(bob, signal_request::Message::Leave(LeaveRequest::default()));
    lab.wait(Duration::from_secs(5));
    let back = resume(&mut lab, "alice", &sid);
    let heard = lab.heard(back).into_iter();
    let silent = heard
        .filter_map(|message| match message {
            signal_response::Message::SpeakersChanged(changed) => Some(changed.speakers),
            _ => None,
        })
        .flatten();
    let silent: Vec<(String, bool)> = silent.map(|s| (s.sid, s.active)).collect();
    assert_eq!(silent, [(gone_sid, false)]);
}

/// Joins with two connections, which stand; answers theirs: the subscriber's and the publisher's.
fn call_with_two_connections(
    lab: &mut Lab,
    can_subscribe: bool,
) -> (SessionId, TransportId, TransportId) {
    let join = |join: &mut Join| {
        join.single_pc = false;
        let grant = join.claims.video.as_mut().expect("a grant");
        grant.can_subscribe = Some(can_subscribe);
    };
    let alice = lab.join_with("alice", join).unwrap();
    let subscriber = *lab.opened.last().unwrap();
    if can_subscribe {
        let (_, id) = offered(&lab.heard(alice)).expect("an offer");
        accept(lab, alice, id, "first");
        lab.connect();
    }
    lab.request(alice, signal_request::Message::Offer(offer(JOIN, 1)));
    let publisher = lab.connect();
    assert_ne!(subscriber, publisher);
    (alice, subscriber, publisher)
}

fn connects(lab: &mut Lab, id: TransportId) {
    let remote = "127.0.0.1:9999".parse().unwrap();
    let proto = Proto::Udp;
    lab.event(Event::Connected { id, proto, remote });
}

#[test]
fn a_resume_waits_for_no_connection_that_was_never_made() {
    let mut lab = Lab::new();
    let (alice, _, _) = call_with_two_connections(&mut lab, false);
    let sid = sid_of(&lab, alice);
    gone(&mut lab, alice);
    let back = resume_with_two_connections(&mut lab, &sid);
    lab.wait(Duration::from_secs(50));
    assert_eq!(sid_of(&lab, back), sid);
}

#[test]
fn the_loss_of_its_second_connection_does_not_disturb_a_client_that_resumes_for_the_first() {
    let mut lab = Lab::new();
    let (alice, subscriber, publisher) = call_with_two_connections(&mut lab, true);
    let sid = sid_of(&lab, alice);
    lab.event(Event::Disconnected { id: subscriber });
    let back = resume_with_two_connections(&mut lab, &sid);
    let (_, id) = offered(&lab.heard(back)).expect("an offer");
    accept(&mut lab, back, id, "second");
    lab.event(Event::Disconnected { id: publisher });
    lab.wait(Duration::from_secs(10));
    assert!(!lab.kinds(back).contains(&"leave"));
    connects(&mut lab, publisher);
    connects(&mut lab, subscriber);
    lab.wait(Duration::from_secs(50));
    assert_eq!(sid_of(&lab, back), sid);
}

#[test]
fn a_client_whose_main_connection_does_not_come_back_is_gone_though_its_other_one_does() {
    let mut lab = Lab::new();
    let (alice, subscriber, publisher) = call_with_two_connections(&mut lab, true);
    let sid = sid_of(&lab, alice);
    lab.event(Event::Disconnected { id: subscriber });
    resume_with_two_connections(&mut lab, &sid);
    lab.event(Event::Disconnected { id: publisher });
    connects(&mut lab, publisher);
    lab.wait(Duration::from_secs(25));
    assert!(lab.room.is_empty());
}

/// Our offer's ICE user fragment, and its id.
fn offered(heard: &[signal_response::Message]) -> Option<(String, u32)> {
    heard.iter().find_map(|message| match message {
        signal_response::Message::Offer(offer) => offer
            .sdp
            .lines()
            .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
            .map(|ufrag| (ufrag.to_owned(), offer.id)),
        _ => None,
    })
}

/// A browser's answer to an offer of data channels alone.
fn accept(lab: &mut Lab, session: SessionId, id: u32, ufrag: &str) {
    let recorded = include_str!("../../../tests/fixtures/chromium-v0-accept.sdp");
    let (data, _) = recorded.split_once("m=audio").unwrap();
    let answer = SessionDescription {
        r#type: "answer".to_owned(),
        sdp: data
            .replace("BUNDLE 0 1 2", "BUNDLE 0")
            .replace("Zx9+", ufrag),
        id,
        ..Default::default()
    };
    lab.request(session, signal_request::Message::Answer(answer));
}

fn join_with_two_connections(lab: &mut Lab, identity: &str) -> SessionId {
    lab.join_with(identity, |join| join.single_pc = false)
        .unwrap()
}

fn resume_with_two_connections(lab: &mut Lab, sid: &str) -> SessionId {
    lab.join_with("alice", |join| {
        join.single_pc = false;
        join.resume = Some(Resume {
            participant_sid: sid.to_owned(),
            reason: ReconnectReason::RrUnknown,
            sync_state: None,
        });
    })
    .unwrap()
}

/// The room's task holds a queue for each.
#[test]
fn of_a_socket_that_ended_nothing_is_kept_though_the_participant_stays() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    gone(&mut lab, alice);
    assert_eq!(lab.closed, [alice]);
    assert!(!lab.room.is_empty());
}

#[test]
fn an_old_client_gets_an_offer_that_restarts_ice() {
    let mut lab = Lab::new();
    let first = join_with_two_connections(&mut lab, "alice");
    lab.connect();
    let sid = sid_of(&lab, first);
    let (before, _) = offered(&lab.heard(first)).expect("an offer");
    gone(&mut lab, first);
    let second = resume_with_two_connections(&mut lab, &sid);
    let (after, _) =
        offered(&lab.heard(second)).expect("an offer, though the last one was never answered");
    assert_ne!(before, after);
}

/// Otherwise the worker would know the client's new credentials and not ours, and take no check of either generation.
#[test]
fn the_worker_learns_both_sides_of_a_restart_that_we_offered() {
    let mut lab = Lab::new();
    let first = join_with_two_connections(&mut lab, "alice");
    lab.connect();
    let sid = sid_of(&lab, first);
    let (_, id) = offered(&lab.heard(first)).expect("an offer");
    accept(&mut lab, first, id, "first");
    lab.commands.clear();
    gone(&mut lab, first);
    let second = resume_with_two_connections(&mut lab, &sid);
    let (ours, id) = offered(&lab.heard(second)).expect("an offer");
    accept(&mut lab, second, id, "second");
    let told: Vec<_> = lab
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::SetRemote { remote, local, .. } => Some((
                remote.ice.ufrag.as_str(),
                local.as_ref().map(|local| local.ufrag.as_str()),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("second", Some(ours.as_str()))]);
}

#[test]
fn a_connected_client_that_does_not_answer_joins_anew() {
    let mut lab = Lab::new();
    let alice = join_with_two_connections(&mut lab, "alice");
    let (_, id) = offered(&lab.heard(alice)).expect("an offer");
    // Whoever is not connected yet has other limits.
    lab.wait(Duration::from_secs(9));
    accept(&mut lab, alice, id, "alice");
    lab.connect();
    lab.heard(alice);
    let bob = join_with_two_connections(&mut lab, "bob");
    lab.connect();
    lab.heard(bob);
    lab.wait(Duration::from_secs(14));
    assert!(rejoins(&lab.heard(bob)).is_none());
    lab.wait(Duration::from_secs(2));
    assert_eq!(
        rejoins(&lab.heard(bob)),
        Some(DisconnectReason::StateMismatch)
    );
    assert!(rejoins(&lab.heard(alice)).is_none());
}

#[test]
fn after_sdp_that_does_not_fit_a_client_joins_anew_and_after_a_late_answer_nothing_happens() {
    let mut lab = Lab::new();
    let alice = join_with_two_connections(&mut lab, "alice");
    lab.connect();
    let (_, id) = offered(&lab.heard(alice)).expect("an offer");
    accept(&mut lab, alice, id + 1, "late");
    assert!(rejoins(&lab.heard(alice)).is_none());
    let misfit = SessionDescription {
        r#type: "answer".to_owned(),
        sdp: include_str!("../../../tests/fixtures/chromium-v0-accept.sdp").to_owned(),
        id,
        ..Default::default()
    };
    lab.request(alice, signal_request::Message::Answer(misfit));
    assert_eq!(
        rejoins(&lab.heard(alice)),
        Some(DisconnectReason::StateMismatch)
    );
}

/// Why a client is told to join anew.
fn rejoins(heard: &[signal_response::Message]) -> Option<DisconnectReason> {
    heard.iter().find_map(|message| match message {
        signal_response::Message::Leave(leave)
            if leave.action() == leave_request::Action::Reconnect =>
        {
            Some(leave.reason())
        }
        _ => None,
    })
}

#[test]
fn scenarios_that_applications_test_with_do_what_they_say() {
    let simulate = |scenario| {
        signal_request::Message::Simulate(SimulateScenario {
            scenario: Some(scenario),
        })
    };
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    lab.heard(alice);
    lab.request(
        alice,
        simulate(simulate_scenario::Scenario::ServerLeave(true)),
    );
    assert_eq!(lab.kinds(alice), ["leave"]);
    let bob = lab.join("bob");
    lab.connect();
    let sid = sid_of(&lab, bob);
    lab.request(
        bob,
        simulate(simulate_scenario::Scenario::DisconnectSignalOnResume(true)),
    );
    gone(&mut lab, bob);
    let back = resume(&mut lab, "bob", &sid);
    assert_eq!(lab.kinds(back), ["reconnect", "update", "room_update"]);
    assert!(lab.closed.contains(&back));
    let again = resume(&mut lab, "bob", &sid);
    lab.heard(again);
    lab.request(
        again,
        simulate(simulate_scenario::Scenario::Migration(true)),
    );
    assert!(lab.kinds(again).is_empty(), "a failing node says nothing");
    assert!(lab.closed.contains(&again));
}

#[test]
fn a_new_address_of_ours_is_told_once_to_those_on_its_worker() {
    let mut lab = Lab::new();
    let alice = join_with_two_connections(&mut lab, "alice");
    lab.connect();
    lab.heard(alice);
    let candidates: Arc<[LocalCandidate]> = [1, 2]
        .map(|host| LocalCandidate {
            proto: Proto::Udp,
            address: SocketAddr::from(([192, 168, 7, host], 7882)),
            preference: 65_535,
        })
        .into();
    let mut lines = |candidates: &Arc<[LocalCandidate]>, worker| {
        lab.room.set_candidates(worker, candidates);
        lab.drain();
        let heard = lab.heard(alice);
        heard
            .into_iter()
            .map(|message| match message {
                signal_response::Message::Trickle(trickle) => trickle.candidate_init,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert!(lines(&candidates, WorkerId(1)).is_empty());
    let first: Arc<[_]> = [candidates[0]].into();
    let told = lines(&first, WorkerId(0));
    assert!(
        told.len() == 1 && told[0].contains(" 192.168.7.1 7882 "),
        "{told:?}"
    );
    let told = lines(&candidates, WorkerId(0));
    assert!(
        told.len() == 1 && told[0].contains(" 192.168.7.2 7882 "),
        "{told:?}"
    );
    assert!(lines(&candidates, WorkerId(0)).is_empty());
}
