//! The zstd reader, and that it reads what the zstd writer wrote.

#![no_main]

include!("decompress.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(Codec::Zstd, bytes));
