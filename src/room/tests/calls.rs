//! Calls of two with the SDP of real clients: who is told what of whose tracks, and what the workers are told.

use super::*;
use crate::ids::{Ssrc, UpTrackId};
use crate::plan::{Codec, DownTrackPlan, Format, Kind, Wanted};
use crate::protocol::livekit::{
    MuteTrackRequest, SessionDescription, SubscriptionPermission, TrackInfo, UpdateSubscription,
    UpdateTrackSettings,
};

pub(super) const JOIN: &str = include_str!("../../../tests/fixtures/chromium-v1-join.sdp");
pub(super) const PUBLISH: &str = include_str!("../../../tests/fixtures/chromium-v1-publish.sdp");

pub(super) fn offer(sdp: &str, id: u32) -> SessionDescription {
    SessionDescription {
        r#type: "offer".to_owned(),
        sdp: sdp.to_owned(),
        id,
        ..Default::default()
    }
}

/// A publisher (microphone and simulcast camera) and a subscriber, on workers of choice.
pub(super) struct Call {
    pub(super) lab: Lab,
    pub(super) alice: SessionId,
    pub(super) bob: SessionId,
    pub(super) audio: TrackInfo,
    pub(super) video: TrackInfo,
}

impl Call {
    pub(super) fn new(workers: [u8; 2]) -> Self {
        Self::in_lab(Lab::new(), workers)
    }

    pub(super) fn in_lab(mut lab: Lab, workers: [u8; 2]) -> Self {
        lab.worker = WorkerId(workers[0]);
        let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
        let alice = lab.join_with("alice", join).unwrap();
        lab.connect();
        lab.heard(alice);
        let microphone = AddTrackRequest {
            cid: "mic".to_owned(),
            source: TrackSource::Microphone as i32,
            ..Default::default()
        };
        lab.request(alice, signal_request::Message::AddTrack(microphone));
        let layers = [180, 360, 720]
            .into_iter()
            .enumerate()
            .map(|(quality, height)| proto::VideoLayer {
                quality: quality as i32,
                width: height * 16 / 9,
                height,
                ..Default::default()
            });
        let camera = AddTrackRequest {
            layers: layers.collect(),
            ..camera()
        };
        lab.request(alice, signal_request::Message::AddTrack(camera));
        lab.request(alice, signal_request::Message::Offer(offer(PUBLISH, 2)));
        let video = lab
            .published()
            .into_iter()
            .find(|(_, kind)| *kind == Kind::Video)
            .unwrap()
            .0;
        let format = Format {
            codec: Codec::Vp8,
            variant: 0,
        };
        for spatial in 0..3 {
            lab.event(Event::LayerSeen {
                up: video,
                spatial,
                ssrc: Ssrc(100 + u32::from(spatial)),
                format,
            });
        }
        let tracks = lab.tracks_of("alice", alice);
        let by = |kind: TrackType| tracks.iter().find(|t| t.r#type() == kind).unwrap().clone();
        let (audio, video) = (by(TrackType::Audio), by(TrackType::Video));
        lab.worker = WorkerId(workers[1]);
        lab.commands.clear();
        let bob = lab.join_with("bob", join).unwrap();
        lab.connect();
        Self {
            lab,
            alice,
            bob,
            audio,
            video,
        }
    }

    pub(super) fn downs(&self) -> Vec<DownTrackPlan> {
        self.lab
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::OpenDown { plan } => Some((**plan).clone()),
                _ => None,
            })
            .collect()
    }

    pub(super) fn down(&self, kind: Kind) -> DownTrackPlan {
        self.downs()
            .into_iter()
            .find(|plan| plan.kind == kind)
            .unwrap()
    }
}

impl Lab {
    /// What the worker was last told to receive.
    fn published(&self) -> Vec<(UpTrackId, Kind)> {
        self.commands
            .iter()
            .rev()
            .find_map(|command| match command {
                Command::SetReceive { plan, .. } => Some(&plan.tracks),
                _ => None,
            })
            .map_or_else(Vec::new, |tracks| {
                tracks.iter().map(|t| (t.up, t.kind)).collect()
            })
    }

