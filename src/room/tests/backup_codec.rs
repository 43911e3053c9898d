//! A track in two codecs: who gets which one, and what its publisher is asked for.

use super::calls::{JOIN, PUBLISH, offer};
use super::*;
use crate::ids::{DownTrackId, Ssrc, UpTrackId};
use crate::plan::{Codec, DownTrackPlan, Format};
use crate::protocol::livekit::{
    BackupCodecPolicy, SessionDescription, SimulcastCodec, TrackInfo, VideoLayer, client_info,
};
use request_response::Reason;

const SECOND: Duration = Duration::from_secs(1);

/// Where the video section of the offer that publishes begins.
pub(super) fn video_at() -> usize {
    PUBLISH.rfind("m=video").unwrap()
}

/// Publishes without RIDs, as of a video with several layers in one stream.
pub(super) fn publish() -> String {
    let (head, video) = PUBLISH.split_at(video_at());
    let video = video.lines().filter(|line| !line.contains("a=rid:"));
    let video = video.filter(|line| !line.contains("a=simulcast:"));
    format!("{head}{}\n", video.collect::<Vec<_>>().join("\n"))
}

/// The same with further sections, of these mids and client ids.
pub(super) fn publish_more(more: &[(&str, &str)]) -> String {
    let mut sdp = publish();
    for (mid, cid) in more {
        let section = PUBLISH[video_at()..]
            .replace("a=mid:8", &format!("a=mid:{mid}"))
            .replace("f8481758-0d2c-4d5c-a370-18cd7541dbef", cid);
        sdp.push_str(&section);
        sdp = sdp.replacen("6 7 8", &format!("6 7 8 {mid}"), 1);
    }
    sdp
}

/// A client's SDP in which it does not know a codec.
pub(super) fn without(sdp: &str, codec: &str) -> String {
    sdp.replace(&format!(" {codec}/"), " strange/")
}

pub(super) fn codec(codec: &str, cid: &str) -> SimulcastCodec {
    SimulcastCodec {
        codec: codec.to_owned(),
        cid: cid.to_owned(),
        ..Default::default()
    }
}

pub(super) fn two_codecs(policy: BackupCodecPolicy) -> AddTrackRequest {
    let layers = (0..3).map(|quality| VideoLayer {
        quality,
        width: 320 << quality,
        height: 180 << quality,
        ..Default::default()
    });
    AddTrackRequest {
        simulcast_codecs: vec![codec("vp9", "c1"), codec("vp8", "")],
        backup_codec_policy: policy as i32,
        layers: layers.collect(),
        ..camera()
    }
}

/// Alice publishes VP9 with VP8 as its backup.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) alice: SessionId,
    pub(super) track: TrackInfo,
    offers: u32,
}

impl Stage {
    pub(super) fn new(policy: BackupCodecPolicy) -> Self {
        Self::publishing(policy, &publish())
    }

    fn publishing(policy: BackupCodecPolicy, sdp: &str) -> Self {
        let mut lab = Lab::new();
        let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
        let alice = lab.join_with("alice", join).unwrap();
        lab.connect();
        let mut stage = Self {
            lab,
            alice,
            track: TrackInfo::default(),
            offers: 1,
        };
        let add = signal_request::Message::AddTrack(two_codecs(policy));
        stage.lab.request(alice, add);
        stage.offers(sdp);
        stage.track = stage.tracks().remove(0);
        stage.lab.heard(alice);
        stage
    }

    pub(super) fn offers(&mut self, sdp: &str) {
        self.offers += 1;
        let message = signal_request::Message::Offer(offer(sdp, self.offers));
        self.lab.request(self.alice, message);
    }

    pub(super) fn tracks(&self) -> Vec<TrackInfo> {
        let seat = self.lab.room.identities["alice"];
        self.lab.room.participants[&seat].info().tracks
    }

    /// Somebody joins who does not know a codec.
    pub(super) fn join_without(&mut self, identity: &str, codec: &str) -> SessionId {
        let sdp = without(JOIN, codec);
        let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
        let session = self.lab.join_with(identity, join).unwrap();
        self.lab.connect();
        session
    }

