//! What becomes of a backup codec once it is there: mutes, moves, other rooms and workers, and its end.

use super::backup_codec::{Stage, asked, codec, errors, opened, publish_more, video_at, without};
use super::calls::{JOIN, PUBLISH, offer};
use super::moving::other_room;
use super::*;
use crate::ids::{Ssrc, UpTrackId};
use crate::plan::{Codec, Format};
use crate::protocol::livekit::{
    BackupCodecPolicy, MuteTrackRequest, SessionDescription, UpdateSubscription,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_track_ends_with_its_primary_and_leaves_nothing_behind() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.join("bob");
    stage.join_without("carol", "VP9");
    stage.backs_up();
    let downs = stage.opened();
    let ended = publish_more(&[("9", "backup")]).replacen(
        "a=mid:8\na=msid:4a9b87c3-0932-4157-8478-e35a904e99cc \
         f8481758-0d2c-4d5c-a370-18cd7541dbef\na=sendonly",
        "a=mid:8\na=inactive",
        1,
    );
    assert!(ended.contains("a=mid:8\na=inactive"));
    stage.offers(&ended);
    assert_eq!(stage.receives(), []);
    assert!(stage.lab.room.ups.is_empty());
    stage.closed(&downs);
    assert!(stage.lab.room.downs.is_empty());
    assert!(stage.tracks().is_empty());
    stage.offers(&ended);
    assert_eq!(stage.receives(), []);
}

#[test]
fn a_backup_that_ends_alone_is_asked_for_again() {
    let mut stage = Stage::new(BackupCodecPolicy::PreferRegression);
    let carol = stage.join_without("carol", "VP9");
    stage.backs_up();
    let downs = stage.opened();
    stage.asked();
    let ended = publish_more(&[("9", "backup")]);
    let (head, tail) = ended.split_at(ended.find("a=mid:9").unwrap());
    stage.offers(&format!("{head}{}", tail.replace("sendonly", "inactive")));
    let ups = stage.ups();
    assert_eq!(stage.receives(), ups[..1]);
    stage.closed(&downs);
    stage.lab.wait(SECOND / 2);
    let again = offer(&without(JOIN, "VP9"), 2);
    let message = signal_request::Message::Offer(again.clone());
    stage.lab.request(carol, message);
    stage.lab.wait(SECOND / 2);
    let again = SessionDescription { id: 3, ..again };
    stage
        .lab
        .request(carol, signal_request::Message::Offer(again));
    assert!(stage.opened().is_empty());
    assert_eq!(stage.asked().last().unwrap(), "vp8 111");
    stage.backs_up();
    assert_eq!(stage.receives(), ups);
    assert_eq!(stage.opened()[0].up, ups[1]);
}

#[test]
fn a_mute_is_for_every_codec_that_comes() {
    let mutes = |lab: &mut Lab| -> Vec<(UpTrackId, bool)> {
        let commands = std::mem::take(&mut lab.commands);
        let mutes = commands.into_iter().filter_map(|command| match command {
            Command::SetMuted { up, muted } => Some((up, muted)),
            _ => None,
        });
        mutes.collect()
    };
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let ups = stage.ups();
    let mute = |stage: &mut Stage, muted| {
        let sid = stage.track.sid.clone();
        let mute = MuteTrackRequest { sid, muted };
        stage
            .lab
            .request(stage.alice, signal_request::Message::Mute(mute));
        mutes(&mut stage.lab)
    };
    assert_eq!(mute(&mut stage, true), [(ups[0], true)]);
    stage.backs_up();
    stage.lab.commands.clear();
    assert_eq!(mute(&mut stage, false), [(ups[0], false), (ups[1], false)]);
}

#[test]
fn a_backup_that_comes_while_its_track_is_muted_is_muted() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let sid = stage.track.sid.clone();
    let mute = MuteTrackRequest { sid, muted: true };
    let mute = signal_request::Message::Mute(mute);
    stage.lab.request(stage.alice, mute);
    stage.lab.commands.clear();
    stage.backs_up();
    let backup = stage.ups()[1];
    let mut commands = stage.lab.commands.iter();
    let received = commands.position(|c| matches!(c, Command::SetReceive { .. }));
    let muted =
        commands.position(|c| matches!(c, Command::SetMuted { up, muted: true } if *up == backup));
    assert!(received.is_some() && muted.is_some(), "in this order");
}

#[test]
fn a_backup_is_mirrored_where_somebody_has_it_once_it_comes() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.lab.worker = WorkerId(1);
    let carol = stage.join_without("carol", "VP9");
    let mirrors = |stage: &Stage, backup| {
        let commands = stage.lab.commands.iter();
        let asks = commands.filter_map(|c| match c {
            Command::SetMirror { up, on, .. } if *up == backup => Some(*on),
            _ => None,
        });
        asks.collect::<Vec<_>>()
    };
    let backup = stage.ups()[1];
    assert!(mirrors(&stage, backup).is_empty());
    stage.backs_up();
    assert_eq!(mirrors(&stage, backup), [true]);
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    stage.lab.request(carol, leave);
    assert_eq!(mirrors(&stage, backup), [true, false]);
    assert!(stage.lab.room.mirrors.is_empty() && stage.lab.room.downs.is_empty());
}

