//! What receivers of webhooks are told of a room's life, and in which order.

use super::calls::{Call, JOIN, PUBLISH, offer};
use super::*;

impl Lab {
    /// The events since the last call: name, participant or track, and the room's counts where it has any.
    fn hooked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.hooks)
            .iter()
            .map(|event| {
                assert!(event.id.starts_with("EV_") && event.id.len() == 15);
                assert_eq!(event.created_at, self.now.unix_s() as i64);
                let room = event.room.as_ref().unwrap();
                assert_eq!((room.name.as_str(), room.sid.len()), ("lab", 15));
                let mut text = event.event.clone();
                if let Some(participant) = &event.participant {
                    text = format!("{text} {}", participant.identity);
                }
                if let Some(track) = &event.track {
                    return format!("{text} {}", track.source().as_str_name());
                }
                format!("{text} {}/{}", room.num_participants, room.num_publishers)
            })
            .collect()
    }
}

#[test]
fn a_call_is_told_from_beginning_to_end_in_order_and_with_true_counts() {
    let mut call = Call::new([0, 0]);
    assert_eq!(
        call.lab.hooked(),
        [
            "room_started 0/0",
            "participant_joined alice 1/0",
            "track_published alice MICROPHONE",
            "track_published alice CAMERA",
            "participant_joined bob 2/1",
        ]
    );
    let leave = LeaveRequest::default();
    let alice = call.alice;
    call.lab
        .request(alice, signal_request::Message::Leave(leave));
    assert_eq!(
        call.lab.hooked(),
        [
            "track_unpublished alice MICROPHONE",
            "track_unpublished alice CAMERA",
            "participant_left alice 1/0",
        ]
    );
    call.lab.room.shut_down(call.lab.now);
    call.lab.drain();
    assert_eq!(
        call.lab.hooked(),
        ["participant_left bob 0/0", "room_finished 0/0"]
    );
}

#[test]
fn events_carry_what_livekits_carry() {
    let mut call = Call::new([0, 0]);
    let joined = &call.lab.hooks[1];
    let participant = joined.participant.as_ref().unwrap();
    assert_eq!(participant.state(), participant_info::State::Active);
    assert!(!participant.is_publisher && participant.permission.is_some());
    assert!(!joined.room.as_ref().unwrap().enabled_codecs.is_empty());

    let published = &call.lab.hooks[2];
    let room = published.room.as_ref().unwrap();
    let brief = proto::Room {
        sid: room.sid.clone(),
        name: "lab".to_owned(),
        ..Default::default()
    };
    assert_eq!(*room, brief);
    let publisher = published.participant.as_ref().unwrap();
    assert_eq!(
        *publisher,
        proto::ParticipantInfo {
            sid: participant.sid.clone(),
            identity: "alice".to_owned(),
            ..Default::default()
        }
    );
    assert!(!published.track.as_ref().unwrap().mime_type.is_empty());

    call.lab.hooks.clear();
    let leave = LeaveRequest::default();
    let alice = call.alice;
    call.lab
        .request(alice, signal_request::Message::Leave(leave));
    let left = call.lab.hooks.last().unwrap().participant.clone().unwrap();
    assert_eq!(left.state(), participant_info::State::Disconnected);
    assert_eq!(left.disconnect_reason(), DisconnectReason::ClientInitiated);
    assert!(left.tracks.is_empty() && left.is_publisher);
    assert!(call.bob != alice);
}

#[test]
fn a_track_that_ends_alone_is_told_alone() {
    let mut call = Call::new([0, 0]);
    call.lab.hooked();
    let alice = call.alice;
    let stopped = PUBLISH.replace("a=sendonly", "a=inactive");
    assert_ne!(stopped, PUBLISH);
    call.lab
        .request(alice, signal_request::Message::Offer(offer(&stopped, 3)));
    let mut told = call.lab.hooked();
    told.sort();
    assert_eq!(
        told,
        [
            "track_unpublished alice CAMERA",
            "track_unpublished alice MICROPHONE"
        ]
    );
}

