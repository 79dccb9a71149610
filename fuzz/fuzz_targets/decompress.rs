// Shared by the four decompressor targets: bytes as a codec's data, with contexts kept from input to
// input as a shard keeps them; and as plain data that must come back.

use std::cell::RefCell;

use corelane::compress::{Codecs, Level};
use corelane::model::Codec;

const LIMIT_BYTES: usize = 1 << 20;

thread_local! {
    static CODECS: RefCell<Codecs> = RefCell::new(Codecs::new());
}

fn check(codec: Codec, bytes: &[u8]) {
    CODECS.with_borrow_mut(|codecs| {
        let mut out = Vec::new();
        let result = codecs.decompress(codec, bytes, &mut out, LIMIT_BYTES);
        assert!(result.is_ok() || out.is_empty());
        assert!(out.len() <= LIMIT_BYTES);
        assert!(out.capacity() <= 2 * LIMIT_BYTES + (64 << 10));

        let mut packed = Vec::new();
        codecs
            .compress(Level::default_of(codec), bytes, &mut packed)
            .expect("every codec takes any bytes");
        out.clear();
        codecs
            .decompress(codec, &packed, &mut out, bytes.len())
            .expect("a codec reads what it wrote");
        assert!(out == bytes);
    });
}
