//! Zstandard frames, with contexts that are kept.

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    get_error_name, zstd_sys::ZSTD_EndDirective,
};

use super::{DecompressError, Level, PIECE_BYTES, grown};
use crate::model::Codec;

/// Largest window that is read, as Kafka's Java reader has it: 128 MiB. Its producer claims 32 to
/// 128 MiB from level 20 on, however short the batch (seen with kafka-clients 4.1.0).
const READ_WINDOW_LOG_MAX: u32 = 27;
/// Windows up to here, which levels to 19 stay within, are what a context keeps memory for; a wider
/// one is made for its frame. Memory behind it appears as output does.
const KEPT_WINDOW_BYTES: u64 = 8 << 20;
/// Largest window that is written from [`FIRST_WIDE_LEVEL`] on: a context of level 19 to 22 then takes
/// 24 MiB instead of 90 to 700.
const WRITE_WINDOW_LOG_MAX: u32 = 20;
/// From this level on zstd would choose a larger window.
const FIRST_WIDE_LEVEL: i32 = 10;
/// A context beyond this is not kept.
const KEPT_CONTEXT_BYTES: usize = 6 << 20;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

#[derive(Default)]
pub(super) struct ZstdWriter {
    context: Option<CCtx<'static>>,
    /// What a block of the frame takes at most.
    block_bytes: usize,
    /// What the open block has taken.
    begun_bytes: usize,
}

impl ZstdWriter {
    /// A frame of `plain_bytes`, for which its tables are made: a short one needs little.
    pub(super) fn begin(&mut self, level: Level, plain_bytes: u64) -> Result<(), &'static str> {
        let context = match &mut self.context {
            Some(context) => context,
            empty => empty.insert(CCtx::try_create().ok_or("out of memory")?),
        };
        begin_frame(context, level, plain_bytes).map_err(get_error_name)?;
        self.begun_bytes = 0;
        self.block_bytes = match level.is_slow() {
            true => usize::MAX,
            false => level.step_bytes(),
        };
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        mut input: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        use ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end, ZSTD_e_flush};
        loop {
            let room_bytes = self.block_bytes - self.begun_bytes;
            if input.len() < room_bytes || (is_last && input.len() == room_bytes) {
                self.begun_bytes += input.len();
                let directive = if is_last { ZSTD_e_end } else { ZSTD_e_continue };
                return self.give(input, directive, out);
            }
            let (block, behind) = input.split_at(room_bytes);
            self.give(block, ZSTD_e_flush, out)?;
            (input, self.begun_bytes) = (behind, 0);
        }
    }

    /// Gives the context all of `input`, and takes what `directive` wants of it.
    fn give(
        &mut self,
        input: &[u8],
        directive: ZSTD_EndDirective,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let context = self.context.as_mut().ok_or("the frame was not begun")?;
        let mut input = InBuffer::around(input);
        loop {
            // With room for all of it, a frame that comes at once is made without a copy.
            out.reserve(compress_bound(input.src.len() - input.pos()));
            let at = out.len();
            let mut output = OutBuffer::around_pos(out, at);
            let left_bytes = context
                .compress_stream2(&mut output, &mut input, directive)
                .map_err(get_error_name)?;
            let is_read = input.pos() == input.src.len();
            let is_done = left_bytes == 0 || directive == ZSTD_EndDirective::ZSTD_e_continue;
            if is_read && is_done {
                return Ok(());
            }
        }
    }

    pub(super) fn trim(&mut self) {
        self.context
            .take_if(|context| context.sizeof() > KEPT_CONTEXT_BYTES);
    }

    #[cfg(test)]
    pub(super) fn context_bytes(&self) -> usize {
        self.context.as_ref().map_or(0, CCtx::sizeof)
    }
}

