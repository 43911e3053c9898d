//! Who is told that somebody speaks, or does so no longer.

use super::calls::{Call, JOIN, PUBLISH, offer};
use super::moving::other_room;
use super::*;
use crate::protocol::livekit::{
    ParticipantPermission, SubscriptionPermission, UpdateParticipantRequest, UpdateSubscription,
};

const BEAT: Duration = Duration::from_millis(400);

impl Call {
    /// Alice's microphone is as loud as this until the next beat.
    fn speak(&mut self, level: f32) {
        let of_alice =
            |(_, (_, sid)): &(&UpTrackId, &(Seat, TrackSid))| sid.as_str() == self.audio.sid;
        if let Some((up, _)) = self.lab.room.ups.iter().find(of_alice) {
            let up = *up;
            self.lab.event(Event::AudioLevel { up, level });
        }
        self.lab.wait(BEAT);
    }

    fn subscribe(&mut self, subscribe: bool) {
        let update = UpdateSubscription {
            track_sids: vec![self.audio.sid.clone(), self.video.sid.clone()],
            subscribe,
            ..Default::default()
        };
        let bob = self.bob;
        self.lab
            .request(bob, signal_request::Message::Subscription(update));
    }

    fn permit(&mut self, identity: &str, change: impl FnOnce(&mut ParticipantPermission)) {
        let mut permission = ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            ..Default::default()
        };
        change(&mut permission);
        let request = UpdateParticipantRequest {
            room: "lab".to_owned(),
            identity: identity.to_owned(),
            permission: Some(permission),
            ..Default::default()
        };
        self.lab
            .call(super::Call::UpdateParticipant(request))
            .unwrap();
    }
}

impl Lab {
    /// What a session was told since the last call: SIDs and levels, and identities of those who are said to be gone.
    pub(super) fn told_of_speakers(&mut self, session: SessionId) -> Vec<String> {
        let mut told = Vec::new();
        for message in self.heard(session) {
            match message {
                signal_response::Message::SpeakersChanged(changed) => {
                    for speaker in changed.speakers {
                        assert_eq!(speaker.active, speaker.level > 0.0);
                        told.push(format!("{} {}", speaker.sid, speaker.level));
                    }
                }
                signal_response::Message::Update(update) => {
                    let infos = update.participants.into_iter();
                    let gone =
                        infos.filter(|info| info.state() == participant_info::State::Disconnected);
                    told.extend(gone.map(|info| format!("{} gone", info.identity)));
                }
                _ => {}
            }
        }
        told
    }

    /// Workers have sent the last of every track.
    fn finish_downs(&mut self) {
        let downs: Vec<DownTrackId> = self.room.downs.keys().copied().collect();
        for down in downs {
            self.event(Event::DownClosed { down, sent: true });
        }
    }

    fn sid(&self, session: SessionId) -> String {
        let sid = self.room.participant_sid(session).unwrap();
        sid.as_str().to_owned()
    }
}

#[test]
fn whoever_loses_the_last_track_of_a_speaker_is_told_that_it_is_silent() {
    type End = fn(&mut Call);
    let ends: [(&str, End); 7] = [
        ("no right to publish", |call| {
            call.permit("alice", |permission| permission.can_publish = false);
        }),
        ("no right to subscribe", |call| {
            call.permit("bob", |permission| permission.can_subscribe = false);
        }),
        ("unsubscribed", |call| call.subscribe(false)),
        ("unsubscribed, and the last frames have left", |call| {
            call.subscribe(false);
            call.lab.finish_downs();
        }),
        ("unpublished", |call| {
            let sdp = PUBLISH.replace("a=sendonly", "a=inactive");
            let alice = call.alice;
            call.lab
                .request(alice, signal_request::Message::Offer(offer(&sdp, 3)));
            assert!(call.lab.room.tracks.is_empty());
        }),
        ("not let by the publisher", |call| {
            let rule = SubscriptionPermission::default();
            let alice = call.alice;
            call.lab
                .request(alice, signal_request::Message::SubscriptionPermission(rule));
        }),
        ("no codec in common", |call| {
            let seat = call.lab.room.identities["bob"];
            let downs: Vec<DownTrackId> = call.lab.room.downs.keys().copied().collect();
            for down in downs {
                call.lab.room.codec_unsupported(call.lab.now, seat, down);
            }
            call.lab.drain();
        }),
    ];
    for (what, end) in ends {
        let mut call = Call::new([0, 0]);
        let alice = call.lab.sid(call.alice);
        call.speak(1.0);
        call.speak(1.0);
        end(&mut call);
        // She goes on speaking, if she may.
        for _ in 0..4 {
            call.speak(1.0);
        }
        let expected = ["1", "0"].map(|level| format!("{alice} {level}"));
        assert_eq!(call.lab.told_of_speakers(call.bob), expected, "{what}");
    }
}

