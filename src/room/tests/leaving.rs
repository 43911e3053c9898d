//! Who goes, or is not to be seen any more, and what the others hear of it.

use super::*;

impl Lab {
    /// An administrator's doing.
    pub(super) fn permit(
        &mut self,
        identity: &str,
        change: impl FnOnce(&mut participant::Permission),
    ) {
        let seat = self.room.identities[identity];
        let mut permission = self.room.participants[&seat].permission.clone();
        change(&mut permission);
        self.room.set_permission(self.now, seat, permission);
        self.drain();
    }
}

/// A client with this protocol, and Alice, of whom it has heard all there is.
fn watched(mut lab: Lab, protocol: u32) -> (Lab, SessionId, SessionId) {
    let watcher = lab.join_with("watcher", |join| join.protocol = protocol);
    let watcher = watcher.unwrap();
    lab.connect();
    let alice = lab.join("alice");
    lab.connect();
    lab.wait(Duration::from_secs(6));
    lab.heard(watcher);
    (lab, watcher, alice)
}

fn leave() -> signal_request::Message {
    signal_request::Message::Leave(LeaveRequest::default())
}

/// Who was said to be gone since the last call, and why.
fn farewells(lab: &mut Lab, session: SessionId) -> Vec<(String, DisconnectReason)> {
    let infos = lab.updates(session).into_iter();
    infos
        .filter(|info| info.state() == participant_info::State::Disconnected)
        .map(|info| (info.identity.clone(), info.disconnect_reason()))
        .collect()
}

#[test]
fn whoever_is_seen_no_more_is_gone_for_the_others() {
    for by_permission in [true, false] {
        let (mut lab, watcher, _) = watched(Lab::new(), 17);
        if by_permission {
            lab.permit("alice", |permission| permission.hidden = true);
        } else {
            lab.grant("alice", |grant| grant.hidden = true);
        }
        let gone = farewells(&mut lab, watcher);
        assert_eq!(gone.len(), 1, "{by_permission}");
        assert_eq!(gone[0].0, "alice");
        lab.wait(Duration::from_secs(6));
        assert!(lab.updates(watcher).is_empty());
    }
}

#[test]
fn whoever_is_shown_again_brings_its_tracks_anew() {
    let mut call = calls::Call::new([0, 0]);
    let (bob, before) = (call.bob, call.downs());
    call.lab.wait(Duration::from_secs(6));
    call.lab.heard(bob);
    call.lab
        .permit("alice", |permission| permission.hidden = true);
    assert_eq!(farewells(&mut call.lab, bob).len(), 1);
    call.lab
        .permit("alice", |permission| permission.hidden = false);
    let told = call.lab.updates(bob);
    assert_eq!((told.len(), told[0].tracks.len()), (1, 2));
    for down in &before {
        let closed = |command: &Command| matches!(command, Command::CloseDown { down: id } if *id == down.down);
        assert!(call.lab.commands.iter().any(closed));
        call.lab.event(Event::DownClosed {
            down: down.down,
            sent: true,
        });
    }
    call.lab.commands.clear();
    let offer = calls::offer(calls::JOIN, 2);
    call.lab.request(bob, signal_request::Message::Offer(offer));
    let ups = |downs: &[crate::plan::DownTrackPlan]| -> HashSet<_> {
        downs.iter().map(|down| down.up).collect()
    };
    assert_eq!(ups(&call.downs()), ups(&before));
}

#[test]
fn whoever_leaves_and_is_back_unseen_within_a_beat_has_left() {
    let (mut lab, watcher, alice) = watched(Lab::new(), 17);
    lab.request(alice, leave());
    lab.grant("alice", |grant| grant.hidden = true);
    assert_eq!(farewells(&mut lab, watcher).len(), 1);
}

#[test]
fn clients_that_go_by_sids_hear_of_a_farewell_before_the_return() {
    let (mut lab, watcher, alice) = watched(Lab::new(), 11);
    lab.request(alice, leave());
    lab.join("alice");
    lab.wait(Duration::from_secs(6));
    let told = lab.updates(watcher);
    let states: Vec<_> = told.iter().map(proto::ParticipantInfo::state).collect();
    let (gone, back) = (
        participant_info::State::Disconnected,
        participant_info::State::Joined,
    );
    assert_eq!(states, [gone, back]);
}

#[test]
fn whoever_leaves_and_is_back_within_a_beat_has_not_left() {
    // Their order in an update goes by SID, and SIDs are random.
    for seed in 0..8 {
        let mut lab = Lab::new();
        lab.room.random = Random::seeded(seed);
        let (mut lab, watcher, alice) = watched(lab, 17);
        lab.request(alice, leave());
        lab.join("alice");
        lab.wait(Duration::from_secs(6));
        let told = lab.updates(watcher);
        let states: Vec<_> = told.iter().map(proto::ParticipantInfo::state).collect();
        assert_eq!(states, [participant_info::State::Joined]);
    }
}

