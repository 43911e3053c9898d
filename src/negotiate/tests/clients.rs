//! Answers to the offers of real clients, compared with those of livekit-server 1.13.5 to the same offers
//! (`tests/fixtures/*.livekit.sdp`).

use super::{down, negotiator, publish, read};
use crate::ids::Mid;
use crate::negotiate::parse::{Description, Media};
use crate::negotiate::{Negotiator, Publish, Role};
use crate::plan::Kind;
use crate::random::Random;
use std::collections::HashMap;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/", $name, ".sdp"))
    };
}

fn publishes(list: &[(&str, u64)]) -> HashMap<Mid, Publish> {
    list.iter()
        .map(|(mid, up)| (Mid::from(*mid), publish(*up)))
        .collect()
}

fn answer(
    negotiator: &mut Negotiator,
    sdp: &str,
    list: &[(&str, u64)],
) -> crate::negotiate::Answer {
    let offer = negotiator.parse_offer(sdp).unwrap();
    negotiator
        .answer(offer, &publishes(list), &mut Random::seeded(1))
        .unwrap()
}

/// Everything of a section that a client acts on, without ids that are random and without what section 14 of
/// livekit.md says we do otherwise.
fn facts(description: &Description) -> Vec<String> {
    let mut facts = Vec::new();
    for section in &description.sections {
        let mid = &section.mid;
        facts.push(format!(
            "{mid} {:?} {:?} {:?} sends {} receives {} rejected {}",
            section.media,
            section.name,
            section.proto,
            section.sends,
            section.receives,
            section.rejected
        ));
        facts.push(format!("{mid} rids {:?}", section.rids));
        facts.push(format!("{mid} tracks {}", section.ssrcs.len()));
        facts.push(format!(
            "{mid} rtx {}",
            section
                .ssrcs
                .iter()
                .filter(|(_, rtx)| rtx.is_some())
                .count()
        ));
        let mut extensions = section.extensions.clone();
        extensions.sort_by_key(|(_, id)| *id);
        facts.push(format!("{mid} {extensions:?}"));
        let (rtx, media): (Vec<_>, Vec<_>) = section
            .payloads
            .iter()
            .partition(|payload| payload.map.starts_with("rtx"));
        for payload in media {
            // The reference answers VP9 profile 2 that was not offered; and it repeats the Opus parameters of the
            // first offer, where `stereo` means nothing in a section on which we only send.
            if payload.fmtp == "profile-id=2" {
                continue;
            }
            let fmtp = match section.media {
                Media::Rtp(Kind::Audio) => payload.fmtp.replace(";stereo=1", ""),
                _ => payload.fmtp.clone(),
            };
            facts.push(format!(
                "{mid} {} {} {} {:?}",
                payload.pt, payload.map, fmtp, payload.feedback
            ));
        }
        let mut rtx: Vec<_> = rtx
            .iter()
            .map(|payload| format!("{mid} {} {}", payload.pt, payload.fmtp))
            .collect();
        rtx.sort();
        facts.extend(rtx);
    }
    facts
}

fn assert_like_livekit(ours: &str, theirs: &str, left_out: &[&str]) {
    let theirs: Vec<_> = facts(&read(theirs))
        .into_iter()
        .filter(|fact| !left_out.contains(&fact.as_str()))
        .collect();
    pretty(&facts(&read(ours)), &theirs);
}

fn pretty(ours: &[String], theirs: &[String]) {
    let only = |a: &[String], b: &[String]| {
        a.iter()
            .filter(|x| !b.contains(x))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(
        ours == theirs,
        "only ours: {:#?}\nonly theirs: {:#?}\norder: {}",
        only(ours, theirs),
        only(theirs, ours),
        ours.len() == theirs.len(),
    );
}

#[test]
fn chromium_joining_gets_sending_sections_with_its_own_payload_types() {
    let mut negotiator = negotiator(Role::Single);
    let answer = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert_like_livekit(&answer.sdp, fixture!("chromium-v1-join.livekit"), &[]);
    assert!(!answer.sdp.contains("a=candidate"), "trickled instead");
    assert!(answer.mid_to_track_id.is_empty());
    assert_eq!(answer.missing, (0, 0));
}

#[test]
fn chromium_publishing_and_subscribed_gets_what_livekit_answers() {
    let mut negotiator = negotiator(Role::Single);
    negotiator.attach(down(1, Kind::Audio));
    negotiator.attach(down(2, Kind::Video));
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    let answer = answer(
        &mut negotiator,
        fixture!("chromium-v1-publish"),
        &[("7", 1), ("8", 2)],
    );
    assert_like_livekit(
        &answer.sdp,
        fixture!("chromium-v1-publish.livekit"),
        &["8 36 apt=35"],
    );
    assert_eq!(answer.mid_to_track_id.len(), 2);
    assert_eq!(answer.mid_to_track_id["0"], "TR_1");
    assert_eq!(answer.mid_to_track_id["3"], "TR_2");
    assert_eq!(answer.receive.tracks.len(), 2);
}
