//! Who may have what, who is told of it, and what waits for its time.

use super::calls::{Call, JOIN, PUBLISH, offer};
use super::data::{delivered, pose};
use super::*;
use crate::plan::{DownTrackPlan, Kind};
use crate::protocol::livekit::{
    DataTrackSubscriberHandles, ParticipantPermission, SubscriptionError, SubscriptionPermission,
    SyncState, TrackPermission, UpdateDataSubscription, UpdateParticipantRequest,
    UpdateSubscription, UpdateSubscriptionsRequest, UpdateTrackSettings, update_data_subscription,
};

/// Rule of a publisher: all, or these with all tracks.
fn rule(only: Option<&[&str]>) -> signal_request::Message {
    let entries = only.into_iter().flatten().map(|identity| TrackPermission {
        participant_identity: (*identity).to_owned(),
        all_tracks: true,
        ..Default::default()
    });
    signal_request::Message::SubscriptionPermission(SubscriptionPermission {
        all_participants: only.is_none(),
        track_permissions: entries.collect(),
    })
}

fn subscribe(sids: &[&str], subscribe: bool) -> signal_request::Message {
    signal_request::Message::Subscription(UpdateSubscription {
        track_sids: sids.iter().map(|sid| (*sid).to_owned()).collect(),
        subscribe,
        ..Default::default()
    })
}

/// Tracks that a session was told it may have, or may not, since the last call.
fn permissions(lab: &mut Lab, session: SessionId) -> Vec<(String, bool)> {
    let heard = lab.heard(session).into_iter();
    heard
        .filter_map(|message| match message {
            signal_response::Message::SubscriptionPermissionUpdate(update) => {
                assert!(update.participant_sid.starts_with("PA_"));
                Some((update.track_sid, update.allowed))
            }
            _ => None,
        })
        .collect()
}

/// What a session was told of data tracks since the last call: which it may have, and which come.
fn data_tracks(lab: &mut Lab, session: SessionId) -> Vec<String> {
    let heard = lab.heard(session).into_iter();
    heard
        .filter_map(|message| match message {
            signal_response::Message::SubscriptionPermissionUpdate(update) => {
                Some(format!("allowed {}", update.allowed))
            }
            signal_response::Message::DataTrackSubscriberHandles(DataTrackSubscriberHandles {
                sub_handles,
            }) => Some(format!("{} come", sub_handles.len())),
            _ => None,
        })
        .collect()
}

#[test]
fn data_tracks_come_when_their_subscriber_may_subscribe_and_end_when_it_may_not() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let from = lab.connect();
    let bob = lab.grant("bob", |grant| grant.can_subscribe = Some(false));
    let to = lab.connect();
    lab.request(alice, pose());
    assert!(data_tracks(&mut lab, bob).is_empty());
    let seat = lab.room.identities["bob"];
    let allow = |lab: &mut Lab, can_subscribe| {
        let mut permission = lab.room.participants[&seat].permission.clone();
        permission.can_subscribe = can_subscribe;
        lab.room.set_permission(lab.now, seat, permission);
        lab.drain();
        lab.commands.clear();
        lab.event(Event::Data {
            id: from,
            channel: Channel::DataTrack,
            payload: Bytes::from_static(&[0x18, 0, 0, 9, 0, 1, 0, 1, 0, 0, 0, 1, 7]),
        });
        delivered(lab).into_iter().flat_map(|(to, _)| to).collect()
    };
    for _ in 0..2 {
        let reached: Vec<TransportId> = allow(&mut lab, true);
        assert_eq!(reached, [to]);
        assert_eq!(data_tracks(&mut lab, bob), ["allowed true", "1 come"]);
        assert!(allow(&mut lab, false).is_empty());
        assert_eq!(data_tracks(&mut lab, bob), ["0 come"]);
    }
}

