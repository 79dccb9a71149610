//! Round trips, other implementations both ways, lies and bombs.

use std::io::{Read, Write};

use proptest::prelude::*;

use super::*;

/// Like log lines: compressible, and longer than a block of any codec.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 64);
    for line in 0u64.. {
        if text.len() >= bytes {
            break;
        }
        let mixed = line.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        writeln!(
            text,
            "level=info id={mixed:x} line={line} took_ms={}",
            line % 97
        )
        .unwrap();
    }
    text.truncate(bytes);
    text
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Codecs::new()
        .compress(Level::default_of(codec), input, &mut out)
        .unwrap();
    out
}

fn decompressed(codec: Codec, input: &[u8]) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    Codecs::new().decompress(codec, input, &mut out, 16 << 20)?;
    Ok(out)
}

#[test]
fn every_level_round_trips_with_reused_contexts() {
    let mut codecs = Codecs::new();
    let inputs = [
        vec![],
        b"x".to_vec(),
        text(200_000),
        noise(70_000),
        vec![7; 65_536],
    ];
    let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
    for codec in Codec::COMPRESSING {
        for level in [-131_072, -7, -1, 1, 6, 9, 12, 17, 19, 20, 22] {
            let Some(level) = Level::new(codec, level) else {
                continue;
            };
            for input in &inputs {
                packed.clear();
                unpacked.clear();
                codecs.compress(level, input, &mut packed).unwrap();
                codecs
                    .decompress(codec, &packed, &mut unpacked, 1 << 20)
                    .unwrap();
                assert!(unpacked == *input, "{codec} {level:?} {}", input.len());
            }
        }
    }
}

#[test]
fn levels_are_those_of_kafka() {
    for (codec, inside, outside) in [
        (Codec::Gzip, [-1, 1, 9], [0, 10, -2]),
        (Codec::Lz4, [1, 9, 17], [0, 18, -1]),
        (Codec::Zstd, [-131_072, 0, 22], [23, -131_073, i32::MAX]),
    ] {
        assert!(
            inside
                .iter()
                .all(|level| Level::new(codec, *level).is_some())
        );
        assert!(
            outside
                .iter()
                .all(|level| Level::new(codec, *level).is_none())
        );
        assert_eq!(
            Level::new(codec, Level::default_of(codec).number()),
            Some(Level::default_of(codec))
        );
    }
}

#[test]
fn output_is_appended_and_untouched_on_errors() {
    let input = text(100_000);
    for codec in Codec::COMPRESSING {
        let mut packed = b"before".to_vec();
        let mut codecs = Codecs::new();
        codecs
            .compress(Level::default_of(codec), &input, &mut packed)
            .unwrap();
        assert!(packed.starts_with(b"before"));
        let packed = &packed[6..];
        assert!(packed.len() < input.len());

        let mut out = b"before".to_vec();
        let cut = &packed[..packed.len() - 1];
        codecs
            .decompress(codec, cut, &mut out, 1 << 20)
            .unwrap_err();
        assert_eq!(out, b"before");
        codecs.decompress(codec, packed, &mut out, 1 << 20).unwrap();
        assert!(out[6..] == input, "{codec} after an error");
    }
}

#[test]
fn the_limit_is_exact() {
    for codec in Codec::COMPRESSING {
        for input in [text(150_000), noise(65_536), vec![0; 32_768]] {
            let packed = compressed(codec, &input);
            let mut codecs = Codecs::new();
            let mut out = Vec::new();
            codecs
                .decompress(codec, &packed, &mut out, input.len())
                .unwrap();
            assert!(out == input);
            for limit_bytes in [input.len() - 1, input.len() / 2, 1, 0] {
                let error = codecs.decompress(codec, &packed, &mut out, limit_bytes);
                assert_eq!(
                    error,
                    Err(DecompressError::TooLarge { limit_bytes }),
                    "{codec}"
                );
            }
        }
    }
}

