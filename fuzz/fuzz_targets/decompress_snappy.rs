//! The snappy reader, and that it reads what the snappy writer wrote.

#![no_main]

include!("decompress.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(Codec::Snappy, bytes));
