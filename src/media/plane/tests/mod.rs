//! A plane, or two joined by links, between real transports in virtual time.

mod bounds;
mod camera;
mod lab;
mod messages;
mod muting;
mod quality;
mod reports;
mod shared;
mod svc;

use super::*;
use crate::ids::PayloadType;
use crate::media::codec::{opus, vp8::Vp8Descriptor};
use crate::plan::{Channel, DataChannels, SendFormat, Wanted};
use bytes::Bytes;
use camera::*;
use lab::*;
use std::collections::BTreeSet;

const WHOLE: Wanted = Wanted {
    paused: false,
    max_spatial: 255,
    max_temporal: 255,
};

/// Publisher and subscriber on one plane, and on two.
fn everywhere(test: impl Fn(Lab)) {
    test(Lab::new(1, 1, &[0, 0]));
    test(Lab::new(2, 2, &[0, 1]));
}

fn speak(lab: &mut Lab, n: u16, payload: Vec<u8>, pt: u8) {
    let draft = Draft {
        ssrc: 11,
        pt,
        seq: 65_530u16.wrapping_add(n),
        timestamp: u32::MAX
            .wrapping_sub(3_000)
            .wrapping_add(u32::from(n) * 960),
        marker: n == 0,
        mid: "0",
        rid: None,
        level: Some(30),
        payload,
    };
    lab.send(0, &draft);
    lab.run(ms(20));
}

#[test]
fn audio_reaches_the_subscriber_under_its_own_numbers() {
    everywhere(|mut lab| {
        let track = audio_track(1, OPUS, PT_OPUS);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let (down, ssrc) = (plan.down, plan.ssrc.0);
        lab.subscribe(1, 0, plan);
        for n in 0..100u16 {
            speak(&mut lab, n, vec![n as u8; 80 + usize::from(n % 7)], PT_OPUS);
        }
        lab.run(ms(100));
        let got = &lab.people[1].got;
        assert_eq!(got.len(), 100);
        for (n, packet) in got.iter().enumerate() {
            assert_eq!(packet.payload[..], vec![n as u8; 80 + n % 7][..]);
            assert_eq!((packet.ssrc, packet.pt), (ssrc, SUB_OPUS));
            assert_eq!(packet.seq, got[0].seq + n as u64);
            assert_eq!(
                packet.timestamp,
                got[0].timestamp.wrapping_add(n as u32 * 960)
            );
            assert_eq!(packet.marker, n == 0);
            assert_eq!(packet.level, Some(30));
            assert_eq!(packet.mid.as_deref(), Some(&b"7"[..]));
            assert!(packet.has_send_time && !packet.has_transport_seq);
        }
        let started = lab
            .events
            .iter()
            .filter(|(id, event)| {
                *id == TransportId(2)
                    && matches!(event, Event::DownStarted { down: told } if *told == down)
            })
            .count();
        assert_eq!(started, 1);
        // At −30 dBov it is speech.
        let level = |(id, event): &(TransportId, Event)| match event {
            Event::AudioLevel { level, .. } if *id == TransportId(1) => Some(*level),
            _ => None,
        };
        let levels: Vec<f32> = lab.events.iter().filter_map(level).collect();
        assert!(levels.len() >= 3 && levels[0] > 0.0, "{levels:?}");
        // The publisher hears of its packets.
        assert!(
            lab.people[0]
                .reports
                .iter()
                .any(|block| block.ssrc == 11 && block.fraction_lost == 0)
        );
        assert!(lab.people[0].feedback > 80, "{}", lab.people[0].feedback);
        // The subscriber gets a sender report with its names, by our clock as the publisher tells none.
        lab.run(ms(6_000));
        assert!(
            lab.people[1]
                .sender_reports
                .iter()
                .any(|(from, info)| *from == ssrc && info.packets > 10)
        );
        assert!(
            lab.people[1]
                .names
                .contains(&(crate::rtp::rtcp::MID, "7".to_owned()))
        );
    });
}