#[test]
fn cut_short_at_any_byte_is_an_error() {
    let input = text(3_000);
    for codec in Codec::COMPRESSING {
        let packed = compressed(codec, &input);
        // Snappy's chunks have no end mark: cut behind the header, nothing is missing.
        let is_whole = |cut: usize| codec == Codec::Snappy && cut == 16;
        for cut in (0..packed.len()).filter(|cut| !is_whole(*cut)) {
            let result = decompressed(codec, &packed[..cut]);
            assert!(
                matches!(result, Err(DecompressError::Corrupt { .. })),
                "{codec} cut at {cut}: {:?}",
                result.map(|out| out.len())
            );
        }
    }
}

fn zstd_bomb() -> Vec<u8> {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (20 - 10) << 3];
    for _ in 0..8192 {
        // A block of 128 KiB of one byte, not the last one.
        let header: u32 = (128 << 10) << 3 | 1 << 1;
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(b'A');
    }
    bomb
}

fn bomb(codec: Codec) -> Vec<u8> {
    let piece = compressed(codec, &vec![0; 64 << 10]);
    match codec {
        Codec::Gzip => compressed(codec, &vec![0; 1 << 20]).repeat(1024),
        Codec::Snappy => [&piece[..16], &piece[16..].repeat(400)].concat(),
        Codec::Lz4 => [&piece[..7], &piece[7..piece.len() - 4].repeat(4096)].concat(),
        Codec::Zstd => zstd_bomb(),
        Codec::None => vec![0; 64 << 20],
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    for codec in Codec::COMPRESSING {
        let limit_bytes = 8 << 20;
        let bomb = bomb(codec);
        assert!(bomb.len() < 5 << 18, "{codec}: {}", bomb.len());
        let mut out = Vec::new();
        let result = Codecs::new().decompress(codec, &bomb, &mut out, limit_bytes);
        assert_eq!(
            result,
            Err(DecompressError::TooLarge { limit_bytes }),
            "{codec}"
        );
        assert!(out.is_empty());
        assert!(
            out.capacity() <= 2 * limit_bytes,
            "{codec}: {}",
            out.capacity()
        );
    }
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let lies: [(Codec, &[u8]); 6] = [
        // Raw snappy that claims 4 GiB − 1, and a chunk of 2 GiB − 1 bytes.
        (Codec::Snappy, b"\xff\xff\xff\xff\x0f\x00a"),
        (
            Codec::Snappy,
            b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff\x00",
        ),
        (
            Codec::Snappy,
            b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff\x00",
        ),
        // A block longer than the frame's block size, and one of 4 MiB that is not there.
        (Codec::Lz4, b"\x04\x22\x4d\x18\x60\x40\x82\x01\x00\x01\x00"),
        (Codec::Lz4, b"\x04\x22\x4d\x18\x60\x70\x73\x00\x00\x40\x80"),
        // A content size of 1 GiB in front of one empty block.
        (
            Codec::Zstd,
            b"\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00",
        ),
    ];
    for (codec, lie) in lies {
        let mut out = Vec::new();
        let result = Codecs::new().decompress(codec, lie, &mut out, 1 << 30);
        assert!(
            matches!(result, Err(DecompressError::Corrupt { .. })),
            "{lie:?}: {result:?}"
        );
        assert!(out.capacity() <= 64 << 10, "{lie:?}: {}", out.capacity());
    }
}

/// A frame that claims a window of 2^`window_log` bytes, as Java's producer does at level 22.
fn wide_frame(window_log: u8, input: &[u8]) -> Vec<u8> {
    use ::zstd::zstd_safe::CParameter;
    let mut writer = zstd_stream::Encoder::new(Vec::new(), 3).unwrap();
    writer
        .set_parameter(CParameter::WindowLog(window_log.into()))
        .unwrap();
    writer.write_all(input).unwrap();
    let frame = writer.finish().unwrap();
    assert_eq!(frame[5], (window_log - 10) << 3);
    frame
}

#[test]
fn zstd_windows_cost_nothing() {
    for input in [text(1_000), text(1 << 20), vec![0; 1 << 20]] {
        for window_log in [23, 24, 27] {
            let frame = wide_frame(window_log, &input);
            let mut out = b"before".to_vec();
            let mut codecs = Codecs::new();
            codecs
                .decompress(Codec::Zstd, &frame, &mut out, input.len())
                .unwrap();
            assert!(out[6..] == input);
            assert!(
                out.capacity() <= 4 * input.len().max(64 << 10),
                "{}",
                out.capacity()
            );
            if let Some(limit_bytes) = input.len().checked_sub(1) {
                let result = codecs.decompress(Codec::Zstd, &frame, &mut out, limit_bytes);
                assert_eq!(result, Err(DecompressError::TooLarge { limit_bytes }));
            }
            let cut = &frame[..frame.len() - 1];
            codecs
                .decompress(Codec::Zstd, cut, &mut out, 4 << 20)
                .unwrap_err();
        }
    }
    // Kafka's reader refuses 2^28 and beyond, too.
    let frame = |window_log: u8| {
        let last_raw_block_of_1 = [1 | 1 << 3, 0, 0, b'x'];
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_log - 10) << 3];
        [&header[..], &last_raw_block_of_1].concat()
    };
    assert_eq!(decompressed(Codec::Zstd, &frame(27)).unwrap(), b"x");
    decompressed(Codec::Zstd, &frame(28)).unwrap_err();
}