    pub(super) fn join(&mut self, identity: &str) -> SessionId {
        self.join_without(identity, "nothing")
    }

    /// What becomes of an `add_track` for another codec of the track.
    pub(super) fn adds(&mut self, codecs: &[SimulcastCodec]) -> Result<TrackInfo, Reason> {
        let sid = self.track.sid.clone();
        self.adds_to(self.alice, &sid, codecs)
    }

    pub(super) fn adds_to(
        &mut self,
        session: SessionId,
        sid: &str,
        codecs: &[SimulcastCodec],
    ) -> Result<TrackInfo, Reason> {
        self.lab.heard(session);
        let request = AddTrackRequest {
            cid: codecs.first().map(|c| c.cid.clone()).unwrap_or_default(),
            sid: sid.to_owned(),
            simulcast_codecs: codecs.to_vec(),
            ..Default::default()
        };
        let message = signal_request::Message::AddTrack(request);
        self.lab.request(session, message);
        match self.lab.heard(session).as_slice() {
            [signal_response::Message::TrackPublished(told)] => Ok(told.track.clone().unwrap()),
            [signal_response::Message::RequestResponse(told)] => Err(told.reason()),
            other => panic!("{other:?}"),
        }
    }

    /// Alice sends VP8 too, in a section of its own.
    pub(super) fn backs_up(&mut self) {
        self.adds(&[codec("vp8", "backup")]).unwrap();
        self.offers(&publish_more(&[("9", "backup")]));
        self.comes();
    }

    /// The first packets of the backup.
    pub(super) fn comes(&mut self) {
        let up = self.ups()[1];
        for spatial in 0..3 {
            self.lab.event(Event::LayerSeen {
                up,
                spatial,
                ssrc: Ssrc(7 + u32::from(spatial)),
                format: Format {
                    codec: Codec::Vp8,
                    variant: 0,
                },
            });
        }
    }

    /// The up tracks of the publication, the primary first.
    pub(super) fn ups(&self) -> Vec<UpTrackId> {
        let seat = self.lab.room.identities["alice"];
        let tracks = &self.lab.room.participants[&seat].tracks;
        let track = &tracks[self.track.sid.as_str()];
        track.codecs().map(|codec| codec.up).collect()
    }

    /// What alice was asked for since the last call: `vp9 111, vp8 000`.
    pub(super) fn asked(&mut self) -> Vec<String> {
        asked(&mut self.lab, self.alice)
    }

    /// Down tracks that the workers were told to open since the last call.
    pub(super) fn opened(&mut self) -> Vec<DownTrackPlan> {
        opened(&mut self.lab)
    }

    pub(super) fn closed(&mut self, downs: &[DownTrackPlan]) {
        for down in downs {
            let (down, sent) = (down.down, true);
            self.lab.event(Event::DownClosed { down, sent });
        }
    }

    pub(super) fn receives(&self) -> Vec<UpTrackId> {
        let plans = self.lab.commands.iter().rev();
        let mut plans = plans.filter_map(|command| match command {
            Command::SetReceive { plan, .. } => Some(plan),
            _ => None,
        });
        plans.next().unwrap().tracks.iter().map(|t| t.up).collect()
    }

    pub(super) fn closes(&self, down: DownTrackId) -> bool {
        let mut commands = self.lab.commands.iter();
        commands.any(|c| matches!(c, Command::CloseDown { down: closed } if *closed == down))
    }
}

pub(super) fn opened(lab: &mut Lab) -> Vec<DownTrackPlan> {
    let mut opened = Vec::new();
    for command in std::mem::take(&mut lab.commands) {
        match command {
            Command::OpenDown { plan } => opened.push(*plan),
            other => lab.commands.push(other),
        }
    }
    opened
}

