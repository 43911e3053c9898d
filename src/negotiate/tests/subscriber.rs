//! The subscriber role: our offers beside LiveKit's, and what real clients answered to them.

use super::{down, fixture, format, negotiator, read, setup};
use crate::ids::{DownTrackId, PayloadType};
use crate::negotiate::parse::Description;
use crate::negotiate::{Negotiator, Role, SdpFault};
use crate::plan::{Codec, DtlsRole, IceCredentials, Kind};
use crate::random::Random;
use crate::secret::Secret;
use std::collections::HashMap;

/// The sections of an SDP as sorted lines, without what is random.
fn lines(sdp: &str) -> Vec<Vec<String>> {
    let text = sdp.replace('\r', "");
    let mut sections = Vec::new();
    for section in text.split("\nm=").skip(1) {
        let mut lines: Vec<String> = section
            .lines()
            .filter(|line| {
                let random = [
                    "a=ssrc",
                    "a=msid",
                    "a=candidate",
                    "a=end-of",
                    "a=ice-",
                    "c=",
                    "a=fingerprint",
                ];
                !random.iter().any(|start| line.starts_with(start))
            })
            .map(str::to_owned)
            .collect();
        lines.sort();
        sections.push(lines);
    }
    sections
}

fn offered(red: bool) -> (Negotiator, crate::negotiate::LocalOffer) {
    let mut negotiator = negotiator(Role::Subscriber);
    let mut audio = down(1, Kind::Audio);
    if !red {
        audio.publisher_red = false;
        audio.formats.remove(0);
    }
    negotiator.attach(audio);
    negotiator.attach(down(2, Kind::Video));
    let offer = negotiator.offer(None).unwrap();
    (negotiator, offer)
}

/// An answer of a client that takes everything.
fn echo(offer: &str) -> String {
    offer
        .replace("actpass", "active")
        .replace("a=sendrecv", "a=recvonly")
        .replace("a=ssrc", "a=x-ssrc")
        .replace("a=msid:", "a=x-msid:")
}

#[test]
fn the_offer_to_chromium_is_livekits() {
    let (_, offer) = offered(true);
    assert_eq!(
        lines(&offer.sdp),
        lines(fixture!("chromium-v0-offer.livekit"))
    );
    assert_eq!(offer.id, 85);
    assert_eq!(offer.mid_to_track_id["1"], "TR_1");
    assert_eq!(offer.mid_to_track_id["2"], "TR_2");
    let ours = read(&offer.sdp);
    assert!(ours.allow_mixed);
    assert_eq!(ours.sections[2].msid_track.as_deref(), Some("TR_2"));
    assert!(offer.sdp.contains("a=ssrc-group:FID 1002 2002\r\n"));
    assert!(offer.sdp.contains("a=ssrc:1002 cname:PA_x|TR_2\r\n"));
}

#[test]
fn the_offer_to_the_go_sdk_has_nack_on_opus_when_the_publisher_sends_no_red() {
    let (_, offer) = offered(false);
    assert_eq!(lines(&offer.sdp), lines(fixture!("go-v0-offer.livekit")));
}

#[test]
fn an_offer_before_any_track_holds_the_data_channels_only() {
    let mut negotiator = negotiator(Role::Subscriber);
    assert!(negotiator.pending());
    let offer = negotiator.offer(None).unwrap();
    assert_eq!(lines(&offer.sdp).len(), 1);
    assert!(offer.sdp.contains("a=group:BUNDLE 0\r\n"));
    assert!(!offer.sdp.contains("a=candidate"), "the first is trickled");
    assert!(offer.mid_to_track_id.is_empty());

    assert_eq!(negotiator.offer_outstanding(), Some(85));
    negotiator.attach(down(1, Kind::Video));
    assert!(negotiator.offer(None).is_none(), "one at a time");
    negotiator.accept(&echo(&offer.sdp), 85).unwrap();
    assert!(negotiator.pending());
    let second = negotiator.offer(None).unwrap();
    assert_eq!(second.id, 86);
    assert!(second.sdp.contains("a=candidate"));
    negotiator.accept(&echo(&second.sdp), 0).unwrap();
    assert!(!negotiator.pending());
}