#[test]
fn the_mid_is_left_out_once_the_receiver_has_reported() {
    everywhere(|mut lab| {
        let track = audio_track(1, OPUS, PT_OPUS);
        lab.publish(0, vec![track.clone()]);
        let mut plan = lab.down(1, &track);
        plan.playout_delay = Some([0, 0xa0, 0x14]);
        let ssrc = plan.ssrc;
        lab.subscribe(1, 0, plan);
        for n in 0..5 {
            speak(&mut lab, n, vec![1; 50], PT_OPUS);
        }
        let block = crate::rtp::rtcp::ReportBlock {
            ssrc: ssrc.0,
            ..Default::default()
        };
        lab.send_rtcp(1, |writer| {
            writer.receiver_report(crate::ids::Ssrc(1), &[block]);
        });
        lab.run(ms(50));
        for n in 5..10 {
            speak(&mut lab, n, vec![1; 50], PT_OPUS);
        }
        lab.run(ms(50));
        let mids: Vec<bool> = lab.people[1]
            .got
            .iter()
            .map(|packet| packet.mid.is_some())
            .collect();
        assert_eq!(mids, [[true; 5], [false; 5]].concat());
        let delays: Vec<bool> = lab.people[1]
            .got
            .iter()
            .map(|packet| packet.playout_delay.as_deref() == Some(&[0, 0xa0, 0x14][..]))
            .collect();
        assert_eq!(delays, mids, "it is told as often");
    });
}

#[test]
fn losses_on_both_ways_are_repaired() {
    everywhere(|mut lab| {
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let mut plan = lab.down(1, &track);
        plan.wanted.max_spatial = 0;
        let ssrc = plan.ssrc.0;
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 1);
        camera.frames(&mut lab, 10);
        lab.people[0].loss = (0.08, 0.0);
        lab.people[1].loss = (0.0, 0.08);
        lab.people[1].nacks = true;
        camera.frames(&mut lab, 300);
        lab.people[0].loss = (0.0, 0.0);
        lab.people[1].loss = (0.0, 0.0);
        camera.frames(&mut lab, 30);
        lab.run(ms(500));
        let frames = watch(&lab.people[1].got, ssrc);
        let repaired = lab.people[1]
            .got
            .iter()
            .filter(|packet| packet.ssrc == ssrc + 1)
            .count();
        assert!(repaired > 10, "{repaired}");
        let numbers: Vec<u32> = frames.iter().map(|frame| frame.number).collect();
        assert_eq!(numbers, (numbers[0]..340).collect::<Vec<_>>());
    });
}

#[test]
fn a_subscriber_gets_the_layer_it_wants_and_switches_without_a_seam() {
    everywhere(|mut lab| {
        let track = video_track(1, 3);
        lab.publish(0, vec![track.clone()]);
        let mut camera = Camera::new(&lab, 0, 3);
        camera.frames(&mut lab, 10);
        camera.report(&mut lab);
        let plan = lab.down(1, &track);
        let (down, ssrc) = (plan.down, plan.ssrc.0);
        lab.subscribe(1, 0, plan);
        camera.frames(&mut lab, 45);
        for (wanted, frames) in [(0, 60), (2, 60), (1, 60)] {
            let wanted = Wanted {
                max_spatial: wanted,
                ..WHOLE
            };
            lab.set_wanted(1, down, wanted);
            camera.frames(&mut lab, frames);
        }
        lab.run(ms(100));
        let frames = watch(&lab.people[1].got, ssrc);
        let mut layers: Vec<u8> = frames.iter().map(|frame| frame.layer).collect();
        layers.dedup();
        assert_eq!(layers, [2, 0, 2, 1]);
        // The clocks are known: a switch is a frame on, or shows the same moment again, larger; nothing is missing.
        for pair in frames.windows(2) {
            let ahead = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            match pair[1].number - pair[0].number {
                0 => assert!(pair[1].layer > pair[0].layer && ahead == 1, "{pair:?}"),
                1 => assert!((2_998..=3_002).contains(&ahead), "{pair:?}"),
                _ => panic!("{pair:?}"),
            }
        }
        let seen: BTreeSet<u8> = lab
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::LayerSeen { spatial, ssrc, .. } => {
                    assert_eq!(ssrc.0, 100 + u32::from(*spatial));
                    Some(*spatial)
                }
                _ => None,
            })
            .collect();
        assert_eq!(seen, BTreeSet::from([0, 1, 2]));
    });
}

