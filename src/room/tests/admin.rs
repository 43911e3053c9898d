//! What an application's server may do to a room, and who hears of it.

use super::data::{delivered, send};
use super::*;
use crate::ids::Identity;
use crate::protocol::livekit::{
    CreateRoomRequest, DeleteRoomRequest, ListParticipantsRequest, MuteRoomTrackRequest,
    ParticipantInfo, ParticipantPermission, PerformRpcRequest, RoomParticipantIdentity, RpcAck,
    RpcError, RpcResponse, SendDataRequest, UpdateParticipantRequest, UpdateRoomMetadataRequest,
    UpdateSubscriptionsRequest, rpc_response,
};

impl Lab {
    /// Makes a call that is answered at once.
    pub(super) fn call(&mut self, call: Call) -> Result<Answer, CallError> {
        let id = self.start(call);
        let (answered, answer) = self.answers.pop().expect("answered at once");
        assert_eq!(answered, id);
        answer
    }

    fn start(&mut self, call: Call) -> CallId {
        self.sessions += 1;
        let id = CallId(self.sessions);
        self.room.handle_call(self.now, id, call);
        self.drain();
        id
    }

    fn get(&mut self, identity: &str) -> Result<ParticipantInfo, CallError> {
        match self.call(Call::GetParticipant(named(identity)))? {
            Answer::Participant(info) => Ok(info),
            other => panic!("{other:?}"),
        }
    }
}

fn named(identity: &str) -> RoomParticipantIdentity {
    RoomParticipantIdentity {
        room: "lab".to_owned(),
        identity: identity.to_owned(),
        revoke_token_ts: 0,
    }
}

fn update(identity: &str) -> UpdateParticipantRequest {
    UpdateParticipantRequest {
        room: "lab".to_owned(),
        identity: identity.to_owned(),
        ..Default::default()
    }
}

#[test]
fn to_create_a_room_that_is_there_changes_nothing_but_keeps_it_for_those_to_come() {
    let mut lab = Lab::new();
    let before = lab.room.info().clone();
    lab.wait(Duration::from_secs(299));
    let request = CreateRoomRequest {
        name: "lab".to_owned(),
        metadata: "other".to_owned(),
        max_participants: 9,
        ..Default::default()
    };
    assert_eq!(
        lab.call(Call::CreateRoom(Box::new(request))),
        Ok(Answer::Room(before))
    );
    lab.wait(Duration::from_secs(299));
    assert!(!lab.room.is_finished());
    lab.wait(Duration::from_secs(1));
    assert!(lab.room.is_finished());
}

#[test]
fn a_request_configures_its_room_and_limits_hold() {
    let limits = Limits::default();
    let request = CreateRoomRequest {
        name: "r".to_owned(),
        empty_timeout: 60,
        departure_timeout: 5,
        max_participants: 3,
        metadata: "m0".to_owned(),
        sync_streams: true,
        ..Default::default()
    };
    let mut lab = Lab::new();
    let revision = lab.room.revision();
    let configuration = configuration_of(&limits, &request).unwrap();
    lab.room.configure(lab.now, &configuration);
    assert_ne!(lab.room.revision(), revision);
    let info = lab.room.snapshot();
    assert_eq!(
        (
            info.empty_timeout,
            info.departure_timeout,
            info.max_participants,
            info.metadata.as_str()
        ),
        (60, 5, 3, "m0")
    );
    let fault = |change: fn(&mut CreateRoomRequest)| {
        let mut request = request.clone();
        change(&mut request);
        configuration_of(&limits, &request).unwrap_err().to_string()
    };
    assert_eq!(
        fault(|r| r.name = "r".repeat(257)),
        "room name length exceeds limits: max length 256"
    );
    assert_eq!(
        fault(|r| r.metadata = "m".repeat(512 * 1024 + 1)),
        "metadata size exceeds limits: max size 524288"
    );
    assert_eq!(
        fault(|r| r.egress = Some(proto::RoomEgress::default())),
        "egress is not part of this server: create the room without it"
    );
}