#[test]
fn whoever_gets_the_first_track_of_a_speaker_is_told_how_loud_it_is() {
    let mut call = Call::new([0, 0]);
    let alice = call.lab.sid(call.alice);
    let loud = format!("{alice} 1");
    call.speak(1.0);
    assert_eq!(call.lab.told_of_speakers(call.bob), [loud.as_str()]);
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let carol = call.lab.join_with("carol", join).unwrap();
    call.lab.connect();
    for _ in 0..3 {
        call.speak(1.0);
    }
    assert_eq!(call.lab.told_of_speakers(carol), [loud.as_str()]);
    assert!(
        call.lab.told_of_speakers(call.bob).is_empty(),
        "nothing is new to him"
    );

    call.subscribe(false);
    call.speak(1.0);
    call.lab.finish_downs();
    call.subscribe(true);
    for _ in 0..3 {
        call.speak(1.0);
    }
    let silent = format!("{alice} 0");
    assert_eq!(call.lab.told_of_speakers(call.bob), [silent, loud.clone()]);
    assert_eq!(call.lab.told_of_speakers(call.alice), [loud], "of herself");
}

#[test]
fn a_speaker_who_is_gone_is_said_to_be_silent_while_it_is_known() {
    type End = fn(&mut Call);
    let ends: [(&str, End); 4] = [
        ("left", |call| {
            let alice = call.alice;
            let leave = LeaveRequest::default();
            call.lab
                .request(alice, signal_request::Message::Leave(leave));
        }),
        ("replaced", |call| {
            call.lab.join("alice");
        }),
        ("moved", |call| {
            call.lab.lets_go("alice");
        }),
        ("hidden", |call| {
            call.permit("alice", |permission| permission.hidden = true);
        }),
    ];
    for (what, end) in ends {
        let mut call = Call::new([0, 0]);
        let alice = call.lab.sid(call.alice);
        call.speak(1.0);
        call.speak(1.0);
        end(&mut call);
        for _ in 0..4 {
            call.speak(1.0);
        }
        let mut expected = vec![format!("{alice} 1"), format!("{alice} 0")];
        if what != "replaced" {
            expected.push("alice gone".to_owned());
        }
        assert_eq!(call.lab.told_of_speakers(call.bob), expected, "{what}");
    }
}

#[test]
fn whoever_is_moved_is_told_of_those_who_speak_in_the_new_room_alone() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let alice = call.lab.sid(call.alice);
    call.speak(1.0);
    call.speak(1.0);
    yard.now = call.lab.now;
    yard.takes_in(call.lab.lets_go("bob"));
    assert_eq!(
        call.lab.told_of_speakers(call.bob).last(),
        Some(&format!("{alice} 0")),
        "its client forgets the room with who speaks there"
    );
    for _ in 0..3 {
        call.speak(1.0);
        yard.wait(BEAT);
    }
    assert!(call.lab.told_of_speakers(call.bob).is_empty());
    assert!(yard.told_of_speakers(call.bob).is_empty());
    yard.finish_downs();
    yard.takes_in(call.lab.lets_go("alice"));
    let up = *yard
        .room
        .ups
        .iter()
        .find(|(_, (_, sid))| sid.as_str() == call.audio.sid)
        .unwrap()
        .0;
    yard.event(Event::AudioLevel { up, level: 0.5 });
    yard.wait(BEAT);
    assert_eq!(yard.told_of_speakers(call.bob), [format!("{alice} 0.5")]);
    call.lab.wait(BEAT);
    assert!(
        call.lab.room.speakers.is_idle(),
        "the old room has forgotten"
    );
}

