#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parlor::hostile::parse_candidate_bytes(data));
