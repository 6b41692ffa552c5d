#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tulga_fuzz::decode_capture(bytes);
});
