//! The lz4 reader, and that it reads what the lz4 writer wrote.

#![no_main]

include!("decompress.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(Codec::Lz4, bytes));