pub(super) fn asked(lab: &mut Lab, session: SessionId) -> Vec<String> {
    let mut asked = Vec::new();
    for message in lab.heard(session) {
        let told: Vec<String> = match message {
            signal_response::Message::SubscribedQualityUpdate(update) => {
                let codecs = update.subscribed_codecs.iter();
                let flags = |qualities: &[proto::SubscribedQuality]| -> String {
                    let flags = qualities.iter().map(|q| q.enabled);
                    flags.map(|on| if on { '1' } else { '0' }).collect()
                };
                codecs
                    .map(|c| format!("{} {}", c.codec, flags(&c.qualities)))
                    .collect()
            }
            signal_response::Message::SubscribedAudioCodecUpdate(update) => {
                let codecs = update.subscribed_audio_codecs.iter();
                codecs
                    .map(|c| format!("{} {}", c.codec, c.enabled))
                    .collect()
            }
            _ => continue,
        };
        asked.push(told.join(", "));
    }
    asked
}

pub(super) fn errors(lab: &mut Lab, session: SessionId) -> Vec<proto::SubscriptionError> {
    let heard = lab.heard(session).into_iter();
    heard
        .filter_map(|message| match message {
            signal_response::Message::SubscriptionResponse(told) => Some(told.err()),
            _ => None,
        })
        .collect()
}

#[test]
fn whoever_takes_the_primary_gets_it_and_the_backup_is_not_asked_for() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.join("bob");
    assert_eq!(stage.asked(), ["vp9 111"]);
    let downs = stage.opened();
    assert_eq!(downs.len(), 1);
    assert_eq!(downs[0].up, stage.ups()[0]);
    let mimes: Vec<_> = stage.track.codecs.iter().map(|c| &c.mime_type).collect();
    assert_eq!(mimes, ["video/VP9", "video/vp8"]);
}

#[test]
fn whoever_takes_the_backup_alone_waits_until_its_publisher_sends_it() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.join("bob");
    stage.opened();
    stage.asked();
    let carol = stage.join_without("carol", "VP9");
    assert_eq!(stage.asked(), ["vp9 111, vp8 111"]);
    assert!(stage.opened().is_empty());
    stage.lab.wait(SECOND);
    assert!(errors(&mut stage.lab, carol).is_empty());
    let info = stage.adds(&[codec("vp8", "backup")]).unwrap();
    assert_eq!(
        (&*info.sid, &*info.codecs[1].cid),
        (&*stage.track.sid, "backup")
    );
    stage.offers(&publish_more(&[("9", "backup")]));
    let ups = stage.ups();
    assert_eq!(stage.receives(), ups);
    let downs = stage.opened();
    assert_eq!(downs.len(), 1);
    assert_eq!(downs[0].up, ups[1]);
    let codecs: Vec<Codec> = downs[0].formats.iter().map(|f| f.format.codec).collect();
    assert_eq!(codecs[0], Codec::Vp8, "its encoder may fall back to others");
    let tracks = stage.tracks();
    let mids: Vec<&str> = tracks[0].codecs.iter().map(|c| &*c.mid).collect();
    assert_eq!((tracks.len(), mids), (1, vec!["8", "9"]));
    stage.comes();
    let info = stage.tracks().remove(0);
    let ssrcs: Vec<u32> = info.codecs[1].layers.iter().map(|l| l.ssrc).collect();
    assert_eq!((&*info.mime_type, ssrcs), ("video/VP9", vec![7, 8, 9]));
    assert!(errors(&mut stage.lab, carol).is_empty());
}

#[test]
fn a_subscriber_of_two_connections_gets_the_backup_by_its_answer() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let old = |join: &mut Join| join.single_pc = false;
    let carol = stage.lab.join_with("carol", old).unwrap();
    // The first offer is about data alone.
    for _ in 0..2 {
        stage.lab.wait(SECOND / 2);
        let mut heard = stage.lab.heard(carol).into_iter();
        let offered = heard.find_map(|message| match message {
            signal_response::Message::Offer(offer) => Some(offer),
            _ => None,
        });
        let offered = offered.unwrap();
        let answer = offered.sdp.replace("actpass", "active");
        let answer = SessionDescription {
            r#type: "answer".to_owned(),
            ..offer(&answer.replace(" 98 99 100 101", ""), offered.id)
        };
        let message = signal_request::Message::Answer(answer);
        stage.lab.request(carol, message);
    }
    assert_eq!(stage.asked(), ["vp8 111"]);
    stage.backs_up();
    let downs = stage.opened();
    assert_eq!(downs.len(), 1);
    assert_eq!(downs[0].up, stage.ups()[1]);
    assert!(errors(&mut stage.lab, carol).is_empty());
}

