//! A participant in two rooms: what each of them, its client and the workers are told.

use super::calls::{Call, JOIN, PUBLISH, offer};
use super::dynacast::asked;
use super::moving::other_room;
use super::*;
use crate::ids::DownTrackId;
use crate::protocol::livekit::{
    ConnectionQuality, ForwardParticipantRequest, MuteRoomTrackRequest, MuteTrackRequest,
    ParticipantInfo, ReconnectReason, RoomParticipantIdentity, SubscriptionPermission,
    UpdateParticipantRequest, UpdateSubscription, UpdateSubscriptionsRequest, UpdateTrackSettings,
    VideoQuality,
};
use crate::room::admin::{Call as Ask, CallError};
use crate::room::dynacast::Demand;

const SECOND: Duration = Duration::from_secs(1);

/// Alice and bob in one room, carol in another, to which alice is forwarded.
struct Pair {
    red: Call,
    blue: Lab,
    carol: SessionId,
    /// Carol's offers.
    offers: u32,
}

impl Pair {
    /// On these workers: alice, bob, carol.
    fn new(workers: [u8; 3]) -> Self {
        let mut pair = Self::apart(workers);
        assert_eq!(pair.forward("alice"), Ok(true));
        pair
    }

    /// Before alice is forwarded.
    fn apart(workers: [u8; 3]) -> Self {
        let red = Call::new([workers[0], workers[1]]);
        let mut blue = other_room(&red.lab);
        blue.worker = WorkerId(workers[2]);
        blue.room.start(blue.now);
        let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
        let carol = blue.join_with("carol", join).unwrap();
        blue.connect();
        blue.heard(carol);
        blue.hooks.clear();
        blue.facts.clear();
        blue.commands.clear();
        Self {
            red,
            blue,
            carol,
            offers: 1,
        }
    }

    fn forward(&mut self, identity: &str) -> Result<bool, CallError> {
        let (id, reflection) = self.red.lab.room.forward(identity)?;
        let answer = self.blue.room.welcome(self.blue.now, id, &reflection);
        if answer != Ok(true) {
            // The owner lets its end go.
            self.red.lab.room.forward_ended(self.red.lab.now, id);
        }
        self.blue.drain();
        self.carry();
        self.offer();
        answer
    }

    /// Carol's client offers again, as it is told to when there are tracks for it.
    fn offer(&mut self) {
        self.offers += 1;
        let message = signal_request::Message::Offer(offer(JOIN, self.offers));
        self.blue.request(self.carol, message);
        self.carry();
    }

    /// What the owners do: brings each room's news to the other one.
    fn carry(&mut self) {
        let (red, blue) = (&mut self.red.lab, &mut self.blue);
        loop {
            let told = std::mem::take(&mut red.forwards);
            let asks = std::mem::take(&mut blue.guests);
            if told.is_empty() && asks.is_empty() {
                return;
            }
            for (id, news) in told {
                match news {
                    Forwarding::As(reflection) => {
                        blue.room.guest_changed(blue.now, id, &reflection);
                    }
                    Forwarding::Loud(level) => blue.room.guest_heard(blue.now, id, level),
                    Forwarding::Ended => blue.room.guest_left(blue.now, id),
                }
            }
            for (id, news) in asks {
                match news {
                    Guesting::Asks(demands) => red.room.forward_asks(red.now, id, &demands),
                    Guesting::Ended => red.room.forward_ended(red.now, id),
                }
            }
            red.drain();
            blue.drain();
        }
    }

    fn wait(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 100 {
            self.red.lab.wait(Duration::from_millis(100));
            self.blue.wait(Duration::from_millis(100));
            self.carry();
        }
    }

    fn remove_from_blue(&mut self) -> Result<Answer, CallError> {
        let answer = self.blue.call(Ask::RemoveParticipant(named()));
        self.carry();
        answer
    }

    /// Alice as carol's room lists her.
    fn guest(&self) -> Option<ParticipantInfo> {
        info_in(&self.blue)
    }

    /// Carol shows alice's video like this.
    fn show(&mut self, change: impl FnOnce(&mut UpdateTrackSettings)) {
        let mut settings = UpdateTrackSettings {
            track_sids: vec![self.red.video.sid.clone()],
            quality: VideoQuality::High as i32,
            ..Default::default()
        };
        change(&mut settings);
        let message = signal_request::Message::TrackSetting(settings);
        self.blue.request(self.carol, message);
        self.carry();
    }

