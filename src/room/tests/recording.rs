//! Who hears that a room is recorded, and when.

use super::moving::other_room;
use super::*;
use crate::protocol::livekit::{ParticipantPermission, UpdateParticipantRequest};

impl Lab {
    /// What the room was said to be to a session since the last call, by `room_update`: recorded, or not.
    fn told_of_recording(&mut self, session: SessionId) -> Vec<bool> {
        let heard = self.heard(session).into_iter();
        let updates = heard.filter_map(|message| match message {
            signal_response::Message::RoomUpdate(update) => update.room,
            _ => None,
        });
        updates.map(|room| room.active_recording).collect()
    }

    fn recorder(&mut self, identity: &str) -> SessionId {
        let session = self.grant(identity, |grant| {
            grant.recorder = true;
            grant.hidden = true;
        });
        self.connect();
        session
    }

    fn leave(&mut self, session: SessionId) {
        let leave = LeaveRequest::default();
        self.request(session, signal_request::Message::Leave(leave));
    }

    /// Somebody is here, and what it is told of counts is told.
    fn watched() -> (Self, SessionId) {
        let mut lab = Self::new();
        let alice = lab.join("alice");
        lab.connect();
        lab.wait(Duration::from_secs(6));
        lab.heard(alice);
        (lab, alice)
    }
}

/// Whether the answer to a join says that the room is recorded.
fn joined_recorded(lab: &mut Lab, session: SessionId) -> bool {
    match &lab.heard(session)[0] {
        signal_response::Message::Join(join) => join.room.as_ref().unwrap().active_recording,
        other => panic!("join comes first: {other:?}"),
    }
}

#[test]
fn a_room_is_recorded_from_the_first_recorder_to_the_last_and_all_hear_of_it_at_once() {
    let (mut lab, alice) = Lab::watched();
    let bob = lab.join("bob");
    assert!(!joined_recorded(&mut lab, bob));
    let revision = lab.room.revision();
    let by_right = lab.recorder("recorder");
    assert!(joined_recorded(&mut lab, by_right));
    assert_eq!(lab.told_of_recording(alice), [true]);
    assert!(lab.room.snapshot().active_recording && lab.room.revision() != revision);
    let hook = lab.hooks.last().unwrap();
    assert_eq!(hook.event, "participant_joined");
    assert!(hook.room.as_ref().unwrap().active_recording);

    let by_kind = lab.join_with("egress", |join| join.claims.kind = "egress".to_owned());
    let by_kind = by_kind.unwrap();
    lab.connect();
    assert!(joined_recorded(&mut lab, by_kind));
    lab.leave(by_right);
    assert!(
        lab.told_of_recording(alice).iter().all(|told| *told),
        "there is another one"
    );
    let carol = lab.join("carol");
    assert!(joined_recorded(&mut lab, carol));

    lab.leave(by_kind);
    assert_eq!(lab.told_of_recording(alice), [false]);
    assert!(!lab.room.snapshot().active_recording);
    let hook = lab.hooks.last().unwrap();
    assert_eq!(hook.event, "participant_left");
    assert!(!hook.room.as_ref().unwrap().active_recording);
}

#[test]
fn a_recorder_that_vanishes_records_no_more() {
    let (mut lab, alice) = Lab::watched();
    lab.recorder("recorder");
    let id = *lab.opened.last().unwrap();
    lab.event(Event::Disconnected { id });
    lab.wait(Duration::from_secs(4));
    let told = lab.told_of_recording(alice);
    assert_eq!((told.first(), told.last()), (Some(&true), Some(&false)));
}

#[test]
fn whoever_gets_or_loses_the_right_to_record_begins_or_ends_it() {
    let (mut lab, alice) = Lab::watched();
    lab.join("bob");
    lab.connect();
    lab.heard(alice);
    for recorder in [true, false] {
        #[expect(deprecated, reason = "the right itself is")]
        let permission = ParticipantPermission {
            can_subscribe: true,
            recorder,
            ..Default::default()
        };
        let request = UpdateParticipantRequest {
            room: "lab".to_owned(),
            identity: "bob".to_owned(),
            permission: Some(permission),
            ..Default::default()
        };
        lab.call(Call::UpdateParticipant(request)).unwrap();
        assert_eq!(lab.told_of_recording(alice), [recorder]);
    }
}

#[test]
fn a_recorder_that_joins_anew_is_not_said_to_have_stopped_and_somebody_else_of_its_name_is() {
    let (mut lab, alice) = Lab::watched();
    lab.recorder("recorder");
    assert_eq!(lab.told_of_recording(alice), [true]);
    let again = lab.recorder("recorder");
    assert!(joined_recorded(&mut lab, again));
    assert!(lab.told_of_recording(alice).is_empty());
    let person = lab.join("recorder");
    assert!(!joined_recorded(&mut lab, person));
    assert_eq!(lab.told_of_recording(alice), [false]);
}

#[test]
fn a_recorder_that_is_moved_records_where_it_is() {
    let (mut lab, alice) = Lab::watched();
    let recorder = lab.recorder("recorder");
    lab.heard(recorder);
    assert_eq!(lab.told_of_recording(alice), [true]);
    let mut yard = other_room(&lab);
    let carol = yard.join("carol");
    yard.connect();
    yard.heard(carol);
    yard.takes_in(lab.lets_go("recorder"));
    assert_eq!(lab.told_of_recording(alice), [false]);
    let moved = match &yard.heard(recorder)[0] {
        signal_response::Message::RoomMoved(moved) => moved.room.clone().unwrap(),
        other => panic!("room_moved comes first: {other:?}"),
    };
    assert!(moved.active_recording);
    assert_eq!(yard.told_of_recording(carol), [true]);
}

#[test]
fn a_recorder_that_is_forwarded_records_its_own_room_alone() {
    let (mut lab, _) = Lab::watched();
    lab.recorder("recorder");
    let mut yard = other_room(&lab);
    let carol = yard.join("carol");
    yard.connect();
    let (id, reflection) = lab.room.forward("recorder").unwrap();
    assert_eq!(yard.room.welcome(yard.now, id, &reflection), Ok(true));
    yard.drain();
    yard.wait(Duration::from_secs(6));
    assert!(!yard.told_of_recording(carol).contains(&true));
    assert!(!yard.room.snapshot().active_recording);
}
