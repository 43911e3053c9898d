#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parlor::hostile::parse_sdp_bytes(data));