#[test]
fn a_publisher_s_rule_counts_for_data_tracks_and_recorders_are_exempt() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let from = lab.connect();
    let bob = lab.join("bob");
    let to_bob = lab.connect();
    lab.join("carol");
    let to_carol = lab.connect();
    lab.grant("recorder", |grant| grant.recorder = true);
    let to_recorder = lab.connect();
    lab.request(alice, rule(Some(&["carol"])));
    lab.heard(bob);
    lab.request(alice, pose());
    let sid = lab.room.participants[&lab.room.identities["alice"]]
        .info()
        .data_tracks[0]
        .sid
        .clone();
    let reached = |lab: &mut Lab| -> Vec<TransportId> {
        lab.commands.clear();
        lab.event(Event::Data {
            id: from,
            channel: Channel::DataTrack,
            payload: Bytes::from_static(&[0x18, 0, 0, 9, 0, 1, 0, 1, 0, 0, 0, 1, 7]),
        });
        let sent = delivered(lab).into_iter();
        let mut to: Vec<TransportId> = sent.flat_map(|(to, _)| to).collect();
        to.sort();
        to
    };
    assert_eq!(reached(&mut lab), [to_carol, to_recorder]);
    // Asking for it does not help.
    let change = update_data_subscription::Update {
        track_sid: sid,
        subscribe: true,
        ..Default::default()
    };
    lab.request(
        bob,
        signal_request::Message::UpdateDataSubscription(UpdateDataSubscription {
            updates: vec![change],
        }),
    );
    assert_eq!(reached(&mut lab), [to_carol, to_recorder]);
    assert_eq!(data_tracks(&mut lab, bob), ["allowed false"]);
    lab.request(alice, rule(None));
    assert_eq!(reached(&mut lab), [to_bob, to_carol, to_recorder]);
    assert_eq!(data_tracks(&mut lab, bob), ["allowed true", "1 come"]);
    lab.request(alice, rule(Some(&[])));
    assert_eq!(reached(&mut lab), [to_recorder]);
    assert_eq!(data_tracks(&mut lab, bob), ["allowed false", "0 come"]);
}

#[test]
fn whoever_may_not_have_a_track_is_told_so_once_and_told_when_it_may() {
    let mut call = Call::new([0, 0]);
    let mut sids = [call.audio.sid.clone(), call.video.sid.clone()];
    sids.sort();
    let both = |allowed| sids.clone().map(|sid| (sid, allowed));
    call.lab.request(call.alice, rule(Some(&["bob"])));
    // Who comes later is told at once, and not again when it asks.
    let carol = call.lab.join("carol");
    let ids: Vec<&str> = sids.iter().map(String::as_str).collect();
    call.lab.request(carol, subscribe(&ids, true));
    call.lab.request(call.alice, rule(Some(&["bob", "dave"])));
    assert_eq!(permissions(&mut call.lab, carol), both(false));
    // Who wants it anew is told anew.
    call.lab.request(carol, subscribe(&ids, false));
    call.lab.request(carol, subscribe(&ids, true));
    assert_eq!(permissions(&mut call.lab, carol), both(false));
    call.lab.request(call.alice, rule(None));
    assert_eq!(permissions(&mut call.lab, carol), both(true));
}

impl Call {
    /// Bob publishes what alice does.
    fn publish_too(&mut self) {
        for request in [
            AddTrackRequest {
                cid: "mic".to_owned(),
                source: TrackSource::Microphone as i32,
                ..Default::default()
            },
            camera(),
        ] {
            self.lab
                .request(self.bob, signal_request::Message::AddTrack(request));
        }
        self.lab
            .request(self.bob, signal_request::Message::Offer(offer(PUBLISH, 2)));
        // No packet of the camera comes.
        self.lab.wait(Duration::from_secs(3));
    }
}

#[test]
fn whoever_is_there_before_a_track_that_it_may_not_have_is_told_so() {
    let mut call = Call::new([0, 0]);
    let carol = call.lab.join("carol");
    call.lab.request(call.bob, rule(Some(&["alice"])));
    call.lab.heard(carol);
    call.publish_too();
    let told = permissions(&mut call.lab, carol);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(_, allowed)| !allowed));
}

