//! A participant between two rooms: what each side and the workers are told.

use super::calls::Call;
use super::*;
use crate::ids::DownTrackId;
use crate::protocol::livekit::{ParticipantInfo, RoomMovedResponse};
use crate::protocol::token;

/// A second room with the same keys, whose numbers are its own.
pub(super) fn other_room(lab: &Lab) -> Lab {
    let mut other = Lab::new();
    other.now = lab.now;
    let settings = lab.room.settings.clone();
    other.room = Room::new(lab.now, "yard", 2, settings, Random::seeded(2));
    other.sessions = 100;
    other
}

impl Lab {
    pub(super) fn lets_go(&mut self, identity: &str) -> Emigrant {
        let traveller = self.room.begin_move(self.now, identity, "yard").unwrap();
        assert!(traveller.is_moved && !traveller.transports.is_empty());
        let emigrant = self.room.emigrate(self.now, identity, "yard").unwrap();
        self.drain();
        let is_held = |id: &TransportId| self.workers.held.contains(id);
        assert!(!emigrant.transports().iter().any(is_held));
        emigrant
    }

    pub(super) fn takes_in(&mut self, emigrant: Emigrant) {
        self.workers.adopt(&emigrant);
        self.room.immigrate(self.now, emigrant);
        self.drain();
    }

    /// The participants of the updates that a session got.
    pub(super) fn updates(&mut self, session: SessionId) -> Vec<ParticipantInfo> {
        let heard = self.heard(session).into_iter();
        let updates = heard.filter_map(|message| match message {
            signal_response::Message::Update(update) => Some(update.participants),
            _ => None,
        });
        updates.flatten().collect()
    }
}

fn moved(said: &[signal_response::Message]) -> RoomMovedResponse {
    match &said[0] {
        signal_response::Message::RoomMoved(moved) => moved.clone(),
        other => panic!("room_moved comes first: {other:?}"),
    }
}

#[test]
fn whoever_is_moved_is_told_first_and_publishes_on_with_the_same_tracks() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let carol = yard.join("carol");
    yard.connect();
    yard.heard(carol);
    call.lab.heard(call.alice);
    call.lab.heard(call.bob);
    call.lab.commands.clear();

    let emigrant = call.lab.lets_go("alice");
    assert_eq!(emigrant.session(), Some(call.alice));
    let closed = |command: &Command| matches!(command, Command::CloseTransport { .. });
    assert!(!call.lab.commands.iter().any(closed), "transports stay");
    assert!(call.lab.closed.is_empty(), "so does the WebSocket");
    let gone = call.lab.updates(call.bob).pop().unwrap();
    assert_eq!(gone.identity, "alice");
    assert_eq!(gone.state(), participant_info::State::Disconnected);
    assert_eq!(gone.disconnect_reason(), DisconnectReason::Migration);

    yard.takes_in(emigrant);
    let said = yard.heard(call.alice);
    let moved = moved(&said);
    assert_eq!(moved.room.unwrap().name, "yard");
    let (claims, _) =
        token::verify(yard.now.unix_s(), &moved.token, &yard.room.settings.keys).unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.video.unwrap().room.as_str()),
        ("alice", "yard")
    );
    let own = moved.participant.unwrap();
    assert_eq!(
        (own.state(), own.tracks.len()),
        (participant_info::State::Active, 2)
    );
    let others: Vec<_> = moved
        .other_participants
        .into_iter()
        .map(|p| p.identity)
        .collect();
    assert_eq!(others, ["carol"]);

    let heard = yard.updates(carol);
    let info = heard.iter().find(|info| info.identity == "alice").unwrap();
    let sids: Vec<_> = info.tracks.iter().map(|track| &track.sid).collect();
    assert_eq!(sids.len(), 2);
    assert!(sids.contains(&&call.audio.sid) && sids.contains(&&call.video.sid));
    assert_eq!(yard.room.downs.len(), 2, "carol gets both");
    assert!(yard.room.ups.len() == 2 && call.lab.room.ups.is_empty());
}

#[test]
fn requests_and_packets_are_for_the_new_room() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let carol = yard.join("carol");
    let transport = yard.connect();
    let emigrant = call.lab.lets_go("alice");
    let id = emigrant.transports()[0];
    yard.takes_in(emigrant);
    yard.heard(carol);
    let mute = proto::MuteTrackRequest {
        sid: call.audio.sid.clone(),
        muted: true,
    };
    yard.request(call.alice, signal_request::Message::Mute(mute));
    let info = yard.updates(carol).pop().unwrap();
    assert!(info.tracks.iter().any(|track| track.muted));

    yard.commands.clear();
    let packet = DataPacket {
        sequence: 7,
        value: Some(data_packet::Value::User(UserPacket::default())),
        ..Default::default()
    };
    for _ in 0..2 {
        yard.event(Event::Data {
            id,
            channel: Channel::Reliable,
            payload: packet.encode_to_vec().into(),
        });
    }
    let sent = yard
        .commands
        .iter()
        .filter(|command| matches!(command, Command::SendData { to, .. } if *to == [transport]));
    assert_eq!(sent.count(), 1, "a sequence number counts across rooms");
    yard.event(Event::Disconnected { id });
    yard.wait(Duration::from_secs(5));
    assert!(!yard.room.identities.contains_key("alice"));
}

