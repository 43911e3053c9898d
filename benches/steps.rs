//! What each step of a forwarded packet costs: medians in nanoseconds per packet, printed. `cargo bench --bench steps`.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use parlor::ids::{PayloadType, Ssrc};
use parlor::media::codec::vp8::{self, Vp8Descriptor};
use parlor::media::codec::{self, dependency};
use parlor::media::munger::Munger;
use parlor::media::nack::NackGenerator;
use parlor::media::reception::Reception;
use parlor::media::srtp;
use parlor::media::twcc::TwccRecorder;
use parlor::media::vp8_munger::Vp8Munger;
use parlor::plan::{Codec, Extensions, Format};
use parlor::rtp::header::{EXTENSION_BIT, Outgoing};
use parlor::rtp::{ExtensionWriter, Found, Header, SequenceUnwrapper};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Timed runs, of which the median counts.
const RUNS: usize = 31;
/// Packets in a run.
const PACKETS: u64 = 20_000;

/// Packets in a run of what keeps each one.
const KEPT_PACKETS: u64 = 2_000;

fn measure(name: &str, step: impl FnMut(u64)) {
    measure_of(PACKETS, name, step);
}

fn measure_of(packets: u64, name: &str, mut step: impl FnMut(u64)) {
    let mut at = 0;
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..packets {
                step(black_box(at));
                at += 1;
            }
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times[RUNS / 2].as_nanos() as f64 / packets as f64;
    println!("{name:<34} {median:>8.1} ns");
}

const IDS: Extensions = Extensions {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    audio_level: None,
    abs_send_time: Some(5),
    transport_cc: Some(6),
    dependency_descriptor: Some(7),
    abs_capture_time: None,
    playout_delay: None,
};

/// A packet as a browser sends it: 1,100 bytes of VP8 with mid, rid, send time and transport-wide number.
fn packet() -> Vec<u8> {
    let mut packet = Outgoing {
        marker: false,
        pt: PayloadType(96),
        seq: 1,
        timestamp: 2,
        ssrc: Ssrc(3),
    }
    .bytes()
    .to_vec();
    packet[0] |= EXTENSION_BIT;
    let mut block = [0; 64];
    let mut writer = ExtensionWriter::new(&mut block);
    for (id, data) in [(1, &b"0"[..]), (2, b"q"), (5, &[1, 2, 3]), (6, &[1, 2])] {
        assert!(writer.push(id, data));
    }
    let len = writer.finish();
    packet.extend_from_slice(&block[..len]);
    packet.extend_from_slice(&[0x90, 0xe0, 0x92, 0x34, 7, 0x20]);
    packet.resize(1_100, 0x55);
    packet
}