#[test]
fn a_subscription_over_the_limit_begins_when_a_place_is_free() {
    let lab = Lab::with(|settings| settings.limits.subscription_limit_video = 1);
    let mut call = Call::in_lab(lab, [0, 0]);
    call.publish_too();
    call.lab.commands.clear();
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let carol = call.lab.join_with("carol", join).unwrap();
    call.lab.connect();
    let videos = |call: &Call| -> Vec<DownTrackPlan> {
        let mut downs = call.downs();
        downs.retain(|plan| plan.kind == Kind::Video);
        downs
    };
    assert_eq!(call.downs().len(), 3, "two voices, one video");
    let first = videos(&call).remove(0);
    let sid = call.lab.room.downs[&first.down].track.as_str().to_owned();
    call.lab.request(carol, subscribe(&[&sid], false));
    assert_eq!(
        videos(&call).len(),
        1,
        "the first one sends its last frames"
    );
    call.lab.event(Event::DownClosed {
        down: first.down,
        sent: true,
    });
    call.lab
        .request(carol, signal_request::Message::Offer(offer(JOIN, 2)));
    let both = videos(&call);
    assert_eq!(both.len(), 2);
    assert_ne!(both[1].up, first.up);
}

/// Whether a session was told since the last call that a track is not to be found.
fn not_found(lab: &mut Lab, session: SessionId) -> Vec<String> {
    let heard = lab.heard(session).into_iter();
    heard
        .filter_map(|message| match message {
            signal_response::Message::SubscriptionResponse(response) => {
                assert_eq!(response.err(), SubscriptionError::SeTrackNotfound);
                Some(response.track_sid)
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_track_that_never_comes_is_not_found_after_a_minute_unless_the_wish_is_taken_back() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    lab.request(alice, subscribe(&["TR_a", "TR_b"], true));
    lab.wait(Duration::from_secs(50));
    lab.request(alice, subscribe(&["TR_b"], false));
    lab.wait(Duration::from_secs(9));
    assert_eq!(not_found(&mut lab, alice), [""; 0]);
    lab.wait(Duration::from_secs(1));
    assert_eq!(not_found(&mut lab, alice), ["TR_a"]);
    lab.wait(Duration::from_secs(100));
    assert_eq!(not_found(&mut lab, alice), [""; 0]);
}

#[test]
fn a_track_that_is_wanted_before_it_is_there_comes_as_it_is_to_be_shown() {
    let mut call = Call::new([0, 0]);
    let choosy = |join: &mut Join| {
        join.auto_subscribe = false;
        join.publisher_offer = Some(offer(JOIN, 1));
    };
    let carol = call.lab.join_with("carol", choosy).unwrap();
    call.lab.connect();
    call.lab
        .request(call.bob, signal_request::Message::AddTrack(camera()));
    let published = call.lab.heard(call.bob).pop().unwrap();
    let signal_response::Message::TrackPublished(published) = published else {
        panic!("{published:?}")
    };
    let sid = published.track.unwrap().sid;
    let settings = UpdateTrackSettings {
        track_sids: vec![sid.clone(), call.audio.sid.clone()],
        disabled: true,
        ..Default::default()
    };
    call.lab
        .request(carol, signal_request::Message::TrackSetting(settings));
    call.lab.request(carol, subscribe(&[&sid], true));
    call.lab.commands.clear();
    call.lab
        .request(call.bob, signal_request::Message::Offer(offer(PUBLISH, 2)));
    call.lab.wait(Duration::from_secs(3));
    call.lab
        .request(carol, signal_request::Message::Offer(offer(JOIN, 2)));
    let of_carol = |call: &Call, kind| -> Vec<DownTrackPlan> {
        let seat = call.lab.room.identities["carol"];
        let mut downs = call.downs();
        downs.retain(|d| d.kind == kind && call.lab.room.downs[&d.down].subscriber == seat);
        downs
    };
    let videos = of_carol(&call, Kind::Video);
    assert_eq!(videos.len(), 1);
    assert!(videos[0].wanted.paused);
    // The same of a track that is there, and not subscribed to yet.
    let audio = call.audio.sid.clone();
    call.lab.request(carol, subscribe(&[&audio], true));
    call.lab
        .request(carol, signal_request::Message::Offer(offer(JOIN, 3)));
    let audios = of_carol(&call, Kind::Audio);
    assert_eq!(audios.len(), 1);
    assert!(audios[0].wanted.paused);
}

#[test]
fn wishes_are_bounded_in_number_and_length() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let many: Vec<String> = (0..100_000).map(|n| format!("TR_{n:09}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(65);
    lab.request(alice, subscribe(&[&long], true));
    lab.request(alice, subscribe(&many, true));
    let settings = UpdateTrackSettings {
        track_sids: many.iter().map(|sid| format!("{sid}b")).collect(),
        ..Default::default()
    };
    lab.request(alice, signal_request::Message::TrackSetting(settings));
    lab.wait(Duration::from_secs(61));
    let told = not_found(&mut lab, alice);
    assert_eq!(told.len(), 64);
    assert_eq!(told[63], many[63]);
    assert_eq!(
        lab.room.faults[Fault::AwaitedTracks as usize],
        1 + (4096 - 64) + 4096
    );
}

#[test]
fn a_rule_keeps_so_many_participants_and_tracks_and_lets_the_rest_to_nobody() {
    use super::super::rule::PermissionRule;

    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let entry = |n: usize, tracks: usize| TrackPermission {
        participant_identity: format!("p{n}"),
        track_sids: (0..tracks).map(|t| format!("TR_{t}")).collect(),
        ..Default::default()
    };
    let mut kept = |participants: usize, tracks: usize| {
        let permission = SubscriptionPermission {
            track_permissions: (0..participants).map(|n| entry(n, tracks)).collect(),
            ..Default::default()
        };
        let request = signal_request::Message::SubscriptionPermission(permission);
        lab.request(alice, request);
        let seat = lab.room.identities["alice"];
        let PermissionRule::Only(list) = &lab.room.participants[&seat].rule else {
            panic!()
        };
        let sids = list.values().flatten().map(HashSet::len).sum::<usize>();
        (list.len(), sids)
    };
    assert_eq!(kept(10, 4), (10, 40));
    assert_eq!(kept(5000, 5), (4096, 16_384));
    assert_eq!(kept(1, 20_000), (1, 16_384));
}

/// Gives or takes the right to subscribe, as the application's server does; what has to end has ended.
fn let_subscribe(lab: &mut Lab, identity: &str, can_subscribe: bool) {
    let permission = ParticipantPermission {
        can_subscribe,
        can_publish: true,
        can_publish_data: true,
        ..Default::default()
    };
    lab.call(super::Call::UpdateParticipant(UpdateParticipantRequest {
        room: "lab".to_owned(),
        identity: identity.to_owned(),
        permission: Some(permission),
        ..Default::default()
    }))
    .unwrap();
    let closing: Vec<_> = lab
        .workers
        .downs
        .iter()
        .filter_map(|(down, state)| state.is_closing.then_some(*down))
        .collect();
    for down in closing {
        lab.event(Event::DownClosed { down, sent: true });
    }
}

/// The tracks that somebody gets.
fn coming(lab: &Lab, identity: &str) -> Vec<String> {
    let seat = lab.room.identities[identity];
    let downs = lab.room.downs.values();
    let mut sids: Vec<String> = downs
        .filter(|owner| owner.subscriber == seat)
        .map(|owner| owner.track.as_str().to_owned())
        .collect();
    sids.sort();
    sids
}

/// How many of its wishes are kept.
fn kept(lab: &Lab, identity: &str) -> usize {
    let seat = lab.room.identities[identity];
    lab.room.participants[&seat].subscriptions.len()
}

impl Call {
    /// Carol, who may not subscribe.
    fn forbidden(&mut self, auto_subscribe: bool) -> SessionId {
        let carol = self.lab.join_with("carol", |join| {
            join.auto_subscribe = auto_subscribe;
            join.publisher_offer = Some(offer(JOIN, 1));
            join.claims.video.as_mut().unwrap().can_subscribe = Some(false);
        });
        self.lab.connect();
        let carol = carol.unwrap();
        self.lab.heard(carol);
        carol
    }

    /// Carol's wish for a track, said by her client, by her client as it resumes, or by the application's server.
    fn wish(&mut self, carol: SessionId, way: u8, sid: &str, subscribe: bool) {
        let track_sids = vec![sid.to_owned()];
        let update = UpdateSubscription {
            track_sids: track_sids.clone(),
            subscribe,
            ..Default::default()
        };
        let request = match way {
            0 => signal_request::Message::Subscription(update),
            1 => signal_request::Message::SyncState(SyncState {
                subscription: Some(update),
                ..Default::default()
            }),
            _ => {
                let request = UpdateSubscriptionsRequest {
                    room: "lab".to_owned(),
                    identity: "carol".to_owned(),
                    track_sids,
                    subscribe,
                    ..Default::default()
                };
                let answer = self.lab.call(super::Call::UpdateSubscriptions(request));
                return assert!(matches!(answer, Ok(Answer::Done)), "{answer:?}");
            }
        };
        self.lab.request(carol, request);
    }
}

#[test]
fn a_track_that_was_asked_for_without_the_right_to_subscribe_comes_with_the_right() {
    for way in 0..3 {
        let mut call = Call::new([0, 0]);
        let carol = call.forbidden(false);
        let sid = call.audio.sid.clone();
        call.wish(carol, way, &sid, true);
        assert_eq!(coming(&call.lab, "carol"), [""; 0]);
        assert!(call.lab.kinds(carol).is_empty(), "nothing is refused");
        for _ in 0..2 {
            let_subscribe(&mut call.lab, "carol", true);
            assert_eq!(coming(&call.lab, "carol"), [sid.as_str()]);
            let_subscribe(&mut call.lab, "carol", false);
            assert_eq!(coming(&call.lab, "carol"), [""; 0]);
        }
        call.wish(carol, way, &sid, false);
        let_subscribe(&mut call.lab, "carol", true);
        assert_eq!(coming(&call.lab, "carol"), [""; 0]);
    }
}

#[test]
fn a_track_that_was_declined_without_the_right_to_subscribe_does_not_come_with_the_right() {
    for way in 0..3 {
        let mut call = Call::new([0, 0]);
        let carol = call.forbidden(true);
        let (audio, video) = (call.audio.sid.clone(), call.video.sid.clone());
        call.wish(carol, way, &video, false);
        for _ in 0..2 {
            let_subscribe(&mut call.lab, "carol", true);
            assert_eq!(coming(&call.lab, "carol"), [audio.as_str()]);
            let_subscribe(&mut call.lab, "carol", false);
        }
        call.wish(carol, way, &video, true);
        let_subscribe(&mut call.lab, "carol", true);
        assert_eq!(coming(&call.lab, "carol").len(), 2);
    }
}

#[test]
fn a_track_that_comes_while_whoever_awaits_it_may_not_subscribe_is_got_with_the_right() {
    let mut call = Call::new([0, 0]);
    let carol = call.forbidden(false);
    call.lab
        .request(call.bob, signal_request::Message::AddTrack(camera()));
    let published = call.lab.heard(call.bob).pop().unwrap();
    let signal_response::Message::TrackPublished(published) = published else {
        panic!("{published:?}")
    };
    let sid = published.track.unwrap().sid;
    let settings = UpdateTrackSettings {
        track_sids: vec![sid.clone()],
        disabled: true,
        ..Default::default()
    };
    call.lab
        .request(carol, signal_request::Message::TrackSetting(settings));
    call.wish(carol, 0, &sid, true);
    call.lab
        .request(call.bob, signal_request::Message::Offer(offer(PUBLISH, 2)));
    call.lab.wait(Duration::from_secs(90));
    assert_eq!(not_found(&mut call.lab, carol), [""; 0]);
    call.lab.commands.clear();
    let_subscribe(&mut call.lab, "carol", true);
    assert_eq!(coming(&call.lab, "carol"), [sid.as_str()]);
    call.lab
        .request(carol, signal_request::Message::Offer(offer(JOIN, 2)));
    assert!(
        call.down(Kind::Video).wanted.paused,
        "as it was to be shown"
    );
}

#[test]
fn how_a_track_is_to_be_shown_is_kept_until_its_subscriber_may_have_it() {
    let mut call = Call::new([0, 0]);
    let carol = call.forbidden(true);
    let settings = UpdateTrackSettings {
        track_sids: vec![call.video.sid.clone()],
        disabled: true,
        ..Default::default()
    };
    call.lab
        .request(carol, signal_request::Message::TrackSetting(settings));
    call.lab.wait(Duration::from_secs(90));
    call.lab.commands.clear();
    let_subscribe(&mut call.lab, "carol", true);
    assert_eq!(coming(&call.lab, "carol").len(), 2);
    call.lab
        .request(carol, signal_request::Message::Offer(offer(JOIN, 2)));
    assert!(call.down(Kind::Video).wanted.paused);
    assert!(!call.down(Kind::Audio).wanted.paused);
}

#[test]
fn whoever_may_not_subscribe_hears_of_a_publisher_s_rule_when_it_may() {
    let mut call = Call::new([0, 0]);
    let carol = call.forbidden(false);
    let sid = call.audio.sid.clone();
    call.lab.request(call.alice, rule(Some(&["bob"])));
    call.wish(carol, 0, &sid, true);
    assert_eq!(permissions(&mut call.lab, carol), []);
    let_subscribe(&mut call.lab, "carol", true);
    assert_eq!(coming(&call.lab, "carol"), [""; 0]);
    assert_eq!(permissions(&mut call.lab, carol), [(sid.clone(), false)]);
    let_subscribe(&mut call.lab, "carol", false);
    call.lab.request(call.alice, rule(None));
    assert_eq!(coming(&call.lab, "carol"), [""; 0]);
    let_subscribe(&mut call.lab, "carol", true);
    assert_eq!(coming(&call.lab, "carol"), [sid.as_str()]);
    assert_eq!(permissions(&mut call.lab, carol), [(sid, true)]);
}

#[test]
fn of_those_who_may_not_subscribe_only_wishes_are_kept_and_no_longer_than_their_tracks() {
    for auto in [false, true] {
        let mut call = Call::new([0, 0]);
        call.publish_too();
        let carol = call.forbidden(auto);
        assert_eq!(kept(&call.lab, "carol"), 0, "nothing was said");
        let mut sids: Vec<String> = call
            .lab
            .room
            .tracks
            .keys()
            .map(|s| s.as_str().to_owned())
            .collect();
        sids.extend((0..3000).map(|n| format!("TR_{n:09}")));
        let sids: Vec<&str> = sids.iter().map(String::as_str).collect();
        call.lab.request(carol, subscribe(&sids, auto));
        assert_eq!(kept(&call.lab, "carol"), 0, "it is as it would be anyhow");
        call.lab.request(carol, subscribe(&sids, !auto));
        assert_eq!(kept(&call.lab, "carol"), 4);
        let leave = signal_request::Message::Leave(LeaveRequest::default());
        call.lab.request(call.alice, leave);
        assert_eq!(kept(&call.lab, "carol"), 2);
        let emigrant = call.lab.lets_go("carol");
        let mut yard = moving::other_room(&call.lab);
        yard.takes_in(emigrant);
        assert_eq!(kept(&yard, "carol"), 0);
    }
}