#[test]
fn a_layer_that_dies_is_replaced_by_one_that_lives() {
    everywhere(|mut lab| {
        let track = video_track(1, 3);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let ssrc = plan.ssrc.0;
        let mut camera = Camera::new(&lab, 0, 3);
        camera.frames(&mut lab, 5);
        lab.subscribe(1, 0, plan);
        camera.frames(&mut lab, 60);
        camera.encodings[2].on = false;
        camera.frames(&mut lab, 90);
        camera.encodings[2].on = true;
        camera.frames(&mut lab, 90);
        lab.run(ms(100));
        let frames = watch(&lab.people[1].got, ssrc);
        let mut layers: Vec<u8> = frames.iter().map(|frame| frame.layer).collect();
        layers.dedup();
        assert_eq!(layers, [2, 1, 2]);
    });
}

#[test]
fn a_temporal_layer_that_is_not_wanted_leaves_no_trace() {
    everywhere(|mut lab| {
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let (down, ssrc) = (plan.down, plan.ssrc.0);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 1);
        camera.frames(&mut lab, 30);
        lab.set_wanted(
            1,
            down,
            Wanted {
                max_temporal: 0,
                ..WHOLE
            },
        );
        camera.frames(&mut lab, 60);
        lab.set_wanted(1, down, WHOLE);
        camera.frames(&mut lab, 30);
        lab.run(ms(100));
        let frames = watch(&lab.people[1].got, ssrc);
        let upper = |from: u32, to: u32| {
            frames
                .iter()
                .filter(|frame| frame.temporal > 0 && (from..to).contains(&frame.number))
                .count()
        };
        assert_eq!(upper(0, 30), 15);
        assert_eq!(upper(32, 90), 0);
        assert_eq!(upper(92, 120), 14);
        assert_eq!(frames.len(), 30 + 30 + 30);
    });
}

#[test]
fn a_pause_stops_the_packets_and_its_end_begins_with_a_key_frame() {
    everywhere(|mut lab| {
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let (down, ssrc) = (plan.down, plan.ssrc.0);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 1);
        camera.frames(&mut lab, 30);
        lab.set_wanted(
            1,
            down,
            Wanted {
                paused: true,
                ..WHOLE
            },
        );
        lab.run(ms(50));
        let before = lab.people[1].got.len();
        camera.frames(&mut lab, 60);
        assert_eq!(lab.people[1].got.len(), before);
        lab.set_wanted(1, down, WHOLE);
        camera.frames(&mut lab, 30);
        lab.run(ms(100));
        let frames = watch(&lab.people[1].got, ssrc);
        let resumed = frames.iter().find(|frame| frame.number >= 90).unwrap();
        assert!(resumed.is_key);
        // A round trip for the request, and a frame.
        assert!(resumed.number <= 92, "{resumed:?}");
        let last = frames.iter().rfind(|frame| frame.number < 90).unwrap();
        // The clock went on meanwhile.
        let apart = (resumed.number - last.number) * 3_000 + 4_500;
        assert_eq!(resumed.timestamp.wrapping_sub(last.timestamp), apart);
    });
}

#[test]
fn red_goes_to_those_who_take_only_opus_as_opus_and_mends_losses() {
    everywhere(|mut lab| {
        let track = audio_track(1, RED, PT_RED);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        lab.subscribe(1, 0, plan);
        let frame = |n: u16| vec![n as u8; 40];
        for n in 0..59u16 {
            // 111 with 960 ticks before, 40 bytes; then the primary.
            let mut payload = vec![
                0x80 | PT_OPUS,
                (960u16 >> 6) as u8,
                ((960 % 64) << 2) as u8,
                40,
                PT_OPUS,
            ];
            payload.extend(frame(n.wrapping_sub(1)));
            payload.extend(frame(n));
            if n % 7 == 3 {
                lab.run(ms(20));
                continue;
            }
            speak(&mut lab, n, payload, PT_RED);
        }
        lab.run(ms(40));
        let got = &lab.people[1].got;
        assert_eq!(got.len(), 59);
        for (n, packet) in got.iter().enumerate() {
            assert_eq!(packet.payload, frame(n as u16));
            assert_eq!(packet.pt, SUB_OPUS);
            assert_eq!(packet.seq, got[0].seq + n as u64);
            assert_eq!(
                packet.timestamp,
                got[0].timestamp.wrapping_add(n as u32 * 960)
            );
        }
    });
}

