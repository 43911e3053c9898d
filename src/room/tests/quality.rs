//! Who is told how good whose connection is.

use super::calls::{Call, JOIN, offer};
use super::*;
use crate::ids::UpTrackId;
use crate::plan::{DownReport, Kind, QualityReport, UpReport};
use crate::protocol::livekit::{ConnectionQuality, UpdateTrackSettings, VideoQuality};

const BEAT: Duration = Duration::from_secs(5);
use ConnectionQuality::{Excellent, Good, Lost, Poor};

/// What a session was told since the last call: identities and qualities, one list for each message.
fn told(lab: &mut Lab, session: SessionId) -> Vec<Vec<(String, ConnectionQuality)>> {
    let mut lists = Vec::new();
    for message in lab.heard(session) {
        let signal_response::Message::ConnectionQuality(update) = message else {
            continue;
        };
        let list = update.updates.iter().map(|info| {
            let seat = lab.room.seat_of(&info.participant_sid).unwrap();
            let identity = lab.room.participants[&seat].identity.as_str().to_owned();
            (identity, info.quality())
        });
        lists.push(list.collect());
    }
    lists
}

fn list(entries: &[(&str, ConnectionQuality)]) -> Vec<(String, ConnectionQuality)> {
    entries
        .iter()
        .map(|(identity, quality)| ((*identity).to_owned(), *quality))
        .collect()
}

impl Call {
    /// A call whose first beat has been told.
    fn told_once() -> Self {
        let mut call = Self::new([0, 0]);
        call.lab.wait(BEAT);
        call.lab.heard(call.alice);
        call.lab.heard(call.bob);
        call
    }

    /// A worker's report of the publisher's video, and the beat after it.
    fn video(&mut self, expected: u64, lost: u64, layers: u8) {
        let up = self.down(Kind::Video).up;
        self.lab.up(up, expected, lost, layers);
        self.lab.wait(BEAT);
    }

    /// The same of the subscriber's.
    fn down_video(&mut self, sent: u32, reports: u32, lost: u32) {
        let report = self.report_of(Kind::Video, sent, reports, lost);
        self.fared(vec![report]);
    }

    fn fared(&mut self, downs: Vec<DownReport>) {
        self.lab.quality(QualityReport {
            downs,
            ..QualityReport::default()
        });
        self.lab.wait(BEAT);
    }

    fn report_of(&self, kind: Kind, sent: u32, reports: u32, lost: u32) -> DownReport {
        DownReport {
            down: self.down(kind).down,
            sent,
            bytes: 0,
            reports,
            expected: sent,
            lost,
            jitter: Duration::ZERO,
            held_back: 0,
        }
    }

    fn bob_hears(&mut self) -> Vec<Vec<(String, ConnectionQuality)>> {
        told(&mut self.lab, self.bob)
    }
}

impl Lab {
    fn quality(&mut self, report: QualityReport) {
        let (id, report) = (TransportId(0), Box::new(report));
        self.event(Event::Quality { id, report });
    }

    fn up(&mut self, up: UpTrackId, expected: u64, lost: u64, layers: u8) {
        let report = UpReport {
            up,
            expected,
            lost,
            bytes: 0,
            jitter: Duration::ZERO,
            layers,
        };
        self.quality(QualityReport {
            ups: vec![report],
            ..QualityReport::default()
        });
    }
}

#[test]
fn everybody_is_told_of_itself_first_and_of_those_it_gets_and_then_only_of_changes() {
    let mut call = Call::new([0, 1]);
    call.lab.wait(BEAT);
    let alice = told(&mut call.lab, call.alice);
    assert_eq!(alice, [list(&[("alice", Excellent)])]);
    let bob = list(&[("bob", Excellent), ("alice", Excellent)]);
    assert_eq!(call.bob_hears(), [bob]);
    call.lab.wait(10 * BEAT);
    assert_eq!(told(&mut call.lab, call.alice).len(), 0);
    assert_eq!(call.bob_hears().len(), 0);
}

#[test]
fn loss_of_a_publisher_is_told_to_itself_and_its_subscribers_until_it_is_over() {
    let mut call = Call::told_once();
    call.video(1_000, 80, 0b111);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Good)])]
    );
    call.video(1_000, 80, 0b111);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Poor)])]
    );
    assert_eq!(
        told(&mut call.lab, call.alice),
        [list(&[("alice", Good)]), list(&[("alice", Poor)])]
    );
    for _ in 0..4 {
        call.video(1_000, 0, 0b111);
    }
    let last = call.bob_hears().pop().unwrap();
    assert_eq!(last, list(&[("bob", Excellent), ("alice", Excellent)]));
}

#[test]
fn loss_of_a_subscriber_is_its_own() {
    let mut call = Call::told_once();
    for _ in 0..2 {
        call.down_video(1_000, 3, 100);
    }
    assert_eq!(
        call.bob_hears().pop().unwrap(),
        list(&[("bob", Poor), ("alice", Excellent)])
    );
    assert_eq!(told(&mut call.lab, call.alice).len(), 0);
}