#[test]
fn chromiums_answer_binds_both_tracks() {
    let (mut negotiator, _) = offered(true);
    assert!(!negotiator.is_bound(DownTrackId(1)));
    let accepted = negotiator
        .accept(fixture!("chromium-v0-accept"), 85)
        .unwrap();
    assert!(accepted.refused.is_empty());
    assert_eq!(accepted.remote.role, DtlsRole::Server);
    assert_eq!(accepted.candidates.len(), 4);
    let [audio, video] = &accepted.bound[..] else {
        panic!("two are bound")
    };
    let payload_types: Vec<_> = audio
        .formats
        .iter()
        .map(|f| (f.format.codec, f.pt.0))
        .collect();
    assert_eq!(payload_types, [(Codec::Red, 63), (Codec::Opus, 111)]);
    assert!(!audio.nack);
    assert_eq!(audio.extensions.abs_capture_time, Some(2));
    assert_eq!(audio.extensions.abs_send_time, None);
    assert_eq!(video.mid.as_str(), "2");
    assert_eq!(video.formats[0].rtx, Some(PayloadType(97)));
    assert!(video.nack);
    assert_eq!(video.extensions.abs_send_time, Some(3));
    assert_eq!(video.extensions.dependency_descriptor, Some(1));
    assert!(negotiator.is_bound(DownTrackId(1)) && negotiator.is_bound(DownTrackId(2)));
}

#[test]
fn the_go_sdks_answer_takes_opus_without_red() {
    let (mut negotiator, _) = offered(true);
    let accepted = negotiator.accept(fixture!("go-v0-accept"), 0).unwrap();
    let audio = &accepted.bound[0];
    assert_eq!(audio.formats.len(), 1);
    assert_eq!(audio.formats[0].format, format(Codec::Opus, 0));
}

#[test]
fn answers_to_other_offers_and_with_other_sections_change_nothing() {
    let (mut negotiator, offer) = offered(true);
    let answer = fixture!("chromium-v0-accept");
    assert_eq!(
        negotiator.accept(answer, 84).unwrap_err(),
        SdpFault::NotOurOffer
    );
    let short = &answer[..answer.find("m=video").unwrap()];
    assert_eq!(
        negotiator.accept(short, 85).unwrap_err(),
        SdpFault::SectionsChanged
    );
    let swapped = answer.replace("m=video", "m=audio");
    assert_eq!(
        negotiator.accept(&swapped, 85).unwrap_err(),
        SdpFault::SectionsChanged
    );
    assert_eq!(negotiator.offer_outstanding(), Some(offer.id));
    negotiator.accept(answer, 85).unwrap();
    assert_eq!(
        negotiator.accept(answer, 85).unwrap_err(),
        SdpFault::NotOurOffer
    );
}

#[test]
fn a_section_is_told_as_ended_before_it_is_used_again() {
    let (mut negotiator, offer) = offered(true);
    negotiator.accept(&echo(&offer.sdp), 85).unwrap();
    negotiator.detach(DownTrackId(2));
    negotiator.attach(down(3, Kind::Video));
    assert!(negotiator.pending());
    let second = negotiator.offer(None).unwrap();
    let directions = |sdp: &str| -> Vec<_> {
        read(sdp)
            .sections
            .iter()
            .map(|s| (s.sends, s.receives))
            .collect()
    };
    let (on, off) = ((true, true), (false, false));
    assert_eq!(directions(&second.sdp), [on, on, off, on]);
    assert_eq!(second.mid_to_track_id["3"], "TR_3");
    negotiator.accept(&echo(&second.sdp), second.id).unwrap();

    negotiator.attach(down(4, Kind::Video));
    let third = negotiator.offer(None).unwrap();
    assert_eq!(third.mid_to_track_id["2"], "TR_4");
    assert_eq!(directions(&third.sdp), [on, on, on, on]);
}

#[test]
fn an_end_that_was_told_in_an_offer_given_up_is_told_again() {
    let (mut negotiator, offer) = offered(true);
    negotiator.accept(&echo(&offer.sdp), 85).unwrap();
    negotiator.detach(DownTrackId(2));
    negotiator.offer(None).unwrap();
    negotiator.abandon_offer();
    negotiator.attach(down(3, Kind::Video));
    let again = negotiator.offer(None).unwrap();
    assert!(!again.mid_to_track_id.contains_key("2"));
    let ended = &read(&again.sdp).sections[2];
    assert!(!ended.sends && !ended.receives);
}

