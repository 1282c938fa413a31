#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let target = crsql_tests::fuzz::target("session").expect("a target of this name");
    (target.run)(bytes);
});