    /// What alice's client was told to send since the last call.
    fn asked(&mut self) -> Vec<String> {
        asked(&mut self.red.lab, self.red.alice, &self.red.video.sid)
    }

    /// Workers of carol's room have sent the last frames of everything that was closed.
    fn finish_downs(&mut self) {
        let closed: Vec<DownTrackId> = self
            .blue
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::CloseDown { down } => Some(*down),
                _ => None,
            })
            .collect();
        for down in closed {
            self.blue.event(Event::DownClosed { down, sent: true });
        }
        self.carry();
    }
}

fn info_in(lab: &Lab) -> Option<ParticipantInfo> {
    let seat = lab.room.identities.get("alice")?;
    Some(lab.room.participants[seat].info())
}

fn named() -> RoomParticipantIdentity {
    RoomParticipantIdentity {
        identity: "alice".to_owned(),
        ..Default::default()
    }
}

#[test]
fn a_token_s_details_of_the_kind_are_told_and_a_guest_keeps_them() {
    use participant_info::KindDetail::{BridgeRtsp, CloudAgent, Forwarded};

    let mut red = Lab::new();
    let agent = red.join_with("agent", |join| {
        join.claims.kind = "agent".to_owned();
        join.claims.kind_details = ["cloud_agent", "NEWER", "Bridge_RTSP"]
            .map(str::to_owned)
            .to_vec();
    });
    agent.unwrap();
    let details = |lab: &Lab| {
        let info = lab.room.participants[&lab.room.identities["agent"]].info();
        info.kind_details().collect::<Vec<_>>()
    };
    assert_eq!(details(&red), [CloudAgent, BridgeRtsp]);
    let mut blue = other_room(&red);
    let (id, reflection) = red.room.forward("agent").unwrap();
    assert_eq!(blue.room.welcome(blue.now, id, &reflection), Ok(true));
    assert_eq!(details(&blue), [CloudAgent, BridgeRtsp, Forwarded]);
}

#[test]
fn a_guest_is_there_with_all_that_it_has_and_its_tracks_are_its_own() {
    let mut pair = Pair::new([0, 0, 0]);
    let source = info_in(&pair.red.lab).unwrap();
    let told = pair.blue.updates(pair.carol).pop().unwrap();
    assert_eq!(Some(&told), pair.guest().as_ref());
    assert_eq!(told.state(), participant_info::State::Active);
    assert_ne!(told.sid, source.sid);
    assert_eq!(
        told.kind_details,
        [participant_info::KindDetail::Forwarded as i32]
    );
    assert_eq!(told.kind(), source.kind());
    assert_eq!(told.tracks, source.tracks);
    let opened: Vec<UpTrackId> = pair
        .blue
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::OpenDown { plan } => Some(plan.up),
            _ => None,
        })
        .collect();
    assert_eq!(opened.len(), 2);
    assert!(
        opened
            .iter()
            .all(|up| pair.red.lab.room.ups.contains_key(up))
    );
    assert_eq!(pair.blue.opened.len(), 1, "carol's transport alone");
    let hooks: Vec<&str> = pair.blue.hooks.iter().map(|h| h.event.as_str()).collect();
    assert_eq!(
        hooks,
        ["participant_joined", "track_published", "track_published"]
    );
    assert_eq!(pair.blue.room.snapshot().num_participants, 2);
    assert_eq!(pair.blue.room.snapshot().num_publishers, 1);
}

#[test]
fn whoever_comes_later_finds_the_guest() {
    let mut pair = Pair::new([0, 0, 0]);
    let dave = pair.blue.join("dave");
    let signal_response::Message::Join(join) = &pair.blue.heard(dave)[0] else {
        panic!()
    };
    let others: Vec<_> = join
        .other_participants
        .iter()
        .map(|p| &p.identity)
        .collect();
    assert_eq!(others, ["carol", "alice"]);
}

