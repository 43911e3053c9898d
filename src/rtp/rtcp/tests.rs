use super::*;
use proptest::prelude::*;

const US: Ssrc = Ssrc(0x1111_1111);
const THEM: Ssrc = Ssrc(0x2222_2222);

fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0xaa; 1_500];
    let mut writer = Writer::new(&mut out);
    fill(&mut writer);
    let len = writer.len();
    assert_eq!(len % 4, 0);
    out.truncate(len);
    out
}

fn only(packet: &[u8]) -> Feedback<'_> {
    let mut parts = parse(packet);
    let part = parts.next().unwrap().unwrap();
    assert!(parts.next().is_none());
    part
}

/// A receiver report, a description and a BYE as another implementation wrote them.
const COMPOUND: [u8; 92] = [
    0x81, 0xc9, 0x0, 0x7, 0x90, 0x2f, 0x9e, 0x2e, 0xbc, 0x5e, 0x9a, 0x40, 0x0, 0x0, 0x0, 0x0, 0x0,
    0x0, 0x46, 0xe1, 0x0, 0x0, 0x1, 0x11, 0x9, 0xf3, 0x64, 0x32, 0x0, 0x2, 0x4a, 0x79, 0x81, 0xca,
    0x0, 0xc, 0x90, 0x2f, 0x9e, 0x2e, 0x1, 0x26, 0x7b, 0x39, 0x63, 0x30, 0x30, 0x65, 0x62, 0x39,
    0x32, 0x2d, 0x31, 0x61, 0x66, 0x62, 0x2d, 0x39, 0x64, 0x34, 0x39, 0x2d, 0x61, 0x34, 0x37, 0x64,
    0x2d, 0x39, 0x31, 0x66, 0x36, 0x34, 0x65, 0x65, 0x65, 0x36, 0x39, 0x66, 0x35, 0x7d, 0x0, 0x0,
    0x0, 0x0, 0x81, 0xcb, 0x0, 0x1, 0x90, 0x2f, 0x9e, 0x2e,
];

#[test]
fn a_compound_packet_is_read_part_by_part() {
    let parts: Vec<_> = parse(&COMPOUND).map(Result::unwrap).collect();
    assert_eq!(parts.len(), 3);
    let Feedback::ReceiverReport { sender, blocks } = parts[0].clone() else {
        panic!("{parts:?}");
    };
    assert_eq!(sender, Ssrc(0x902f_9e2e));
    assert_eq!(
        blocks.collect::<Vec<_>>(),
        [ReportBlock {
            ssrc: 0xbc5e_9a40,
            highest_seq: 0x46e1,
            jitter: 273,
            last_sr: 0x09f3_6432,
            delay_since_last_sr: 150_137,
            ..ReportBlock::default()
        }]
    );
    let Feedback::Sdes(items) = parts[1].clone() else {
        panic!("{parts:?}");
    };
    assert_eq!(
        items.collect::<Vec<_>>(),
        [(
            Ssrc(0x902f_9e2e),
            CNAME,
            &b"{9c00eb92-1afb-9d49-a47d-91f64eee69f5}"[..]
        )]
    );
    let Feedback::Bye(sources) = parts[2].clone() else {
        panic!("{parts:?}");
    };
    assert_eq!(sources.collect::<Vec<_>>(), [Ssrc(0x902f_9e2e)]);
}

#[test]
fn a_truncated_part_ends_the_list_with_a_fault() {
    for len in [1, 3, 4, 31] {
        let mut parts = parse(&COMPOUND[..len]);
        assert_eq!(
            parts.next().map(|part| part.map(|_| ())),
            Some(Err(RtpFault::Truncated)),
            "{len}"
        );
        assert!(parts.next().is_none());
    }
}

