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
