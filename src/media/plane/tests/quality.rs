//! What rooms are told of the network of each transport.

use super::*;
use crate::plan::{DownReport, QualityReport, UpReport};
use crate::rtp::rtcp::ReportBlock;

/// The reports of a person's transport since the last call.
fn reports(lab: &mut Lab, person: usize) -> Vec<QualityReport> {
    let id = TransportId(person as u64 + 1);
    let (mine, rest) = std::mem::take(&mut lab.events)
        .into_iter()
        .partition(|(to, event)| *to == id && matches!(event, Event::Quality { .. }));
    lab.events = rest;
    mine.into_iter()
        .map(|(_, event): (TransportId, Event)| match event {
            Event::Quality { report, .. } => *report,
            _ => unreachable!(),
        })
        .collect()
}

fn ups(lab: &mut Lab, person: usize) -> Vec<UpReport> {
    reports(lab, person)
        .into_iter()
        .map(|report| report.ups[0])
        .collect()
}

#[test]
fn a_publishers_losses_and_layers_are_told_every_five_seconds() {
    everywhere(|mut lab| {
        let track = video_track(1, 3);
        lab.publish(0, vec![track]);
        let mut camera = Camera::new(&lab, 0, 3);
        camera.frames(&mut lab, 160);
        let told = ups(&mut lab, 0);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].lost, told[0].layers), (0, 0b111));
        // 150 frames of 10 packets in all.
        assert!(
            (1_400..=1_600).contains(&told[0].expected),
            "{}",
            told[0].expected
        );
        assert!(told[0].bytes > 1_400 * 1_000, "{}", told[0].bytes);
        lab.people[0].loss = (0.1, 0.0);
        camera.frames(&mut lab, 150);
        let told = ups(&mut lab, 0);
        let share = told[0].lost as f32 / told[0].expected as f32;
        assert!((0.06..0.14).contains(&share), "{share}");
        lab.people[0].loss = (0.0, 0.0);
        camera.frames(&mut lab, 150);
        camera.encodings[2].on = false;
        lab.events.clear();
        camera.frames(&mut lab, 300);
        let told = ups(&mut lab, 0);
        assert_eq!(told.last().unwrap().layers, 0b011);
        assert_eq!(told.last().unwrap().lost, 0, "what is not sent is not lost");
    });
}

#[test]
fn silence_is_told_too_but_not_without_tracks() {
    let mut lab = Lab::new(3, 1, &[0, 0]);
    lab.run(ms(20_000));
    assert_eq!(reports(&mut lab, 0), []);
    lab.publish(0, vec![audio_track(1, OPUS, PT_OPUS)]);
    for n in 0..10 {
        speak(&mut lab, n, vec![1; 50], PT_OPUS);
    }
    lab.run(ms(15_500));
    let told = ups(&mut lab, 0);
    let layers: Vec<u8> = told.iter().map(|report| report.layers).collect();
    assert_eq!(layers, [1, 0, 0]);
    assert_eq!((told[1].expected, told[1].bytes), (0, 0));
    assert_eq!(reports(&mut lab, 1), []);
    lab.publish(0, Vec::new());
    lab.run(ms(20_000));
    assert_eq!(reports(&mut lab, 0), []);
}

#[test]
fn what_a_receiver_says_of_its_network_is_told() {
    everywhere(|mut lab| {
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let (down, ssrc) = (plan.down, plan.ssrc.0);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 1);
        let mut told: Vec<DownReport> = Vec::new();
        for (received, lost) in [(140, 0), (290, 15), (400, 15)] {
            camera.frames(&mut lab, 145);
            let block = ReportBlock {
                ssrc,
                highest_seq: 70_000 + received,
                cumulative_lost: lost,
                jitter: 900,
                ..ReportBlock::default()
            };
            lab.send_rtcp(1, |writer| {
                writer.receiver_report(crate::ids::Ssrc(1), &[block]);
            });
            camera.frames(&mut lab, 5);
            told.extend(reports(&mut lab, 1).into_iter().map(|r| r.downs[0]));
        }
        camera.frames(&mut lab, 20);
        told.extend(reports(&mut lab, 1).into_iter().map(|r| r.downs[0]));
        assert!(told.iter().all(|report| report.down == down));
        let losses: Vec<(u32, u32)> = told.iter().map(|r| (r.expected, r.lost)).collect();
        assert_eq!(losses, [(0, 0), (150, 15), (110, 0)]);
        assert!(told.iter().all(|report| report.reports == 1));
        assert_eq!(told[1].jitter, ms(10));
        assert!((130..=170).contains(&told[1].sent), "{}", told[1].sent);
        assert_eq!(told[1].held_back, 0);
    });
}

#[test]
fn layers_that_congestion_keeps_back_are_told() {
    let mut lab = Lab::new(5, 1, &[0, 0]);
    let track = video_track(1, 3);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    let ssrc = plan.ssrc.0;
    lab.subscribe(1, 0, plan);
    let mut camera = Camera::new(&lab, 0, 3);
    camera.frames(&mut lab, 30);
    for _ in 0..16 {
        let block = ReportBlock {
            ssrc,
            fraction_lost: 80,
            ..ReportBlock::default()
        };
        lab.send_rtcp(1, |writer| {
            writer.receiver_report(crate::ids::Ssrc(1), &[block]);
        });
        camera.frames(&mut lab, 10);
    }
    let told = reports(&mut lab, 1);
    assert!(told[0].downs[0].held_back >= 1, "{told:?}");
}