#[test]
fn what_changes_in_one_room_changes_in_the_other() {
    let mut pair = Pair::new([0, 0, 0]);
    let rename = UpdateParticipantRequest {
        identity: "alice".to_owned(),
        name: "Alice".to_owned(),
        metadata: "tired".to_owned(),
        attributes: [("hand".to_owned(), "up".to_owned())].into(),
        ..Default::default()
    };
    pair.red.lab.call(Ask::UpdateParticipant(rename)).unwrap();
    pair.carry();
    let guest = pair.guest().unwrap();
    assert_eq!(
        (
            guest.name.as_str(),
            guest.metadata.as_str(),
            guest.attributes["hand"].as_str()
        ),
        ("Alice", "tired", "up")
    );
    assert_eq!(pair.blue.updates(pair.carol).last(), Some(&guest));

    pair.blue.commands.clear();
    for muted in [true, false] {
        pair.red.mute(muted);
        pair.carry();
        let guest = pair.blue.updates(pair.carol).pop().unwrap();
        assert_eq!(guest.tracks, info_in(&pair.red.lab).unwrap().tracks);
        assert!(guest.tracks.iter().any(|t| t.muted) == muted);
    }
    let mute = |command: &Command| matches!(command, Command::SetMuted { .. });
    assert!(
        !pair.blue.commands.iter().any(mute),
        "her own room does that"
    );

    let seat = pair.red.lab.room.identities["alice"];
    let sid = TrackSid::from(pair.red.video.sid.as_str());
    pair.red.lab.room.unpublish(pair.red.lab.now, seat, &sid);
    pair.red.lab.drain();
    pair.carry();
    assert_eq!(pair.guest().unwrap().tracks.len(), 1);
    assert!(
        pair.blue
            .hooks
            .iter()
            .any(|h| h.event == "track_unpublished")
    );
    pair.finish_downs();
    assert_eq!(
        (pair.blue.room.downs.len(), pair.blue.room.ups.len()),
        (1, 1)
    );
}

#[test]
fn a_track_that_is_published_later_is_forwarded_too() {
    let mut pair = Pair::apart([0, 0, 0]);
    assert_eq!(pair.forward("bob"), Ok(true));
    assert!(pair.blue.room.ups.is_empty());
    let microphone = AddTrackRequest {
        cid: "mic".to_owned(),
        source: TrackSource::Microphone as i32,
        ..Default::default()
    };
    let (lab, bob) = (&mut pair.red.lab, pair.red.bob);
    lab.request(bob, signal_request::Message::AddTrack(microphone));
    lab.request(bob, signal_request::Message::Offer(offer(PUBLISH, 2)));
    pair.carry();
    assert_eq!(pair.blue.room.ups.len(), 1);
    assert_eq!(pair.blue.room.downs.len(), 1, "carol gets it");
}

#[test]
fn a_rule_of_who_may_have_tracks_holds_in_both_rooms() {
    let mut pair = Pair::new([0, 0, 0]);
    let rule = |all| {
        signal_request::Message::SubscriptionPermission(SubscriptionPermission {
            all_participants: all,
            ..Default::default()
        })
    };
    pair.red.lab.request(pair.red.alice, rule(false));
    pair.carry();
    pair.finish_downs();
    assert!(pair.blue.room.downs.is_empty());
    pair.red.lab.request(pair.red.alice, rule(true));
    pair.carry();
    assert_eq!(pair.blue.room.downs.len(), 2);
}

#[test]
fn the_publisher_sends_what_either_room_wants() {
    let mut pair = Pair::new([0, 0, 0]);
    assert_eq!(pair.asked(), ["vp8 111"]);
    let update = UpdateSubscription {
        track_sids: vec![pair.red.video.sid.clone()],
        ..Default::default()
    };
    let message = signal_request::Message::Subscription(update);
    pair.red.lab.request(pair.red.bob, message);
    pair.wait(8 * SECOND);
    assert_eq!(pair.asked(), Vec::<String>::new(), "carol wants all of it");
    pair.show(|settings| settings.quality = VideoQuality::Low as i32);
    pair.wait(8 * SECOND);
    assert_eq!(pair.asked(), ["vp8 100"]);
    pair.show(|settings| settings.disabled = true);
    pair.wait(8 * SECOND);
    assert_eq!(pair.asked(), ["vp8 000"]);
    pair.show(|settings| settings.quality = VideoQuality::Medium as i32);
    pair.wait(SECOND);
    assert_eq!(pair.asked(), ["vp8 110"], "more is told at once");
    pair.remove_from_blue().unwrap();
    pair.wait(8 * SECOND);
    assert_eq!(pair.asked(), ["vp8 000"]);
}

