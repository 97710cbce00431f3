#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fibcast_fuzz_entries::reload::reload(data));
