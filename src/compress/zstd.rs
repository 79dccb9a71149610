//! Zstandard frames, with contexts that are kept.

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    get_error_name,
    zstd_sys::{ZSTD_EndDirective, ZSTD_ErrorCode},
};

use super::{BoundedOutput, Codec, DecompressError, Level};

/// Largest window that is written, and that a context is given memory for: 2^23 bytes, what RFC 8878
/// asks every reader to support.
///
/// Levels up to 19 stay within. Kafka's Java producer claims 32 to 128 MiB from level 20 on, however
/// short the batch (seen with kafka-clients 4.1.0): such frames are decoded at once, so that the output is
/// the window and a claim costs nothing.
const WINDOW_LOG_MAX: u32 = 23;
/// From this level on zstd would choose a larger window.
const FIRST_WIDE_LEVEL: i32 = 20;

#[derive(Default)]
pub(super) struct Zstd {
    compressor: Option<CCtx<'static>>,
    decompressor: Option<DCtx<'static>>,
}

impl Zstd {
    pub(super) fn compress(
        &mut self,
        level: Level,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let context = match &mut self.compressor {
            Some(context) => context,
            empty => empty.insert(CCtx::try_create().ok_or("out of memory")?),
        };
        begin_frame(context, level).map_err(get_error_name)?;
        out.reserve(compress_bound(input.len()));
        let at = out.len();
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around_pos(out, at);
        let left_bytes = context
            .compress_stream2(&mut output, &mut input, ZSTD_EndDirective::ZSTD_e_end)
            .map_err(get_error_name)?;
        if left_bytes == 0 {
            Ok(())
        } else {
            Err("the frame does not fit")
        }
    }

    /// One frame after another: Java's reader takes them too.
    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut BoundedOutput<'_>,
    ) -> Result<(), DecompressError> {
        let context = self.reader()?;
        match decompress_in_steps(context, input, out)? {
            Steps::Done => Ok(()),
            Steps::WindowTooLarge => {
                out.restart();
                decompress_at_once(context, input, out)
            }
        }
    }

    /// The decompressor at the beginning of a frame.
    fn reader(&mut self) -> Result<&mut DCtx<'static>, DecompressError> {
        let context = match &mut self.decompressor {
            Some(context) => context,
            empty => {
                let mut context = DCtx::try_create().ok_or(corrupt("out of memory"))?;
                context
                    .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
                    .map_err(|code| corrupt(get_error_name(code)))?;
                empty.insert(context)
            }
        };
        context
            .reset(ResetDirective::SessionOnly)
            .map_err(|code| corrupt(get_error_name(code)))?;
        Ok(context)
    }
}

fn begin_frame(context: &mut CCtx<'_>, level: Level) -> Result<(), usize> {
    let level = level.number();
    context.reset(ResetDirective::SessionOnly)?;
    context.set_parameter(CParameter::CompressionLevel(level))?;
    let window_log = if level >= FIRST_WIDE_LEVEL {
        WINDOW_LOG_MAX
    } else {
        0
    };
    context.set_parameter(CParameter::WindowLog(window_log))?;
    Ok(())
}

enum Steps {
    Done,
    WindowTooLarge,
}

fn decompress_in_steps(
    context: &mut DCtx<'_>,
    input: &[u8],
    out: &mut BoundedOutput<'_>,
) -> Result<Steps, DecompressError> {
    let mut input = InBuffer::around(input);
    loop {
        let (left_bytes, advanced) = match out.stream(|bytes| step(context, &mut input, bytes))? {
            Ok(stepped) => stepped,
            Err(code)
                if is(
                    code,
                    ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge,
                ) =>
            {
                return Ok(Steps::WindowTooLarge);
            }
            Err(code) => return Err(corrupt(get_error_name(code))),
        };
        if left_bytes == 0 && input.pos() == input.src.len() {
            return Ok(Steps::Done);
        }
        if !advanced {
            return Err(corrupt("the frame is cut short"));
        }
    }
}

/// Decompresses into spare capacity. Answers what zstd still expects (0 at a frame's end) and whether
/// anything was read or written.
fn step(
    context: &mut DCtx<'_>,
    input: &mut InBuffer<'_>,
    bytes: &mut Vec<u8>,
) -> Result<(usize, bool), usize> {
    let (in_before, out_before) = (input.pos(), bytes.len());
    let mut output = OutBuffer::around_pos(bytes, out_before);
    let left_bytes = context.decompress_stream(&mut output, input)?;
    let advanced = input.pos() > in_before || output.pos() > out_before;
    Ok((left_bytes, advanced))
}

/// Decompresses into output of a size that is guessed, and doubled while it is too small.
fn decompress_at_once(
    context: &mut DCtx<'_>,
    input: &[u8],
    out: &mut BoundedOutput<'_>,
) -> Result<(), DecompressError> {
    let mut guess_bytes = input.len().saturating_mul(8).max(64 << 10);
    loop {
        let mut is_too_small = false;
        let decompressed = out.block(guess_bytes, |_, space| {
            context.decompress(space, input).map_err(|code| {
                is_too_small = is(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall);
                corrupt(get_error_name(code))
            })
        });
        match decompressed {
            Err(DecompressError::Corrupt { .. }) if is_too_small => {
                guess_bytes = guess_bytes.saturating_mul(2);
            }
            done => return done,
        }
    }
}

/// zstd's functions answer an error as its number, negated.
fn is(code: usize, error: ZSTD_ErrorCode) -> bool {
    code == (error as usize).wrapping_neg()
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::corrupt(Codec::Zstd, reason)
}
