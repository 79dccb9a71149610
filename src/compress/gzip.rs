//! Gzip members around raw deflate.
//!
//! The member's header and trailer are read here, because the library's inflater can be reset, and so
//! reused, for raw deflate alone. Writing keeps its deflater, whose reset stays with gzip.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{DecompressError, Level, PIECE_BYTES, grown};
use crate::model::Codec;

const WINDOW_BITS: u8 = 15;
const MAGIC_AND_METHOD: [u8; 3] = [0x1f, 0x8b, 8];
const HEADER_CHECKSUM: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
const RESERVED: u8 = 0xe0;

#[derive(Default)]
pub(super) struct GzipWriter {
    deflater: Option<(Level, Compress)>,
}

impl GzipWriter {
    /// The deflater is at the beginning of a stream of this level.
    pub(super) fn begin(&mut self, level: Level) {
        let reusable = self
            .deflater
            .take()
            .filter(|(made_for, _)| *made_for == level);
        let (_, deflater) = self.deflater.insert(reusable.unwrap_or_else(|| {
            let number = u32::try_from(level.number()).unwrap_or(6);
            (
                level,
                Compress::new_gzip(Compression::new(number), WINDOW_BITS),
            )
        }));
        deflater.reset();
    }

    pub(super) fn write(
        &mut self,
        mut input: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let (_, deflater) = self.deflater.as_mut().ok_or("the stream was not begun")?;
        let flush = match is_last {
            true => FlushCompress::Finish,
            false => FlushCompress::None,
        };
        loop {
            let before = deflater.total_in();
            out.reserve(input.len() / 4 + 1024);
            let status = deflater
                .compress_vec(input, out, flush)
                .map_err(|_| "the deflater fails")?;
            let read_bytes = (deflater.total_in() - before) as usize;
            input = input.get(read_bytes..).unwrap_or_default();
            if status == Status::StreamEnd || (!is_last && input.is_empty()) {
                return Ok(());
            }
        }
    }
}

#[derive(Default)]
pub(super) struct GzipReader {
    inflater: Option<Decompress>,
    piece: Vec<u8>,
}

/// Where reading stands: one member after another, as Java's reader takes them too.
pub(super) struct GzipStream<'a> {
    rest: &'a [u8],
    /// The checksum of what the open member has given so far.
    member: Option<Crc>,
    is_begun: bool,
}

impl<'a> GzipStream<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            member: None,
            is_begun: false,
        }
    }
}

impl GzipReader {
    /// The next piece, which is empty where a member ends; none behind the last member.
    pub(super) fn next(
        &mut self,
        stream: &mut GzipStream<'_>,
    ) -> Result<Option<&[u8]>, DecompressError> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        let crc = match &mut stream.member {
            Some(crc) => crc,
            None if stream.is_begun && stream.rest.is_empty() => return Ok(None),
            closed => {
                skip_header(&mut stream.rest)?;
                inflater.reset(false);
                stream.is_begun = true;
                closed.insert(Crc::new())
            }
        };
        let space = grown(&mut self.piece, PIECE_BYTES);
        let (in_before, out_before) = (inflater.total_in(), inflater.total_out());
        let status = inflater
            .decompress(stream.rest, space, FlushDecompress::None)
            .map_err(|_| corrupt("the deflate stream does not decode"))?;
        let read_bytes = (inflater.total_in() - in_before) as usize;
        let written_bytes = (inflater.total_out() - out_before) as usize;
        take(&mut stream.rest, read_bytes)?;
        let piece = self.piece.get(..written_bytes).unwrap_or_default();
        crc.update(piece);
        if status == Status::StreamEnd {
            let trailer = take(&mut stream.rest, 8)?;
            if trailer != [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat() {
                return Err(corrupt("the content fails its checksum"));
            }
            stream.member = None;
        } else if read_bytes == 0 && written_bytes == 0 {
            return Err(corrupt("the deflate stream is cut short"));
        }
        Ok(Some(piece))
    }
}

fn skip_header(rest: &mut &[u8]) -> Result<(), DecompressError> {
    let [magic @ .., flags] = *take_array::<4>(rest)?;
    if magic != MAGIC_AND_METHOD || flags & RESERVED != 0 {
        return Err(corrupt("the header is not that of a gzip member"));
    }
    // Time, extra flags and operating system.
    take(rest, 6)?;
    if flags & EXTRA != 0 {
        let extra_bytes = u16::from_le_bytes(*take_array::<2>(rest)?);
        take(rest, usize::from(extra_bytes))?;
    }
    for field in [NAME, COMMENT] {
        if flags & field != 0 {
            skip_string(rest)?;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        take(rest, 2)?;
    }
    Ok(())
}

fn skip_string(rest: &mut &[u8]) -> Result<(), DecompressError> {
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(corrupt("the header is cut short"))?;
    take(rest, end + 1)?;
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], DecompressError> {
    let (taken, behind) = rest
        .split_at_checked(bytes)
        .ok_or(corrupt("the member is cut short"))?;
    *rest = behind;
    Ok(taken)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], DecompressError> {
    let (taken, behind) = rest
        .split_first_chunk()
        .ok_or(corrupt("the member is cut short"))?;
    *rest = behind;
    Ok(taken)
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::corrupt(Codec::Gzip, reason)
}
