//! What a client says of its tracks: what becomes of it, and how much of it there may be.

use super::calls::{Call, JOIN, PUBLISH, offer};
use super::*;
use crate::protocol::livekit::{
    AudioTrackFeature, MuteTrackRequest, PublishDataTrackRequest, SimulcastCodec, TrackInfo,
    UnpublishDataTrackRequest, UpdateLocalAudioTrack, UpdateLocalVideoTrack, VideoLayer,
    client_info,
};
use request_response::{Reason, Request};

/// A number that no enum of the protocol has.
const STRANGE: i32 = 99;

impl Lab {
    /// Sends one request, and the answers to it.
    fn ask(
        &mut self,
        session: SessionId,
        message: signal_request::Message,
    ) -> Vec<signal_response::Message> {
        self.heard(session);
        self.request(session, message);
        self.heard(session)
    }

    /// Why a request is refused.
    fn refusal(&mut self, session: SessionId, message: signal_request::Message) -> Reason {
        match self.ask(session, message).as_slice() {
            [signal_response::Message::RequestResponse(response)] => response.reason(),
            other => panic!("{other:?}"),
        }
    }

    /// What becomes of an `add_track`.
    fn added(&mut self, session: SessionId, request: AddTrackRequest) -> TrackInfo {
        let heard = self.ask(session, signal_request::Message::AddTrack(request));
        match heard.as_slice() {
            [signal_response::Message::TrackPublished(response)] => response.track.clone().unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

fn has_json(message: signal_response::Message) -> bool {
    &*Encoded::new(message).json() != "{}"
}

fn layer(rid: &str) -> VideoLayer {
    VideoLayer {
        rid: rid.to_owned(),
        ..Default::default()
    }
}

#[test]
fn numbers_that_no_enum_has_are_told_to_nobody() {
    let mut lab = Lab::new();
    let capable = |join: &mut Join| {
        join.client.capabilities = vec![STRANGE, 1, 1, client_info::Capability::CapUnused as i32];
    };
    let alice = lab.join_with("alice", capable).unwrap();
    lab.connect();
    let request = AddTrackRequest {
        source: STRANGE,
        encryption: STRANGE,
        backup_codec_policy: STRANGE,
        audio_features: vec![STRANGE, 3, 3],
        packet_trailer_features: vec![STRANGE, 1, 1],
        layers: vec![VideoLayer {
            quality: STRANGE,
            ..Default::default()
        }],
        simulcast_codecs: vec![SimulcastCodec {
            codec: "vp8".to_owned(),
            video_layer_mode: STRANGE,
            ..Default::default()
        }],
        ..camera()
    };
    let track = lab.added(alice, request);
    assert_eq!(
        (track.audio_features, track.packet_trailer_features),
        (vec![3], vec![1])
    );
    let strange = AddTrackRequest {
        r#type: STRANGE,
        ..camera()
    };
    assert_eq!(
        lab.refusal(alice, signal_request::Message::AddTrack(strange)),
        Reason::UnsupportedType
    );
    let request = PublishDataTrackRequest {
        pub_handle: 1,
        name: "pose".to_owned(),
        encryption: STRANGE,
        frame_encoding: Some(proto::DataTrackFrameEncoding {
            value: Some(proto::data_track_frame_encoding::Value::WellKnown(STRANGE)),
        }),
        schema: Some(proto::DataTrackSchemaId {
            name: "pose".to_owned(),
            encoding: Some(proto::DataTrackSchemaEncoding {
                value: Some(proto::data_track_schema_encoding::Value::WellKnown(STRANGE)),
            }),
        }),
    };
    lab.request(
        alice,
        signal_request::Message::PublishDataTrackRequest(request),
    );
    let bob = lab.join("bob");
    let signal_response::Message::Join(join) = lab.heard(bob).remove(0) else {
        panic!()
    };
    let info = &join.other_participants[0];
    assert_eq!(
        (info.capabilities.as_slice(), info.data_tracks.len()),
        (&[1, 0][..], 1)
    );
    assert!(has_json(signal_response::Message::Join(join)));
    lab.wait(Duration::from_secs(4));
    for (_, message) in std::mem::take(&mut lab.said) {
        assert!(has_json(message.clone()), "{message:?}");
    }
}

#[test]
fn features_that_a_client_adds_later_are_known_ones_each_once() {
    let mut call = Call::new([0, 0]);
    let (stereo, no_dtx) = (
        AudioTrackFeature::TfStereo as i32,
        AudioTrackFeature::TfNoDtx as i32,
    );
    let mut features = vec![no_dtx, STRANGE, stereo];
    features.extend(std::iter::repeat_n(stereo, 100_000));
    let update = UpdateLocalAudioTrack {
        track_sid: call.audio.sid.clone(),
        features,
    };
    call.lab.said.clear();
    call.lab.request(
        call.alice,
        signal_request::Message::UpdateAudioTrack(update),
    );
    let told = call.lab.updates(call.bob).pop().unwrap();
    let track = told
        .tracks
        .iter()
        .find(|t| t.sid == call.audio.sid)
        .unwrap();
    assert_eq!(track.audio_features, [no_dtx, stereo]);
}

#[test]
fn a_description_is_bounded_in_every_part() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let codec = |layers: Vec<VideoLayer>, cid: &str| SimulcastCodec {
        codec: "vp8".to_owned(),
        cid: cid.to_owned(),
        layers,
        ..Default::default()
    };
    let long = "x".repeat(257);
    let many = vec![VideoLayer::default(); 4];
    for request in [
        AddTrackRequest {
            name: "x".repeat(1025),
            ..camera()
        },
        AddTrackRequest {
            stream: long.clone(),
            ..camera()
        },
        AddTrackRequest {
            layers: vec![layer(&long)],
            ..camera()
        },
        AddTrackRequest {
            layers: many.clone(),
            ..camera()
        },
        AddTrackRequest {
            simulcast_codecs: vec![codec(many, "c")],
            ..camera()
        },
        AddTrackRequest {
            simulcast_codecs: vec![codec(Vec::new(), &long)],
            ..camera()
        },
        AddTrackRequest {
            simulcast_codecs: vec![codec(vec![layer(&long)], "c")],
            ..camera()
        },
        AddTrackRequest {
            simulcast_codecs: vec![codec(Vec::new(), "c"); 5],
            ..camera()
        },
    ] {
        let message = signal_request::Message::AddTrack(request);
        assert_eq!(lab.refusal(alice, message), Reason::LimitExceeded);
    }
    let encoding = |name: &str| proto::DataTrackFrameEncoding {
        value: Some(proto::data_track_frame_encoding::Value::Custom(
            name.to_owned(),
        )),
    };
    let schema = |name: usize, encoding: &str| proto::DataTrackSchemaId {
        name: "x".repeat(name),
        encoding: Some(proto::DataTrackSchemaEncoding {
            value: Some(proto::data_track_schema_encoding::Value::Custom(
                encoding.to_owned(),
            )),
        }),
    };
    let long = "x".repeat(33);
    for (frame_encoding, schema) in [
        (Some(encoding(&long)), None),
        (Some(encoding("")), None),
        (None, Some(schema(1, &long))),
        (None, Some(schema(257, "mine"))),
    ] {
        let request = PublishDataTrackRequest {
            pub_handle: 1,
            name: "pose".to_owned(),
            frame_encoding,
            schema,
            ..Default::default()
        };
        let message = signal_request::Message::PublishDataTrackRequest(request);
        assert_eq!(lab.refusal(alice, message), Reason::InvalidRequest);
    }
}

#[test]
fn whoever_publishes_data_tracks_alone_is_a_publisher() {
    for is_agent in [false, true] {
        let mut lab = Lab::new();
        let alice = lab.grant("alice", |grant| grant.agent = is_agent);
        lab.connect();
        let request = PublishDataTrackRequest {
            pub_handle: 1,
            name: "pose".to_owned(),
            ..Default::default()
        };
        lab.request(
            alice,
            signal_request::Message::PublishDataTrackRequest(request),
        );
        let told = lab.updates(alice).pop().unwrap();
        assert!(told.is_publisher);
        let room = lab.room.snapshot();
        let counts = (room.num_participants, room.num_publishers);
        assert_eq!(
            counts,
            (u32::from(!is_agent), 1),
            "an agent that speaks too"
        );
    }
}

#[test]
fn what_is_asked_of_a_track_that_is_not_there_is_refused_and_said_so() {
    use signal_request::Message;
    let mut call = Call::new([0, 0]);
    let alice = call.alice;
    let sid = "TR_nowhere".to_owned();
    let track_sid = sid.clone();
    let requests = [
        Message::Mute(MuteTrackRequest {
            sid: sid.clone(),
            muted: true,
        }),
        Message::UpdateAudioTrack(UpdateLocalAudioTrack {
            track_sid: sid.clone(),
            features: vec![STRANGE],
        }),
        Message::UpdateVideoTrack(UpdateLocalVideoTrack {
            track_sid,
            ..Default::default()
        }),
        Message::AddTrack(AddTrackRequest { sid, ..camera() }),
        Message::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: 7 }),
    ];
    for request in requests {
        let heard = call.lab.ask(alice, request.clone());
        let [signal_response::Message::RequestResponse(response)] = heard.as_slice() else {
            panic!("{heard:?}")
        };
        assert_eq!(response.reason(), Reason::NotFound);
        let is_echoed = match (request, response.request.clone().unwrap()) {
            (Message::Mute(asked), Request::Mute(echoed)) => asked == echoed,
            (Message::UpdateAudioTrack(asked), Request::UpdateAudioTrack(echoed)) => {
                asked.track_sid == echoed.track_sid && echoed.features.is_empty()
            }
            (Message::UpdateVideoTrack(asked), Request::UpdateVideoTrack(echoed)) => {
                asked == echoed
            }
            (Message::AddTrack(asked), Request::AddTrack(echoed)) => asked == echoed,
            (Message::UnpublishDataTrackRequest(asked), Request::UnpublishDataTrack(echoed)) => {
                asked == echoed
            }
            _ => false,
        };
        assert!(is_echoed, "{heard:?}");
    }
}