    /// The newest list of tracks that a session was told of somebody.
    fn tracks_of(&mut self, identity: &str, session: SessionId) -> Vec<TrackInfo> {
        let mut newest = Vec::new();
        for message in self.heard(session) {
            if let signal_response::Message::Update(update) = message {
                for info in update
                    .participants
                    .into_iter()
                    .filter(|p| p.identity == identity)
                {
                    newest = info.tracks;
                }
            }
        }
        newest
    }
}

/// The offer of two connections opens the data channels, whatever else may be sent.
#[test]
fn whoever_may_send_data_alone_has_its_offer_answered() {
    let mut lab = Lab::new();
    let alice = lab
        .join_with("alice", |join| {
            join.single_pc = false;
            join.claims.video.as_mut().unwrap().can_publish = Some(false);
        })
        .unwrap();
    lab.heard(alice);
    let sdp = include_str!("../../../tests/fixtures/chromium-v0-publish.sdp");
    lab.commands.clear();
    lab.request(alice, signal_request::Message::Offer(offer(sdp, 1)));
    assert!(
        lab.heard(alice)
            .iter()
            .any(|message| matches!(message, signal_response::Message::Answer(_)))
    );
    let received = lab.commands.iter().find_map(|command| match command {
        Command::SetReceive { plan, .. } => Some(plan.tracks.len()),
        _ => None,
    });
    assert_eq!(received, Some(0));
}

#[test]
fn audio_is_announced_with_its_sdp_and_simulcast_with_its_first_packet() {
    let call = Call::new([0, 0]);
    assert_eq!(call.audio.mime_type, "audio/red");
    assert_eq!(call.video.mime_type, "video/VP8");
    let layers: Vec<(String, u32, i32)> = call.video.codecs[0]
        .layers
        .iter()
        .map(|layer| (layer.rid.clone(), layer.ssrc, layer.spatial_layer))
        .collect();
    let expected = [("q", 100, 0), ("h", 101, 1), ("f", 102, 2)];
    assert_eq!(
        layers,
        expected.map(|(rid, ssrc, spatial)| (rid.to_owned(), ssrc, spatial))
    );
    assert!(!call.video.mid.is_empty());
}

#[test]
fn a_joiner_gets_all_tracks_with_its_very_first_answer() {
    let mut call = Call::new([0, 0]);
    let heard = call.lab.heard(call.bob);
    let kinds: Vec<&str> = heard.iter().map(kind).collect();
    assert_eq!(kinds[..2], ["join", "refresh_token"]);
    let answer = heard
        .iter()
        .find_map(|message| match message {
            signal_response::Message::Answer(answer) => Some(answer),
            _ => None,
        })
        .unwrap();
    assert_eq!(answer.id, 1, "the answer has the offer's id");
    let mut named: Vec<&String> = answer.mid_to_track_id.values().collect();
    named.sort();
    let mut sids = vec![&call.audio.sid, &call.video.sid];
    sids.sort();
    assert_eq!(named, sids);
    assert_eq!(call.downs().len(), 2);
    let video = call.down(Kind::Video);
    assert_eq!(
        video.wanted,
        Wanted {
            paused: false,
            max_spatial: 255,
            max_temporal: 255
        }
    );
    assert!(answer.sdp.contains(&format!("a=ssrc:{} ", video.ssrc.0)));
    let told = call.lab.heard(call.alice);
    let subscribed = told
        .iter()
        .filter(|message| matches!(message, signal_response::Message::TrackSubscribed(_)));
    assert_eq!(
        subscribed.count(),
        2,
        "the publisher knows that somebody has its tracks"
    );
}