fn begin_frame(context: &mut CCtx<'_>, level: Level, plain_bytes: u64) -> Result<(), usize> {
    let level = level.number();
    context.reset(ResetDirective::SessionOnly)?;
    context.set_parameter(CParameter::CompressionLevel(level))?;
    let window_log = if level >= FIRST_WIDE_LEVEL {
        WRITE_WINDOW_LOG_MAX
    } else {
        0
    };
    context.set_parameter(CParameter::WindowLog(window_log))?;
    context.set_pledged_src_size(Some(plain_bytes))?;
    Ok(())
}

#[derive(Default)]
pub(super) struct ZstdReader {
    context: Option<DCtx<'static>>,
    piece: Vec<u8>,
}

/// Where reading stands: one frame after another, as Java's reader takes them too.
pub(super) struct ZstdStream<'a> {
    rest: &'a [u8],
    is_begun: bool,
    /// The last frame has ended.
    is_whole: bool,
}

impl<'a> ZstdStream<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            is_begun: false,
            is_whole: false,
        }
    }
}

impl ZstdReader {
    /// Whether the first frame claims a window beyond what a context keeps memory for.
    pub(super) fn is_wide(input: &[u8]) -> bool {
        window_bytes(input).is_some_and(|bytes| bytes > KEPT_WINDOW_BYTES)
    }

    /// The next piece, which may be empty; none behind the last frame.
    pub(super) fn next(
        &mut self,
        stream: &mut ZstdStream<'_>,
    ) -> Result<Option<&[u8]>, DecompressError> {
        if stream.is_whole && stream.rest.is_empty() {
            return Ok(None);
        }
        let context = match &mut self.context {
            Some(context) => context,
            empty => {
                let mut context = DCtx::try_create().ok_or(corrupt("out of memory"))?;
                context
                    .set_parameter(DParameter::WindowLogMax(READ_WINDOW_LOG_MAX))
                    .map_err(|code| corrupt(get_error_name(code)))?;
                empty.insert(context)
            }
        };
        if !stream.is_begun {
            context
                .reset(ResetDirective::SessionOnly)
                .map_err(|code| corrupt(get_error_name(code)))?;
            stream.is_begun = true;
        }
        let space = grown(&mut self.piece, PIECE_BYTES);
        let mut input = InBuffer::around(stream.rest);
        let mut output = OutBuffer::around(space);
        let left_bytes = context
            .decompress_stream(&mut output, &mut input)
            .map_err(|code| corrupt(get_error_name(code)))?;
        let (read_bytes, written_bytes) = (input.pos(), output.pos());
        stream.rest = stream.rest.get(read_bytes..).unwrap_or_default();
        stream.is_whole = left_bytes == 0;
        if !stream.is_whole && read_bytes == 0 && written_bytes == 0 {
            return Err(corrupt("the frame is cut short"));
        }
        Ok(self.piece.get(..written_bytes))
    }

    pub(super) fn trim(&mut self) {
        self.context
            .take_if(|context| context.sizeof() as u64 > 2 * KEPT_WINDOW_BYTES);
    }
}

/// The window that a frame's header (RFC 8878, 3.1.1.1) claims.
///
/// ```text
///  0  magic               28 b5 2f fd
///  4  descriptor          6–7 size of the content size, 5 single segment, 0–1 size of the dictionary id
///  5  window              3–7 exponent, 0–2 mantissa; not where there is a single segment
///     dictionary id       0, 1, 2 or 4 bytes
///     content size        0 (1 with a single segment), 2, 4 or 8 bytes little-endian
/// ```
fn window_bytes(input: &[u8]) -> Option<u64> {
    let rest = input.strip_prefix(&MAGIC)?;
    let (descriptor, rest) = rest.split_first()?;
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary_bytes = *[0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let size_bytes = 1usize << (descriptor >> 6);
    let size = rest.get(dictionary_bytes..dictionary_bytes + size_bytes)?;
    let mut value = [0; 8];
    value.get_mut(..size_bytes)?.copy_from_slice(size);
    let size = u64::from_le_bytes(value);
    // Two bytes count from 256 on.
    Some(if size_bytes == 2 { size + 256 } else { size })
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::corrupt(Codec::Zstd, reason)
}