#[test]
fn clients_that_cannot_reuse_sections_get_new_ones() {
    let mut facts = setup(Role::Subscriber);
    facts.reuse_sections = false;
    let mut negotiator = Negotiator::new(facts);
    negotiator.attach(down(1, Kind::Video));
    for id in 1..4 {
        let offer = negotiator.offer(None).unwrap();
        negotiator.accept(&echo(&offer.sdp), 0).unwrap();
        negotiator.detach(DownTrackId(id));
        let offer = negotiator.offer(None).unwrap();
        negotiator.accept(&echo(&offer.sdp), 0).unwrap();
        negotiator.attach(down(id + 1, Kind::Video));
    }
    let offer = negotiator.offer(None).unwrap();
    assert_eq!(offer.mid_to_track_id.len(), 1);
    assert_eq!(offer.mid_to_track_id["4"], "TR_4");
}

#[test]
fn a_client_that_has_had_very_many_tracks_gets_more_whatever_it_cannot() {
    let mut facts = setup(Role::Subscriber);
    facts.reuse_sections = false;
    let mut negotiator = Negotiator::new(facts);
    for id in 1..600 {
        negotiator.attach(down(id, Kind::Video));
        let offer = negotiator.offer(None).unwrap();
        assert_eq!(offer.mid_to_track_id.len(), 1, "track {id}");
        negotiator.accept(&echo(&offer.sdp), 0).unwrap();
        negotiator.detach(DownTrackId(id));
        let offer = negotiator.offer(None).unwrap();
        negotiator.accept(&echo(&offer.sdp), 0).unwrap();
    }
}

#[test]
fn a_track_that_ends_while_the_answer_is_under_way_is_not_bound() {
    let (mut negotiator, offer) = offered(true);
    negotiator.detach(DownTrackId(2));
    let accepted = negotiator.accept(&echo(&offer.sdp), offer.id).unwrap();
    assert_eq!(accepted.bound.len(), 1);
    assert!(negotiator.pending());
    let second = negotiator.offer(None).unwrap();
    assert!(
        read(&second.sdp)
            .sections
            .iter()
            .any(|s| !s.sends && !s.receives)
    );
    assert_eq!(second.mid_to_track_id.len(), 1);
}

#[test]
fn a_section_that_the_client_rejects_is_never_used_again() {
    let (mut negotiator, offer) = offered(true);
    let rejected = echo(&offer.sdp).replace("m=video 9", "m=video 0");
    let accepted = negotiator.accept(&rejected, offer.id).unwrap();
    assert_eq!(accepted.refused, [DownTrackId(2)]);
    assert!(!negotiator.is_bound(DownTrackId(2)));
    negotiator.attach(down(3, Kind::Video));
    let second = negotiator.offer(None).unwrap();
    assert!(second.sdp.contains("m=video 0 "));
    assert!(second.sdp.contains("a=group:BUNDLE 0 1 3\r\n"));
    assert_eq!(second.mid_to_track_id["3"], "TR_3");
}

#[test]
fn a_codec_that_the_client_did_not_answer_is_refused() {
    let mut negotiator = negotiator(Role::Subscriber);
    let mut spec = down(1, Kind::Video);
    spec.formats = vec![format(Codec::H265, 0)];
    negotiator.attach(spec);
    let offer = negotiator.offer(None).unwrap();
    let answer = echo(&offer.sdp).replace("SAVPF 116 117 ", "SAVPF ");
    let accepted = negotiator.accept(&answer, offer.id).unwrap();
    assert_eq!(accepted.refused, [DownTrackId(1)]);
}