#[test]
fn a_track_that_no_offer_has_carried_yet_is_changed_too() {
    let mut lab = Lab::new();
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let alice = lab.join_with("alice", join).unwrap();
    lab.connect();
    let microphone = AddTrackRequest {
        cid: "mic".to_owned(),
        source: TrackSource::Microphone as i32,
        ..Default::default()
    };
    let audio = lab.added(alice, microphone).sid;
    let video = lab.added(alice, camera()).sid;
    let stereo = AudioTrackFeature::TfStereo as i32;
    for message in [
        signal_request::Message::UpdateAudioTrack(UpdateLocalAudioTrack {
            track_sid: audio.clone(),
            features: vec![stereo],
        }),
        signal_request::Message::UpdateVideoTrack(UpdateLocalVideoTrack {
            track_sid: video.clone(),
            width: 640,
            height: 480,
        }),
        signal_request::Message::Mute(MuteTrackRequest {
            sid: video.clone(),
            muted: true,
        }),
    ] {
        assert_eq!(lab.ask(alice, message), []);
    }
    lab.request(alice, signal_request::Message::Offer(offer(PUBLISH, 2)));
    lab.wait(Duration::from_secs(3));
    let told = lab.updates(alice).pop().unwrap().tracks;
    let by = |sid: &str| told.iter().find(|track| track.sid == sid).unwrap();
    assert_eq!(by(&audio).audio_features, [stereo]);
    let video = by(&video);
    assert_eq!((video.width, video.height, video.muted), (640, 480, true));
}

