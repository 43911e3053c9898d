//! Messages and data tracks: who gets what, what is added to it, what a newcomer still gets.

use super::backup_codec::Stage;
use super::calls::{JOIN, offer};
use super::*;
use crate::protocol::livekit::data_track_subscriber_handles::PublishedDataTrack;
use crate::protocol::livekit::{BackupCodecPolicy, DataPacket, UserPacket, data_packet};
use std::collections::HashMap;

fn user(text: &str) -> DataPacket {
    let packet = UserPacket {
        payload: text.as_bytes().to_vec(),
        ..Default::default()
    };
    DataPacket {
        value: Some(data_packet::Value::User(packet)),
        ..Default::default()
    }
}

pub(super) fn delivered(lab: &mut Lab) -> Vec<(Vec<TransportId>, Bytes)> {
    std::mem::take(&mut lab.commands)
        .into_iter()
        .filter_map(|command| match command {
            Command::SendData { to, payload, .. } => Some((to, payload)),
            _ => None,
        })
        .collect()
}

pub(super) fn send(lab: &mut Lab, id: TransportId, packet: &DataPacket) {
    let payload = Bytes::from(packet.encode_to_vec());
    lab.event(Event::Data {
        id,
        channel: Channel::Reliable,
        payload,
    });
}

#[test]
#[expect(
    deprecated,
    reason = "old clients read the sender from the user packet"
)]
fn data_reaches_the_others_with_its_true_sender_and_what_newer_clients_put_in() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    lab.join("bob");
    let bob = lab.connect();
    lab.commands.clear();
    let mut packet = user("hi");
    packet.participant_identity = "mallory".to_owned();
    let mut bytes = packet.encode_to_vec();
    // A field that this version does not know: number 1000, varint 5.
    bytes.extend([0xc0, 0x3e, 0x05]);
    let payload = Bytes::from(bytes.clone());
    lab.event(Event::Data {
        id: alice,
        channel: Channel::Reliable,
        payload,
    });
    let sent = delivered(&mut lab);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, [bob]);
    assert!(
        sent[0].1.starts_with(&bytes),
        "the original bytes pass untouched"
    );
    let seen = DataPacket::decode(sent[0].1.as_ref()).unwrap();
    assert_eq!(seen.participant_identity, "alice");
    assert!(seen.participant_sid.starts_with("PA_"));
    let Some(data_packet::Value::User(user)) = seen.value else {
        panic!()
    };
    assert_eq!(
        (user.payload.as_slice(), user.participant_identity.as_str()),
        (b"hi".as_slice(), "alice")
    );
}

#[test]
#[expect(deprecated, reason = "older clients read the kind")]
fn a_packet_is_of_the_kind_of_its_channel_whatever_it_says() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    lab.join("bob");
    lab.connect();
    for (channel, said, seen) in [(Channel::Lossy, 0, 1), (Channel::Reliable, 1, 0)] {
        lab.commands.clear();
        let packet = DataPacket {
            kind: said,
            ..user("hi")
        };
        let payload = Bytes::from(packet.encode_to_vec());
        lab.event(Event::Data {
            id: alice,
            channel,
            payload,
        });
        let sent = delivered(&mut lab);
        let packet = DataPacket::decode(sent[0].1.as_ref()).unwrap();
        assert_eq!(packet.kind, seen, "{channel:?}");
    }
}

#[test]
fn what_an_agent_says_for_somebody_else_is_marked_as_generated() {
    use crate::protocol::livekit::{ChatMessage, data_stream};
    use data_packet::Value;
    use data_stream::header::ContentHeader;

    let mut lab = Lab::new();
    lab.grant("agent", |grant| {
        grant.agent = true;
        grant.hidden = true;
    });
    let agent = lab.connect();
    lab.join("bob");
    lab.connect();
    let mut passed = |identity: &str, value: Value| {
        lab.commands.clear();
        let packet = DataPacket {
            participant_identity: identity.to_owned(),
            value: Some(value),
            ..Default::default()
        };
        send(&mut lab, agent, &packet);
        let sent = delivered(&mut lab);
        DataPacket::decode(sent[0].1.as_ref()).unwrap()
    };
    let chat = |generated| {
        Value::ChatMessage(ChatMessage {
            message: "hello".to_owned(),
            generated,
            ..Default::default()
        })
    };
    let stream = |generated| {
        let text = data_stream::TextHeader {
            version: 3,
            generated,
            ..Default::default()
        };
        Value::StreamHeader(data_stream::Header {
            topic: "chat".to_owned(),
            content_header: Some(ContentHeader::TextHeader(text)),
            ..Default::default()
        })
    };
    for value in [&chat as &dyn Fn(bool) -> Value, &stream] {
        let packet = passed("alice", value(false));
        assert_eq!(packet.value, Some(value(true)));
        assert_eq!(
            (&*packet.participant_identity, &*packet.participant_sid),
            ("alice", "")
        );
        let own = passed("agent", value(false));
        assert_eq!(own.value, Some(value(false)));
        assert_eq!(own.participant_identity, "", "it is hidden");
    }
}