#[test]
fn all_who_are_here_are_listed_hidden_ones_too() {
    let mut lab = Lab::new();
    lab.join("alice");
    lab.grant("ghost", |grant| grant.hidden = true);
    let list = Call::ListParticipants(ListParticipantsRequest {
        room: "lab".to_owned(),
    });
    let Ok(Answer::Participants(all)) = lab.call(list) else {
        panic!("no list");
    };
    let names: Vec<&str> = all.iter().map(|info| info.identity.as_str()).collect();
    assert_eq!(names, ["alice", "ghost"]);
    assert_eq!(lab.get("ghost").unwrap().identity, "ghost");
    assert_eq!(lab.get("zoe"), Err(CallError::ParticipantNotFound));
}

#[test]
fn who_is_removed_is_told_why_and_so_are_the_others() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.connect();
    let eve = lab.join("eve");
    lab.connect();
    lab.wait(Duration::from_secs(10));
    lab.heard(alice);
    lab.heard(eve);
    assert_eq!(
        lab.call(Call::RemoveParticipant(named("eve"))),
        Ok(Answer::Done)
    );
    let reason = DisconnectReason::ParticipantRemoved as i32;
    let told = lab.heard(eve);
    assert!(
        matches!(&told[..], [signal_response::Message::Leave(leave)] if leave.reason == reason
            && leave.action == proto::leave_request::Action::Disconnect as i32),
        "{told:?}"
    );
    assert_eq!(lab.closed, [eve]);
    lab.wait(Duration::from_secs(3));
    let told = lab.heard(alice);
    let farewell = told.iter().find_map(|message| match message {
        signal_response::Message::Update(update) => Some(&update.participants[0]),
        _ => None,
    });
    assert_eq!(farewell.unwrap().disconnect_reason, reason);
    assert_eq!(
        lab.call(Call::RemoveParticipant(named("eve"))),
        Err(CallError::ParticipantNotFound)
    );
}

#[test]
fn a_deleted_room_sends_everybody_home_and_is_over() {
    let mut lab = Lab::new();
    let sessions = [lab.join("alice"), lab.join("bob")];
    for session in sessions {
        lab.heard(session);
    }
    let delete = Call::DeleteRoom(DeleteRoomRequest {
        room: "lab".to_owned(),
    });
    assert_eq!(lab.call(delete), Ok(Answer::Done));
    assert!(lab.room.is_finished());
    assert_eq!(lab.closed, sessions);
    for session in sessions {
        let told = lab.heard(session);
        let leave = told.iter().find_map(|message| match message {
            signal_response::Message::Leave(leave) => Some(leave.reason()),
            _ => None,
        });
        assert_eq!(leave, Some(DisconnectReason::RoomDeleted));
    }
}

