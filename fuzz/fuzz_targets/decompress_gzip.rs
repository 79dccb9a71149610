//! The gzip reader, and that it reads what the gzip writer wrote.

#![no_main]

include!("decompress.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(Codec::Gzip, bytes));