#[test]
fn a_repeated_reliable_packet_is_dropped_and_a_named_one_goes_to_its_addressee_alone() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    lab.join("bob");
    lab.connect();
    lab.join("carol");
    let carol = lab.connect();
    lab.commands.clear();
    let packet = DataPacket {
        sequence: 1,
        ..user("once")
    };
    send(&mut lab, alice, &packet);
    send(&mut lab, alice, &packet);
    assert_eq!(delivered(&mut lab).len(), 1);
    let packet = DataPacket {
        sequence: 2,
        destination_identities: vec!["carol".to_owned()],
        ..user("c")
    };
    send(&mut lab, alice, &packet);
    let sent = delivered(&mut lab);
    assert_eq!(
        sent.iter().map(|(to, _)| to.clone()).collect::<Vec<_>>(),
        [vec![carol]]
    );
}

#[test]
fn a_joiner_gets_what_was_sent_while_it_connected_and_nothing_older() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    send(&mut lab, alice, &user("before"));
    lab.wait(Duration::from_millis(10));
    lab.join("bob");
    send(&mut lab, alice, &user("meanwhile"));
    lab.commands.clear();
    let bob = lab.connect();
    let sent = delivered(&mut lab);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, [bob]);
    let Some(data_packet::Value::User(user)) =
        DataPacket::decode(sent[0].1.as_ref()).unwrap().value
    else {
        panic!()
    };
    assert_eq!(user.payload, b"meanwhile");
}