#[test]
fn tracks_of_another_worker_are_mirrored_while_somebody_there_has_them() {
    let mut call = Call::new([0, 1]);
    let mirrors = |commands: &[Command]| -> Vec<(bool, UpTrackId)> {
        commands
            .iter()
            .filter_map(|command| match command {
                Command::SetMirror { up, on, to } if *to == WorkerId(1) => Some((*on, *up)),
                _ => None,
            })
            .collect()
    };
    assert_eq!(
        mirrors(&call.lab.commands)
            .iter()
            .filter(|(on, _)| *on)
            .count(),
        2
    );
    let video = call.down(Kind::Video);
    call.lab.commands.clear();
    let update = UpdateSubscription {
        track_sids: vec![call.video.sid.clone()],
        ..Default::default()
    };
    call.lab
        .request(call.bob, signal_request::Message::Subscription(update));
    assert!(
        call.lab
            .commands
            .iter()
            .any(|c| matches!(c, Command::CloseDown { down } if *down == video.down))
    );
    assert!(
        mirrors(&call.lab.commands).is_empty(),
        "the last frames still pass"
    );
    call.lab.event(Event::DownClosed {
        down: video.down,
        sent: true,
    });
    assert_eq!(mirrors(&call.lab.commands), [(false, video.up)]);
    assert!(
        call.lab
            .commands
            .iter()
            .any(|c| matches!(c, Command::CloseMirror { up } if *up == video.up))
    );
}

#[test]
fn a_track_taken_back_and_wanted_again_gets_a_section_again() {
    let mut call = Call::new([0, 0]);
    let video = call.down(Kind::Video);
    let mut update = UpdateSubscription {
        track_sids: vec![call.video.sid.clone()],
        ..Default::default()
    };
    call.lab.request(
        call.bob,
        signal_request::Message::Subscription(update.clone()),
    );
    call.lab.event(Event::DownClosed {
        down: video.down,
        sent: true,
    });
    update.subscribe = true;
    call.lab
        .request(call.bob, signal_request::Message::Subscription(update));
    call.lab.heard(call.bob);
    call.lab.wait(Duration::from_millis(200));
    let nudged = call.lab.heard(call.bob);
    assert!(
        nudged
            .iter()
            .any(|m| matches!(m, signal_response::Message::MediaSectionsRequirement(_))),
        "{nudged:?}"
    );
    call.lab.commands.clear();
    call.lab
        .request(call.bob, signal_request::Message::Offer(offer(JOIN, 2)));
    let again = call.down(Kind::Video);
    assert_ne!(again.down, video.down);
    assert_eq!(again.up, video.up);
}

#[test]
fn settings_become_layers_after_a_moment_and_showing_again_at_once() {
    let mut call = Call::new([0, 0]);
    let down = call.down(Kind::Video).down;
    let track_sids = vec![call.video.sid.clone()];
    let wanted = |lab: &mut Lab| -> Vec<Wanted> {
        std::mem::take(&mut lab.commands)
            .into_iter()
            .filter_map(|command| match command {
                Command::SetWanted { down: of, wanted } if of == down => Some(wanted),
                _ => None,
            })
            .collect()
    };
    call.lab.commands.clear();
    let small = UpdateTrackSettings {
        track_sids: track_sids.clone(),
        width: 160,
        height: 90,
        ..Default::default()
    };
    call.lab
        .request(call.bob, signal_request::Message::TrackSetting(small));
    assert!(wanted(&mut call.lab).is_empty());
    call.lab.wait(Duration::from_millis(100));
    assert_eq!(wanted(&mut call.lab)[0].max_spatial, 0);
    let off = UpdateTrackSettings {
        track_sids: track_sids.clone(),
        disabled: true,
        ..Default::default()
    };
    call.lab
        .request(call.bob, signal_request::Message::TrackSetting(off));
    call.lab.wait(Duration::from_millis(100));
    assert!(wanted(&mut call.lab)[0].paused);
    let big = UpdateTrackSettings {
        track_sids,
        width: 1280,
        height: 720,
        ..Default::default()
    };
    call.lab
        .request(call.bob, signal_request::Message::TrackSetting(big));
    assert_eq!(
        wanted(&mut call.lab),
        [Wanted {
            paused: false,
            max_spatial: 255,
            max_temporal: 255
        }]
    );
}

