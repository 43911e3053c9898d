//! What one peer, or a line that is lost, may cost all others.

use super::*;
use crate::ids::Ssrc;
use crate::media::io::Socket;
use crate::plan::{DtlsRole, Fingerprint, RemoteTransport};
use crate::rtp::rtcp::SenderInfo;

#[test]
fn a_flood_of_wishes_and_reports_crosses_a_link_as_one_each() {
    let mut lab = Lab::new(4, 2, &[0, 1]);
    let track = video_track(1, 1);
    lab.publish(0, vec![track.clone()]);
    let plan = lab.down(1, &track);
    lab.subscribe(1, 0, plan.clone());
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 60);
    lab.run(ms(1_000));
    let (key_frames, clocks) = lab.linked;
    let plis = lab.people[0].plis.len();
    let source = Ssrc(100);
    for second in 0..2_u64 {
        lab.send_rtcp(1, |writer| {
            for _ in 0..90 {
                writer.pli(Ssrc(1), plan.ssrc);
            }
        });
        lab.send_rtcp(0, |writer| {
            for _ in 0..30 {
                let info = SenderInfo {
                    ntp: (second + 100) << 32,
                    rtp_timestamp: 90_000 * (second as u32 + 1),
                    packets: 1,
                    octets: 1,
                };
                writer.sender_report(source, info, &[]);
            }
        });
        lab.run(ms(1_000));
    }
    assert_eq!((lab.linked.0 - key_frames, lab.linked.1 - clocks), (2, 2));
    assert_eq!(lab.people[0].plis.len() - plis, 2);
}

#[test]
fn one_that_cannot_be_reached_wakes_nobody_and_has_reports_when_it_is_back() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    let (voice, video) = (audio_track(2, OPUS, PT_OPUS), video_track(1, 1));
    lab.publish(0, vec![video.clone(), voice.clone()]);
    for track in [&video, &voice] {
        let plan = lab.down(1, track);
        lab.subscribe(1, 0, plan);
    }
    let mut camera = Camera::new(&lab, 0, 1);
    camera.frames(&mut lab, 60);
    lab.be_patient(1);
    // Frames are sent until it is noticed, and reports are due.
    lab.people[1].loss = (1.0, 1.0);
    camera.frames(&mut lab, 15 * 30);
    let lost = |(_, event): &(_, Event)| matches!(event, Event::Disconnected { .. });
    assert!(lab.events.iter().any(lost));
    let (wakes, reports) = (lab.wakes, lab.people[1].sender_reports.len());
    lab.run(ms(1_000));
    let wakes = lab.wakes - wakes;
    assert!(wakes < 50, "{wakes} wakes in a second");
    lab.people[1].loss = (0.0, 0.0);
    lab.run(ms(5_000));
    camera.frames(&mut lab, 120);
    assert!(lab.people[1].sender_reports.len() > reports);
}

#[test]
fn a_burst_of_small_messages_is_told_in_portions_and_waits_while_held() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    lab.run(ms(500));
    lab.events.clear();
    for number in 0..3_000_u32 {
        let message = Bytes::copy_from_slice(&number.to_be_bytes());
        lab.send_data(0, Channel::Reliable, &message);
    }
    lab.run(ms(60));
    let told = lab.events.len();
    assert!((65..2_000).contains(&told), "{told}");
    let hold = |hold| Command::HoldData {
        id: TransportId(1),
        hold,
    };
    lab.planes[0].set_data_hold(TransportId(1), HoldReason::Room, true);
    lab.command(0, hold(true));
    lab.planes[0].set_data_hold(TransportId(1), HoldReason::Room, false);
    lab.run(ms(500));
    assert!(lab.events.len() <= told + 64);
    lab.command(0, hold(false));
    lab.run(ms(5_000));
    let numbers: Vec<_> = lab
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Data { payload, .. } => {
                Some(u32::from_be_bytes(payload[..].try_into().unwrap()))
            }
            _ => None,
        })
        .collect();
    assert!(numbers.into_iter().eq(0..3_000));
    assert_eq!(lab.most_events, 64);
}

#[test]
fn what_transports_do_not_understand_is_counted_by_cause() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    let dropped = |lab: &Lab| {
        let dropped = lab.planes[0].report().dropped;
        move |name: &str| dropped.iter().find(|(cause, _)| *cause == name).unwrap().1
    };
    let malformed = dropped(&lab)("malformed");
    // A record that is longer than its datagram, and one of another protocol's version.
    let address = lab.address(0);
    lab.throw(
        0,
        address,
        [&[22, 254, 253][..], &[0; 8], &[1, 0, 7]].concat(),
    );
    lab.throw(0, address, [&[22, 3, 3][..], &[0; 8], &[0, 1, 7]].concat());
    assert_eq!(dropped(&lab)("malformed"), malformed + 2);
    assert_eq!(dropped(&lab)("handshake"), 0);
    // The certificate is not the one that the SDP names now.
    let remote = RemoteTransport {
        ice: credentials("client0"),
        fingerprint: Fingerprint([7; 32]),
        role: DtlsRole::Server,
    };
    lab.command(
        0,
        Command::SetRemote {
            id: TransportId(1),
            remote,
            local: None,
        },
    );
    assert_eq!(dropped(&lab)("handshake"), 1);
}

#[test]
fn whoever_asks_for_its_address_is_told_it_by_udp() {
    let mut lab = Lab::new(4, 1, &[0, 0]);
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
    let stranger = "198.51.100.9:40000".parse().unwrap();
    let answers = lab.answers(0, Socket::Udp(0), stranger, request.clone()).0;
    let [(path, answer)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(path.remote, stranger);
    assert_eq!((answer.len(), &answer[..2]), (32, &[1, 1][..]));
    assert_eq!(answer[4..20], request[4..20]);
    let by_tcp = lab.answers(0, Socket::Tcp(1), stranger, request);
    assert!(by_tcp.0.is_empty());
}