/// A section lists what its client may send; what it sends, its packets tell.
#[test]
fn whoever_takes_a_codec_that_is_listed_and_does_not_come_is_told_so() {
    let mut lab = Lab::new();
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let alice = lab.join_with("alice", join).unwrap();
    lab.connect();
    lab.request(alice, signal_request::Message::AddTrack(camera()));
    let message = signal_request::Message::Offer(offer(PUBLISH, 2));
    lab.request(alice, message);
    let up = *lab.room.ups.keys().next().unwrap();
    for spatial in 0..3 {
        lab.event(Event::LayerSeen {
            up,
            spatial,
            ssrc: Ssrc(7 + u32::from(spatial)),
            format: Format {
                codec: Codec::H264,
                variant: 1,
            },
        });
    }
    for (identity, codec, opened_downs, told) in [
        (
            "bob",
            "H264",
            0,
            vec![proto::SubscriptionError::SeCodecUnsupported],
        ),
        ("carol", "VP8", 1, vec![]),
    ] {
        opened(&mut lab);
        let sdp = without(JOIN, codec);
        let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
        let session = lab.join_with(identity, join).unwrap();
        lab.connect();
        assert_eq!(errors(&mut lab, session), told, "{identity}");
        assert_eq!(opened(&mut lab).len(), opened_downs, "{identity}");
    }
}

#[test]
fn whoever_had_a_track_before_its_codec_was_seen_is_told_when_it_cannot_have_it() {
    let mut lab = Lab::new();
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let alice = lab.join_with("alice", join).unwrap();
    lab.connect();
    lab.request(alice, signal_request::Message::AddTrack(camera()));
    let message = signal_request::Message::Offer(offer(&publish(), 2));
    lab.request(alice, message);
    let up = *lab.room.ups.keys().next().unwrap();
    opened(&mut lab);
    let sdp = without(JOIN, "H264");
    let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
    let bob = lab.join_with("bob", join).unwrap();
    lab.connect();
    lab.wait(3 * SECOND);
    assert_eq!(opened(&mut lab).len(), 1);
    assert!(errors(&mut lab, bob).is_empty());
    let unsupported = proto::SubscriptionError::SeCodecUnsupported;
    for (codec, told) in [(Codec::Vp8, vec![]), (Codec::H264, vec![unsupported])] {
        let (ssrc, spatial) = (Ssrc(7), 0);
        let format = Format { codec, variant: 0 };
        lab.event(Event::LayerSeen {
            up,
            spatial,
            ssrc,
            format,
        });
        assert_eq!(errors(&mut lab, bob), told, "{codec:?}");
    }
}

#[test]
fn whoever_takes_neither_is_told_so() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let sdp = without(&without(JOIN, "VP8"), "VP9");
    let join = |join: &mut Join| join.publisher_offer = Some(offer(&sdp, 1));
    let carol = stage.lab.join_with("carol", join).unwrap();
    let unsupported = proto::SubscriptionError::SeCodecUnsupported;
    assert_eq!(errors(&mut stage.lab, carol), [unsupported]);
    assert!(stage.opened().is_empty());
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[test]
fn a_backup_that_does_not_come_is_an_unknown_error_after_fifteen_seconds_and_may_come_later() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let carol = stage.join_without("carol", "VP9");
    stage.lab.wait(14 * SECOND);
    assert!(errors(&mut stage.lab, carol).is_empty());
    stage.lab.wait(30 * SECOND);
    let unknown = proto::SubscriptionError::SeUnknown;
    assert_eq!(errors(&mut stage.lab, carol), [unknown], "once");
    stage.backs_up();
    assert_eq!(stage.opened().len(), 1);
}