#[test]
fn a_renegotiated_down_track_goes_on_under_its_numbers() {
    everywhere(|mut lab| {
        let track = audio_track(1, OPUS, PT_OPUS);
        lab.publish(0, vec![track.clone()]);
        let mut plan = lab.down(1, &track);
        let plane = lab.people[1].plane;
        lab.subscribe(1, 0, plan.clone());
        for n in 0..10 {
            speak(&mut lab, n, vec![1; 50], PT_OPUS);
        }
        plan.formats = vec![SendFormat {
            format: OPUS,
            pt: PayloadType(77),
            rtx: None,
        }];
        lab.command(
            plane,
            Command::OpenDown {
                plan: Box::new(plan),
            },
        );
        for n in 10..20 {
            speak(&mut lab, n, vec![1; 50], PT_OPUS);
        }
        lab.run(ms(40));
        let got = &lab.people[1].got;
        assert_eq!(got.len(), 20);
        assert_eq!(got[10].pt, 77);
        for (n, packet) in got.iter().enumerate() {
            assert_eq!(packet.seq, got[0].seq + n as u64);
        }
    });
}

#[test]
fn a_down_track_moves_to_another_connection() {
    let mut lab = Lab::new(7, 1, &[0, 0, 0]);
    let track = video_track(1, 1);
    lab.publish(0, vec![track.clone()]);
    let mut plan = lab.down(1, &track);
    let ssrc = plan.ssrc.0;
    lab.subscribe(1, 0, plan.clone());
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 20);
    plan.transport = TransportId(3);
    lab.command(
        0,
        Command::OpenDown {
            plan: Box::new(plan),
        },
    );
    lab.run(ms(50));
    let before = lab.people[1].got.len();
    camera.frames(&mut lab, 20);
    lab.run(ms(50));
    assert_eq!(lab.people[1].got.len(), before);
    let frames = watch(&lab.people[2].got, ssrc);
    assert!(frames.len() >= 16, "{frames:?}");
    lab.command(0, Command::CloseTransport { id: TransportId(2) });
    assert_eq!(lab.planes[0].report().down_tracks, 1);
    lab.command(0, Command::CloseTransport { id: TransportId(3) });
    assert_eq!(lab.planes[0].report().down_tracks, 0);
}

#[test]
fn a_down_track_goes_on_with_another_track_under_its_numbers() {
    for (planes, seats) in [(1, [0, 0, 0]), (2, [0, 1, 0])] {
        let mut lab = Lab::new(11, planes, &seats);
        let (first, second) = (video_track(1, 3), video_track(2, 3));
        lab.publish(0, vec![first.clone()]);
        lab.publish(2, vec![second.clone()]);
        let mut plan = lab.down(1, &first);
        let ssrc = plan.ssrc;
        lab.subscribe(1, 0, plan.clone());
        let mut cameras = [Camera::new(&lab, 0, 3), Camera::new(&lab, 2, 3)];
        let mut film = |lab: &mut Lab, frames| {
            for _ in 0..frames {
                for camera in &mut cameras {
                    camera.frame(lab);
                }
            }
        };
        film(&mut lab, 30);
        let old = lab.people[1].got.len();
        plan.up = second.up;
        plan.formats[0].pt = PayloadType(102);
        lab.subscribe(1, 2, plan);
        if planes > 1 {
            lab.command(1, Command::CloseMirror { up: first.up });
        }
        film(&mut lab, 60);
        let got = lab.people[1].got.clone();
        let (before, after) = got.split_at(old + 20);
        assert!(before[..old].iter().all(|packet| packet.pt == SUB_VP8));
        assert!(after.iter().all(|packet| packet.pt == 102));
        assert!(watch(&got, ssrc.0).len() > 60, "one stream, without a hole");
        // What the first track sent is gone.
        let lost = [before[old - 20].seq as u16];
        lab.send_rtcp(1, |writer| {
            assert!(writer.nack(crate::ids::Ssrc(1), ssrc, &lost));
        });
        lab.run(ms(100));
        let repairs = lab.people[1].got.iter();
        assert_eq!(repairs.filter(|got| got.ssrc == ssrc.0 + 1).count(), 0);
        lab.command(seats[0], Command::CloseTransport { id: TransportId(1) });
        film(&mut lab, 10);
        assert!(
            lab.people[1].got.len() > got.len(),
            "it needs the first no more"
        );
        for id in [2, 3] {
            let plane = seats[id as usize - 1];
            let id = TransportId(id);
            lab.command(plane, Command::CloseTransport { id });
        }
        if planes > 1 {
            lab.command(1, Command::CloseMirror { up: second.up });
        }
        assert!(lab.planes.iter().all(|plane| plane.feed_of.is_empty()));
    }
}

