//! Answers to the offers of real clients, compared with those of livekit-server 1.13.5 to the same offers
//! (`tests/fixtures/*.livekit.sdp`).

use super::{answer_to as answer, down, fixture, format, negotiator, publishes, read, setup};
use crate::ids::{PayloadType, Ssrc, UpTrackId};
use crate::negotiate::parse::{Description, Media};
use crate::negotiate::{Negotiator, Role};
use crate::plan::{Codec, DtlsRole, Kind};
use crate::random::Random;

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

/// Facts that begin with one of `aside` are not compared.
fn assert_like_livekit(ours: &str, theirs: &str, aside: &[&str]) {
    let compared = |sdp| {
        facts(&read(sdp))
            .into_iter()
            .filter(|fact| !aside.iter().any(|start| fact.starts_with(start)))
            .collect::<Vec<_>>()
    };
    pretty(&compared(ours), &compared(theirs));
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

#[test]
fn the_answer_is_passive_and_later_ones_repeat_the_candidates_in_the_first_section() {
    let mut negotiator = negotiator(Role::Single);
    let first = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    let second = answer(&mut negotiator, fixture!("chromium-v1-publish"), &[]);
    for sdp in [&first.sdp, &second.sdp] {
        assert!(sdp.contains("a=setup:passive\r\n") && !sdp.contains("a=setup:act"));
        assert!(sdp.contains("a=extmap-allow-mixed\r\n"));
        assert!(!sdp.contains("ice-lite"));
    }
    let sections: Vec<_> = second.sdp.split("m=").skip(1).collect();
    assert_eq!(sections[0].matches("a=candidate:").count(), 4);
    assert!(
        sections[0]
            .contains(" 2 udp 2130706431 127.0.0.1 7882 typ host ufrag A234567890123456\r\n")
    );
    assert!(sections[0].contains(
        " 1 tcp 1671430143 fd00::2 7881 typ host tcptype passive ufrag A234567890123456\r\n"
    ));
    assert!(sections[0].contains("a=end-of-candidates"));
    assert!(sections[1..].iter().all(|s| !s.contains("candidate")));
    let version = |sdp: &str| {
        sdp.lines()
            .nth(1)
            .unwrap()
            .split(' ')
            .nth(2)
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (version(&first.sdp), version(&second.sdp)),
        ("1".into(), "2".into())
    );
}

#[test]
fn an_offer_that_waits_for_us_is_answered_actively() {
    let sdp = fixture!("chromium-v1-join").replace("setup:actpass", "setup:passive");
    let mut negotiator = negotiator(Role::Single);
    let answer = answer(&mut negotiator, &sdp, &[]);
    assert!(answer.sdp.contains("a=setup:active\r\n") && !answer.sdp.contains("passive"));
    assert_eq!(answer.remote.role, DtlsRole::Client);
}

#[test]
fn firefox_keeps_its_payload_types_and_is_given_one_codec_to_publish() {
    let mut facts = setup(Role::Single);
    facts.firefox = true;
    let mut negotiator = Negotiator::new(facts);
    negotiator.attach(down(1, Kind::Audio));
    negotiator.attach(down(2, Kind::Video));
    let join = answer(&mut negotiator, fixture!("firefox-v1-join"), &[]);
    assert_like_livekit(&join.sdp, fixture!("firefox-v1-join.livekit"), &[]);
    assert!(
        !join.sdp.contains("allow-mixed"),
        "Firefox says it per section"
    );
    assert_eq!(join.bound.len(), 2);
    assert_eq!(join.bound[0].formats.len(), 1, "no RED to Firefox");
    assert_eq!(join.bound[0].formats[0].pt, PayloadType(109));
    assert_eq!(join.bound[1].formats[0].pt, PayloadType(120));
    assert_eq!(join.bound[1].formats[0].rtx, Some(PayloadType(124)));
    assert_eq!(join.bound[1].extensions.transport_cc, Some(7));
    assert_eq!(join.bound[1].extensions.abs_send_time, Some(4));
    assert_eq!(join.bound[1].extensions.dependency_descriptor, None);
    assert!(join.bound[1].nack && !join.bound[0].nack);

    let publish = answer(
        &mut negotiator,
        fixture!("firefox-v1-publish"),
        &[("7", 1), ("8", 2)],
    );
    assert_like_livekit(&publish.sdp, fixture!("firefox-v1-publish.livekit"), &[]);
    assert!(publish.bound.is_empty(), "nothing changed for those bound");
    let video = &publish.receive.tracks[1];
    assert_eq!(video.formats.len(), 1);
    assert_eq!(video.layers.len(), 3);
    assert_eq!(publish.receive.extensions.rid, Some(9));
    assert_eq!(publish.receive.extensions.dependency_descriptor, Some(8));
}

#[test]
fn every_section_of_ours_says_port_9_when_firefox_bundles_on_port_0() {
    let mut negotiator = negotiator(Role::Single);
    let answer = answer(&mut negotiator, fixture!("firefox-v1-publish"), &[]);
    let ports: Vec<_> = answer
        .sdp
        .lines()
        .filter(|line| line.starts_with("m="))
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(ports, ["9"; 7]);
    assert!(answer.sdp.contains("a=group:BUNDLE 0 1 3 4 6 7 8\r\n"));
}

#[test]
fn the_rust_sdk_publishes_two_layers_named_from_the_top() {
    let mut negotiator = negotiator(Role::Single);
    let answer = answer(
        &mut negotiator,
        fixture!("python-v1-publish"),
        &[("7", 7), ("8", 8)],
    );
    assert_like_livekit(&answer.sdp, fixture!("python-v1-publish.livekit"), &[]);
    assert!(answer.sdp.contains("a=simulcast:recv h;q\r\n"));
    assert!(!answer.sdp.contains("sctp-init"));
    let video = &answer.receive.tracks[0];
    assert_eq!(video.up, UpTrackId(7));
    let layers: Vec<_> = video
        .layers
        .iter()
        .map(|layer| (layer.spatial, layer.rid.as_ref().unwrap().as_str()))
        .collect();
    assert_eq!(layers, [(0, "q"), (1, "h")]);
    let audio = &answer.receive.tracks[1];
    assert_eq!(audio.formats[0].format.codec, Codec::Red);
    assert_eq!(audio.layers[0].ssrc, Some(Ssrc(390_790_375)));
    assert_eq!(answer.receive.extensions.audio_level, Some(1));
    assert_eq!(answer.receive.extensions.mid, Some(4));
}

/// livekit-client gives the dependency descriptor the id after Chromium's own, which was 16 in 2022.
#[test]
fn an_extension_may_have_a_long_id_where_both_forms_may_be_mixed() {
    let id_of = |from: &str, to: &str, mixed: bool| {
        let mut sdp = fixture!("chromium-v1-publish").replace(from, to);
        if !mixed {
            sdp = sdp.replace("a=extmap-allow-mixed\n", "");
        }
        let answer = answer(&mut negotiator(Role::Single), &sdp, &[("8", 8)]);
        answer.receive.extensions.dependency_descriptor
    };
    let dd = "https://aomediacodec.github.io/av1-rtp-spec";
    let own = format!("a=extmap:12 {dd}");
    assert_eq!(id_of(&own, &own, true), Some(12));
    assert_eq!(id_of(&own, &format!("a=extmap:16 {dd}"), true), Some(16));
    assert_eq!(id_of(&own, &format!("a=extmap:16 {dd}"), false), None);
    assert_eq!(id_of(&own, &format!("a=extmap:15 {dd}"), true), None);
}

#[test]
fn the_go_sdk_publishes_with_two_connections_and_its_high_profile_is_taken() {
    let mut negotiator = negotiator(Role::Publisher);
    let offer = negotiator.parse_offer(fixture!("go-v0-publish")).unwrap();
    assert_eq!(offer.sections.len(), 2);
    assert!(offer.sections.iter().all(|section| section.sends));
    assert_eq!(
        offer.sections[1].msid_track.as_deref(),
        Some("loadtest-video")
    );
    let mut publishes = publishes(&[("0", 1), ("1", 2)]);
    publishes.get_mut("1").unwrap().preferred = Some(Codec::H264);
    let answer = negotiator
        .answer(offer, &publishes, &mut Random::seeded(1))
        .unwrap();
    assert_like_livekit(&answer.sdp, fixture!("go-v0-publish.livekit"), &[]);
    let video = &answer.receive.tracks[1];
    assert_eq!(video.formats[0].pt, PayloadType(106));
    assert_eq!(video.formats[0].rtx, Some(PayloadType(107)));
    assert_eq!(video.formats[0].format, format(Codec::H264, 1));
    assert_eq!(video.formats[2].format, format(Codec::H264, 7));
    assert!(video.nack);
}

#[test]
fn chromium_publishing_with_two_connections_is_given_no_remb() {
    let mut negotiator = negotiator(Role::Publisher);
    let answer = answer(
        &mut negotiator,
        fixture!("chromium-v0-publish"),
        &[("1", 1), ("2", 2)],
    );
    // The recorded answer lacks what the room decides about Opus; single connections have it.
    assert_like_livekit(
        &answer.sdp,
        fixture!("chromium-v0-publish.livekit"),
        &["1 111 "],
    );
    assert!(
        answer
            .sdp
            .contains("a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\n")
    );
    assert!(!answer.sdp.contains("goog-remb"));
    assert!(answer.mid_to_track_id.is_empty());
}

#[test]
fn an_old_client_may_put_its_data_channels_last() {
    let sdp = fixture!("chromium-v0-publish");
    let mut parts: Vec<&str> = sdp.split_inclusive('\n').collect();
    let media: Vec<usize> = (0..parts.len())
        .filter(|i| parts[*i].starts_with("m="))
        .collect();
    let data: Vec<&str> = parts.drain(media[0]..media[1]).collect();
    parts.extend(data);
    let sdp = parts.concat().replace("BUNDLE 0 1 2", "BUNDLE 1 2 0");
    let mut negotiator = negotiator(Role::Publisher);
    let answer = answer(&mut negotiator, &sdp, &[("1", 1), ("2", 2)]);
    let names: Vec<_> = read(&answer.sdp)
        .sections
        .iter()
        .map(|s| s.name.clone())
        .collect();
    assert_eq!(names, ["audio", "video", "application"]);
    assert_eq!(answer.receive.tracks.len(), 2);
}

#[test]
fn opus_is_answered_as_the_room_wants_it() {
    let answered = |dtx, stereo, red| {
        let mut negotiator = negotiator(Role::Single);
        let offer = negotiator
            .parse_offer(fixture!("chromium-v1-publish"))
            .unwrap();
        let mut publishes = publishes(&[("7", 1)]);
        let publish = publishes.get_mut("7").unwrap();
        (publish.dtx, publish.stereo, publish.red) = (dtx, stereo, red);
        let answer = negotiator
            .answer(offer, &publishes, &mut Random::seeded(1))
            .unwrap();
        let section = answer.sdp.split("m=audio").nth(3).unwrap().to_owned();
        let fmtp = section
            .lines()
            .find(|line| line.starts_with("a=fmtp:111"))
            .unwrap();
        (section.lines().next().unwrap().to_owned(), fmtp.to_owned())
    };
    assert_eq!(
        answered(true, true, true),
        (
            " 9 UDP/TLS/RTP/SAVPF 63 111 0 8".into(),
            "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1;stereo=1;maxaveragebitrate=510000"
                .into()
        )
    );
    assert_eq!(
        answered(false, false, false),
        (
            " 9 UDP/TLS/RTP/SAVPF 111 0 8".into(),
            "a=fmtp:111 minptime=10;useinbandfec=1".into()
        )
    );
}

#[test]
fn a_stereo_track_is_announced_as_one() {
    let mut negotiator = negotiator(Role::Single);
    let mut spec = down(1, Kind::Audio);
    spec.stereo = true;
    negotiator.attach(spec);
    let answer = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    let fmtp = "a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1\r\n";
    assert_eq!(answer.sdp.matches(fmtp).count(), 1);
}

/// Section 8 is a camera, the others wait for tracks.
#[test]
fn what_a_client_is_not_to_send_is_answered_only_where_it_receives() {
    let mut facts = setup(Role::Single);
    facts.unsent = vec![Codec::H264];
    let mut negotiator = Negotiator::new(facts);
    let answer = answer(
        &mut negotiator,
        fixture!("chromium-v1-publish"),
        &[("8", 1)],
    );
    let has_h264 = |mid: &str| {
        let mut sections = answer.sdp.split("m=");
        let mid = format!("a=mid:{mid}\r\n");
        let section = sections.find(|section| section.contains(&mid)).unwrap();
        section.contains("H264")
    };
    assert!(!has_h264("8"));
    let formats = answer.receive.tracks[0].formats.iter();
    assert!(formats.clone().any(|f| f.format.codec == Codec::Vp8));
    assert!(formats.clone().all(|f| f.format.codec != Codec::H264));
    let waiting = read(&answer.sdp).sections.into_iter();
    let waiting: Vec<_> = waiting
        .filter(|s| s.media == Media::Rtp(Kind::Video) && s.mid.as_str() != "8")
        .collect();
    assert!(!waiting.is_empty());
    for section in waiting {
        assert!(has_h264(section.mid.as_str()), "{}", section.mid.as_str());
    }
}

#[test]
fn codecs_that_the_room_does_not_allow_are_not_answered() {
    let mut facts = setup(Role::Single);
    facts.codecs = vec![Codec::Opus, Codec::Vp8];
    let mut negotiator = Negotiator::new(facts);
    let answer = answer(
        &mut negotiator,
        fixture!("chromium-v1-publish"),
        &[("8", 1)],
    );
    for line in answer.sdp.lines().filter(|line| line.starts_with("m=")) {
        assert!(
            line.ends_with("SAVPF 111")
                || line.ends_with("SAVPF 96 97")
                || line.ends_with("channel"),
            "{line}"
        );
    }
}

#[test]
fn what_a_section_says_that_was_rejected_does_not_count() {
    let joined = fixture!("chromium-v1-join");
    let (head, rest) = joined.split_once("m=audio 9").unwrap();
    let restarted = rest.replace("ice-ufrag:Zx9+", "ice-ufrag:new+");
    let stopped = restarted.replacen("ice-ufrag:new+", "ice-ufrag:old+", 1);
    let offer = read(&format!("{head}m=audio 0{stopped}"));
    assert_eq!(offer.ice.ufrag, "new+");
}

#[test]
fn a_restart_of_ice_gets_new_credentials_for_the_same_worker_and_no_candidates() {
    let mut negotiator = negotiator(Role::Single);
    answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    let same = answer(&mut negotiator, fixture!("chromium-v1-join"), &[]);
    assert!(!same.restarted);
    assert_eq!(negotiator.local().ufrag, "A234567890123456");

    let again = fixture!("chromium-v1-join").replace("ice-ufrag:Zx9+", "ice-ufrag:new+");
    let restart = answer(&mut negotiator, &again, &[]);
    assert!(restart.restarted);
    let local = negotiator.local().clone();
    assert_ne!(local.ufrag, "A234567890123456");
    assert!(local.ufrag.starts_with('A') && local.ufrag.len() == 16);
    assert!(
        restart
            .sdp
            .contains(&format!("a=ice-ufrag:{}\r\n", local.ufrag))
    );
    assert!(!restart.sdp.contains("A234567890123456"));
    assert!(!restart.sdp.contains("a=candidate"));
    assert_eq!(restart.remote.role, DtlsRole::Server);
    assert_eq!(restart.remote.ice.ufrag, "new+");

    let after = answer(&mut negotiator, &again, &[]);
    assert!(!after.restarted && after.sdp.contains("a=candidate"));
}

#[test]
fn candidates_in_an_offer_are_taken_and_useless_ones_left() {
    let sdp = fixture!("chromium-v0-publish");
    let mut negotiator = negotiator(Role::Publisher);
    let answer = answer(&mut negotiator, sdp, &[]);
    assert_eq!(answer.candidates.len(), 4);
    assert_eq!(
        answer.candidates[1].address,
        "192.0.2.2:39400".parse().unwrap()
    );
    assert_eq!(answer.candidates[1].priority, 2_122_063_615);
}