#[test]
fn a_mute_reaches_the_worker_and_everybody_once() {
    let mut call = Call::new([0, 0]);
    call.lab.heard(call.bob);
    call.lab.commands.clear();
    let mute = MuteTrackRequest {
        sid: call.audio.sid.clone(),
        muted: true,
    };
    call.lab
        .request(call.alice, signal_request::Message::Mute(mute.clone()));
    call.lab
        .request(call.alice, signal_request::Message::Mute(mute));
    let muted = call
        .lab
        .commands
        .iter()
        .filter(|c| matches!(c, Command::SetMuted { muted: true, .. }));
    assert_eq!(muted.count(), 1);
    let tracks = call.lab.tracks_of("alice", call.bob);
    assert!(
        tracks
            .iter()
            .find(|t| t.sid == call.audio.sid)
            .unwrap()
            .muted
    );
}

#[test]
fn a_revoked_track_ends_and_comes_back_when_allowed_again() {
    let mut call = Call::new([0, 0]);
    let downs: Vec<_> = call.downs().iter().map(|plan| plan.down).collect();
    call.lab.heard(call.bob);
    call.lab.request(
        call.alice,
        signal_request::Message::SubscriptionPermission(SubscriptionPermission::default()),
    );
    for down in downs {
        call.lab.event(Event::DownClosed { down, sent: true });
    }
    let told = |lab: &mut Lab, bob| -> Vec<bool> {
        lab.heard(bob)
            .into_iter()
            .filter_map(|message| match message {
                signal_response::Message::SubscriptionPermissionUpdate(update) => {
                    Some(update.allowed)
                }
                _ => None,
            })
            .collect()
    };
    assert_eq!(told(&mut call.lab, call.bob), [false, false]);
    let all = SubscriptionPermission {
        all_participants: true,
        ..Default::default()
    };
    call.lab.request(
        call.alice,
        signal_request::Message::SubscriptionPermission(all),
    );
    assert_eq!(told(&mut call.lab, call.bob), [true, true]);
    call.lab.commands.clear();
    call.lab
        .request(call.bob, signal_request::Message::Offer(offer(JOIN, 2)));
    assert_eq!(call.downs().len(), 2);
}

#[test]
fn a_publisher_that_goes_takes_its_tracks_along() {
    let mut call = Call::new([0, 1]);
    let downs: Vec<_> = call.downs().iter().map(|plan| plan.down).collect();
    call.lab.heard(call.bob);
    call.lab.commands.clear();
    call.lab.request(
        call.alice,
        signal_request::Message::Leave(LeaveRequest::default()),
    );
    for down in &downs {
        assert!(
            call.lab
                .commands
                .iter()
                .any(|c| matches!(c, Command::CloseDown { down: id } if id == down))
        );
        call.lab.event(Event::DownClosed {
            down: *down,
            sent: true,
        });
    }
    let closed = call
        .lab
        .commands
        .iter()
        .filter(|c| matches!(c, Command::CloseMirror { .. }));
    assert_eq!(closed.count(), 2);
    call.lab.wait(Duration::from_millis(200));
    assert!(call.lab.heard(call.bob).iter().any(|message| matches!(
        message,
        signal_response::Message::MediaSectionsRequirement(_)
    )));
    assert!(call.lab.room.downs.is_empty() && call.lab.room.ups.is_empty());
}

#[test]
fn whoever_speaks_is_told_to_those_who_hear_it_and_only_changes() {
    let mut call = Call::new([0, 0]);
    let up = call.down(Kind::Audio).up;
    let deaf = call
        .lab
        .grant("deaf", |grant| grant.can_subscribe = Some(false));
    for session in [call.alice, call.bob, deaf] {
        call.lab.heard(session);
    }
    let mut told = Vec::new();
    for level in [0.3, 0.3, 0.0, 0.0] {
        call.lab.event(Event::AudioLevel { up, level });
        call.lab.wait(Duration::from_millis(400));
        told.push(speakers(&mut call.lab, call.bob));
    }
    assert_eq!(
        told,
        [vec![(0.375, true)], vec![], vec![(0.0, false)], vec![]]
    );
    assert_eq!(
        speakers(&mut call.lab, call.alice),
        [(0.375, true), (0.0, false)]
    );
    assert!(speakers(&mut call.lab, deaf).is_empty());
    call.lab.event(Event::AudioLevel { up, level: 0.9 });
    call.lab.wait(Duration::from_secs(2));
    assert_eq!(
        speakers(&mut call.lab, call.bob),
        [(1.0, true), (0.0, false)],
        "a voice that broke off ends"
    );
}

