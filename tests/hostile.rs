//! No input of a peer makes a parser panic: every parser over a seeded corpus of random bytes and of valid inputs with
//! bytes changed, cut and repeated, up to a datagram of the same byte.

use parlor::hostile;
use parlor::ids::Ssrc;
use parlor::random::Random;
use parlor::rtp::rtcp::{ReportBlock, SenderInfo, Writer};
use parlor::rtp::transport_cc;

/// Cases per parser.
const CASES: usize = 30_000;

/// A valid input, changed in one to eight places, or bytes of no meaning.
fn case(random: &mut Random, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut below = |bound: usize| (random.u64() % bound.max(1) as u64) as usize;
    if below(4) == 0 {
        let mut bytes = vec![0; below(200)];
        random.fill(&mut bytes);
        return bytes;
    }
    let mut bytes = valid[below(valid.len())].clone();
    for _ in 0..=below(8) {
        if bytes.is_empty() {
            break;
        }
        let at = below(bytes.len());
        match below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, below(256) as u8),
            2 => bytes[at] = 0xff,
            3 => bytes[at] ^= 1 << below(8),
            4 => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
            5 => {
                let byte = [0, 0xff, bytes[at]][below(3)];
                bytes.splice(at..at, std::iter::repeat_n(byte, below(1_400)));
            }
            _ => bytes[at] = below(256) as u8,
        }
        bytes.truncate(40_000);
    }
    bytes
}

fn run(seed: u64, valid: &[Vec<u8>], parse: fn(&[u8])) {
    run_cases(CASES, seed, valid, parse);
}

fn run_cases(cases: usize, seed: u64, valid: &[Vec<u8>], parse: fn(&[u8])) {
    let mut random = Random::seeded(seed);
    for input in valid {
        parse(input);
    }
    for _ in 0..cases {
        parse(&case(&mut random, valid));
    }
}

fn rtcp(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; 1_500];
    let mut writer = Writer::new(&mut out);
    fill(&mut writer);
    let len = writer.len();
    out.truncate(len);
    out
}

#[test]
fn rtp_headers_and_extensions() {
    let one_byte = vec![
        0xb2, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef, 1, 1, 1, 1, 2, 2, 2, 2, 0xbe,
        0xde, 0, 3, 0x10, b'0', 0x61, 1, 2, 0x52, 1, 2, 3, 0x40, 0x91, 0, 7, 8, 9, 0, 2,
    ];
    let two_byte = vec![
        0x90, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 0x10, 0x00, 0, 3, 1, 0, 7, 1, 0xbb, 0, 8, 4, 1,
        2, 3, 4, 1, 2, 3,
    ];
    run(1, &[one_byte, two_byte], hostile::parse_rtp_bytes);
}

#[test]
fn rtcp_packets() {
    let (us, them) = (Ssrc(1), Ssrc(2));
    let reports = rtcp(|out| {
        out.sender_report(us, SenderInfo::default(), &[ReportBlock::default(); 2]);
        out.receiver_report(us, &[ReportBlock::default(); 3]);
        out.sdes(us, "someone", Some("1"));
        out.xr_rrtr(us, 5);
        out.xr_dlrr(us, &[]);
        out.bye(&[us, them]);
    });
    let feedback = rtcp(|out| {
        out.nack(us, them, &[1, 2, 3, 40, 90]);
        out.pli(us, them);
        out.fir(us, them, 3);
        out.remb(us, 1_000_000, &[them]);
    });
    let arrivals = (0..60).map(|index| (index * 3 / 2, index as i64 * 90 - 4_000));
    let mut arrival_times = vec![0; 400];
    let written = transport_cc::write(&mut arrival_times, us, them, 1, 0, arrivals).unwrap();
    arrival_times.truncate(written.len);
    run(
        2,
        &[reports, feedback, arrival_times],
        hostile::parse_rtcp_bytes,
    );
}