#[test]
fn name_metadata_and_attributes_are_three_updates_each_with_a_token() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let bob = lab.join("bob");
    lab.connect();
    lab.wait(Duration::from_secs(10));
    lab.heard(alice);
    lab.heard(bob);
    let request = UpdateParticipantRequest {
        metadata: "pm".to_owned(),
        name: "Al".to_owned(),
        attributes: [("z", "1"), ("y", "2")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ..update("alice")
    };
    let answer = lab.call(Call::UpdateParticipant(request.clone()));
    let Ok(Answer::Participant(info)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((info.name.as_str(), info.metadata.as_str()), ("Al", "pm"));
    let told = lab.heard(alice);
    assert_eq!(
        told.iter().map(kind).collect::<Vec<_>>(),
        ["update", "refresh_token"].repeat(3)
    );
    let steps: Vec<(String, String, usize)> = told
        .iter()
        .filter_map(|message| match message {
            signal_response::Message::Update(update) => {
                let info = &update.participants[0];
                Some((
                    info.name.clone(),
                    info.metadata.clone(),
                    info.attributes.len(),
                ))
            }
            _ => None,
        })
        .collect();
    let step = |metadata: &str, attributes| ("Al".to_owned(), metadata.to_owned(), attributes);
    assert_eq!(steps, [step("", 0), step("pm", 0), step("pm", 2)]);
    assert_eq!(lab.kinds(bob), ["update"; 3]);

    // What is so already is told to nobody, and an empty value takes an attribute out.
    lab.call(Call::UpdateParticipant(request)).unwrap();
    assert_eq!(lab.kinds(alice), [""; 0]);
    let request = UpdateParticipantRequest {
        attributes: [("z".to_owned(), String::new())].into(),
        ..update("alice")
    };
    lab.call(Call::UpdateParticipant(request)).unwrap();
    let left = lab.get("alice").unwrap().attributes;
    assert_eq!(left, [("y".to_owned(), "2".to_owned())].into());
}

#[test]
fn an_update_that_is_too_large_changes_nothing() {
    let mut lab = Lab::new();
    lab.join("alice");
    let before = lab.get("alice").unwrap();
    for (change, text) in [
        (
            (|r| r.name = "n".repeat(257)) as fn(&mut UpdateParticipantRequest),
            "participant name length exceeds limits: max length 256",
        ),
        (
            |r| {
                r.name = "new".to_owned();
                r.metadata = "m".repeat(512 * 1024 + 1);
            },
            "metadata size exceeds limits: max size 524288",
        ),
        (
            |r| r.attributes = [("k".to_owned(), "v".repeat(64 * 1024))].into(),
            "attributes size exceeds limits: max size 65536",
        ),
    ] {
        let mut request = update("alice");
        change(&mut request);
        assert_eq!(
            lab.call(Call::UpdateParticipant(request)),
            Err(CallError::Invalid(text.to_owned()))
        );
    }
    assert_eq!(lab.get("alice").unwrap(), before);
    let nobody = lab.call(Call::UpdateParticipant(update("zoe")));
    assert_eq!(nobody, Err(CallError::ParticipantNotFound));
}

#[test]
fn a_permission_replaces_the_whole_set_and_the_next_token_says_so() {
    let mut lab = Lab::new();
    let alice = lab.grant("alice", |grant| grant.can_update_own_metadata = Some(true));
    lab.heard(alice);
    let permission = ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_sources: vec![TrackSource::ScreenShareAudio as i32],
        ..Default::default()
    };
    let request = UpdateParticipantRequest {
        permission: Some(permission.clone()),
        ..update("alice")
    };
    lab.call(Call::UpdateParticipant(request)).unwrap();
    assert_eq!(lab.get("alice").unwrap().permission, Some(permission));
    let told = lab.heard(alice);
    let token = told.iter().find_map(|message| match message {
        signal_response::Message::RefreshToken(token) => Some(token),
        _ => None,
    });
    let keys = Keys(vec![("key".to_owned(), Secret::new("secret".repeat(6)))]);
    let (claims, _) =
        crate::protocol::token::verify(lab.now.unix_s(), token.unwrap(), &keys).unwrap();
    let grant = claims.video.unwrap();
    assert_eq!(
        (
            grant.room_join,
            grant.room.as_str(),
            grant.can_update_own_metadata,
            grant.can_publish_data
        ),
        (true, "lab", Some(false), Some(false))
    );
    assert_eq!(grant.can_publish_sources, ["screen_share_audio"]);
    lab.request(alice, signal_request::Message::AddTrack(camera()));
    assert_eq!(lab.kinds(alice), ["request_response"]);
}

#[test]
fn tracks_announced_but_not_sent_yet_end_with_the_right_to_them() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.request(alice, signal_request::Message::AddTrack(camera()));
    assert_eq!(lab.room.ups.len(), 1);
    let request = UpdateParticipantRequest {
        permission: Some(ParticipantPermission::default()),
        ..update("alice")
    };
    lab.call(Call::UpdateParticipant(request)).unwrap();
    assert_eq!(lab.room.ups.len(), 0);
}

#[test]
fn new_metadata_of_the_room_is_told_at_once_with_the_whole_room() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.heard(alice);
    let revision = lab.room.revision();
    let request = UpdateRoomMetadataRequest {
        room: "lab".to_owned(),
        metadata: "m2".to_owned(),
    };
    let answer = lab.call(Call::UpdateRoomMetadata(request));
    let Ok(Answer::Room(room)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((room.metadata.as_str(), room.num_participants), ("m2", 1));
    let told = lab.heard(alice);
    assert!(
        matches!(&told[..], [signal_response::Message::RoomUpdate(update)]
            if update.room.as_ref() == Some(&room)),
        "{told:?}"
    );
    assert_ne!(lab.room.revision(), revision);
    assert_eq!(lab.room.snapshot(), room);
}