#[test]
fn a_joiner_whose_channel_opens_late_has_missed_nothing() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    send(&mut lab, alice, &user("nobody waits for it"));
    lab.join("bob");
    for n in 0..12 {
        let packet = DataPacket {
            sequence: n + 1,
            ..user(&n.to_string())
        };
        send(&mut lab, alice, &packet);
        lab.wait(Duration::from_secs(1));
    }
    lab.commands.clear();
    let bob = lab.connect();
    let texts: Vec<_> = delivered(&mut lab)
        .into_iter()
        .map(|(to, payload)| {
            assert_eq!(to, [bob]);
            match DataPacket::decode(payload.as_ref()).unwrap().value {
                Some(data_packet::Value::User(user)) => String::from_utf8(user.payload).unwrap(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let all: Vec<_> = (0..12).map(|n: u32| n.to_string()).collect();
    assert_eq!(texts, all);
}

#[test]
fn what_waits_for_a_joiner_is_bounded() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    lab.join("bob");
    let big = "x".repeat(10_000);
    for _ in 0..400 {
        send(&mut lab, alice, &user(&big));
    }
    lab.commands.clear();
    lab.connect();
    let bytes: usize = delivered(&mut lab)
        .iter()
        .map(|(_, payload)| payload.len())
        .sum();
    assert!((2_000_000..=2 * 1024 * 1024).contains(&bytes), "{bytes}");
}

#[test]
fn data_without_the_right_to_it_goes_nowhere() {
    let mut lab = Lab::new();
    lab.grant("alice", |grant| grant.can_publish_data = Some(false));
    let alice = lab.connect();
    lab.join("bob");
    lab.connect();
    lab.commands.clear();
    send(&mut lab, alice, &user("x"));
    assert!(delivered(&mut lab).is_empty());
}

#[test]
fn what_comes_on_a_channel_of_a_client_s_own_is_a_user_packet_for_all() {
    let mut lab = Lab::new();
    lab.join("alice");
    let from = lab.connect();
    lab.join("bob");
    let to = lab.connect();
    lab.commands.clear();
    lab.event(Event::Data {
        id: from,
        channel: Channel::Other,
        payload: Bytes::from_static(b"plain"),
    });
    let sent = delivered(&mut lab);
    assert_eq!(sent[0].0, [to]);
    let packet = DataPacket::decode(sent[0].1.as_ref()).unwrap();
    assert_eq!(packet.participant_identity, "alice");
    let Some(data_packet::Value::User(user)) = packet.value else {
        panic!("not a user packet");
    };
    assert_eq!(user.payload, b"plain");
}

#[test]
fn data_goes_to_the_connection_that_a_client_of_two_waits_for() {
    for (protocol, offered) in [(1, false), (16, true)] {
        let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
        let lab = &mut stage.lab;
        let alice = lab.opened[0];
        let join = |join: &mut Join| (join.single_pc, join.protocol) = (false, protocol);
        let device = lab.join_with("device", join).unwrap();
        let subscriber = *lab.opened.last().unwrap();
        lab.wait(Duration::from_secs(1));
        let mut offers = lab.heard(device).into_iter().filter_map(|m| match m {
            signal_response::Message::Offer(offer) => Some(offer.sdp),
            _ => None,
        });
        let first = offers.next().unwrap();
        assert_eq!(first.contains("m=application"), offered, "{protocol}");
        assert_eq!(first.contains("m=video"), !offered, "{protocol}");

        lab.request(device, signal_request::Message::Offer(offer(JOIN, 1)));
        let publisher = *lab.opened.last().unwrap();
        assert_ne!(publisher, subscriber);
        for id in [subscriber, publisher] {
            lab.opened.push(id);
            lab.connect();
        }
        lab.commands.clear();
        send(lab, alice, &user("hi"));
        let to = if offered { subscriber } else { publisher };
        assert_eq!(delivered(lab)[0].0, [to], "{protocol}");
        // What it waits for does not change with its rights.
        let seat = lab.room.identities["device"];
        let device = lab.room.participants.get_mut(&seat).unwrap();
        device.permission.can_subscribe = false;
        assert!(device.is_primary(to) && device.data_connection().unwrap().transport == to);
    }
}

/// Publishes a data track under handle 9.
pub(super) fn pose() -> signal_request::Message {
    signal_request::Message::PublishDataTrackRequest(proto::PublishDataTrackRequest {
        pub_handle: 9,
        name: "pose".to_owned(),
        ..Default::default()
    })
}

fn handles(said: Vec<signal_response::Message>) -> Option<HashMap<u32, PublishedDataTrack>> {
    said.into_iter().find_map(|message| match message {
        signal_response::Message::DataTrackSubscriberHandles(handles) => Some(handles.sub_handles),
        _ => None,
    })
}

#[test]
fn a_data_track_reaches_its_subscribers_under_their_own_handles() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let from = lab.connect();
    let bob = lab.join("bob");
    let to = lab.connect();
    lab.heard(alice);
    lab.heard(bob);
    lab.commands.clear();
    lab.request(alice, pose());
    assert_eq!(lab.kinds(alice), ["data_track", "update"]);
    let handles = handles(lab.heard(bob)).expect("handles");
    let (handle, track) = handles.iter().next().unwrap();
    assert_eq!(track.publisher_identity, "alice");
    let mut packet = vec![0x18, 0, 0, 9, 0, 1, 0, 1, 0, 0, 0, 1];
    packet.extend(b"body");
    lab.event(Event::Data {
        id: from,
        channel: Channel::DataTrack,
        payload: packet.clone().into(),
    });
    let sent = delivered(&mut lab);
    assert_eq!(sent[0].0, [to]);
    packet[2..4].copy_from_slice(&(*handle as u16).to_be_bytes());
    assert_eq!(sent[0].1, packet);
}

#[test]
fn a_data_track_of_somebody_shown_again_is_named_again() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let bob = lab.join("bob");
    lab.request(alice, pose());
    let before = handles(lab.heard(bob)).expect("handles");
    lab.permit("alice", |permission| permission.hidden = true);
    lab.heard(bob);
    lab.permit("alice", |permission| permission.hidden = false);
    let said = lab.heard(bob);
    let kinds: Vec<_> = said.iter().map(kind).collect();
    assert_eq!(kinds, ["update", "handles"]);
    assert_eq!((before.len(), handles(said)), (1, Some(before)));
}

#[test]
fn a_data_track_ends_when_its_publisher_may_no_longer_publish_data() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let bob = lab.join("bob");
    lab.connect();
    lab.request(alice, pose());
    let sids = |lab: &Lab| -> usize {
        let seat = lab.room.identities["alice"];
        lab.room.participants[&seat].data_tracks.published().len()
    };
    assert_eq!(sids(&lab), 1);
    lab.heard(alice);
    lab.heard(bob);
    let seat = lab.room.identities["alice"];
    let mut permission = lab.room.participants[&seat].permission.clone();
    permission.can_publish_data = false;
    lab.room.set_permission(lab.now, seat, permission);
    lab.drain();
    assert_eq!(sids(&lab), 0);
    let told = lab
        .heard(alice)
        .into_iter()
        .find_map(|message| match message {
            signal_response::Message::UnpublishDataTrackResponse(response) => response.info,
            _ => None,
        });
    assert_eq!(told.expect("told").name, "pose");
    let mut is_gone = [false; 2];
    for message in lab.heard(bob) {
        match message {
            signal_response::Message::DataTrackSubscriberHandles(handles) => {
                is_gone[0] = handles.sub_handles.is_empty();
            }
            signal_response::Message::Update(update) => {
                is_gone[1] = update.participants[0].data_tracks.is_empty();
            }
            _ => {}
        }
    }
    assert_eq!(is_gone, [true, true]);
}