#[test]
fn whoever_waits_and_gives_up_leaves_nothing_behind() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let carol = stage.join_without("carol", "VP9");
    let update = UpdateSubscription {
        track_sids: vec![stage.track.sid.clone()],
        ..Default::default()
    };
    let message = signal_request::Message::Subscription(update);
    stage.lab.request(carol, message);
    assert!(stage.lab.room.downs.is_empty());
    stage.asked();
    stage.lab.wait(11 * SECOND);
    assert_eq!(stage.asked().last().unwrap(), "vp9 000, vp8 000");
    stage.backs_up();
    assert!(stage.opened().is_empty());
}

#[test]
fn a_right_that_is_revoked_ends_both_codecs() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.backs_up();
    let seat = stage.lab.room.identities["alice"];
    let mut permission = stage.lab.room.participants[&seat].permission.clone();
    permission.can_publish = false;
    stage
        .lab
        .room
        .set_permission(stage.lab.now, seat, permission);
    stage.lab.drain();
    assert_eq!(stage.receives(), []);
    assert!(stage.lab.room.ups.is_empty());
    stage.offers(&publish_more(&[("9", "backup")]));
    assert_eq!(stage.receives(), []);
}

#[test]
fn whoever_is_moved_takes_both_codecs_along() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.backs_up();
    let ups = stage.ups();
    let mut blue = other_room(&stage.lab);
    blue.room.start(blue.now);
    let sdp = without(JOIN, "VP9");
    let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
    let carol = blue.join_with("carol", join).unwrap();
    blue.connect();
    let alice = stage.lab.lets_go("alice");
    assert!(stage.lab.room.ups.is_empty());
    blue.takes_in(alice);
    assert_eq!(blue.room.ups.len(), 2);
    blue.request(carol, signal_request::Message::Offer(offer(&sdp, 2)));
    assert_eq!(opened(&mut blue)[0].up, ups[1]);
    assert_eq!(asked(&mut blue, stage.alice), ["vp8 111"]);
}

#[test]
fn another_room_makes_a_backup_be_asked_for_and_gets_it() {
    let mut stage = Stage::new(BackupCodecPolicy::PreferRegression);
    stage.join("bob");
    let bobs = stage.opened();
    let mut blue = other_room(&stage.lab);
    blue.room.start(blue.now);
    let sdp = without(JOIN, "VP9");
    let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
    let carol = blue.join_with("carol", join).unwrap();
    blue.connect();
    let (id, reflection) = stage.lab.room.forward("alice").unwrap();
    blue.room.welcome(blue.now, id, &reflection).unwrap();
    blue.drain();
    blue.request(carol, signal_request::Message::Offer(offer(&sdp, 2)));
    let carry = |stage: &mut Stage, blue: &mut Lab| {
        for (id, news) in std::mem::take(&mut blue.guests) {
            if let Guesting::Asks(demands) = news {
                stage.lab.room.forward_asks(stage.lab.now, id, &demands);
            }
        }
        stage.lab.drain();
        for (id, news) in std::mem::take(&mut stage.lab.forwards) {
            if let Forwarding::As(reflection) = news {
                blue.room.guest_changed(blue.now, id, &reflection);
            }
        }
        blue.drain();
    };
    stage.asked();
    carry(&mut stage, &mut blue);
    assert_eq!(stage.asked(), ["vp9 111, vp8 111"]);
    assert!(opened(&mut blue).is_empty());
    stage.backs_up();
    assert!(stage.closes(bobs[0].down), "it is for everybody");
    carry(&mut stage, &mut blue);
    assert_eq!(opened(&mut blue)[0].up, stage.ups()[1]);
    stage.lab.wait(SECOND);
    carry(&mut stage, &mut blue);
    let dave = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    blue.join_with("dave", dave).unwrap();
    assert_eq!(opened(&mut blue)[0].up, stage.ups()[1], "there too");
}

