//! The single role: which section carries what, and when more are asked for.

use super::{answer_to as answer, down, fixture, format, negotiator, read, setup};
use crate::ids::{DownTrackId, UpTrackId};
use crate::negotiate::{Negotiator, Role, SdpFault};
use crate::plan::{Codec, Kind};
use std::collections::HashMap;

fn joined() -> Negotiator {
    let mut negotiator = negotiator(Role::Single);
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    negotiator
}

/// The direction of a section of our answer.
fn direction(sdp: &str, mid: &str) -> (bool, bool) {
    let sdp = read(sdp);
    let section = sdp.sections.iter().find(|s| s.mid.as_str() == mid).unwrap();
    (section.sends, section.receives)
}

#[test]
fn a_track_that_ended_leaves_its_section_inactive_and_then_free() {
    let mut negotiator = joined();
    negotiator.attach(down(1, Kind::Video));
    let first = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(first.mid_to_track_id["3"], "TR_1");
    negotiator.detach(DownTrackId(1));
    assert!(negotiator.pending());
    let second = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert!(second.mid_to_track_id.is_empty());
    assert_eq!(direction(&second.sdp, "3"), (false, false));
    assert!(!second.sdp.contains("a=msid:"));
    assert_eq!(direction(&second.sdp, "4"), (true, false), "never used");
    assert!(!negotiator.pending());

    negotiator.attach(down(2, Kind::Video));
    let third = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(third.mid_to_track_id["3"], "TR_2");
    assert_eq!(direction(&third.sdp, "3"), (true, false));
}

#[test]
fn a_client_that_cannot_have_sections_used_again_is_asked_for_more() {
    let mut facts = setup(Role::Single);
    facts.reuse_sections = false;
    let mut negotiator = Negotiator::new(facts);
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    for (track, mid) in [(1, "3"), (2, "4")] {
        negotiator.attach(down(track, Kind::Video));
        assert_eq!(negotiator.missing(), (0, 0));
        let answered = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
        assert_eq!(answered.mid_to_track_id[mid], format!("TR_{track}"));
        negotiator.detach(DownTrackId(track));
        answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    }
    negotiator.attach(down(3, Kind::Video));
    assert!(!negotiator.pending());
    assert_eq!(negotiator.missing(), (0, 1));
    let answered = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert!(answered.mid_to_track_id.is_empty());
}

#[test]
fn one_track_never_turns_into_another_in_one_step() {
    let mut negotiator = joined();
    negotiator.attach(down(1, Kind::Video));
    negotiator.attach(down(2, Kind::Video));
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    negotiator.detach(DownTrackId(1));
    negotiator.attach(down(3, Kind::Video));
    assert_eq!(negotiator.missing(), (0, 0), "mid 3 is about to be free");
    let answered = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(answered.mid_to_track_id.len(), 1);
    assert!(
        negotiator.waiting() && negotiator.pending(),
        "so another offer is wanted"
    );
    assert_eq!(answered.missing, (0, 0));
    let next = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(next.mid_to_track_id["3"], "TR_3");
    assert_eq!(next.bound.len(), 1);
    assert!(!negotiator.pending());
}

#[test]
fn only_sections_that_were_not_asked_for_are_asked_for() {
    let mut negotiator = joined();
    for id in 1..=3 {
        negotiator.attach(down(id, Kind::Video));
    }
    assert_eq!(negotiator.missing(), (0, 1), "two are free");
    assert_eq!(negotiator.missing(), (0, 0), "asked already");
    negotiator.attach(down(4, Kind::Video));
    for id in 5..=8 {
        negotiator.attach(down(id, Kind::Audio));
    }
    assert_eq!(negotiator.missing(), (2, 1));
    let answered = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(answered.bound.len(), 4);
    assert_eq!(
        answered.missing,
        (0, 0),
        "that offer may have crossed the request"
    );
    assert!(!negotiator.pending());
    let again = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(
        again.missing,
        (2, 2),
        "this one cannot have: the request was lost"
    );
}

#[test]
fn a_resumed_client_is_asked_again() {
    let mut negotiator = joined();
    for id in 1..=3 {
        negotiator.attach(down(id, Kind::Video));
    }
    assert_eq!(negotiator.missing(), (0, 1));
    negotiator.forget_requests();
    assert_eq!(negotiator.missing(), (0, 1));
}

#[test]
fn a_track_whose_section_the_client_stops_moves_to_another() {
    let mut negotiator = joined();
    negotiator.attach(down(1, Kind::Video));
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    let stopped =
        fixture!("chromium-v1-join").replace("a=mid:3\na=recvonly", "a=mid:3\na=inactive");
    let moved = answer(&mut negotiator, &stopped, &[]);
    assert_eq!(moved.mid_to_track_id["4"], "TR_1");
    assert_eq!(moved.bound[0].mid.as_str(), "4");
    assert!(moved.unbound.is_empty());

    let stopped = stopped.replace("a=mid:4\na=recvonly", "a=mid:4\na=inactive");
    let gone = answer(&mut negotiator, &stopped, &[]);
    assert_eq!(gone.unbound, [DownTrackId(1)]);
    assert_eq!(gone.missing, (0, 1));
    assert!(negotiator.waiting() && !negotiator.is_bound(DownTrackId(1)));

    let back = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(back.mid_to_track_id["3"], "TR_1");
}