#[test]
fn what_reading_takes_is_told_by_the_headers() {
    let demand = |codec, input: &[u8]| Readers::demand(codec, input);
    let usual = ReadDemand {
        extra_bytes: 0,
        limit_bytes: usize::MAX,
        is_slow: false,
    };
    for codec in Codec::COMPRESSING {
        assert_eq!(demand(codec, &compressed(codec, &text(1 << 20))), usual);
        assert_eq!(demand(codec, b"x"), usual);
    }
    let raw = snap::raw::Encoder::new().compress_vec(&text(1 << 20));
    assert_eq!(
        demand(Codec::Snappy, &raw.unwrap()).extra_bytes,
        1 << 20,
        "a block of snappy is decoded whole"
    );
    let wide = ReadDemand {
        extra_bytes: WIDE_LIMIT_BYTES,
        limit_bytes: WIDE_LIMIT_BYTES,
        is_slow: false,
    };
    assert_eq!(demand(Codec::Zstd, &wide_frame(23, &text(1 << 20))), usual);
    assert_eq!(demand(Codec::Zstd, &wide_frame(24, &text(1 << 20))), wide);
    // A single segment's window is its content: 1 GiB is claimed here.
    let single = b"\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x01\x00\x00";
    assert_eq!(demand(Codec::Zstd, single), wide);
}

#[test]
fn contexts_stay_small() {
    for plain_bytes in [1_000, 100_000, 256 << 10, 4 << 20] {
        // A context is made for levels and lengths, not for what it compresses.
        let input = vec![0; plain_bytes];
        for level in 1..=22 {
            let level = Level::new(Codec::Zstd, level).unwrap();
            let mut codecs = Codecs::new();
            codecs.compress(level, &input, &mut Vec::new()).unwrap();
            let bytes = codecs.writers.context_bytes();
            let told_bytes = level.context_bytes(plain_bytes);
            assert!(
                bytes <= told_bytes.max(6 << 20),
                "{level:?} {plain_bytes}: {bytes}"
            );
            codecs.trim();
            assert!(codecs.writers.context_bytes() <= 6 << 20);
        }
    }
}

#[test]
fn pieces_make_what_the_whole_makes() {
    let input = [text(300_000), noise(70_000)].concat();
    for codec in Codec::ALL {
        let level = Level::default_of(codec);
        for piece_bytes in [1, 7_000, 65_536, 200_000] {
            let mut codecs = Codecs::new();
            let mut packed = Vec::new();
            let mut compressing = codecs
                .writers
                .begin(level, input.len(), &mut packed)
                .unwrap();
            for piece in input.chunks(piece_bytes) {
                compressing.write(piece, &mut packed).unwrap();
            }
            compressing.finish(&[], &mut packed).unwrap();
            assert!(packed.len() <= level.max_output_bytes(input.len()));
            assert!(decompressed(codec, &packed).unwrap() == input, "{codec}");
        }
    }
}