#[test]
fn audio_has_backups_too_and_is_heard_once() {
    let mut lab = Lab::new();
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let alice = lab.join_with("alice", join).unwrap();
    lab.connect();
    let microphone = AddTrackRequest {
        cid: "ab8f4955-5b85-4d90-8a65-3f95fc2795fc".to_owned(),
        source: TrackSource::Microphone as i32,
        simulcast_codecs: vec![codec("audio/PCMU", "mic"), codec("audio/opus", "backup")],
        ..Default::default()
    };
    lab.request(alice, signal_request::Message::AddTrack(microphone));
    lab.request(alice, signal_request::Message::Offer(offer(PUBLISH, 2)));
    lab.heard(alice);
    let sdp = without(JOIN, "PCMU").replace("SAVPF 111 63 9 0 8", "SAVPF 111 63 9 8");
    let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
    let carol = lab.join_with("carol", join).unwrap();
    lab.connect();
    assert_eq!(asked(&mut lab, alice), ["opus true"]);
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    lab.join_with("bob", join).unwrap();
    assert_eq!(asked(&mut lab, alice), ["pcmu true, opus true"]);
    let seat = lab.room.identities["alice"];
    let track = lab.room.participants[&seat].tracks.values().next().unwrap();
    let (sid, mime) = (track.sid.as_str().to_owned(), track.info.mime_type.clone());
    assert_eq!(mime, "audio/PCMU");
    let ups: Vec<UpTrackId> = track.codecs().map(|codec| codec.up).collect();
    let request = AddTrackRequest {
        cid: "backup".to_owned(),
        sid,
        simulcast_codecs: vec![codec("opus", "backup")],
        ..Default::default()
    };
    opened(&mut lab);
    lab.request(alice, signal_request::Message::AddTrack(request));
    let audio = PUBLISH.rfind("m=audio").unwrap();
    let section = PUBLISH[audio..video_at()]
        .replace("a=mid:7", "a=mid:9")
        .replace("ab8f4955-5b85-4d90-8a65-3f95fc2795fc", "backup");
    let sdp = format!("{PUBLISH}{section}").replacen("6 7 8", "6 7 8 9", 1);
    lab.request(alice, signal_request::Message::Offer(offer(&sdp, 3)));
    let downs = opened(&mut lab);
    assert_eq!(downs.len(), 1);
    assert_eq!(downs[0].up, ups[1]);
    // Both speak, one stops: it is as loud as the other, and silent when neither is heard.
    lab.heard(carol);
    for (up, level) in [(ups[0], 0.25), (ups[1], 0.5), (ups[1], 0.0)] {
        lab.event(Event::AudioLevel { up, level });
    }
    lab.wait(SECOND / 2);
    let levels = |lab: &mut Lab| -> Vec<f32> {
        let heard = lab.heard(carol).into_iter();
        let told = heard.filter_map(|m| match m {
            signal_response::Message::SpeakersChanged(told) => Some(told),
            _ => None,
        });
        told.flat_map(|told| told.speakers.into_iter().map(|s| s.level))
            .collect()
    };
    assert_eq!(levels(&mut lab), [0.25]);
    lab.event(Event::AudioLevel {
        up: ups[0],
        level: 0.0,
    });
    lab.wait(SECOND);
    assert_eq!(levels(&mut lab), [0.0]);
}

#[test]
fn what_a_publisher_missed_of_its_codecs_is_said_when_it_is_back() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let sid = stage.lab.room.participant_sid(stage.alice).unwrap();
    stage.lab.room.handle_gone(stage.lab.now, stage.alice);
    stage.join_without("carol", "VP9");
    let resume = |join: &mut Join| {
        join.resume = Some(Resume {
            participant_sid: sid.as_str().to_owned(),
            reason: ReconnectReason::RrSignalDisconnected,
            sync_state: None,
        });
    };
    stage.alice = stage.lab.join_with("alice", resume).unwrap();
    assert_eq!(stage.asked(), ["vp8 111"]);
}

/// libwebrtc's encoder falls back to another codec of its section when it fails.
#[test]
fn a_primary_that_falls_back_to_another_codec_goes_on_for_those_who_take_it() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.join("bob");
    let formats = stage.opened().remove(0).formats;
    assert_eq!(formats[0].format.codec, Codec::Vp9);
    assert!(formats.iter().any(|f| f.format.codec == Codec::H264));
    let carol = stage.join_without("carol", "H264");
    let downs = stage.opened();
    assert_eq!(downs[0].up, stage.ups()[0]);
    stage.asked();
    let (up, spatial, ssrc) = (stage.ups()[0], 0, Ssrc(7));
    let format = Format {
        codec: Codec::H264,
        variant: 1,
    };
    stage.lab.event(Event::LayerSeen {
        up,
        spatial,
        ssrc,
        format,
    });
    stage.closed(&downs);
    let again = offer(&without(JOIN, "H264"), 2);
    stage
        .lab
        .request(carol, signal_request::Message::Offer(again));
    let asked = stage.asked();
    let last = asked.last().expect("something is asked for");
    assert!(last.contains("vp8 111"), "{asked:?}");
    assert!(errors(&mut stage.lab, carol).is_empty());
}

#[test]
fn a_regression_takes_nothing_from_those_who_do_not_take_its_codec() {
    let mut stage = Stage::new(BackupCodecPolicy::Regression);
    let xavier = stage.join_without("xavier", "VP8");
    assert_eq!(stage.opened()[0].up, stage.ups()[0]);
    stage.join_without("carol", "VP9");
    stage.backs_up();
    assert!(stage.opened().iter().all(|down| down.up == stage.ups()[1]));
    assert!(errors(&mut stage.lab, xavier).is_empty());
    let late = stage.join_without("late", "VP8");
    assert_eq!(stage.opened()[0].up, stage.ups()[0]);
    assert!(errors(&mut stage.lab, late).is_empty());
}