fn speakers(lab: &mut Lab, session: SessionId) -> Vec<(f32, bool)> {
    lab.heard(session)
        .into_iter()
        .filter_map(|message| match message {
            signal_response::Message::SpeakersChanged(changed) => Some(changed.speakers),
            _ => None,
        })
        .flatten()
        .map(|speaker| (speaker.level, speaker.active))
        .collect()
}

fn administer(call: &mut Call, request: proto::UpdateParticipantRequest) {
    let request = proto::UpdateParticipantRequest {
        room: "lab".to_owned(),
        ..request
    };
    call.lab
        .call(super::Call::UpdateParticipant(request))
        .unwrap();
}

#[test]
fn without_the_right_to_publish_tracks_end_one_by_one_and_then_the_publisher() {
    let mut call = Call::new([0, 0]);
    call.lab.heard(call.alice);
    call.lab.heard(call.bob);
    administer(
        &mut call,
        proto::UpdateParticipantRequest {
            identity: "alice".to_owned(),
            permission: Some(proto::ParticipantPermission {
                can_subscribe: true,
                can_publish_data: true,
                ..Default::default()
            }),
            ..Default::default()
        },
    );
    let told: Vec<String> = call
        .lab
        .heard(call.alice)
        .iter()
        .map(|message| match message {
            signal_response::Message::Update(update) => {
                let info = &update.participants[0];
                format!("update {} {}", info.tracks.len(), info.is_publisher)
            }
            signal_response::Message::TrackUnpublished(track) => {
                format!("unpublished {}", track.track_sid)
            }
            other => kind(other).to_owned(),
        })
        .filter(|text| text != "room_update")
        .collect();
    assert_eq!(
        told,
        [
            "update 1 true".to_owned(),
            format!("unpublished {}", call.audio.sid),
            "update 0 true".to_owned(),
            format!("unpublished {}", call.video.sid),
            "update 0 false".to_owned(),
            "refresh_token".to_owned(),
        ]
    );
    // A client that goes on sending is heard by nobody.
    assert_eq!(call.lab.published(), []);
    call.lab.commands.clear();
    let alice = call.alice;
    call.lab
        .request(alice, signal_request::Message::Offer(offer(PUBLISH, 3)));
    assert_eq!(call.lab.published(), []);
    // With the right it is a publisher again, of nothing yet.
    administer(
        &mut call,
        proto::UpdateParticipantRequest {
            identity: "alice".to_owned(),
            permission: Some(proto::ParticipantPermission {
                can_subscribe: true,
                can_publish: true,
                can_publish_data: true,
                ..Default::default()
            }),
            ..Default::default()
        },
    );
    let snapshot = call.lab.room.snapshot();
    assert_eq!((snapshot.num_participants, snapshot.num_publishers), (2, 1));
}

#[test]
fn without_the_right_to_subscribe_everything_stops_and_with_it_starts_again() {
    let mut call = Call::new([0, 0]);
    let downs = call.downs().len();
    assert_eq!(downs, 2);
    let set = |call: &mut Call, can_subscribe| {
        administer(
            call,
            proto::UpdateParticipantRequest {
                identity: "bob".to_owned(),
                permission: Some(proto::ParticipantPermission {
                    can_subscribe,
                    can_publish: true,
                    can_publish_data: true,
                    ..Default::default()
                }),
                ..Default::default()
            },
        );
    };
    call.lab.commands.clear();
    set(&mut call, false);
    let closed: Vec<_> = call
        .lab
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::CloseDown { down } => Some(*down),
            _ => None,
        })
        .collect();
    assert_eq!(closed.len(), downs);
    for down in closed {
        call.lab.event(Event::DownClosed { down, sent: true });
    }
    assert_eq!(call.lab.room.downs.len(), 0);
    call.lab.heard(call.bob);
    set(&mut call, true);
    assert_eq!(call.lab.room.downs.len(), downs);
}