#[test]
fn a_publisher_that_falls_silent_is_not_pestered() {
    let mut lab = Lab::new(8, 1, &[0, 0]);
    let track = video_track(1, 1);
    lab.publish(0, vec![track.clone()]);
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 20);
    let plan = lab.down(1, &track);
    lab.subscribe(1, 0, plan);
    lab.run(ms(20_000));
    let asked = lab.people[0].plis.len();
    assert!((2..=9).contains(&asked), "{asked}");
}

#[test]
fn congestion_takes_a_layer_away_and_time_gives_it_back() {
    everywhere(|mut lab| {
        let track = video_track(1, 3);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let ssrc = plan.ssrc;
        let mut camera = Camera::new(&lab, 0, 3);
        camera.frames(&mut lab, 40);
        lab.subscribe(1, 0, plan);
        camera.frames(&mut lab, 60);
        // 240, 720 and 1,440 kbit/s.
        for estimate in [2_000_000, 800_000] {
            lab.send_rtcp(1, |writer| {
                writer.remb(crate::ids::Ssrc(1), estimate, &[ssrc]);
            });
        }
        camera.frames(&mut lab, 240);
        let frames = watch(&lab.people[1].got, ssrc.0);
        assert_eq!(frames.last().unwrap().layer, 1);
        camera.frames(&mut lab, 120);
        let frames = watch(&lab.people[1].got, ssrc.0);
        assert_eq!(frames.last().unwrap().layer, 2);
    });
}

#[test]
fn a_simulated_limit_takes_layers_away_until_it_is_lifted() {
    let mut lab = Lab::new(6, 1, &[0, 0]);
    let track = video_track(1, 3);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    let ssrc = plan.ssrc;
    let mut camera = Camera::new(&lab, 0, 3);
    camera.frames(&mut lab, 40);
    lab.subscribe(1, 0, plan);
    camera.frames(&mut lab, 60);
    let limit = |bitrate| Command::LimitBandwidth {
        id: TransportId(2),
        bitrate,
    };
    lab.command(0, limit(Some(300_000)));
    let mut layers = Vec::new();
    for _ in 0..12 {
        lab.send_rtcp(1, |writer| {
            writer.remb(crate::ids::Ssrc(1), 5_000_000, &[ssrc]);
        });
        camera.frames(&mut lab, 30);
        layers.push(watch(&lab.people[1].got, ssrc.0).last().unwrap().layer);
    }
    assert_eq!(layers[8], 0, "{layers:?}");
    assert!(layers[9..].iter().all(|layer| *layer < 2), "{layers:?}");
    lab.command(0, limit(None));
    for _ in 0..40 {
        lab.send_rtcp(1, |writer| {
            writer.remb(crate::ids::Ssrc(1), 5_000_000, &[ssrc]);
        });
        camera.frames(&mut lab, 30);
    }
    let frames = watch(&lab.people[1].got, ssrc.0);
    assert_eq!(frames.last().unwrap().layer, 2);
}

#[test]
fn key_frames_are_asked_for_once_for_many() {
    let mut lab = Lab::new(3, 1, &[0, 0, 0, 0, 0]);
    let track = video_track(1, 1);
    lab.publish(0, vec![track.clone()]);
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 30);
    for person in 1..5 {
        let plan = lab.down(person, &track);
        lab.subscribe(person, 0, plan);
    }
    camera.frames(&mut lab, 30);
    assert_eq!(lab.people[0].plis.len(), 1, "{:?}", lab.people[0].plis);
    for person in 1..5 {
        assert!(!watch(&lab.people[person].got, DOWN_SSRC + 10).is_empty());
    }
}