#[test]
fn only_a_room_that_allows_it_is_unmuted_from_afar() {
    let mute = |muted| {
        Call::MutePublishedTrack(MuteRoomTrackRequest {
            room: "lab".to_owned(),
            identity: "alice".to_owned(),
            track_sid: "TR_nope".to_owned(),
            muted,
        })
    };
    for (allowed, expected) in [
        (false, Err(CallError::RemoteUnmute)),
        (true, Ok(Answer::Track(None))),
    ] {
        let mut lab = Lab::with(|settings| settings.defaults.enable_remote_unmute = allowed);
        let alice = lab.join("alice");
        lab.heard(alice);
        assert_eq!(lab.call(mute(false)), expected);
        // The client is told of a track that nobody knows, too.
        assert_eq!(lab.call(mute(true)), Ok(Answer::Track(None)));
        let told = lab.heard(alice);
        let last = told.last();
        assert!(
            matches!(last, Some(signal_response::Message::Mute(m)) if m.sid == "TR_nope" && m.muted),
            "{last:?}"
        );
        assert_eq!(told.len(), if allowed { 2 } else { 1 });
    }
}

#[test]
fn to_subscribe_somebody_who_is_not_here_is_a_fault() {
    let mut lab = Lab::new();
    let request = UpdateSubscriptionsRequest {
        room: "lab".to_owned(),
        identity: "zoe".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        lab.call(Call::UpdateSubscriptions(request)),
        Err(CallError::ParticipantNotFound)
    );
}

#[test]
fn data_of_the_server_has_no_sender_and_goes_to_those_named() {
    let mut lab = Lab::new();
    lab.join("alice");
    let alice = lab.connect();
    lab.join("bob");
    let bob = lab.connect();
    lab.commands.clear();
    let sid = lab.get("alice").unwrap().sid;
    let request = |identities: &[&str], sids: &[&str]| {
        #[expect(deprecated, reason = "older applications name participants by SID")]
        SendDataRequest {
            room: "lab".to_owned(),
            data: b"srv".to_vec(),
            topic: Some("x".to_owned()),
            destination_identities: identities.iter().map(ToString::to_string).collect(),
            destination_sids: sids.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }
    };
    for (identities, sids, receivers) in [
        (&[][..], &[][..], &[alice, bob][..]),
        (&["bob", "zoe"], &[], &[bob]),
        (&[], &[sid.as_str()], &[alice]),
        (&["bob"], &[sid.as_str()], &[alice, bob]),
        (&["zoe"], &[], &[]),
        (&[], &["PA_nope"], &[]),
    ] {
        let answer = lab.call(Call::SendData(request(identities, sids)));
        assert_eq!(answer, Ok(Answer::Done));
        let all: Vec<TransportId> = delivered(&mut lab)
            .into_iter()
            .flat_map(|(to, payload)| {
                let packet = DataPacket::decode(payload).unwrap();
                assert_eq!(packet.participant_identity, "");
                let Some(data_packet::Value::User(user)) = packet.value else {
                    panic!("{packet:?}");
                };
                assert_eq!(user.payload, b"srv");
                assert_eq!(user.topic.as_deref(), Some("x"));
                to
            })
            .collect();
        assert_eq!(all, receivers, "{identities:?} {sids:?}");
    }
}

#[test]
fn data_with_a_nonce_goes_out_once_and_a_nonce_has_16_bytes() {
    let mut lab = Lab::new();
    lab.join("alice");
    lab.connect();
    lab.commands.clear();
    let mut request = SendDataRequest {
        room: "lab".to_owned(),
        nonce: vec![1; 16],
        kind: data_packet::Kind::Lossy as i32,
        ..Default::default()
    };
    for sent in [1, 0] {
        let call = Call::SendData(request.clone());
        assert_eq!(lab.call(call), Ok(Answer::Done));
        assert_eq!(delivered(&mut lab).len(), sent);
    }
    request.nonce = vec![2; 16];
    lab.call(Call::SendData(request.clone())).unwrap();
    assert!(matches!(
        &lab.commands[..],
        [Command::SendData {
            channel: Channel::Lossy,
            ..
        }]
    ));
    request.nonce = vec![1; 15];
    let text = "nonce should be 16 bytes or not present, got 15 bytes";
    assert_eq!(
        lab.call(Call::SendData(request.clone())),
        Err(CallError::Invalid(text.to_owned()))
    );
    request.nonce.clear();
    request.data = vec![0; 65_536];
    assert_eq!(
        lab.call(Call::SendData(request)),
        Err(CallError::Invalid("data exceeds 64 kB".to_owned()))
    );
}