#[test]
fn a_track_that_is_muted_from_afar_is_muted_for_all_and_the_client_told() {
    let mut call = Call::new([0, 0]);
    call.lab.heard(call.alice);
    call.lab.heard(call.bob);
    call.lab.commands.clear();
    let request = proto::MuteRoomTrackRequest {
        room: "lab".to_owned(),
        identity: "alice".to_owned(),
        track_sid: call.video.sid.clone(),
        muted: true,
    };
    for again in [false, true] {
        let answer = call
            .lab
            .call(super::Call::MutePublishedTrack(request.clone()));
        let Ok(Answer::Track(Some(track))) = answer else {
            panic!("{answer:?}");
        };
        assert!(track.muted);
        let told = call.lab.heard(call.alice);
        assert!(matches!(
            &told[0],
            signal_response::Message::Mute(MuteTrackRequest { muted: true, .. })
        ));
        assert_eq!(told.len(), if again { 1 } else { 2 });
        assert_eq!(
            call.lab.kinds(call.bob),
            if again { vec![] } else { vec!["update"] }
        );
    }
    let muted = call
        .lab
        .commands
        .iter()
        .filter(|command| matches!(command, Command::SetMuted { muted: true, .. }));
    assert_eq!(muted.count(), 1);
}

#[test]
fn an_administrator_unsubscribes_somebody() {
    let mut call = Call::new([0, 0]);
    call.lab.commands.clear();
    let request = proto::UpdateSubscriptionsRequest {
        room: "lab".to_owned(),
        identity: "bob".to_owned(),
        track_sids: vec![call.audio.sid.clone()],
        subscribe: false,
        participant_tracks: Vec::new(),
    };
    let answer = call
        .lab
        .call(super::Call::UpdateSubscriptions(request.clone()));
    assert_eq!(answer, Ok(Answer::Done));
    assert!(matches!(
        &call.lab.commands[..],
        [Command::CloseDown { .. }]
    ));
}

/// It reads on after the join before it has set the offer that it came with.
#[test]
fn the_go_sdk_is_answered_a_moment_after_its_join() {
    let answers = |lab: &mut Lab, session| {
        let heard = lab.heard(session).into_iter();
        heard
            .filter(|message| matches!(message, signal_response::Message::Answer(_)))
            .count()
    };
    for (sdk, at_once) in [
        (proto::client_info::Sdk::Js, 1),
        (proto::client_info::Sdk::Go, 0),
    ] {
        let mut lab = Lab::new();
        let join = |join: &mut Join| {
            join.publisher_offer = Some(offer(JOIN, 1));
            join.client.sdk = sdk as i32;
        };
        let alice = lab.join_with("alice", join).unwrap();
        assert_eq!(answers(&mut lab, alice), at_once);
        lab.wait(Duration::from_millis(50));
        assert_eq!(answers(&mut lab, alice), 1 - at_once);
        lab.connect();
        lab.request(alice, signal_request::Message::Offer(offer(JOIN, 2)));
        assert_eq!(answers(&mut lab, alice), 1, "later ones come at once");
    }
}

#[test]
fn the_go_sdk_is_not_asked_for_sections_before_it_is_answered() {
    let mut lab = Lab::new();
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let alice = lab.join_with("alice", join).unwrap();
    lab.connect();
    lab.request(alice, signal_request::Message::AddTrack(camera()));
    lab.request(alice, signal_request::Message::Offer(offer(PUBLISH, 2)));
    lab.wait(Duration::from_secs(3));
    let join = |join: &mut Join| {
        join.publisher_offer = Some(offer(JOIN, 1));
        join.client.sdk = proto::client_info::Sdk::Go as i32;
    };
    let bob = lab.join_with("bob", join).unwrap();
    lab.wait(Duration::from_millis(200));
    let heard = lab.heard(bob);
    let first = |is: fn(&signal_response::Message) -> bool| heard.iter().position(is);
    let answer = first(|message| matches!(message, signal_response::Message::Answer(_)));
    let required = first(|message| {
        matches!(
            message,
            signal_response::Message::MediaSectionsRequirement(_)
        )
    });
    assert!(required.is_some() && answer.is_some(), "{heard:?}");
    assert!(answer < required, "{heard:?}");
}
