//! What publishers are told of the qualities that anybody wants.

use super::calls::{Call, JOIN, offer};
use super::*;
use crate::protocol::livekit::{MuteTrackRequest, UpdateTrackSettings, VideoQuality};

const SECOND: Duration = Duration::from_secs(1);

impl Call {
    /// The messages of this kind that the publisher was sent since the last call, as `vp8 110`.
    fn asked(&mut self) -> Vec<String> {
        asked(&mut self.lab, self.alice, &self.video.sid)
    }

    fn set(&mut self, change: impl FnOnce(&mut UpdateTrackSettings)) {
        let mut settings = UpdateTrackSettings {
            track_sids: vec![self.video.sid.clone()],
            quality: VideoQuality::High as i32,
            ..Default::default()
        };
        change(&mut settings);
        self.lab
            .request(self.bob, signal_request::Message::TrackSetting(settings));
    }

    pub(super) fn mute(&mut self, muted: bool) {
        let sid = self.video.sid.clone();
        let request = MuteTrackRequest { sid, muted };
        self.lab
            .request(self.alice, signal_request::Message::Mute(request));
    }
}

pub(super) fn asked(lab: &mut Lab, publisher: SessionId, sid: &str) -> Vec<String> {
    let mut asked = Vec::new();
    for message in lab.heard(publisher) {
        let signal_response::Message::SubscribedQualityUpdate(update) = message else {
            continue;
        };
        assert_eq!(update.track_sid, sid);
        let [codec] = update.subscribed_codecs.as_slice() else {
            panic!("{update:?}")
        };
        #[expect(deprecated, reason = "older clients read it")]
        let legacy = &update.subscribed_qualities;
        assert_eq!(legacy, &codec.qualities);
        let order: Vec<i32> = codec.qualities.iter().map(|q| q.quality).collect();
        assert_eq!(order, [0, 1, 2]);
        let flags = codec
            .qualities
            .iter()
            .map(|q| if q.enabled { '1' } else { '0' });
        asked.push(format!("{} {}", codec.codec, flags.collect::<String>()));
    }
    asked
}

#[test]
fn everything_is_asked_for_when_somebody_subscribes_and_less_after_five_seconds() {
    let mut call = Call::new([0, 0]);
    assert_eq!(call.asked(), ["vp8 111"]);
    call.set(|settings| settings.quality = VideoQuality::Low as i32);
    call.lab.wait(5 * SECOND);
    assert_eq!(call.asked(), Vec::<String>::new());
    call.lab.wait(SECOND);
    assert_eq!(call.asked(), ["vp8 100"]);
    call.set(|settings| settings.quality = VideoQuality::Medium as i32);
    call.lab.wait(SECOND / 10);
    assert_eq!(call.asked(), ["vp8 110"], "more is told at once");
}

#[test]
fn an_adaptive_subscriber_gets_everything_at_first_and_little_until_it_says_its_size() {
    let mut call = Call::new([0, 0]);
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    call.lab.request(call.bob, leave);
    call.lab.wait(20 * SECOND);
    assert_eq!(call.asked(), ["vp8 111", "vp8 000"]);
    let carol = call.lab.join_with("carol", |join| {
        join.publisher_offer = Some(offer(JOIN, 1));
        join.adaptive_stream = true;
    });
    assert_eq!(call.asked(), ["vp8 100"], "it is not the first subscriber");
    let settings = UpdateTrackSettings {
        track_sids: vec![call.video.sid.clone()],
        width: 1280,
        height: 720,
        ..Default::default()
    };
    call.lab.request(
        carol.unwrap(),
        signal_request::Message::TrackSetting(settings),
    );
    call.lab.wait(SECOND / 10);
    assert_eq!(call.asked(), ["vp8 111"]);
}

#[test]
fn a_video_that_nobody_shows_is_switched_off_and_on_again() {
    let mut call = Call::new([0, 0]);
    call.asked();
    call.set(|settings| settings.disabled = true);
    call.lab.wait(6 * SECOND);
    assert_eq!(call.asked(), ["vp8 000"]);
    call.set(|_| {});
    assert_eq!(call.asked(), ["vp8 111"]);
}

#[test]
fn the_highest_wish_counts_whoever_has_it() {
    let mut call = Call::new([0, 1]);
    call.lab
        .join_with("ghost", |join| {
            join.publisher_offer = Some(offer(JOIN, 1));
            join.claims.video.as_mut().unwrap().hidden = true;
        })
        .unwrap();
    call.asked();
    call.set(|settings| settings.quality = VideoQuality::Low as i32);
    call.lab.wait(10 * SECOND);
    assert_eq!(call.asked(), Vec::<String>::new(), "the hidden one has it");
}

#[test]
fn unmuting_repeats_the_message_and_muting_does_not() {
    let mut call = Call::new([0, 0]);
    call.asked();
    call.mute(true);
    assert_eq!(call.asked(), Vec::<String>::new());
    call.mute(false);
    assert_eq!(call.asked(), ["vp8 111"]);
}

#[test]
fn a_publisher_that_is_back_is_told_what_is_wanted_of_it_as_it_may_have_missed_it() {
    let mut call = Call::new([0, 0]);
    call.asked();
    call.set(|settings| settings.quality = VideoQuality::Low as i32);
    let sid = call.lab.room.participant_sid(call.alice).unwrap();
    call.lab.room.handle_gone(call.lab.now, call.alice);
    call.lab.wait(10 * SECOND);
    let resume = |lab: &mut Lab| {
        lab.join_with("alice", |join| {
            join.resume = Some(Resume {
                participant_sid: sid.as_str().to_owned(),
                reason: ReconnectReason::RrSignalDisconnected,
                sync_state: None,
            });
        })
        .unwrap()
    };
    call.alice = resume(&mut call.lab);
    assert_eq!(call.asked(), ["vp8 100"]);
    call.alice = resume(&mut call.lab);
    assert_eq!(
        call.asked(),
        ["vp8 100"],
        "the last socket may have been dead"
    );
}