#[test]
fn a_restart_changes_the_credentials_of_the_next_offer_and_drops_its_candidates() {
    let (mut negotiator, offer) = offered(true);
    let new = IceCredentials {
        ufrag: "Anew".into(),
        password: Secret::new("new-password-new-password".into()),
    };
    assert!(negotiator.offer(Some(new.clone())).is_none());
    assert_ne!(
        negotiator.local().ufrag,
        "Anew",
        "not while one is outstanding"
    );
    negotiator.accept(&echo(&offer.sdp), offer.id).unwrap();
    let restart = negotiator.offer(Some(new)).unwrap();
    assert_eq!(Description::parse(&restart.sdp).unwrap().ice.ufrag, "Anew");
    assert!(!restart.sdp.contains("a=candidate"));
    assert_eq!(restart.mid_to_track_id.len(), 2);
    let origin = |sdp: &str| {
        sdp.lines()
            .nth(1)
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(origin(&offer.sdp), origin(&restart.sdp));
}

#[test]
fn h264_of_a_profile_that_is_not_offered_goes_where_h264_is_taken() {
    let mut negotiator = negotiator(Role::Subscriber);
    let mut spec = down(1, Kind::Video);
    spec.formats = vec![format(Codec::H264, 7)];
    negotiator.attach(spec);
    let offer = negotiator.offer(None).unwrap();
    let accepted = negotiator.accept(&echo(&offer.sdp), 0).unwrap();
    assert_eq!(accepted.bound[0].formats[0].pt, PayloadType(108));
}

#[test]
fn a_delay_of_video_is_offered_and_answered_only_if_the_room_has_one() {
    let uri = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    for wanted in [true, false] {
        let mut facts = setup(Role::Subscriber);
        facts.playout_delay = wanted;
        let mut negotiator = Negotiator::new(facts);
        negotiator.attach(down(1, Kind::Audio));
        negotiator.attach(down(2, Kind::Video));
        let offer = negotiator.offer(None).unwrap();
        assert_eq!(offer.sdp.matches(uri).count(), usize::from(wanted));
        let accepted = negotiator.accept(&echo(&offer.sdp), 0).unwrap();
        let ids: Vec<_> = accepted
            .bound
            .iter()
            .map(|b| b.extensions.playout_delay)
            .collect();
        let id = wanted.then_some(4);
        assert!(ids.contains(&id) && ids.len() == 2, "{ids:?}");

        let mut facts = setup(Role::Single);
        facts.playout_delay = wanted;
        let mut negotiator = Negotiator::new(facts);
        negotiator.attach(down(2, Kind::Video));
        let offer = negotiator
            .parse_offer(fixture!("chromium-v1-join"))
            .unwrap();
        let answer = negotiator
            .answer(offer, &HashMap::new(), &mut Random::seeded(1))
            .unwrap();
        assert_eq!(answer.sdp.contains(uri), wanted);
        assert_eq!(answer.bound[0].extensions.playout_delay.is_some(), wanted);
    }
}

#[test]
fn five_hundred_videos_are_offered_in_one_message_their_answer_is_read_and_the_rest_waits() {
    let mut negotiator = negotiator(Role::Subscriber);
    for n in 1..=600 {
        negotiator.attach(down(n, Kind::Video));
    }
    let offer = negotiator.offer(None).unwrap();
    assert!((900_000..1_500_000).contains(&offer.sdp.len()));
    let accepted = negotiator.accept(&echo(&offer.sdp), 0).unwrap();
    assert_eq!(accepted.bound.len(), 511);
    assert!(negotiator.waiting() && !negotiator.pending());
}

#[test]
fn a_client_is_asked_for_no_more_sections_than_its_offer_has_space_for() {
    let mut negotiator = negotiator(Role::Single);
    for n in 1..=300 {
        negotiator.attach(down(n, Kind::Audio));
        negotiator.attach(down(1_000 + n, Kind::Video));
    }
    assert_eq!(negotiator.missing(), (300, 84));
    assert_eq!(negotiator.missing(), (0, 0));
}

#[test]
fn the_codec_of_a_video_stands_first_in_its_section() {
    let mut negotiator = negotiator(Role::Subscriber);
    negotiator.attach(down(1, Kind::Video));
    let mut h264 = down(2, Kind::Video);
    h264.formats = vec![format(Codec::H264, 1), format(Codec::Vp8, 0)];
    negotiator.attach(h264);
    let offer = negotiator.offer(None).unwrap();
    let of = |section: usize| {
        let section = offer.sdp.split("m=video ").nth(section).unwrap();
        let formats = section.lines().next().unwrap();
        formats.split(' ').skip(2).collect::<Vec<_>>().join(" ")
    };
    let (vp8, h264) = (of(1), of(2));
    assert!(vp8.starts_with("96 97 98 99 "), "{vp8}");
    assert!(
        h264.ends_with(" 35 36 116 117"),
        "the others stay as they are: {h264}"
    );
    let first = h264.split(' ').next().unwrap();
    let name = format!("a=rtpmap:{first} H264/90000");
    assert!(offer.sdp.contains(&name), "{name} in {}", offer.sdp);
}
