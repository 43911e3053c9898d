#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parlor::hostile::play_association_bytes(data));