#[test]
fn a_codec_that_nobody_wants_any_more_is_switched_off_and_the_others_go_on() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.join("bob");
    let carol = stage.join_without("carol", "VP9");
    stage.backs_up();
    stage.asked();
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    stage.lab.request(carol, leave);
    stage.lab.wait(6 * SECOND);
    assert_eq!(stage.asked(), ["vp9 111, vp8 000"]);
    stage.join_without("dave", "VP9");
    assert_eq!(stage.asked(), ["vp9 111, vp8 111"]);
}

#[test]
fn a_primary_that_nobody_takes_is_switched_off() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.join_without("carol", "VP9");
    assert_eq!(stage.asked(), ["vp8 111"]);
    stage.lab.wait(11 * SECOND);
    assert_eq!(stage.asked(), ["vp9 000, vp8 111"]);
}

#[test]
fn a_needed_backup_is_for_everybody_where_that_is_the_policy() {
    for (policy, guests, regresses) in [
        (BackupCodecPolicy::Simulcast, 0, false),
        (BackupCodecPolicy::PreferRegression, 0, true),
        (BackupCodecPolicy::PreferRegression, 2, false),
        (BackupCodecPolicy::Regression, 2, true),
    ] {
        let mut stage = Stage::new(policy);
        for guest in 0..guests {
            let hidden = |join: &mut Join| join.auto_subscribe = false;
            stage.lab.join_with(&format!("{guest}"), hidden).unwrap();
        }
        stage.join("bob");
        let bobs = stage.opened();
        stage.join_without("carol", "VP9");
        stage.backs_up();
        let ups = stage.ups();
        let carols = stage.opened();
        assert_eq!(carols.len(), 1, "{policy:?}");
        assert_eq!(stage.closes(bobs[0].down), regresses, "{policy:?}");
        stage.closed(&bobs[..usize::from(regresses)]);
        let dave = stage.lab.join_with("dave", |join| {
            join.publisher_offer = Some(offer(JOIN, 1));
        });
        dave.unwrap();
        let daves = stage.opened();
        assert_eq!(daves[0].up, ups[usize::from(regresses)], "{policy:?}");
        stage.asked();
        stage.lab.wait(6 * SECOND);
        let off = ["vp9 000, vp8 111".to_owned()];
        let asked = stage.asked();
        assert_eq!(asked, &off[..usize::from(regresses)], "{policy:?}");
    }
}

#[test]
fn after_a_regression_whoever_had_the_primary_goes_on_with_the_backup() {
    let mut stage = Stage::new(BackupCodecPolicy::PreferRegression);
    stage.lab.worker = WorkerId(1);
    let browser = |join: &mut Join| {
        join.publisher_offer = Some(offer(JOIN, 1));
        join.client.sdk = client_info::Sdk::Js as i32;
    };
    stage.lab.join_with("bob", browser).unwrap();
    stage.lab.connect();
    let before = stage.opened().remove(0);
    stage.join_without("carol", "VP9");
    stage.lab.commands.clear();
    stage.asked();
    stage.adds(&[codec("vp8", "backup")]).unwrap();
    stage.offers(&publish_more(&[("9", "backup")]));
    let ups = stage.ups();
    let bobs = |stage: &Stage| stage.lab.room.downs[&before.down].up;
    assert_eq!(bobs(&stage), ups[0], "nothing has come");
    stage.comes();
    assert_eq!(bobs(&stage), ups[1]);
    let mut log = Vec::new();
    for command in &stage.lab.commands {
        match command {
            Command::OpenMirror { up, .. } => log.push(("mirror", up.0)),
            Command::CloseMirror { up } => log.push(("no mirror", up.0)),
            Command::OpenDown { plan } if plan.down == before.down => log.push(("bob", plan.up.0)),
            Command::OpenDown { plan } => log.push(("carol", plan.up.0)),
            Command::CloseDown { .. } => log.push(("closed", 0)),
            _ => {}
        }
    }
    let (vp9, vp8) = (ups[0].0, ups[1].0);
    let order = [
        ("mirror", vp8),
        ("carol", vp8),
        ("bob", vp8),
        ("no mirror", vp9),
    ];
    assert_eq!(log, order);
    let after = stage.opened().remove(1);
    let codecs: Vec<Codec> = after.formats.iter().map(|f| f.format.codec).collect();
    assert_eq!(codecs[0], Codec::Vp8);
    assert_eq!((after.ssrc, &after.mid), (before.ssrc, &before.mid));
    stage.lab.wait(6 * SECOND);
    assert_eq!(stage.asked(), ["vp9 000, vp8 111"]);
}

