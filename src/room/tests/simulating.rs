//! What applications simulate of the media.

use super::*;
use crate::protocol::livekit::{SimulateScenario, simulate_scenario};

#[test]
fn who_wants_to_be_said_to_speak_is_and_a_network_can_be_made_narrow() {
    let simulate = |scenario| {
        signal_request::Message::Simulate(SimulateScenario {
            scenario: Some(scenario),
        })
    };
    let mut lab = Lab::new();
    let alice = lab.join("alice");
    let transport = lab.connect();
    let sid = lab.room.participant_sid(alice).unwrap().as_str().to_owned();
    let spoke = |lab: &mut Lab| -> Vec<(String, bool)> {
        lab.heard(alice)
            .into_iter()
            .filter_map(|message| match message {
                signal_response::Message::SpeakersChanged(changed) => Some(changed.speakers),
                _ => None,
            })
            .flatten()
            .map(|speaker| (speaker.sid, speaker.active))
            .collect()
    };
    lab.request(
        alice,
        simulate(simulate_scenario::Scenario::SpeakerUpdate(3)),
    );
    assert_eq!(spoke(&mut lab), [(sid.clone(), true)]);
    lab.wait(Duration::from_millis(2_900));
    assert_eq!(spoke(&mut lab), []);
    lab.wait(Duration::from_millis(200));
    assert_eq!(spoke(&mut lab), [(sid, false)]);
    let limits = |lab: &mut Lab, bitrate: i64| -> Vec<(TransportId, Option<u64>)> {
        lab.commands.clear();
        lab.request(
            alice,
            simulate(simulate_scenario::Scenario::SubscriberBandwidth(bitrate)),
        );
        let limit = |command: &Command| match command {
            Command::LimitBandwidth { id, bitrate } => Some((*id, *bitrate)),
            _ => None,
        };
        lab.commands.iter().filter_map(limit).collect()
    };
    assert_eq!(limits(&mut lab, 500_000), [(transport, Some(500_000))]);
    assert_eq!(limits(&mut lab, 0), [(transport, None)]);
    assert_eq!(limits(&mut lab, -1), [(transport, None)]);
}