#[test]
fn a_part_that_contradicts_itself_does_not_hide_the_next() {
    // A receiver report of 2 blocks in the room of one, then a PLI.
    let mut packet = COMPOUND[..32].to_vec();
    packet[0] = 0x82;
    packet.extend(written(|out| assert!(out.pli(US, THEM))));
    let parts: Vec<_> = parse(&packet).collect();
    assert!(matches!(parts[0], Err(RtpFault::Truncated)));
    assert!(matches!(parts[1], Ok(Feedback::Pli { media: THEM, .. })));
}

#[test]
fn another_version_and_senseless_padding_are_faults() {
    let mut packet = written(|out| assert!(out.pli(US, THEM)));
    packet[0] |= 0x20;
    for (last, fault) in [(0, true), (13, true), (8, true), (4, true)] {
        packet[11] = last;
        assert_eq!(parse(&packet).next().unwrap().is_err(), fault, "{last}");
    }
    packet[0] = 0x41;
    assert!(matches!(
        parse(&packet).next(),
        Some(Err(RtpFault::Version))
    ));
}

#[test]
fn key_frame_requests_round_trip() {
    let packet = written(|out| assert!(out.pli(US, THEM)));
    assert_eq!(
        packet,
        [
            0x81, 206, 0, 2, 0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22
        ]
    );
    let packet = written(|out| assert!(out.fir(US, THEM, 9)));
    let Feedback::Fir { sender, entries } = only(&packet) else {
        panic!("{packet:?}");
    };
    assert_eq!(sender, US);
    assert_eq!(entries.collect::<Vec<_>>(), [(THEM, 9)]);
}

#[test]
fn remb_of_the_draft_is_read_and_written() {
    let packet = written(|out| assert!(out.remb(Ssrc(1), 8_927_168, &[Ssrc(0x4873_7fe6)])));
    assert_eq!(
        packet,
        [
            143, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 82, 69, 77, 66, 1, 26, 32, 223, 72, 116, 237,
            22
        ]
        .iter()
        .take(20)
        .chain(&[0x48, 0x73, 0x7f, 0xe6])
        .copied()
        .collect::<Vec<u8>>()
    );
    let Feedback::Remb { bitrate_bps, ssrcs } = only(&packet) else {
        panic!("{packet:?}");
    };
    assert_eq!(bitrate_bps, 8_927_168);
    assert_eq!(ssrcs.collect::<Vec<_>>(), [Ssrc(0x4873_7fe6)]);
}

#[test]
fn remb_beyond_64_bits_is_without_limit() {
    let mut packet = written(|out| assert!(out.remb(Ssrc(1), 1, &[])));
    packet[17] = 0xff;
    assert!(matches!(
        only(&packet),
        Feedback::Remb {
            bitrate_bps: u64::MAX,
            ..
        }
    ));
}

#[test]
fn reports_round_trip() {
    let block = ReportBlock {
        ssrc: 5,
        fraction_lost: 255,
        cumulative_lost: -3,
        highest_seq: 0x0001_ffff,
        jitter: 7,
        last_sr: 8,
        delay_since_last_sr: 9,
    };
    let info = SenderInfo {
        ntp: 0x0102_0304_0506_0708,
        rtp_timestamp: 1,
        packets: 2,
        octets: 3,
    };
    let packet = written(|out| {
        assert!(out.sender_report(US, info, &[block, block]));
        assert!(out.sdes(US, "PA_x", Some("12")));
        assert!(out.xr_rrtr(US, 77));
        assert!(out.xr_dlrr(
            US,
            &[DlrrItem {
                ssrc: THEM,
                last_rr: 4,
                delay: 5
            }]
        ));
        assert!(out.bye(&[US, THEM]));
    });
    let parts: Vec<_> = parse(&packet).map(Result::unwrap).collect();
    let [sr, sdes, rrtr, dlrr, bye] = &parts[..] else {
        panic!("{parts:?}");
    };
    let Feedback::SenderReport {
        sender: US,
        info: read,
        blocks,
    } = sr
    else {
        panic!("{sr:?}");
    };
    assert_eq!(*read, info);
    assert_eq!(blocks.clone().collect::<Vec<_>>(), [block, block]);
    let Feedback::Sdes(items) = sdes else {
        panic!("{sdes:?}");
    };
    assert_eq!(
        items.clone().collect::<Vec<_>>(),
        [(US, CNAME, &b"PA_x"[..]), (US, MID, &b"12"[..])]
    );
    let Feedback::Xr { blocks, .. } = rrtr else {
        panic!("{rrtr:?}");
    };
    assert!(matches!(
        blocks.clone().next(),
        Some(XrBlock::Rrtr { ntp: 77 })
    ));
    let Feedback::Xr { blocks, .. } = dlrr else {
        panic!("{dlrr:?}");
    };
    let Some(XrBlock::Dlrr(items)) = blocks.clone().next() else {
        panic!("{dlrr:?}");
    };
    assert_eq!(
        items.collect::<Vec<_>>(),
        [DlrrItem {
            ssrc: THEM,
            last_rr: 4,
            delay: 5
        }]
    );
    let Feedback::Bye(sources) = bye else {
        panic!("{bye:?}");
    };
    assert_eq!(sources.clone().collect::<Vec<_>>(), [US, THEM]);
}