#[test]
fn a_client_that_takes_no_change_of_codec_gets_another_down_track() {
    let mut stage = Stage::new(BackupCodecPolicy::PreferRegression);
    let bob = stage.join("bob");
    let before = stage.opened();
    stage.join_without("carol", "VP9");
    stage.backs_up();
    stage.opened();
    stage.closed(&before);
    for id in 2..4 {
        stage.lab.wait(SECOND / 2);
        let message = signal_request::Message::Offer(offer(JOIN, id));
        stage.lab.request(bob, message);
    }
    let after = stage.opened();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].up, stage.ups()[1]);
    assert_ne!(after[0].down, before[0].down);
    assert!(errors(&mut stage.lab, bob).is_empty());
}

#[test]
fn each_wrong_request_for_another_codec_has_its_answer_and_changes_nothing() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let bob = stage.join("bob");
    let sid = stage.track.sid.clone();
    let vp8 = [codec("vp8", "backup")];
    let alice = stage.alice;
    assert_eq!(stage.adds_to(bob, &sid, &vp8), Err(Reason::NotFound));
    assert_eq!(stage.adds_to(alice, "TR_x", &vp8), Err(Reason::NotFound));
    let unannounced = Err(Reason::UnsupportedType);
    for codecs in [
        &[codec("h264", "x")][..],
        &[codec("vp9", "x")],
        &[codec("opus", "x")],
        &[codec("", "x")],
        &[codec("strange", "x")],
        &[codec("vp8", "")],
        &[codec("vp8", "x"), codec("h264", "y")],
        &[],
    ] {
        assert_eq!(stage.adds(codecs), unannounced, "{codecs:?}");
    }
    assert_eq!(stage.tracks(), [stage.track.clone()]);
    let many = vec![codec("vp8", "x"); 5];
    assert_eq!(stage.adds(&many), Err(Reason::LimitExceeded));
    let pending = AddTrackRequest {
        cid: "c2".to_owned(),
        ..two_codecs(BackupCodecPolicy::Simulcast)
    };
    let heard = {
        let message = signal_request::Message::AddTrack(pending);
        stage.lab.request(alice, message);
        stage.lab.heard(alice)
    };
    let [signal_response::Message::TrackPublished(told)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    let sid = told.track.as_ref().unwrap().sid.clone();
    let early = stage.adds_to(alice, &sid, &vp8);
    assert_eq!(early, Err(Reason::NotFound), "its primary has no section");
}

#[test]
fn the_same_backup_twice_is_one_track() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.adds(&[codec("vp8", "first")]).unwrap();
    stage.adds(&[codec("vp8", "backup")]).unwrap();
    stage.offers(&publish_more(&[("9", "backup"), ("10", "backup")]));
    let ups = stage.ups();
    assert_eq!(stage.receives(), ups);
    stage.adds(&[codec("vp8", "backup")]).unwrap();
    let other = stage.adds(&[codec("vp8", "other")]);
    assert_eq!(other, Err(Reason::InvalidRequest));
    stage.offers(&publish_more(&[("9", "backup"), ("10", "other")]));
    assert_eq!(stage.receives(), ups);
}