/// A participant without any right to publish, that has been asked something; and the question.
fn asked() -> (Lab, TransportId, CallId, proto::RpcRequest) {
    let mut lab = Lab::new();
    lab.grant("alice", |grant| grant.can_publish = Some(false));
    let alice = lab.connect();
    lab.commands.clear();
    let call = lab.start(rpc("alice", "hello"));
    let sent = delivered(&mut lab);
    let [(to, payload)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(to, &[alice]);
    let packet = DataPacket::decode(payload.clone()).unwrap();
    let Some(data_packet::Value::RpcRequest(request)) = packet.value else {
        panic!("{packet:?}");
    };
    // The client addresses its answer to this.
    assert_eq!(packet.participant_identity, request.id);
    (lab, alice, call, request)
}

fn rpc(identity: &str, payload: &str) -> Call {
    Call::PerformRpc(PerformRpcRequest {
        room: "lab".to_owned(),
        destination_identity: identity.to_owned(),
        method: "greet".to_owned(),
        payload: payload.to_owned(),
        response_timeout_ms: 5_000,
    })
}

fn ack(request: &proto::RpcRequest) -> DataPacket {
    DataPacket {
        destination_identities: vec![request.id.clone()],
        value: Some(data_packet::Value::RpcAck(RpcAck {
            request_id: request.id.clone(),
        })),
        ..Default::default()
    }
}

fn response(request: &proto::RpcRequest, value: rpc_response::Value) -> DataPacket {
    DataPacket {
        value: Some(data_packet::Value::RpcResponse(RpcResponse {
            request_id: request.id.clone(),
            value: Some(value),
        })),
        ..Default::default()
    }
}

fn fault(code: u32, message: &str) -> CallError {
    CallError::Rpc {
        code,
        message: message.to_owned(),
        data: String::new(),
    }
}

#[test]
fn a_method_is_called_and_its_answer_comes_back_to_the_caller_alone() {
    let (mut lab, alice, call, request) = asked();
    assert_eq!(
        (
            request.method.as_str(),
            request.payload.as_str(),
            request.response_timeout_ms,
            request.version
        ),
        ("greet", "hello", 5_000, 1)
    );
    send(&mut lab, alice, &ack(&request));
    lab.wait(Duration::from_secs(4));
    let answer = response(&request, rpc_response::Value::Payload("hi".to_owned()));
    send(&mut lab, alice, &answer);
    let expected = Ok(Answer::Payload("hi".to_owned()));
    assert_eq!(lab.answers, [(call, expected)]);
    assert_eq!(delivered(&mut lab).len(), 0);
    // A second answer finds nobody who asked.
    send(&mut lab, alice, &answer);
    lab.wait(Duration::from_secs(60));
    assert_eq!(lab.answers.len(), 1);
}

#[test]
fn a_client_that_says_nothing_is_given_up_after_2_s_and_one_that_works_after_its_time() {
    let (mut lab, _, call, _) = asked();
    lab.wait(Duration::from_millis(1_999));
    assert_eq!(lab.answers, []);
    lab.wait(Duration::from_millis(1));
    let expected = Err(fault(1501, "Connection timeout"));
    assert_eq!(lab.answers, [(call, expected)]);

    let (mut lab, alice, call, request) = asked();
    send(&mut lab, alice, &ack(&request));
    lab.wait(Duration::from_millis(4_999));
    assert_eq!(lab.answers, []);
    lab.wait(Duration::from_millis(1));
    let expected = Err(fault(1502, "Response timeout"));
    assert_eq!(lab.answers, [(call, expected)]);
}

#[test]
fn what_goes_wrong_with_a_method_is_told_by_its_code() {
    let (mut lab, alice, call, request) = asked();
    let error = RpcError {
        code: 1500,
        message: "Application error in method handler".to_owned(),
        data: "boom".to_owned(),
    };
    send(
        &mut lab,
        alice,
        &response(&request, rpc_response::Value::Error(error)),
    );
    let (id, answer) = lab.answers.pop().unwrap();
    assert_eq!(id, call);
    assert_eq!(
        answer.unwrap_err().to_string(),
        "RpcError 1500: Application error in method handler: boom"
    );

    let (mut lab, alice, _, request) = asked();
    let long = rpc_response::Value::Payload("x".repeat(15 * 1024 + 1));
    send(&mut lab, alice, &response(&request, long));
    let (_, answer) = lab.answers.pop().unwrap();
    assert_eq!(answer, Err(fault(1504, "Response payload too large")));

    let (mut lab, alice, _, request) = asked();
    let packed = rpc_response::Value::CompressedPayload(vec![1]);
    send(&mut lab, alice, &response(&request, packed));
    let (_, answer) = lab.answers.pop().unwrap();
    assert_eq!(answer, Err(fault(1404, "Unsupported RPC version")));

    let (mut lab, _, call, _) = asked();
    let removed = lab.start(Call::RemoveParticipant(named("alice")));
    let gone = Err(fault(1503, "Recipient disconnected"));
    assert_eq!(lab.answers, [(call, gone), (removed, Ok(Answer::Done))]);

    let mut lab = Lab::new();
    lab.join("bob");
    for (call, expected) in [
        (rpc("zoe", ""), fault(1401, "Recipient not found")),
        (rpc("bob", ""), fault(1505, "Failed to send")),
        (
            rpc("bob", &"x".repeat(15 * 1024 + 1)),
            fault(1402, "Request payload too large"),
        ),
    ] {
        assert_eq!(lab.call(call), Err(expected));
    }
}

#[test]
fn nobody_answers_for_somebody_else() {
    let (mut lab, _, _, request) = asked();
    lab.join("eve");
    let eve = lab.connect();
    let forged = response(&request, rpc_response::Value::Payload("hi".to_owned()));
    send(&mut lab, eve, &forged);
    assert_eq!(lab.answers, []);
}

#[test]
fn method_calls_under_way_are_bounded() {
    let mut lab = Lab::new();
    lab.join("alice");
    lab.connect();
    for _ in 0..256 {
        lab.start(rpc("alice", ""));
    }
    assert_eq!(lab.answers, []);
    assert_eq!(
        lab.call(rpc("alice", "")),
        Err(CallError::TooMany("method calls are under way"))
    );
}

#[test]
fn a_token_that_is_refreshed_stays_as_old_as_it_was() {
    let mut lab = Lab::new();
    let issued = lab.now.unix_s() - 30;
    let session = lab
        .join_with("alice", |join| join.claims.nbf = issued)
        .unwrap();
    let told = lab.heard(session);
    let Some(signal_response::Message::RefreshToken(token)) = told.get(1) else {
        panic!("{told:?}");
    };
    let keys = Keys(vec![("key".to_owned(), Secret::new("secret".repeat(6)))]);
    let (claims, _) = crate::protocol::token::verify(lab.now.unix_s(), token, &keys).unwrap();
    assert_eq!(claims.issued(), issued);
    assert!(lab.room.identities.contains_key(&Identity::from("alice")));
}

#[test]
fn video_is_delayed_as_the_room_s_creation_asks_within_what_can_be_told() {
    for ((min, max), told) in [
        ((0, 0), None),
        ((0, 2_000), Some([0x00, 0x00, 0xc8])),
        ((150, 0), Some([0x00, 0xff, 0xff])),
        ((100, 200), Some([0x00, 0xa0, 0x14])),
        ((90_000, 40_950), Some([0xff, 0xff, 0xff])),
        ((500, 100), Some([0x00, 0xa0, 0x0a])),
    ] {
        let mut lab = Lab::new();
        let configuration = proto::RoomConfiguration {
            min_playout_delay: min,
            max_playout_delay: max,
            ..Default::default()
        };
        lab.room.configure(lab.now, &configuration);
        assert_eq!(lab.room.playout_delay(), told, "{min} {max}");
    }
}
