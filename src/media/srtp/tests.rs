//! Known answers of RFC 3711 and RFC 7714, round trips in all profiles, and everything that must be refused.

use super::*;
use crate::random::Random;

const PROFILES: [Profile; 3] = [Profile::Gcm128, Profile::Gcm256, Profile::Cm128];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// A server's sealer and the client's opener.
fn pair(profile: Profile) -> (Sealer, Opener) {
    let mut material = [0; 96];
    Random::seeded(7).fill(&mut material);
    let (sealer, _) = derive(profile, &material, false).unwrap();
    let (_, opener) = derive(profile, &material, true).unwrap();
    (sealer, opener)
}

fn rtp(ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(index as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn sealed(sealer: &Sealer, plain: &[u8], header_len: usize, index: u64) -> Vec<u8> {
    let mut buf = plain.to_vec();
    buf.resize(plain.len() + RTP_OVERHEAD, 0);
    let len = sealer.seal_rtp(&mut buf, header_len, plain.len(), index);
    assert_eq!(len, plain.len() + sealer.rtp_overhead());
    buf.truncate(len);
    buf
}

#[test]
fn session_keys_are_those_of_rfc_3711_b_3() {
    let master = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let (mut key, mut session_salt, mut mac) = ([0; 16], [0; 14], [0; 94]);
    cipher::expand(&master, &salt, 0, &mut key).unwrap();
    cipher::expand(&master, &salt, 2, &mut session_salt).unwrap();
    cipher::expand(&master, &salt, 1, &mut mac).unwrap();
    assert_eq!(key.to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(session_salt.to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(
        mac.to_vec(),
        hex(
            "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
             E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
             6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2"
        )
    );
}

/// The keys of RFC 7714 §16 and §17 are session keys.
fn rfc_7714() -> Cipher {
    let salt = hex("517569642070726f2071756f").try_into().unwrap();
    Cipher::gcm(&hex("000102030405060708090a0b0c0d0e0f"), salt).unwrap()
}

#[test]
fn rtp_is_sealed_as_in_rfc_7714_16_1_1() {
    let sealer = Sealer {
        tag: 16,
        rtp: rfc_7714(),
        rtcp: rfc_7714(),
        rtcp_index: 0,
    };
    let plain = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973
                     20646976 69736120 696e2070 61727465 73207472 6573",
    );
    assert_eq!(
        sealed(&sealer, &plain, 12, 0xf17b),
        hex(
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca
             be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1
             6a9152cf 765ee439 0cce"
        )
    );
}

#[test]
fn rtcp_is_sealed_as_in_rfc_7714_17_1() {
    let mut sealer = Sealer {
        tag: 16,
        rtp: rfc_7714(),
        rtcp: rfc_7714(),
        rtcp_index: 0x5d4,
    };
    let mut buf = hex(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930
                       4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef",
    );
    let len = buf.len();
    buf.resize(len + RTCP_OVERHEAD, 0);
    assert_eq!(sealer.seal_rtcp(&mut buf, len), len + RTCP_OVERHEAD);
    assert_eq!(
        buf,
        hex(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7
             6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458
             96cf4d2f c5abf872 45d9eade 800005d4"
        )
    );
}

#[test]
fn what_one_side_seals_the_other_opens() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        // Over the end of a round of sequence numbers, with a header longer than the fixed one.
        for index in 65_500u64..65_600 {
            let plain = rtp(5, index, b"extn payload");
            let mut packet = sealed(&sealer, &plain, 16, index);
            assert_eq!(packet[..16], plain[..16], "the header stays readable");
            assert_ne!(packet[16..24], plain[16..24], "the payload does not");
            let len = opener.open_rtp(&mut packet, 16).unwrap();
            assert_eq!(packet[..len], plain, "{profile:?} {index}");
        }
        for _ in 0..3 {
            let plain = b"\x80\xc9\0\x01\0\0\0\x05 and more";
            let mut packet = plain.to_vec();
            packet.resize(plain.len() + RTCP_OVERHEAD, 0);
            let len = sealer.seal_rtcp(&mut packet, plain.len());
            let len = opener.open_rtcp(&mut packet[..len]).unwrap();
            assert_eq!(packet[..len], plain[..]);
        }
    }
}

#[test]
fn a_replay_is_refused_and_a_late_packet_is_not() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let packet = |index| sealed(&sealer, &rtp(1, index, b"x"), 12, index);
        assert!(opener.open_rtp(&mut packet(2000), 12).is_ok());
        assert_eq!(
            opener.open_rtp(&mut packet(2000), 12),
            Err(SrtpFault::Replayed)
        );
        assert!(opener.open_rtp(&mut packet(2000 - 1023), 12).is_ok());
        assert_eq!(
            opener.open_rtp(&mut packet(2000 - 1024), 12),
            Err(SrtpFault::Old)
        );
        let mut report = vec![0; 60];
        let len = sealer.seal_rtcp(&mut report, 20);
        assert!(opener.open_rtcp(&mut report.clone()[..len]).is_ok());
        assert_eq!(
            opener.open_rtcp(&mut report[..len]),
            Err(SrtpFault::Replayed)
        );
    }
}

#[test]
fn a_changed_bit_anywhere_is_noticed() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let good = sealed(&sealer, &rtp(1, 9, b"payload"), 12, 9);
        let mut report = vec![0; 60];
        let len = sealer.seal_rtcp(&mut report, 20);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open_rtp(&mut bad, 12).is_err(), "{profile:?} {bit}");
        }
        for bit in 0..len * 8 {
            let mut bad = report[..len].to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open_rtcp(&mut bad).is_err(), "{profile:?} {bit}");
        }
        // Nor has any of them moved a window.
        assert!(opener.open_rtp(&mut good.clone(), 12).is_ok());
        assert!(opener.open_rtcp(&mut report[..len]).is_ok());
    }
}

#[test]
fn a_report_in_clear_is_refused() {
    for profile in PROFILES {
        let (_, mut opener) = pair(profile);
        assert_eq!(
            opener.open_rtcp(&mut [0; 60]),
            Err(SrtpFault::Unencrypted),
            "{profile:?}"
        );
    }
}

#[test]
fn bytes_of_any_length_are_refused_without_panic() {
    let mut random = Random::seeded(3);
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        for len in 0..80 {
            let mut bytes = vec![0; len];
            random.fill(&mut bytes);
            for header_len in [0, 12, 13, 16, 72, 200] {
                assert!(opener.open_rtp(&mut bytes.clone(), header_len).is_err());
            }
            assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
            // No room for the tag.
            assert_eq!(sealer.seal_rtcp(&mut bytes, len), 0);
        }
    }
    assert!(derive(Profile::Gcm256, &[0; 87], true).is_none());
}

#[test]
fn the_index_of_reports_is_never_used_twice() {
    let (mut sealer, _) = pair(Profile::Gcm128);
    sealer.rtcp_index = ENCRYPTED - 1;
    assert_eq!(sealer.seal_rtcp(&mut [0; 60], 20), 40);
    assert_eq!(sealer.seal_rtcp(&mut [0; 60], 20), 0);
}