#[test]
fn no_more_codecs_than_four_each_once_and_they_count_as_one_track() {
    let mut lab = Lab::with(|settings| settings.limits.num_tracks = 2);
    let join = |join: &mut Join| join.publisher_offer = Some(offer(JOIN, 1));
    let alice = lab.join_with("alice", join).unwrap();
    lab.heard(alice);
    let names = ["vp9", "vp8", "vp8", "h264"];
    for (cid, told) in [
        ("a", "track_published"),
        ("b", "track_published"),
        ("c", "request_response"),
    ] {
        let request = AddTrackRequest {
            cid: cid.to_owned(),
            simulcast_codecs: names.map(|name| codec(name, "")).to_vec(),
            ..camera()
        };
        lab.request(alice, signal_request::Message::AddTrack(request));
        assert_eq!(lab.kinds(alice), [told]);
    }
    assert_eq!(lab.room.ups.len(), 6);
}

#[test]
fn a_publisher_whose_sdk_rewrites_track_ids_is_understood() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.adds(&[codec("vp8", "backup")]).unwrap();
    stage.offers(&publish_more(&[("9", "rewritten")]));
    assert_eq!(stage.receives(), stage.ups());
    let info = stage.tracks().remove(0);
    let backup = &info.codecs[1];
    assert_eq!((&*backup.cid, &*backup.sdp_cid), ("backup", "rewritten"));
}

#[test]
fn a_backup_is_there_to_be_had_whatever_else_the_primary_s_section_may_carry() {
    let sdp = publish();
    let (head, video) = sdp.split_at(video_at());
    let alone = format!("{head}{}", without(video, "VP8"));
    let mut stage = Stage::publishing(BackupCodecPolicy::Simulcast, &alone);
    stage.join_without("carol", "VP9");
    assert_eq!(stage.asked(), ["vp8 111"]);
    stage.backs_up();
    assert_eq!(stage.opened()[0].up, stage.ups()[1]);
}

#[test]
fn a_section_that_was_not_announced_is_no_backup() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    stage.offers(&publish_more(&[("9", "backup")]));
    assert_eq!(stage.receives(), stage.ups()[..1]);
}

#[test]
fn a_subscriber_that_takes_the_primary_no_more_gets_the_backup_or_nothing() {
    for (codecs, error) in [
        (&["VP9"][..], None),
        (
            &["VP9", "VP8"],
            Some(proto::SubscriptionError::SeCodecUnsupported),
        ),
    ] {
        let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
        let bob = stage.join("bob");
        let before = stage.opened();
        stage.asked();
        let sdp = codecs.iter().fold(JOIN.to_owned(), |s, c| without(&s, c));
        for id in 2..4 {
            let message = signal_request::Message::Offer(offer(&sdp, id));
            stage.lab.request(bob, message);
            assert!(stage.closes(before[0].down), "{codecs:?}");
            stage.closed(&before);
            stage.lab.wait(SECOND / 2);
        }
        let message = signal_request::Message::Offer(offer(&sdp, 4));
        stage.lab.request(bob, message);
        let errors = errors(&mut stage.lab, bob);
        assert_eq!(errors.first().copied(), error, "{codecs:?}");
        assert!(stage.opened().is_empty());
        let asked: Vec<&str> = if error.is_none() {
            vec!["vp9 111, vp8 111"]
        } else {
            vec![]
        };
        assert_eq!(stage.asked(), asked);
    }
}

#[test]
fn a_subscriber_that_waits_and_then_takes_the_primary_is_counted_there() {
    let mut stage = Stage::new(BackupCodecPolicy::Simulcast);
    let carol = stage.join_without("carol", "VP9");
    assert_eq!(stage.asked(), ["vp8 111"]);
    let message = signal_request::Message::Offer(offer(JOIN, 2));
    stage.lab.request(carol, message);
    assert_eq!(stage.opened()[0].up, stage.ups()[0]);
    stage.lab.wait(6 * SECOND);
    assert_eq!(stage.asked(), ["vp9 111, vp8 111", "vp9 111, vp8 000"]);
    stage.lab.wait(20 * SECOND);
    assert!(errors(&mut stage.lab, carol).is_empty());
}