#[test]
fn a_receiver_that_says_nothing_any_more_is_lost() {
    let mut call = Call::told_once();
    call.down_video(1_000, 0, 0);
    assert_eq!(call.bob_hears().len(), 0, "reports come seldom");
    call.down_video(1_000, 0, 0);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Lost), ("alice", Excellent)])]
    );
    call.down_video(1_000, 1, 0);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Good), ("alice", Excellent)])]
    );
}

#[test]
fn a_receiver_that_reports_on_one_track_is_not_lost_on_another() {
    let mut call = Call::told_once();
    for _ in 0..4 {
        let audio = call.report_of(Kind::Audio, 250, 0, 0);
        let video = call.report_of(Kind::Video, 1_000, 1, 0);
        call.fared(vec![audio, video]);
    }
    assert_eq!(call.bob_hears().len(), 0);
}

#[test]
fn media_that_stops_coming_is_lost_but_not_what_is_muted_or_never_came() {
    let mut call = Call::told_once();
    for _ in 0..3 {
        call.video(0, 0, 0);
    }
    assert_eq!(call.bob_hears().len(), 0, "nothing has ever come");
    call.video(1_000, 0, 0b111);
    call.mute(true);
    for _ in 0..3 {
        call.video(0, 0, 0);
    }
    assert_eq!(call.bob_hears().len(), 0, "it is muted");
    call.mute(false);
    call.video(0, 0, 0);
    assert_eq!(call.bob_hears().len(), 0, "it takes a moment to begin");
    call.video(0, 0, 0);
    call.video(0, 0, 0);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Lost)])]
    );
}

#[test]
fn layers_count_as_missing_only_when_they_came_before_and_are_asked_for() {
    let mut call = Call::told_once();
    call.lab.wait(BEAT);
    for _ in 0..3 {
        call.video(1_000, 0, 0b001);
    }
    assert_eq!(call.bob_hears().len(), 0, "the others never came");
    call.video(1_000, 0, 0b111);
    call.video(1_000, 0, 0b011);
    call.video(1_000, 0, 0b011);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Good)])]
    );
    let low = UpdateTrackSettings {
        track_sids: vec![call.video.sid.clone()],
        quality: VideoQuality::Low as i32,
        ..Default::default()
    };
    call.lab
        .request(call.bob, signal_request::Message::TrackSetting(low));
    call.lab.wait(2 * BEAT);
    for _ in 0..4 {
        call.video(500, 0, 0b001);
    }
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Excellent)])],
        "nobody wants the others"
    );
}

#[test]
fn a_video_that_dynacast_switched_off_is_not_lost() {
    let mut call = Call::told_once();
    call.video(1_000, 0, 0b111);
    let off = UpdateTrackSettings {
        track_sids: vec![call.video.sid.clone()],
        disabled: true,
        ..Default::default()
    };
    call.lab
        .request(call.bob, signal_request::Message::TrackSetting(off));
    call.lab.wait(2 * BEAT);
    for _ in 0..4 {
        call.video(0, 0, 0);
    }
    assert_eq!(call.bob_hears().len(), 0);
}

#[test]
fn whoever_has_no_path_is_lost() {
    let mut call = Call::told_once();
    call.lab.wait(Duration::from_secs(4));
    let id = call.lab.opened[0];
    call.lab.event(Event::Disconnected { id });
    call.lab.wait(Duration::from_secs(1));
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Lost)])]
    );
}

#[test]
fn the_hidden_see_others_and_nobody_sees_them() {
    let mut call = Call::told_once();
    let ghost = call
        .lab
        .join_with("ghost", |join| {
            join.publisher_offer = Some(offer(JOIN, 1));
            join.claims.video.as_mut().unwrap().hidden = true;
        })
        .unwrap();
    call.lab.connect();
    call.lab.wait(BEAT);
    assert_eq!(
        told(&mut call.lab, ghost),
        [list(&[("ghost", Excellent), ("alice", Excellent)])]
    );
    assert_eq!(call.bob_hears().len(), 0);
    assert_eq!(told(&mut call.lab, call.alice).len(), 0);
}

#[test]
fn a_client_that_is_back_is_told_again() {
    let mut call = Call::told_once();
    let sid = call.lab.room.participant_sid(call.bob).unwrap();
    call.lab.room.handle_gone(call.lab.now, call.bob);
    call.bob = call
        .lab
        .join_with("bob", |join| {
            join.resume = Some(Resume {
                participant_sid: sid.as_str().to_owned(),
                reason: ReconnectReason::RrSignalDisconnected,
                sync_state: None,
            });
        })
        .unwrap();
    call.lab.wait(BEAT);
    assert_eq!(
        call.bob_hears(),
        [list(&[("bob", Excellent), ("alice", Excellent)])]
    );
}
