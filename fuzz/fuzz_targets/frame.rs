//! What a socket brings: frames cut from a stream, headers, and the bodies behind them.

#![no_main]

use corelane::wire::messages::AnyRequest;
use corelane::wire::{RequestHeader, frame};
use libfuzzer_sys::fuzz_target;

const MAX_BYTES: usize = 1 << 16;

fuzz_target!(|stream: &[u8]| {
    let mut rest = stream;
    while let Ok(Some((message, behind))) = frame::split(rest, MAX_BYTES) {
        assert_eq!(
            frame::PREFIX_BYTES + message.len() + behind.len(),
            rest.len()
        );
        rest = behind;
        if let Ok((header, body)) = RequestHeader::decode(message) {
            assert!(header.api.supports(header.version));
            assert!(frame::range_within(message, body).is_some());
            let _ = AnyRequest::decode(&header, body);
        }
    }
});