#[test]
fn a_removal_there_ends_it_and_changes_nothing_here() {
    let mut pair = Pair::new([0, 0, 0]);
    pair.red.lab.heard(pair.red.alice);
    pair.red.lab.heard(pair.red.bob);
    pair.red.lab.commands.clear();
    assert_eq!(pair.remove_from_blue(), Ok(Answer::Done));
    assert_eq!(pair.guest(), None);
    let gone = pair.blue.updates(pair.carol).pop().unwrap();
    assert_eq!(gone.state(), participant_info::State::Disconnected);
    assert_eq!(
        gone.disconnect_reason(),
        DisconnectReason::ParticipantRemoved
    );
    pair.finish_downs();
    let blue = &pair.blue.room;
    assert!(blue.guests.is_empty() && blue.ups.is_empty() && blue.downs.is_empty());
    assert!(pair.red.lab.room.forwards.is_empty());
    assert!(pair.red.lab.said.is_empty() && pair.red.lab.commands.is_empty());
    let hooks: Vec<&str> = pair.blue.hooks.iter().map(|h| h.event.as_str()).collect();
    assert_eq!(
        hooks[3..],
        ["track_unpublished", "track_unpublished", "participant_left"]
    );
    // Nothing more goes there.
    pair.red.mute(true);
    assert!(pair.red.lab.forwards.is_empty());
}

#[test]
fn whoever_is_forwarded_again_at_once_is_seen_again() {
    let mut pair = Pair::new([0, 0, 1]);
    pair.remove_from_blue().unwrap();
    // The last frames of the first time are still on their way.
    assert_eq!(pair.forward("alice"), Ok(true));
    pair.finish_downs();
    assert_eq!(pair.blue.room.downs.len(), 2);
    let publisher = pair.blue.room.identities["alice"];
    assert!(
        pair.blue
            .room
            .tracks
            .values()
            .all(|seat| *seat == publisher)
    );
}

#[test]
fn the_end_of_the_stay_is_the_end_of_the_guest() {
    for end in ["leave", "delete", "stop", "move"] {
        let mut pair = Pair::new([0, 0, 0]);
        let now = pair.red.lab.now;
        match end {
            "leave" => {
                let leave = signal_request::Message::Leave(LeaveRequest::default());
                pair.red.lab.request(pair.red.alice, leave);
            }
            "delete" => pair.red.lab.room.delete(now),
            "stop" => pair.red.lab.room.shut_down(now),
            _ => drop(pair.red.lab.lets_go("alice")),
        }
        pair.red.lab.drain();
        pair.carry();
        pair.finish_downs();
        assert_eq!(pair.guest(), None, "{end}");
        let blue = &pair.blue.room;
        assert!(blue.guests.is_empty() && blue.ups.is_empty() && blue.downs.is_empty());
        assert!(blue.tracks.is_empty() && pair.red.lab.room.forwards.is_empty());
    }
}

#[test]
fn whoever_is_moved_to_where_it_is_a_guest_takes_the_guests_place() {
    let mut pair = Pair::new([0, 0, 1]);
    let emigrant = pair.red.lab.lets_go("alice");
    pair.blue.takes_in(emigrant);
    pair.carry();
    pair.finish_downs();
    let guest = pair.guest().unwrap();
    assert!(guest.kind_details.is_empty() && guest.tracks.len() == 2);
    assert_eq!(pair.blue.room.downs.len(), 2, "carol gets both again");
    assert!(pair.blue.room.guests.is_empty() && pair.red.lab.room.forwards.is_empty());
}

#[test]
fn a_guest_keeps_no_room_alive() {
    let mut pair = Pair::new([0, 0, 0]);
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    pair.blue.request(pair.carol, leave);
    pair.wait(pair.blue.room.settings.defaults.departure_timeout + SECOND);
    assert!(pair.blue.room.is_finished());
    assert!(pair.red.lab.room.forwards.is_empty());
    assert_eq!(pair.blue.room.len(), 0);
    let last = pair.blue.hooks.last().unwrap();
    assert_eq!(last.event, "room_finished");
}

#[test]
fn each_room_asks_for_mirrors_of_its_own() {
    let mut pair = Pair::new([0, 1, 1]);
    let asks = |lab: &Lab, what: bool| {
        let ask = |c: &&Command| matches!(c, Command::SetMirror { on, .. } if *on == what);
        lab.commands.iter().filter(ask).count()
    };
    assert_eq!((asks(&pair.red.lab, true), asks(&pair.blue, true)), (2, 2));
    pair.remove_from_blue().unwrap();
    pair.finish_downs();
    assert_eq!(
        asks(&pair.blue, false),
        2,
        "though alice is gone from the books"
    );
    assert_eq!(asks(&pair.red.lab, false), 0);
    assert!(pair.blue.room.mirrors.is_empty());
}