#[test]
fn a_key_frame_that_was_asked_for_in_vain_is_asked_for_again_when_the_camera_is_back() {
    let mut lab = Lab::new(3, 1, &[0, 0]);
    let track = video_track(1, 1);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    let (down, ssrc) = (plan.down, plan.ssrc.0);
    lab.subscribe(1, 0, plan);
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 30);
    lab.run(ms(3_000));
    for paused in [true, false] {
        lab.set_wanted(1, down, Wanted { paused, ..WHOLE });
        lab.run(ms(1_000));
    }
    assert!(!lab.people[0].plis.is_empty());
    // It was lost with everything else.
    lab.people[0].plis.clear();
    camera.frames(&mut lab, 15);
    let frames = watch(&lab.people[1].got, ssrc);
    let back = frames.iter().find(|frame| frame.number >= 30).unwrap();
    assert!(back.number <= 32, "{back:?}");
}

#[test]
fn after_an_outage_a_key_frame_is_asked_for_and_after_a_pause_none() {
    for (lost, key_frames) in [(false, 0), (true, 1)] {
        let mut lab = Lab::new(3, 1, &[0, 0]);
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 1);
        camera.frames(&mut lab, 30);
        let before = lab.people[0].plis.len();
        if lost {
            camera.is_cut = true;
            camera.frames(&mut lab, 60);
            camera.is_cut = false;
        } else {
            lab.run(ms(2_000));
        }
        camera.frames(&mut lab, 30);
        assert_eq!(lab.people[0].plis.len() - before, key_frames, "{lost}");
    }
}

#[test]
fn noise_is_counted_and_changes_nothing() {
    let mut lab = Lab::new(5, 1, &[0, 0]);
    let track = video_track(1, 2);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    let ssrc = plan.ssrc.0;
    lab.subscribe(1, 0, plan);
    let mut camera = Camera::new(&lab, 0, 2);
    let mut random = Random::seeded(9);
    let stranger = "203.0.113.9:99".parse().unwrap();
    for _ in 0..60 {
        camera.frame(&mut lab);
        for _ in 0..40 {
            let mut noise = vec![0; (random.u32() % 200) as usize];
            random.fill(&mut noise);
            let from = if random.u32().is_multiple_of(2) {
                stranger
            } else {
                lab.address((random.u32() % 2) as usize)
            };
            lab.throw(0, from, noise);
        }
    }
    lab.run(ms(100));
    let frames = watch(&lab.people[1].got, ssrc);
    assert!(frames.len() > 50, "{}", frames.len());
    let report = lab.planes[0].report();
    let dropped: u64 = report.dropped.iter().map(|(_, count)| count).sum();
    assert!(dropped > 1_500, "{:?}", report.dropped);
}

#[test]
fn what_was_opened_can_all_be_closed() {
    everywhere(|mut lab| {
        let track = video_track(1, 3);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 3);
        camera.frames(&mut lab, 10);
        let (first, second) = (lab.people[0].plane, lab.people[1].plane);
        lab.command(first, Command::CloseTransport { id: TransportId(1) });
        if first != second {
            lab.command(second, Command::CloseMirror { up: track.up });
        }
        lab.command(second, Command::CloseTransport { id: TransportId(2) });
        for plane in &lab.planes {
            let report = plane.report();
            assert_eq!(
                (report.transports, report.up_tracks, report.down_tracks),
                (0, 0, 0)
            );
            assert!(plane.by_path.is_empty() && plane.by_ufrag.is_empty());
            assert!(plane.feed_of.is_empty() && plane.down_of.is_empty() && plane.up_of.is_empty());
        }
    });
}

#[test]
fn an_idle_plane_sleeps() {
    let mut lab = Lab::new(6, 1, &[0, 0]);
    let track = video_track(1, 3);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    lab.subscribe(1, 0, plan);
    let mut camera = Camera::new(&lab, 0, 3);
    camera.frames(&mut lab, 10);
    lab.command(
        0,
        Command::SetMuted {
            up: track.up,
            muted: true,
        },
    );
    lab.run(ms(10_000));
    let mut wakes = 0;
    let end = lab.now + ms(10_000);
    while let Some(at) = lab.planes[0].next_timeout().filter(|at| *at < end) {
        lab.run(at.saturating_duration_since(lab.now) + ms(1));
        wakes += 1;
    }
    // Two transports' consent checks and ticks, nothing of the tracks.
    assert!(wakes < 60, "{wakes}");
}