#[test]
fn a_track_in_a_codec_that_the_client_lacks_is_refused_once() {
    let mut negotiator = joined();
    let mut spec = down(1, Kind::Video);
    spec.formats = vec![format(Codec::H265, 0)];
    negotiator.attach(spec);
    let refused = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(refused.refused, [DownTrackId(1)]);
    assert_eq!(refused.missing, (0, 0));
    assert!(!negotiator.waiting());
}

#[test]
fn a_publication_is_remembered_until_the_client_stops_sending() {
    let mut negotiator = joined();
    let sdp = fixture!("chromium-v1-publish");
    answer(&mut negotiator, sdp, &[("7", 1), ("8", 2)]);
    let again = answer(&mut negotiator, sdp, &[]);
    assert_eq!(again.receive.tracks.len(), 2);
    assert!(again.sdp.contains("usedtx=1"));
    let sections: Vec<_> = sdp.split("m=video").collect();
    let last = sections.last().unwrap();
    let stopped = sdp.replace(last, &last.replace("a=sendonly", "a=inactive"));
    let after = answer(&mut negotiator, &stopped, &[]);
    assert_eq!(after.receive.tracks.len(), 1);
    assert_eq!(after.receive.tracks[0].up, UpTrackId(1));
    assert_eq!(direction(&after.sdp, "8"), (false, false));
    negotiator.unpublish(UpTrackId(1));
    assert!(negotiator.receive().tracks.is_empty());
    let last = answer(&mut negotiator, &stopped, &[]);
    assert!(last.receive.tracks.is_empty());
}

#[test]
fn a_section_can_carry_a_track_each_way() {
    let both = fixture!("chromium-v1-join").replace(
        "a=mid:3\na=recvonly",
        "a=mid:3\na=sendrecv\na=msid:- mine\na=ssrc-group:FID 5 6",
    );
    let mut negotiator = joined();
    negotiator.attach(down(1, Kind::Video));
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    let answered = answer(&mut negotiator, &both, &[("3", 9)]);
    assert_eq!(direction(&answered.sdp, "3"), (true, true));
    assert_eq!(answered.mid_to_track_id["3"], "TR_1");
    assert_eq!(answered.receive.tracks[0].up, UpTrackId(9));
    assert_eq!(answered.receive.tracks[0].layers[0].ssrc.unwrap().0, 5);
    assert_eq!(answered.receive.tracks[0].layers[0].rtx_ssrc.unwrap().0, 6);
}

#[test]
fn an_unused_sendrecv_section_takes_a_track() {
    let sdp = fixture!("chromium-v1-join").replace("a=recvonly", "a=sendrecv");
    let mut negotiator = negotiator(Role::Single);
    negotiator.attach(down(1, Kind::Audio));
    let answered = answer(&mut negotiator, &sdp, &[]);
    assert_eq!(answered.mid_to_track_id["0"], "TR_1");
    assert_eq!(direction(&answered.sdp, "0"), (true, false));
}

#[test]
fn a_rebound_track_is_signalled_anew() {
    let mut negotiator = joined();
    negotiator.attach(down(1, Kind::Audio));
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    negotiator.rebind(DownTrackId(1));
    assert!(negotiator.pending() && !negotiator.is_bound(DownTrackId(1)));
    let answered = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_eq!(direction(&answered.sdp, "0"), (false, false));
    assert_eq!(answered.mid_to_track_id["1"], "TR_1");
}

#[test]
fn sections_keep_their_places_unless_they_were_rejected() {
    let mut negotiator = joined();
    let sdp = fixture!("chromium-v1-join");
    let refused = |negotiator: &mut Negotiator, sdp: &str| {
        let offer = negotiator.parse_offer(sdp).unwrap();
        negotiator
            .answer(
                offer,
                &HashMap::new(),
                &mut crate::random::Random::seeded(1),
            )
            .map(|_| ())
    };
    let fewer = &sdp[..sdp.find("m=application").unwrap()];
    assert_eq!(
        refused(&mut negotiator, fewer),
        Err(SdpFault::SectionsChanged)
    );
    let renamed = sdp.replace("a=mid:3", "a=mid:x");
    assert_eq!(
        refused(&mut negotiator, &renamed),
        Err(SdpFault::SectionsChanged)
    );
    assert!(
        negotiator.local().ufrag.starts_with("A2345"),
        "nothing changed"
    );

    // The client stops section 3 for good and later puts another into its place.
    let video = sdp.find("m=video 9").unwrap();
    let stopped = format!("{}m=video 0{}", &sdp[..video], &sdp[video + 9..]);
    let answered = answer(&mut negotiator, &stopped, &[]);
    assert!(answered.sdp.contains("m=video 0 UDP"));
    assert!(answered.sdp.contains("a=group:BUNDLE 0 1 4 6\r\n"));
    assert_eq!(refused(&mut negotiator, &renamed), Ok(()));
}

#[test]
fn a_section_without_any_codec_of_ours_is_rejected() {
    let sdp = fixture!("firefox-v1-join").replace("120 124 121 125 99 100 123 122 119", "123");
    let mut negotiator = negotiator(Role::Single);
    let answered = answer(&mut negotiator, &sdp, &[]);
    assert_eq!(
        answered
            .sdp
            .matches("m=video 0 UDP/TLS/RTP/SAVPF 123\r\n")
            .count(),
        2
    );
    assert!(answered.sdp.contains("a=group:BUNDLE 0 1 6\r\n"));
}