fn main() {
    let packet = packet();
    let header = Header::parse(&packet).expect("the packet is valid");
    let payload = header.payload(&packet).expect("the packet is valid");
    let descriptor = Vp8Descriptor::parse(payload).expect("the packet is valid");
    let epoch = Instant::now();

    measure("header: parse", |_| {
        black_box(Header::parse(black_box(&packet))).ok();
    });
    measure("extensions: extract 4", |_| {
        black_box(Found::extract(black_box(&packet), &header, black_box(&IDS)));
    });
    measure("extensions: write 3", |at| {
        let mut out = [0; 64];
        let mut writer = ExtensionWriter::new(&mut out);
        writer.push(1, b"12");
        writer.push(5, &at.to_be_bytes()[..3]);
        writer.push(6, &at.to_be_bytes()[..2]);
        black_box(writer.finish());
        black_box(&out);
    });
    let format = Format {
        codec: Codec::Vp8,
        variant: 0,
    };
    measure("facts: VP8", |_| {
        black_box(codec::facts(format, black_box(payload), false, None));
    });
    let mut unwrapper = SequenceUnwrapper::default();
    measure("sequence: unwrap", |at| {
        black_box(unwrapper.unwrap(at as u16));
    });
    let mut munger = Munger::new(0, 0);
    munger.switch(0, 0, 0);
    measure("munger: in order", |at| {
        black_box(munger.rewrite(at, at as u32)).ok();
    });
    let mut munger = Munger::new(0, 0);
    munger.switch(0, 0, 0);
    measure("munger: every second left out", |at| {
        if at % 2 == 0 {
            black_box(munger.rewrite(at, at as u32)).ok();
        } else {
            black_box(munger.leave_out(at));
        }
    });
    let mut munger = Munger::new(0, 0);
    munger.switch(0, 0, 0);
    measure("munger: each 400 late", |at| {
        // Pairs: one 400 ahead, then the one it left behind.
        let seq = if at % 2 == 0 { at + 800 } else { at + 399 };
        black_box(munger.rewrite(seq, 0)).ok();
    });
    measure("VP8 descriptor: parse", |_| {
        black_box(Vp8Descriptor::parse(black_box(payload))).ok();
    });
    let mut pictures = Vp8Munger::new(0);
    pictures.switch(&descriptor);
    measure("VP8 descriptor: rewrite and write", |at| {
        let next = Vp8Descriptor {
            picture_id: Some((at / 4) as u16 & 0x7fff),
            ..descriptor
        };
        let mut out = [0; vp8::MAX_LEN];
        if let Some(rewritten) = pictures.rewrite(&next) {
            black_box(rewritten.write(&mut out));
        }
        black_box(&out);
    });
    let mut tracker = dependency::Tracker::default();
    let structure = [
        0xbc, 0x01, 0xf4, 0x87, 0x81, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x09, 0xfc, 0x05, 0x9c,
    ];
    tracker.handle(&structure).expect("the structure is valid");
    let frame = tracker
        .handle(&[0xfe, 0x01, 0xf5])
        .expect("its template exists");
    measure("dependency descriptor: read", |_| {
        black_box(tracker.handle(black_box(&[0xfe, 0x01, 0xf5]))).ok();
    });
    measure("dependency descriptor: rewrite", |at| {
        let mut out = [0; 16];
        black_box(dependency::rewrite(
            &[0xfe, 0x01, 0xf5],
            &frame,
            at as u16,
            Some(1),
            &mut out,
        ));
        black_box(&out);
    });
    let mut nacks = NackGenerator::new();
    measure("nack: in order", |at| {
        black_box(nacks.handle_packet(epoch, at));
    });
    let mut recorder = TwccRecorder::new(Ssrc(1));
    let mut feedback = [0; 1_200];
    measure("transport-cc: record and report", |at| {
        let now = epoch + Duration::from_micros(500 * at);
        recorder.handle_packet(now, Ssrc(3), at as u16, false);
        while recorder.poll(now, &mut feedback).is_some() {}
    });
    let mut reception = Reception::new(Ssrc(3), 90_000);
    measure("reception: packet", |at| {
        reception.handle_packet(epoch + Duration::from_micros(500 * at), at, at as u32);
    });
    crypto(&packet, &header);
}

/// Sealing and opening, in each protection profile.
fn crypto(packet: &[u8], header: &Header) {
    for profile in [
        srtp::Profile::Gcm128,
        srtp::Profile::Gcm256,
        srtp::Profile::Cm128,
    ] {
        let material = vec![7; 200];
        let (Some((sealer, _)), Some((_, mut opener))) = (
            srtp::derive(profile, &material, true),
            srtp::derive(profile, &material, false),
        ) else {
            continue;
        };
        let mut buf = vec![0; packet.len() + sealer.rtp_overhead()];
        let mut seal = |at: u64| {
            buf[..packet.len()].copy_from_slice(packet);
            buf[2..4].copy_from_slice(&(at as u16).to_be_bytes());
            let len = sealer.seal_rtp(&mut buf, header.payload_offset, packet.len(), at);
            black_box(&mut buf)[..len].to_vec()
        };
        let mut sealed = Vec::new();
        measure_of(KEPT_PACKETS, &format!("copy and seal: {profile:?}"), |at| {
            sealed.push(seal(at));
        });
        let mut next = sealed.iter_mut();
        measure_of(KEPT_PACKETS, &format!("open: {profile:?}"), |_| {
            let packet = next.next().expect("as many as were sealed");
            black_box(opener.open_rtp(packet, header.payload_offset))
                .expect("it was sealed with the same keys");
        });
    }
}