#[test]
fn the_old_room_s_tracks_end_with_their_last_frames_and_free_their_sections() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let downs: Vec<DownTrackId> = call.lab.room.downs.keys().copied().collect();
    assert_eq!(downs.len(), 2);
    call.lab.commands.clear();
    let emigrant = call.lab.lets_go("bob");
    let mut closing: Vec<_> = call
        .lab
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::CloseDown { down } => Some(*down),
            _ => None,
        })
        .collect();
    closing.sort();
    let mut expected = downs.clone();
    expected.sort();
    assert_eq!(closing, expected);
    assert!(call.lab.room.downs.is_empty());
    yard.takes_in(emigrant);
    assert_eq!(yard.room.downs.len(), 2);
    for down in downs {
        yard.event(Event::DownClosed { down, sent: true });
    }
    assert!(yard.room.downs.is_empty());
    yard.heard(call.bob);
    yard.wait(Duration::from_secs(1));
    let nudged = yard.heard(call.bob).into_iter().any(|message| {
        matches!(
            message,
            signal_response::Message::MediaSectionsRequirement(_)
        )
    });
    assert!(nudged, "the client offers anew");
    let seat = yard.room.identities["bob"];
    assert!(yard.room.participants[&seat].subscriptions.is_empty());
}

#[test]
fn mirrors_of_the_old_room_are_closed_with_the_last_frames_whoever_has_the_tracks_then() {
    let mut call = Call::new([0, 1]);
    let mut yard = other_room(&call.lab);
    assert_eq!(call.lab.room.mirrors.len(), 2);
    let downs: Vec<DownTrackId> = call.lab.room.downs.keys().copied().collect();
    call.lab.commands.clear();
    let emigrant = call.lab.lets_go("alice");
    yard.takes_in(emigrant);
    let count = |lab: &Lab, which: fn(&Command) -> bool| {
        lab.commands.iter().filter(|command| which(command)).count()
    };
    let close = |command: &Command| matches!(command, Command::CloseMirror { .. });
    let off = |command: &Command| matches!(command, Command::SetMirror { on: false, .. });
    assert_eq!((count(&call.lab, close), count(&call.lab, off)), (0, 0));
    for down in downs {
        call.lab.event(Event::DownClosed { down, sent: true });
    }
    assert_eq!((count(&call.lab, close), count(&call.lab, off)), (2, 2));
    assert!(call.lab.room.mirrors.is_empty() && call.lab.room.downs.is_empty());
}

#[test]
fn a_room_that_was_empty_tells_qualities_too() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let emigrant = call.lab.lets_go("alice");
    yard.takes_in(emigrant);
    yard.heard(call.alice);
    yard.wait(Duration::from_secs(11));
    let told = yard.heard(call.alice).into_iter();
    let mut qualities = told.filter_map(|message| match message {
        signal_response::Message::ConnectionQuality(update) => Some(update.updates.len()),
        _ => None,
    });
    assert_eq!(qualities.next(), Some(1));
}

#[test]
fn a_full_room_refuses_people_and_takes_agents() {
    let mut yard = Lab::new();
    yard.room.info.max_participants = 1;
    yard.join("carol");
    let expect = |is_dependent| crate::room::Call::Expect {
        room: "lab".to_owned(),
        is_dependent,
    };
    assert_eq!(yard.call(expect(false)), Err(CallError::RoomFull(1)));
    assert_eq!(yard.call(expect(true)), Ok(Answer::Done));
}

#[test]
fn the_same_identity_in_the_new_room_makes_way() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    let double = yard.join("alice");
    yard.connect();
    let emigrant = call.lab.lets_go("alice");
    yard.takes_in(emigrant);
    assert!(yard.kinds(double).contains(&"leave"));
    assert_eq!(yard.closed, [double]);
    assert_eq!(yard.room.len(), 1);
}

#[test]
fn a_client_that_does_not_know_moves_reconnects_to_the_other_room() {
    let mut lab = Lab::new();
    let alice = lab.join_with("alice", |join| join.protocol = 14).unwrap();
    lab.connect();
    lab.heard(alice);
    let traveller = lab.room.begin_move(lab.now, "alice", "yard").unwrap();
    lab.drain();
    assert!(!traveller.is_moved);
    let said = lab.heard(alice);
    let [
        signal_response::Message::RefreshToken(token),
        signal_response::Message::Leave(leave),
    ] = said.as_slice()
    else {
        panic!("{said:?}")
    };
    let (claims, _) = token::verify(lab.now.unix_s(), token, &lab.room.settings.keys).unwrap();
    assert_eq!(claims.video.unwrap().room, "yard");
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert!(lab.room.is_empty());
}

#[test]
fn whoever_is_away_or_unknown_is_not_moved() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    lab.room.handle_gone(lab.now, alice);
    let begun =
        |lab: &mut Lab, identity| lab.room.begin_move(lab.now, identity, "yard").map(|_| ());
    assert_eq!(begun(&mut lab, "alice"), Err(CallError::Away));
    assert_eq!(begun(&mut lab, "bob"), Err(CallError::ParticipantNotFound));
}

#[test]
fn a_move_is_a_departure_and_a_join_to_those_who_are_told_by_the_server() {
    let mut call = Call::new([0, 0]);
    let mut yard = other_room(&call.lab);
    call.lab.hooks.clear();
    call.lab.facts.clear();
    yard.drain();
    yard.hooks.clear();
    yard.facts.clear();
    let emigrant = call.lab.lets_go("alice");
    yard.takes_in(emigrant);
    let names = |lab: &Lab| {
        lab.hooks
            .iter()
            .map(|hook| hook.event.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&call.lab),
        ["track_unpublished", "track_unpublished", "participant_left"]
    );
    assert_eq!(
        names(&yard),
        ["participant_joined", "track_published", "track_published"]
    );
    assert!(matches!(call.lab.facts.as_slice(), [Fact::Left { .. }]));
    assert!(matches!(yard.facts[0], Fact::Joined { .. }));
}