#[test]
fn tracks_of_the_first_offer_wait_for_their_publisher() {
    let mut lab = Lab::new();
    let microphone = AddTrackRequest {
        cid: "mic".to_owned(),
        source: TrackSource::Microphone as i32,
        ..Default::default()
    };
    lab.join_with("alice", |join| {
        join.add_tracks = vec![microphone, camera()];
        join.publisher_offer = Some(offer(PUBLISH, 1));
    })
    .unwrap();
    assert_eq!(lab.hooked(), ["room_started 0/0"]);
    lab.connect();
    assert_eq!(
        lab.hooked(),
        [
            "participant_joined alice 1/1",
            "track_published alice MICROPHONE"
        ]
    );
}

#[test]
fn who_never_connected_has_not_left() {
    let mut lab = Lab::with(|settings| settings.defaults.max_participants = 1);
    let alice = lab
        .join_with("alice", |join| {
            join.publisher_offer = Some(offer(JOIN, 1));
        })
        .unwrap();
    assert!(lab.join_with("bob", |_| {}).is_err());
    lab.room.handle_gone(lab.now, alice);
    lab.drain();
    assert_eq!(
        lab.hooked(),
        [
            "room_started 0/0",
            "participant_connection_aborted alice 0/0"
        ],
        "a refusal is not told at all"
    );
    lab.wait(Duration::from_secs(20));
    assert!(lab.room.is_finished());
    assert_eq!(lab.hooked(), ["room_finished 0/0"]);
}

#[test]
fn a_replaced_participant_leaves_before_the_new_one_joins() {
    let mut lab = Lab::new();
    lab.join("alice");
    lab.connect();
    lab.hooked();
    lab.join("alice");
    let left = lab.hooks[0].participant.clone().unwrap();
    assert_eq!(
        left.disconnect_reason(),
        DisconnectReason::DuplicateIdentity
    );
    lab.connect();
    assert_eq!(
        lab.hooked(),
        ["participant_left alice 0/0", "participant_joined alice 1/0"]
    );
}

#[test]
fn tracks_carry_all_of_the_room_if_that_is_wanted() {
    let mut lab = Lab::with(|settings| settings.defaults.enable_full_room_in_webhooks = true);
    lab.join_with("alice", |join| {
        join.add_tracks = vec![AddTrackRequest {
            cid: "mic".to_owned(),
            source: TrackSource::Microphone as i32,
            ..Default::default()
        }];
        join.publisher_offer = Some(offer(PUBLISH, 1));
    })
    .unwrap();
    lab.connect();
    let published = lab.hooks.last().unwrap();
    assert_eq!(published.event, "track_published");
    let room = published.room.as_ref().unwrap();
    assert_eq!((room.num_participants, room.num_publishers), (1, 1));
    assert!(!room.turn_password.is_empty());
}

#[test]
fn a_room_s_own_receivers_are_named_by_a_tag() {
    let tags = |text: &str| HashMap::from([("webhook_urls".to_owned(), text.to_owned())]);
    let mut lab = Lab::new();
    assert!(lab.receivers.is_empty());
    let configuration = proto::RoomConfiguration {
        tags: tags("https://a.example/x, http://b http://b"),
        ..Default::default()
    };
    lab.room.configure(lab.now, &configuration);
    let bad = proto::RoomConfiguration {
        tags: tags("ftp://c"),
        ..Default::default()
    };
    lab.room.configure(lab.now, &bad);
    lab.join("alice");
    lab.connect();
    let told: Vec<&str> = lab.receivers.iter().map(|url| &**url).collect();
    assert_eq!(told, ["https://a.example/x", "http://b/"]);

    let fault = |text: &str| {
        let request = proto::CreateRoomRequest {
            tags: tags(text),
            ..Default::default()
        };
        configuration_of(&Limits::default(), &request)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        fault("ftp://c"),
        "webhook_urls: webhooks go to http and https, not to ftp:"
    );
    let nine: Vec<String> = (0..9).map(|n| format!("http://{n}.example")).collect();
    assert_eq!(fault(&nine.join(" ")), "webhook_urls: more than 8");
}