#[test]
fn a_client_cannot_leave_with_a_reason_of_the_server_and_stay_listed_with_the_others() {
    for (said, told) in [
        (
            DisconnectReason::DuplicateIdentity,
            DisconnectReason::ClientInitiated,
        ),
        (
            DisconnectReason::ServerShutdown,
            DisconnectReason::ClientInitiated,
        ),
        (
            DisconnectReason::UserRejected,
            DisconnectReason::UserRejected,
        ),
        (DisconnectReason::AgentError, DisconnectReason::AgentError),
    ] {
        let mut lab = Lab::new();
        let alice = lab.join("alice");
        lab.connect();
        let bob = lab.join("bob");
        lab.connect();
        lab.wait(Duration::from_secs(7));
        lab.heard(alice);
        let reason = said as i32;
        lab.request(
            bob,
            signal_request::Message::Leave(LeaveRequest {
                reason,
                ..Default::default()
            }),
        );
        lab.wait(Duration::from_secs(6));
        let gone = farewells(&mut lab, alice);
        assert_eq!(gone, [("bob".to_owned(), told)], "{said:?}");
    }
}

#[test]
fn a_client_that_leaves_without_a_reason_has_time_to_go_before_it_is_answered() {
    let (mut lab, watcher, alice) = watched(Lab::new(), 17);
    lab.heard(alice);
    lab.request(alice, leave());
    assert!(lab.heard(alice).is_empty() && lab.closed.is_empty());
    lab.wait(Duration::from_millis(100));
    assert_eq!(lab.kinds(alice), ["leave"]);
    assert_eq!(lab.closed, [alice]);
    lab.wait(Duration::from_secs(6));
    let told = ("alice".to_owned(), DisconnectReason::ClientInitiated);
    assert_eq!(farewells(&mut lab, watcher), [told]);
    // The end of the room does not wait for that.
    lab.request(watcher, leave());
    lab.room.shut_down(lab.now);
    lab.drain();
    assert_eq!(lab.kinds(watcher), ["leave"]);
    assert_eq!(lab.closed, [alice, watcher]);
}

#[test]
fn a_client_that_leaves_gets_its_leave_back_and_the_others_a_farewell() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let bob = lab.join("bob");
    let transport = lab.connect();
    lab.wait(Duration::from_secs(7));
    lab.heard(alice);
    lab.heard(bob);
    let reason = DisconnectReason::ClientInitiated as i32;
    lab.request(
        bob,
        signal_request::Message::Leave(LeaveRequest {
            reason,
            ..Default::default()
        }),
    );
    let heard = lab.heard(bob);
    let Some(signal_response::Message::Leave(leave)) = heard.last() else {
        panic!("{heard:?}")
    };
    assert_eq!(
        (leave.reason(), leave.action, leave.can_reconnect),
        (DisconnectReason::ClientInitiated, 0, false)
    );
    assert!(
        lab.commands
            .iter()
            .any(|c| matches!(c, Command::CloseTransport { id } if *id == transport))
    );
    lab.wait(Duration::from_secs(6));
    let farewell = lab
        .heard(alice)
        .into_iter()
        .find_map(|message| match message {
            signal_response::Message::Update(update) => update
                .participants
                .into_iter()
                .find(|p| p.state() == participant_info::State::Disconnected),
            _ => None,
        });
    let farewell = farewell.expect("a farewell");
    assert_eq!(
        (farewell.identity.as_str(), farewell.disconnect_reason()),
        ("bob", DisconnectReason::ClientInitiated)
    );
}

#[test]
fn clients_that_go_by_sids_hear_that_a_replaced_participant_is_gone() {
    let mut lab = Lab::new();
    let watchers: Vec<SessionId> = [10, 11, 12]
        .into_iter()
        .map(|protocol| {
            let name = format!("watcher {protocol}");
            let change = |join: &mut Join| join.protocol = protocol;
            lab.join_with(&name, change).unwrap()
        })
        .collect();
    lab.join("alice");
    lab.connect();
    lab.wait(Duration::from_secs(6));
    lab.said.clear();
    lab.join("alice");
    lab.wait(Duration::from_secs(6));
    let told: Vec<_> = watchers
        .into_iter()
        .map(|watcher| farewells(&mut lab, watcher))
        .collect();
    let gone = vec![("alice".to_owned(), DisconnectReason::DuplicateIdentity)];
    assert_eq!(told, [gone.clone(), gone, vec![]]);
}