#[test]
fn what_is_decided_elsewhere_cannot_be_done_to_a_guest() {
    let mut pair = Pair::new([0, 0, 0]);
    let identity = "alice".to_owned();
    let mute = MuteRoomTrackRequest {
        identity: identity.clone(),
        track_sid: pair.red.audio.sid.clone(),
        muted: true,
        ..Default::default()
    };
    let update = UpdateParticipantRequest {
        identity: identity.clone(),
        name: "Bob".to_owned(),
        ..Default::default()
    };
    let subscriptions = UpdateSubscriptionsRequest {
        identity,
        ..Default::default()
    };
    for ask in [
        Ask::MutePublishedTrack(mute),
        Ask::UpdateParticipant(update),
        Ask::UpdateSubscriptions(subscriptions),
    ] {
        assert_eq!(pair.blue.call(ask), Err(CallError::Guest));
    }
    let now = pair.blue.now;
    let moved = pair
        .blue
        .room
        .begin_move(now, "alice", "cellar")
        .map(|_| ());
    assert_eq!(moved, Err(CallError::Guest));
    let again = pair.blue.room.forward("alice").map(|_| ());
    assert_eq!(again, Err(CallError::Guest));
    // Nobody resumes a guest's stay.
    let session = pair.blue.join_with("alice", |join| {
        join.resume = Some(Resume {
            participant_sid: String::new(),
            reason: ReconnectReason::RrUnknown,
            sync_state: None,
        });
    });
    assert_eq!(pair.blue.kinds(session.unwrap()), ["leave"]);
    assert!(pair.guest().is_some());
}

#[test]
fn twice_is_once_and_a_stranger_of_the_same_name_is_left_alone() {
    let mut pair = Pair::new([0, 0, 0]);
    assert_eq!(pair.forward("alice"), Ok(false));
    assert_eq!(pair.red.lab.room.forwards.len(), 1);
    assert_eq!(pair.blue.room.len(), 2);
    assert_eq!(pair.forward("nobody"), Err(CallError::ParticipantNotFound));

    pair.blue.join("bob");
    let refused = Err(CallError::AlreadyThere("bob".to_owned()));
    assert_eq!(pair.forward("bob"), refused);

    // But who joins by itself takes the guest's place, as anybody's of the same identity.
    pair.blue.join("alice");
    pair.carry();
    assert!(pair.red.lab.room.forwards.is_empty());
    assert!(pair.guest().unwrap().kind_details.is_empty());
}

#[test]
fn a_full_room_takes_no_guest() {
    let mut pair = Pair::apart([0, 0, 0]);
    pair.blue.room.info.max_participants = 1;
    assert_eq!(pair.forward("alice"), Err(CallError::RoomFull(1)));
    assert!(pair.red.lab.room.forwards.is_empty() && pair.guest().is_none());
    pair.blue.room.info.max_participants = 2;
    assert_eq!(pair.forward("alice"), Ok(true));
    let full = pair.blue.join_with("dave", |_| {}).unwrap_err();
    assert_eq!(full, JoinRefused::Full(2));
}

#[test]
fn a_guest_that_speaks_is_heard_and_its_connection_is_as_good_as_it_is() {
    let mut pair = Pair::new([0, 0, 0]);
    let seat = pair.red.lab.room.identities["alice"];
    let ups = &pair.red.lab.room.ups;
    let audio = ups
        .iter()
        .find(|(_, (_, sid))| sid.as_str() == pair.red.audio.sid);
    let up = *audio.unwrap().0;
    pair.blue.heard(pair.carol);
    pair.red.lab.event(Event::AudioLevel { up, level: 0.5 });
    pair.carry();
    pair.wait(SECOND / 2);
    let sid = pair.guest().unwrap().sid;
    let said = pair.blue.heard(pair.carol);
    let speaks = said.iter().any(|message| match message {
        signal_response::Message::SpeakersChanged(changed) => {
            changed.speakers.len() == 1
                && changed.speakers[0].sid == sid
                && changed.speakers[0].active
        }
        _ => false,
    });
    assert!(speaks, "{said:?}");

    let quality = |pair: &mut Pair| {
        pair.wait(11 * SECOND);
        let said = pair.blue.heard(pair.carol).into_iter().rev();
        let mut told = said.filter_map(|message| match message {
            signal_response::Message::ConnectionQuality(update) => Some(update.updates),
            _ => None,
        });
        let mut all = told.next().unwrap().into_iter();
        all.find(|info| info.participant_sid == sid)
            .unwrap()
            .quality()
    };
    assert_eq!(quality(&mut pair), ConnectionQuality::Excellent);
    let alice = pair.red.lab.room.participants.get_mut(&seat).unwrap();
    let far = alice.refresh_at + 1000 * SECOND;
    alice.expires = Some((far, DisconnectReason::ConnectionTimeout));
    assert_eq!(quality(&mut pair), ConnectionQuality::Lost);
}

