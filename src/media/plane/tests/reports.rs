//! Sender reports to subscribers: when, and by whose clock.

use super::*;

/// When each sender report came to the first subscriber, and whether it tells the publisher's clock.
fn told(lab: &Lab) -> Vec<bool> {
    let reports = &lab.people[1].sender_reports;
    // The cameras of the lab count their seconds from a thousand.
    let theirs = |ntp: u64| (1_000..2_000).contains(&(ntp >> 32));
    reports.iter().map(|(_, info)| theirs(info.ntp)).collect()
}

fn watched(lab: &mut Lab) -> Camera {
    let track = video_track(1, 1);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    lab.subscribe(1, 0, plan);
    Camera::new(lab, 0, 1)
}

#[test]
fn a_publisher_whose_first_report_takes_three_seconds_is_waited_for() {
    everywhere(|mut lab| {
        let mut camera = watched(&mut lab);
        camera.frames(&mut lab, 90);
        assert!(told(&lab).is_empty());
        camera.report(&mut lab);
        camera.frames(&mut lab, 3);
        assert_eq!(told(&lab), [true]);
        camera.frames(&mut lab, 200);
        assert_eq!(told(&lab), [true; 3]);
    });
}

#[test]
fn of_a_publisher_without_reports_our_own_clock_is_told() {
    everywhere(|mut lab| {
        let mut camera = watched(&mut lab);
        camera.frames(&mut lab, 170);
        assert!(told(&lab).is_empty());
        camera.frames(&mut lab, 30);
        assert_eq!(told(&lab), [false]);
    });
}

#[test]
fn reports_go_on_after_a_publisher_was_silent() {
    everywhere(|mut lab| {
        let mut camera = watched(&mut lab);
        camera.frames(&mut lab, 10);
        camera.report(&mut lab);
        camera.frames(&mut lab, 200);
        lab.run(ms(20_000));
        let before = told(&lab).len();
        camera.frames(&mut lab, 200);
        assert!(told(&lab).len() >= before + 2, "{:?}", told(&lab));
    });
}