#[test]
fn a_guest_who_goes_while_it_speaks_is_said_to_be_silent() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let carol = yard.join("carol");
    yard.connect();
    let (id, reflection) = call.lab.room.forward("alice").unwrap();
    assert_eq!(yard.room.welcome(yard.now, id, &reflection), Ok(true));
    let seat = yard.room.identities["alice"];
    let guest = yard.room.participants[&seat].sid.as_str().to_owned();
    yard.room.guest_heard(yard.now, id, 0.5);
    yard.wait(BEAT);
    assert_eq!(yard.told_of_speakers(carol), [format!("{guest} 0.5")]);
    yard.room.guest_left(yard.now, id);
    yard.drain();
    let silent = format!("{guest} 0");
    assert_eq!(
        yard.told_of_speakers(carol),
        [silent, "alice gone".to_owned()]
    );
    yard.wait(BEAT);
    assert!(yard.room.speakers.is_idle(), "the room has forgotten");
}

#[test]
fn somebody_who_is_shown_again_while_it_speaks_is_said_to_speak() {
    let mut call = Call::new([0, 0]);
    let alice = call.lab.sid(call.alice);
    call.permit("alice", |permission| permission.hidden = true);
    call.speak(1.0);
    call.lab.heard(call.bob);
    call.permit("alice", |permission| permission.hidden = false);
    call.lab.finish_downs();
    for _ in 0..3 {
        call.speak(1.0);
    }
    assert_eq!(call.lab.told_of_speakers(call.bob), [format!("{alice} 1")]);
}

#[test]
fn who_fell_silent_while_somebody_was_away_is_said_to_be_silent_when_it_is_back() {
    let mut call = Call::new([0, 0]);
    let (alice, bob) = (call.lab.sid(call.alice), call.lab.sid(call.bob));
    call.speak(1.0);
    assert_eq!(call.lab.told_of_speakers(call.bob), [format!("{alice} 1")]);
    let resume = |call: &mut Call| {
        let join = |join: &mut Join| {
            join.resume = Some(Resume {
                participant_sid: bob.clone(),
                reason: ReconnectReason::RrSignalDisconnected,
                sync_state: None,
            });
        };
        call.bob = call.lab.join_with("bob", join).unwrap();
    };
    // His WebSocket is dead before the server notices: this is lost.
    call.speak(0.0);
    resume(&mut call);
    call.lab.wait(BEAT);
    assert_eq!(call.lab.told_of_speakers(call.bob), [format!("{alice} 0")]);
    // It notices, and she speaks when he is back.
    call.lab.room.handle_gone(call.lab.now, call.bob);
    call.speak(1.0);
    resume(&mut call);
    call.speak(1.0);
    call.speak(1.0);
    assert_eq!(call.lab.told_of_speakers(call.bob), [format!("{alice} 1")]);
}

#[test]
fn where_nobody_has_spoken_nothing_is_said_of_it() {
    let mut call = Call::new([0, 0]);
    let sid = call.lab.sid(call.bob);
    call.lab.room.handle_gone(call.lab.now, call.bob);
    let join = |join: &mut Join| {
        join.resume = Some(Resume {
            participant_sid: sid,
            reason: ReconnectReason::RrSignalDisconnected,
            sync_state: None,
        });
    };
    let bob = call.lab.join_with("bob", join).unwrap();
    call.speak(0.0);
    call.lab.wait(BEAT);
    assert!(call.lab.told_of_speakers(bob).is_empty());
    assert!(call.lab.room.speakers.is_idle(), "there is no beat either");
}
