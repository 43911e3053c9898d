//! What no honest client sends.

use super::{down, fixture, negotiator, publishes};
use crate::negotiate::{Negotiator, Role, SdpFault};
use crate::plan::Kind;
use crate::random::Random;
use proptest::prelude::*;

const SDPS: [&str; 5] = [
    fixture!("chromium-v1-publish"),
    fixture!("firefox-v1-publish"),
    fixture!("python-v1-publish"),
    fixture!("go-v0-publish"),
    fixture!("chromium-v0-accept"),
];

fn fault(sdp: &str) -> Option<SdpFault> {
    negotiator(Role::Single).parse_offer(sdp).err()
}

#[test]
fn what_is_missing_is_named() {
    let sdp = fixture!("chromium-v0-accept");
    assert_eq!(fault(""), Some(SdpFault::Unparsable));
    assert_eq!(fault("hello"), Some(SdpFault::Unparsable));
    assert_eq!(
        fault(&sdp.replace("sha-256", "sha-1")),
        Some(SdpFault::NoFingerprint)
    );
    assert_eq!(
        fault(&sdp.replace("A1:B2", "A1")),
        Some(SdpFault::NoFingerprint)
    );
    assert_eq!(
        fault(&sdp.replace("ice-pwd", "ice-bwd")),
        Some(SdpFault::NoIce)
    );
    assert_eq!(
        fault(&sdp.replace("mid:1", "mid:0")),
        Some(SdpFault::Unparsable)
    );
    assert_eq!(fault(sdp), None);
}

#[test]
fn an_sdp_is_bounded() {
    let sdp = fixture!("chromium-v0-accept");
    let many = format!("{sdp}{}", "m=audio 0 UDP/TLS/RTP/SAVPF 0\n".repeat(600));
    assert_eq!(fault(&many), Some(SdpFault::TooManySections));
    let long = format!("{sdp}a=x:{}\n", "y".repeat(2 << 20));
    assert_eq!(fault(&long), Some(SdpFault::Unparsable));
}

#[test]
fn nothing_that_is_echoed_can_begin_a_line_of_ours() {
    let sdp = fixture!("chromium-v0-publish");
    let evil = sdp.replace("minptime=10", "minptime=10\ra=setup:active");
    assert_eq!(fault(&evil), Some(SdpFault::Unparsable));
    let evil = sdp.replace("a=mid:1\n", "a=mid:1 2\n");
    assert_eq!(fault(&evil), Some(SdpFault::Unparsable));
}

/// One change to a text, by position and choice.
fn change(text: &mut Vec<u8>, lines: bool, at: usize, what: u8, byte: u8) {
    if text.is_empty() {
        return;
    }
    if lines {
        let mut all: Vec<Vec<u8>> = text
            .split_inclusive(|b| *b == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let at = at % all.len();
        let other = usize::from(byte) * 7 % all.len();
        match what % 3 {
            0 => drop(all.remove(at)),
            1 => all.insert(other, all[at].clone()),
            _ => all.swap(at, other),
        }
        *text = all.concat();
    } else {
        let at = at % text.len();
        match what % 4 {
            0 => text[at] = byte,
            1 => drop(text.remove(at)),
            2 => text.insert(at, b"0123456789:;=/ ~,-\n"[usize::from(byte) % 19]),
            _ => text.truncate(at),
        }
    }
}

fn prepared() -> Negotiator {
    let mut negotiator = negotiator(Role::Single);
    for id in 0..6 {
        let kind = if id % 2 == 0 {
            Kind::Audio
        } else {
            Kind::Video
        };
        negotiator.attach(down(id, kind));
    }
    negotiator
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spoiled_sdps_are_refused_or_answered_with_an_sdp(
        which in 0..SDPS.len(),
        changes in prop::collection::vec((any::<bool>(), any::<usize>(), any::<u8>(), any::<u8>()), 1..12),
    ) {
        let mut text = SDPS[which].as_bytes().to_vec();
        for (lines, at, what, byte) in changes {
            change(&mut text, lines, at, what, byte);
        }
        let text = String::from_utf8_lossy(&text);

        let mut negotiator = prepared();
        let mut random = Random::seeded(7);
        for _ in 0..2 {
            let Ok(offer) = negotiator.parse_offer(&text) else { break };
            let publishes = publishes(&[("0", 1), ("1", 2), ("7", 3), ("8", 4)]);
            let sections = offer.description.sections.len();
            let Ok(answer) = negotiator.answer(offer, &publishes, &mut random) else { break };
            let read = crate::negotiate::parse::Description::parse(&answer.sdp);
            // With every section rejected there is nobody to say our credentials.
            if answer.sdp.contains("a=ice-ufrag") {
                prop_assert_eq!(read.unwrap().sections.len(), sections);
            }
        }

        let mut subscriber = super::negotiator(Role::Subscriber);
        subscriber.attach(down(1, Kind::Audio));
        subscriber.attach(down(2, Kind::Video));
        subscriber.offer(None);
        if subscriber.accept(&text, 0).is_ok() {
            prop_assert!(subscriber.offer(None).is_some());
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}", lines in prop::collection::vec("[a-z]=.{0,40}", 0..20)) {
        let _ = fault(&text);
        let sdp = format!("v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\n{}", lines.join("\n"));
        let _ = fault(&sdp);
        let _ = crate::negotiate::parse_candidate(&text);
    }
}
