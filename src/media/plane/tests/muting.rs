//! What a subscriber gets in place of a track that is muted or ends: silence, black.

use super::*;

#[test]
fn a_muted_microphone_is_a_second_of_silence() {
    everywhere(|mut lab| {
        let track = audio_track(1, OPUS, PT_OPUS);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        lab.subscribe(1, 0, plan);
        for n in 0..20 {
            speak(&mut lab, n, vec![1; 50], PT_OPUS);
        }
        lab.run(ms(40));
        assert_eq!(lab.people[1].got.len(), 20);
        let up = track.up;
        lab.command(0, Command::SetMuted { up, muted: true });
        lab.run(ms(3_000));
        let silence = [opus::SILENCE, TRAILER].concat();
        let got = &lab.people[1].got;
        assert_eq!(got.len(), 70);
        for pair in got.windows(2) {
            assert_eq!(pair[1].seq, pair[0].seq + 1);
            assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32 > 0);
        }
        assert!(got[20..].iter().all(|packet| packet.payload == silence));
        lab.command(0, Command::SetMuted { up, muted: false });
        for n in 20..25 {
            speak(&mut lab, n, vec![2; 50], PT_OPUS);
        }
        lab.run(ms(40));
        let got = &lab.people[1].got;
        assert_eq!(got.len(), 75);
        for pair in got[69..].windows(2) {
            assert_eq!(pair[1].seq, pair[0].seq + 1);
            assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32 > 0);
        }
    });
}

#[test]
fn a_muted_camera_is_a_second_of_black_and_comes_back_with_a_key_frame() {
    everywhere(|mut lab| {
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 1);
        camera.frames(&mut lab, 30);
        lab.run(ms(40));
        let shown = lab.people[1].got.len();
        let up = track.up;
        lab.command(0, Command::SetMuted { up, muted: true });
        lab.run(ms(2_000));
        let black = lab.people[1].got[shown..].to_vec();
        assert!((30..=31).contains(&black.len()), "{}", black.len());
        for packet in &black {
            assert!(packet.marker && packet.payload.ends_with(TRAILER));
        }
        lab.command(0, Command::SetMuted { up, muted: false });
        camera.frames(&mut lab, 20);
        lab.run(ms(40));
        let got = &lab.people[1].got;
        let pictures: Vec<Vp8Descriptor> = got
            .iter()
            .map(|packet| Vp8Descriptor::parse(&packet.payload).unwrap())
            .collect();
        assert!(got.len() > shown + 45);
        for (pair, pictures) in got.windows(2).zip(pictures.windows(2)) {
            assert_eq!(pair[1].seq, pair[0].seq + 1);
            assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32 > 0);
            assert_eq!(
                pictures[1].picture_id,
                pictures[0].picture_id.map(|id| (id + 1) & 0x7fff)
            );
        }
        let first = &got[shown + black.len()];
        assert_eq!(
            first.payload[usize::from(pictures[shown + black.len()].len)] & 1,
            0
        );
    });
}

#[test]
fn a_camera_that_was_off_for_a_moment_is_back_before_a_second_has_passed() {
    everywhere(|mut lab| {
        let track = video_track(1, 3);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        lab.subscribe(1, 0, plan);
        let mut camera = Camera::new(&lab, 0, 3);
        camera.frames(&mut lab, 30);
        let up = track.up;
        // The first has asked for none lately, the second just before.
        for frames in [3, 14] {
            lab.command(0, Command::SetMuted { up, muted: true });
            lab.run(ms(20));
            let shown = lab.people[1].got.len();
            lab.command(0, Command::SetMuted { up, muted: false });
            camera.frames(&mut lab, frames);
            let got = &lab.people[1].got[shown..];
            assert!(got.len() >= 6, "{} packets", got.len());
        }
    });
}

#[test]
fn a_closed_down_track_ends_with_a_moment_of_black() {
    everywhere(|mut lab| {
        let track = video_track(1, 1);
        lab.publish(0, vec![track.clone()]);
        let plan = lab.down(1, &track);
        let (down, plane) = (plan.down, lab.people[1].plane);
        lab.subscribe(1, 0, plan.clone());
        let mut camera = Camera::new(&lab, 0, 1);
        camera.frames(&mut lab, 10);
        lab.run(ms(40));
        let shown = lab.people[1].got.len();
        let closed = |lab: &Lab| {
            lab.events.iter().find_map(|(_, event)| match event {
                Event::DownClosed { down: told, sent } if *told == down => Some(*sent),
                _ => None,
            })
        };
        lab.command(plane, Command::CloseDown { down });
        lab.run(ms(190));
        assert_eq!(closed(&lab), None);
        lab.run(ms(100));
        assert_eq!(closed(&lab), Some(true));
        assert!((6..=7).contains(&(lab.people[1].got.len() - shown)));
        // One that never sent goes at once.
        lab.events.clear();
        lab.command(
            plane,
            Command::OpenDown {
                plan: Box::new(plan),
            },
        );
        lab.command(plane, Command::CloseDown { down });
        assert_eq!(closed(&lab), Some(false));
        assert_eq!(lab.planes[plane].report().down_tracks, 0);
    });
}

#[test]
fn a_track_without_packets_is_announced_to_whoever_takes_notice_by_them() {
    let mut lab = Lab::new(8, 1, &[0, 0]);
    let (audio, video) = (audio_track(1, OPUS, PT_OPUS), video_track(2, 1));
    lab.publish(0, vec![audio.clone(), video.clone()]);
    let command = |up| Command::SetMuted { up, muted: true };
    lab.command(0, command(audio.up));
    lab.command(0, command(video.up));
    for track in [&audio, &video] {
        let mut plan = lab.down(1, track);
        plan.needs_packets = true;
        lab.subscribe(1, 0, plan);
    }
    lab.run(ms(99));
    assert_eq!(lab.people[1].got, []);
    lab.run(ms(900));
    let of = |lab: &Lab, up: u32| -> Vec<Got> {
        let all = lab.people[1].got.iter();
        all.filter(|got| got.ssrc == DOWN_SSRC + 10 * up)
            .cloned()
            .collect()
    };
    let (silence, padding) = (of(&lab, 1), of(&lab, 2));
    assert_eq!((silence.len(), padding.len()), (9, 9));
    assert!(
        silence
            .iter()
            .all(|got| got.payload.starts_with(opus::SILENCE))
    );
    assert!(
        padding
            .iter()
            .all(|got| got.payload.is_empty() && got.marker)
    );
    assert!(padding.windows(2).all(
        |pair| pair[1].seq == pair[0].seq + 1 && pair[1].timestamp == pair[0].timestamp + 9_000
    ));
    // The camera's own packets end it, and go on from there.
    lab.command(
        0,
        Command::SetMuted {
            up: video.up,
            muted: false,
        },
    );
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 10);
    let picture = of(&lab, 2);
    assert_eq!(watch(&picture[9..], DOWN_SSRC + 20).len(), 9);
    assert_eq!(picture[9].seq, padding[8].seq + 1);
    lab.run(ms(10_000));
    assert_eq!(of(&lab, 1).len(), 49);
    let started = lab
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::DownStarted { .. }));
    assert_eq!(started.count(), 1);
}
