//! What a socket brings: frames cut from a stream as the broker cuts them, headers, and the bodies
//! behind them.

#![no_main]

use corelane::net::{Cut, cut_frame};
use corelane::wire::RequestHeader;
use corelane::wire::messages::AnyRequest;
use libfuzzer_sys::fuzz_target;

const PREFIX_BYTES: usize = 4;
const MAX_BYTES: usize = 1 << 16;

fuzz_target!(|stream: &[u8]| {
    let mut rest = stream;
    loop {
        let content = match cut_frame(rest, MAX_BYTES) {
            Ok(Cut::Whole(content)) => content,
            Ok(Cut::Needs(wanted)) => {
                // Else the reader would wait for what is there, or make room for what may not come.
                assert!(wanted > rest.len() && wanted <= PREFIX_BYTES + MAX_BYTES);
                return;
            }
            Err(_) => return,
        };
        assert_eq!(content.start, PREFIX_BYTES);
        let (message, behind) = (&rest[content.clone()], &rest[content.end..]);
        if let Ok((header, body)) = RequestHeader::decode(message) {
            assert!(header.api.supports(header.version));
            assert!(message.ends_with(body));
            let _ = AnyRequest::decode(&header, body);
        }
        rest = behind;
    }
});
