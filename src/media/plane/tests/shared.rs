//! A track that two rooms have: its publisher is forwarded from one to the other.

use super::*;

#[test]
fn a_mirror_lasts_until_the_last_room_has_closed_it() {
    // Alice on one worker, bob of her room and carol of the other room on the second.
    let mut lab = Lab::new(9, 2, &[0, 1, 1]);
    let track = video_track(1, 3);
    lab.publish(0, vec![track.clone()]);
    let mut camera = Camera::new(&lab, 0, 3);
    for person in 1..3 {
        let plan = lab.down(person, &track);
        lab.subscribe(person, 0, plan);
        camera.frames(&mut lab, 30);
    }
    let shown = |lab: &Lab, person: usize| watch(&lab.people[person].got, DOWN_SSRC + 10).len();
    assert!(shown(&lab, 1) > 55 && shown(&lab, 2) > 25);

    let leave = |lab: &mut Lab, person: usize| {
        let down = lab.down(person, &track).down;
        lab.command(1, Command::CloseDown { down });
        lab.run(ms(300));
        lab.command(1, Command::CloseMirror { up: track.up });
        let (up, to) = (track.up, WorkerId(1));
        lab.command(0, Command::SetMirror { up, to, on: false });
    };
    leave(&mut lab, 2);
    let (before, after) = (shown(&lab, 1), lab.people[2].got.len());
    camera.frames(&mut lab, 30);
    assert!(shown(&lab, 1) >= before + 29, "bob goes on");
    assert_eq!(lab.people[2].got.len(), after);
    assert!(!lab.planes[1].feed_of.is_empty());

    leave(&mut lab, 1);
    assert!(lab.planes[1].feed_of.is_empty());
    let feed = lab.planes[0].feed_mut(track.up).unwrap();
    assert!(feed.mirrors.is_empty() && feed.mirror_asks.is_empty());
}

#[test]
fn packets_pass_once_to_a_worker_whose_rooms_share_a_track() {
    let mut lab = Lab::new(9, 2, &[0, 1, 1]);
    let track = audio_track(1, OPUS, PT_OPUS);
    lab.publish(0, vec![track.clone()]);
    for person in 1..3 {
        let plan = lab.down(person, &track);
        lab.subscribe(person, 0, plan);
    }
    for n in 0..50 {
        speak(&mut lab, n, vec![n as u8; 80], PT_OPUS);
    }
    lab.run(ms(100));
    for person in 1..3 {
        assert_eq!(lab.people[person].got.len(), 50);
    }
    let feed = lab.planes[0].feed_mut(track.up).unwrap();
    assert_eq!((feed.mirrors.len(), feed.mirror_asks.len()), (1, 2));
}