#[test]
fn other_writers_are_read() {
    let input = text(300_000);
    let mut gz = flate2::GzBuilder::new()
        .filename("name")
        .comment("comment")
        .extra(vec![1, 2, 3])
        .mtime(77)
        .write(Vec::new(), flate2::Compression::fast());
    gz.write_all(&input).unwrap();
    assert!(decompressed(Codec::Gzip, &gz.finish().unwrap()).unwrap() == input);

    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert!(decompressed(Codec::Snappy, &raw).unwrap() == input);

    let mut zst = zstd_stream::Encoder::new(Vec::new(), 5).unwrap();
    zst.include_checksum(true).unwrap();
    zst.write_all(&input).unwrap();
    assert!(decompressed(Codec::Zstd, &zst.finish().unwrap()).unwrap() == input);
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let input = text(300_000);
    let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB];
    for (size, mode) in sizes
        .into_iter()
        .flat_map(|size| [(size, BlockMode::Independent), (size, BlockMode::Linked)])
    {
        for is_checked in [false, true] {
            let info = FrameInfo::new()
                .block_size(size)
                .block_mode(mode)
                .block_checksums(is_checked)
                .content_checksum(is_checked)
                .content_size(is_checked.then_some(input.len() as u64));
            let mut writer = FrameEncoder::with_frame_info(info, Vec::new());
            writer.write_all(&input).unwrap();
            let frame = writer.finish().unwrap();
            assert!(
                decompressed(Codec::Lz4, &frame).unwrap() == input,
                "{size:?} {mode:?}"
            );
        }
    }
}

#[test]
fn lz4_blocks_keep_to_their_frames_size() {
    let frame_of_stored = |block_bytes: u32| {
        let length = (block_bytes | 1 << 31).to_le_bytes();
        let block = vec![1; block_bytes as usize];
        let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
        [&header[..], &length, &block, &[0; 4]].concat()
    };
    decompressed(Codec::Lz4, &frame_of_stored(65_536)).unwrap();
    decompressed(Codec::Lz4, &frame_of_stored(65_537)).unwrap_err();
}

#[test]
fn other_readers_read_ours() {
    for input in [text(300_000), noise(100_000)] {
        let mut out = Vec::new();
        let gz = compressed(Codec::Gzip, &input);
        flate2::read::GzDecoder::new(&gz[..])
            .read_to_end(&mut out)
            .unwrap();
        assert!(out == input);

        out.clear();
        let lz4 = compressed(Codec::Lz4, &input);
        lz4_flex::frame::FrameDecoder::new(&lz4[..])
            .read_to_end(&mut out)
            .unwrap();
        assert!(out == input);

        let zst = compressed(Codec::Zstd, &input);
        assert!(zstd_stream::decode_all(&zst[..]).unwrap() == input);
    }
}

use ::zstd::stream as zstd_stream;

proptest! {
    #[test]
    fn any_input_round_trips(input in prop::collection::vec(0u8..4, 0..5_000), seed: u16) {
        let codec = Codec::COMPRESSING[usize::from(seed) % 4];
        prop_assert_eq!(decompressed(codec, &compressed(codec, &input)).unwrap(), input);
    }

    #[test]
    fn damaged_input_is_refused_or_read_within_the_limit(
        at: prop::sample::Index,
        to: u8,
        cut: prop::sample::Index,
        tail: Vec<u8>,
    ) {
        let input = text(2_000);
        for codec in Codec::COMPRESSING {
            let mut damaged = compressed(codec, &input);
            *at.get_mut(&mut damaged) = to;
            damaged.truncate(cut.index(damaged.len() + 1).max(8));
            damaged.extend_from_slice(&tail);
            let mut out = Vec::new();
            let _ = Codecs::new().decompress(codec, &damaged, &mut out, 4_000);
            prop_assert!(out.len() <= 4_000);
            let _ = Codecs::new().decompress(codec, &tail, &mut out, 4_000);
            prop_assert!(out.len() <= 8_000);
        }
    }
}