#[test]
fn chunks_of_several_sources_are_told_apart() {
    let mut packet = written(|out| assert!(out.sdes(US, "abc", None)));
    let second = written(|out| assert!(out.sdes(THEM, "abcd", Some("0"))));
    packet.extend_from_slice(&second[4..]);
    packet[0] = 0x82;
    packet[3] = (packet.len() / 4 - 1) as u8;
    let Feedback::Sdes(items) = only(&packet) else {
        panic!("{packet:?}");
    };
    assert_eq!(
        items.collect::<Vec<_>>(),
        [
            (US, CNAME, &b"abc"[..]),
            (THEM, CNAME, &b"abcd"[..]),
            (THEM, MID, &b"0"[..])
        ]
    );
}

#[test]
fn no_room_changes_nothing() {
    let mut out = [0; 20];
    let mut writer = Writer::compound(&mut out, US);
    assert_eq!(writer.len(), 8);
    assert!(!writer.fir(US, THEM, 0));
    assert!(!writer.nack(US, THEM, &[]));
    assert_eq!(writer.len(), 8);
    assert!(writer.pli(US, THEM));
    assert!(!writer.pli(US, THEM));
    assert_eq!(parse(&out).flatten().count(), 2);
}

#[test]
fn neighbours_share_a_pair() {
    let lost = [65_530, 65_531, 10, 11, 27];
    let packet = written(|out| assert!(out.nack(US, THEM, &lost)));
    // 65530 and, 16 later, 10; then 11 and, 16 later, 27.
    assert_eq!(packet.len(), 20);
    let Feedback::Nack { lost: read, .. } = only(&packet) else {
        panic!("{packet:?}");
    };
    assert_eq!(read.collect::<Vec<_>>(), lost);
}

proptest! {
    #[test]
    fn a_nack_is_read_as_it_was_written(start: u16, steps in prop::collection::vec(1u16..40, 0..100)) {
        let mut seq = start;
        let mut lost = vec![start];
        for step in steps {
            seq = seq.wrapping_add(step);
            lost.push(seq);
        }
        let packet = written(|out| assert!(out.nack(US, THEM, &lost)));
        let Feedback::Nack { lost: read, .. } = only(&packet) else {
            panic!("{packet:?}");
        };
        prop_assert_eq!(read.collect::<Vec<_>>(), lost);
    }

    #[test]
    fn remb_is_read_within_its_precision(bitrate: u64) {
        let packet = written(|out| assert!(out.remb(US, bitrate, &[THEM])));
        let Feedback::Remb { bitrate_bps, .. } = only(&packet) else {
            panic!("{packet:?}");
        };
        prop_assert!(bitrate_bps <= bitrate && bitrate - bitrate_bps <= bitrate >> 17);
    }
}