#[test]
fn nobody_learns_of_another_room_by_a_call_that_this_one_gets() {
    let mut lab = Lab::new();
    lab.join("alice");
    let request = ForwardParticipantRequest {
        identity: "alice".to_owned(),
        ..Default::default()
    };
    let answer = lab.call(Ask::ForwardParticipant(request));
    assert_eq!(answer, Err(CallError::ParticipantNotFound));
}

/// Whatever happens in whatever order, a guest is what its source is, and the source is asked for what is wanted most.
#[test]
fn two_rooms_agree_whatever_happens() {
    for seed in 0..30 {
        let mut random = Random::seeded(seed);
        let mut pair = Pair::apart([0, 1, 1]);
        for step in 0..40 {
            let mut pick = |n: u32| random.u32() % n;
            let quality = pick(3) as i32;
            let settings = |settings: &mut UpdateTrackSettings| {
                settings.disabled = quality == 0;
                settings.quality = quality;
            };
            match pick(9) {
                0 => drop(pair.forward("alice")),
                1 => drop(pair.remove_from_blue()),
                2 => pair.red.mute(quality > 0),
                3 => pair.show(settings),
                4 => {
                    let rename = UpdateParticipantRequest {
                        identity: "alice".to_owned(),
                        name: format!("alice {step}"),
                        ..Default::default()
                    };
                    pair.red.lab.call(Ask::UpdateParticipant(rename)).unwrap();
                }
                5 => {
                    let update = UpdateSubscription {
                        track_sids: vec![pair.red.video.sid.clone()],
                        subscribe: quality > 0,
                        ..Default::default()
                    };
                    let message = signal_request::Message::Subscription(update);
                    pair.blue.request(pair.carol, message);
                }
                6 => {
                    let audio = MuteTrackRequest {
                        sid: pair.red.audio.sid.clone(),
                        muted: quality > 0,
                    };
                    let message = signal_request::Message::Mute(audio);
                    pair.red.lab.request(pair.red.alice, message);
                }
                7 => pair.offer(),
                _ => pair.finish_downs(),
            }
            pair.carry();
        }
        let update = UpdateSubscription {
            track_sids: vec![pair.red.video.sid.clone()],
            ..Default::default()
        };
        let message = signal_request::Message::Subscription(update);
        pair.red.lab.request(pair.red.bob, message);
        pair.wait(12 * SECOND);
        pair.finish_downs();
        pair.wait(12 * SECOND);
        let told = pair.asked().pop().unwrap_or_default();
        let source = info_in(&pair.red.lab).unwrap();
        let Some(guest) = pair.guest() else {
            assert_eq!(told, "vp8 000", "{seed}");
            assert!(pair.blue.room.downs.is_empty() && pair.blue.room.mirrors.is_empty());
            continue;
        };
        assert_eq!((&guest.name, &guest.tracks), (&source.name, &source.tracks));
        let carol = pair.blue.room.identities["carol"];
        let sid = TrackSid::from(pair.red.video.sid.as_str());
        let subscription = pair.blue.room.participants[&carol].subscriptions.get(&sid);
        let has_it = subscription.is_some_and(|subscription| subscription.down.is_some());
        let wanted = match pair.blue.room.demand(carol, &sid).filter(|_| has_it) {
            None | Some(Demand::Nothing) => "vp8 000",
            Some(Demand::Low) => "vp8 100",
            Some(Demand::Medium) => "vp8 110",
            Some(Demand::High) => "vp8 111",
        };
        assert_eq!(told, wanted, "{seed}");
    }
}