#[test]
fn tracks_announced_under_an_id_that_is_pending_come_one_after_the_other() {
    let mut call = Call::new([0, 0]);
    let bob = call.bob;
    let announce = || signal_request::Message::AddTrack(camera());
    let first = call.lab.added(bob, camera()).sid;
    let told = [(); 3].map(|()| call.lab.refusal(bob, announce()));
    assert_eq!(
        told,
        [Reason::Queued, Reason::Queued, Reason::LimitExceeded]
    );
    call.lab
        .request(bob, signal_request::Message::Offer(offer(PUBLISH, 2)));
    call.lab.wait(Duration::from_secs(3));
    let published = |lab: &Lab| -> Vec<String> {
        let info = lab.room.participants[&lab.room.identities["bob"]].info();
        info.tracks.into_iter().map(|track| track.sid).collect()
    };
    assert_eq!(published(&call.lab), [first.as_str()]);
    // It goes on while its client goes on sending, and ends with it.
    call.lab
        .request(bob, signal_request::Message::Offer(offer(PUBLISH, 3)));
    assert_eq!(published(&call.lab), [first.as_str()]);
    let ended = PUBLISH.replace("a=sendonly", "a=inactive");
    let heard = call
        .lab
        .ask(bob, signal_request::Message::Offer(offer(&ended, 4)));
    let second = heard.iter().find_map(|message| match message {
        signal_response::Message::TrackPublished(response) => response.track.clone(),
        _ => None,
    });
    let second = second.unwrap().sid;
    assert_ne!(second, first);
    assert_eq!(published(&call.lab), [""; 0]);
    call.lab
        .request(bob, signal_request::Message::Offer(offer(PUBLISH, 5)));
    call.lab.wait(Duration::from_secs(3));
    assert_eq!(published(&call.lab), [second]);
}

#[test]
fn a_trickle_that_cannot_be_read_is_refused_and_counted_and_one_that_leads_nowhere_is_not() {
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    lab.heard(alice);
    let trickle = |init: &str| {
        signal_request::Message::Trickle(proto::TrickleRequest {
            candidate_init: init.to_owned(),
            ..Default::default()
        })
    };
    for init in [
        "null",
        "{}",
        r#"{"candidate":""}"#,
        r#"{"candidate":null}"#,
        r#"{"candidate":"candidate:1 1 udp 1 0d3f8a4e.local 5000 typ host","sdpMid":"0","sdpMLineIndex":0}"#,
    ] {
        assert_eq!(lab.ask(alice, trickle(init)), [], "{init}");
    }
    assert_eq!(lab.room.faults, Faults::default());
    for init in ["", "candidate:1", "[]", "7", r#"{"candidate":7}"#] {
        let heard = lab.ask(alice, trickle(init));
        let [signal_response::Message::RequestResponse(response)] = heard.as_slice() else {
            panic!("{init}: {heard:?}")
        };
        assert_eq!(response.reason(), Reason::UnclassifiedError);
        let Some(Request::Trickle(echoed)) = &response.request else {
            panic!("{response:?}")
        };
        assert_eq!(echoed.candidate_init, init);
    }
    assert_eq!(lab.room.faults[Fault::TrickleUnreadable as usize], 5);
}