#[test]
fn payloads_of_every_codec() {
    let valid = [
        vec![
            0x90, 0xe0, 0x92, 0x34, 7, 0x60, 0x10, 2, 0, 0x9d, 1, 0x2a, 8, 0, 8, 0,
        ],
        vec![
            0xaa, 0x92, 0x34, 0x00, 9, 0x38, 1, 0x40, 0, 0xb4, 2, 0x80, 1, 0x68, 1, 0x04, 1, 0xfe,
        ],
        vec![0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce, 0, 2, 0x65, 0x88],
        vec![0x60, 1, 0, 3, 0x40, 1, 0, 0, 3, 0x42, 1, 0],
        vec![0x62, 1, 0x93, 0x80],
        vec![0x20, 2, 0x08, 0, 0x34, 0x50, 1, 2],
    ];
    run(3, &valid, hostile::parse_payload_bytes);
    run(4, &valid[..1], hostile::parse_vp8_bytes);
}

#[test]
fn dependency_descriptors() {
    // L1T2 with one chain: a key frame with its structure, a frame of each layer, one with everything custom.
    let valid = vec![
        0x0f, 0xbc, 0x01, 0xf4, 0x87, 0x81, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x09, 0xfc, 0x05,
        0x9c, 0x03, 0xfe, 0x01, 0xf5, 0x03, 0xfd, 0x01, 0xf6, 0x09, 0xbd, 0x01, 0xf6, 0x7b, 0xa9,
        0xe2, 0x56, 0x64, 0x00,
    ];
    run(5, &[valid], hostile::parse_dependency_bytes);
}

#[test]
fn redundant_audio() {
    let valid = vec![
        0xef, 0x1e, 0x00, 0x03, 0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 1, 1, 2, 2, 3, 3, 3, 3,
    ];
    run(6, &[valid], hostile::parse_red_bytes);
}

#[test]
fn offers_and_candidates() {
    let offers = [
        include_bytes!("fixtures/chromium-v1-publish.sdp").to_vec(),
        include_bytes!("fixtures/firefox-v1-publish.sdp").to_vec(),
        include_bytes!("fixtures/python-v1-publish.sdp").to_vec(),
    ];
    // An offer is long: a thousand of them take as long as all others together.
    run_cases(1_000, 7, &offers, hostile::parse_sdp_bytes);
    let candidates = [
        b"candidate:1 1 udp 2122194687 127.0.0.1 58022 typ host generation 0 ufrag Eb2N network-id 3".to_vec(),
        b"candidate:2 1 tcp 1518280447 fd00::2 9 typ host tcptype active".to_vec(),
        b"candidate:3 1 udp 1 192.0.2.1 5000 typ relay raddr 10.0.0.1 rport 4000".to_vec(),
    ];
    run(8, &candidates, hostile::parse_candidate_bytes);
}

#[test]
fn associations() {
    // A message in one chunk, what comes beyond a gap, acknowledgements, a stream that is given up or reset.
    let data = [
        4, 5, 0, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 53, 1, 2, 3, 4,
    ];
    let beyond = [
        4, 5, 0, 3, 0, 20, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 53, 1, 2, 3, 4,
    ];
    let sack = [
        1, 200, 4, 5, 3, 0, 0, 20, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3,
    ];
    let forward = [4, 3, 192, 0, 0, 12, 0, 0, 0, 1, 0, 1, 0, 1];
    let reset = [
        4, 6, 130, 0, 0, 22, 0, 13, 0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
    ];
    let valid: Vec<Vec<u8>> = [
        [&[0][..], &data, &beyond, &[0, 30, 2]].concat(),
        [&[1][..], &sack, &forward, &[0, 100], &reset, &data].concat(),
    ]
    .to_vec();
    // Each needs two associations and what they do with each other.
    run_cases(2_000, 10, &valid, hostile::play_association_bytes);
}

#[test]
fn signalling() {
    let valid = [
        vec![
            0x2a, 0x0a, 0x0a, 0x01, b'c', 0x18, 0x01, 0x40, 0x02, 0x12, 0x01, b'n',
        ],
        br#"{"addTrack":{"cid":"c","type":"VIDEO","layers":[{"quality":"HIGH","width":1280}]}}"#
            .to_vec(),
        b"CAESCgoEEAEYEQIIARIC".to_vec(),
        b"eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrZXkiLCJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2lnbmF0dXJl"
            .to_vec(),
    ];
    run(9, &valid, hostile::parse_signal_bytes);
}
