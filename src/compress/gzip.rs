//! Gzip members around raw deflate.
//!
//! The member's header and trailer are read here, because the library's inflater can be reset, and so
//! reused, for raw deflate alone. Writing keeps its deflater, whose reset stays with gzip.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{BoundedOutput, Codec, DecompressError, Level};

const WINDOW_BITS: u8 = 15;
const MAGIC_AND_METHOD: [u8; 3] = [0x1f, 0x8b, 8];
const HEADER_CHECKSUM: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
const RESERVED: u8 = 0xe0;

#[derive(Default)]
pub(super) struct Gzip {
    deflater: Option<(Level, Compress)>,
    inflater: Option<Decompress>,
}

impl Gzip {
    pub(super) fn compress(
        &mut self,
        level: Level,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let deflater = self.deflater(level);
        loop {
            let read_bytes = usize::try_from(deflater.total_in()).unwrap_or(usize::MAX);
            let rest = input.get(read_bytes..).unwrap_or_default();
            out.reserve(rest.len() / 4 + 1024);
            let status = deflater
                .compress_vec(rest, out, FlushCompress::Finish)
                .map_err(|_| "the deflater fails")?;
            if status == Status::StreamEnd {
                return Ok(());
            }
        }
    }

    /// The deflater at the beginning of a stream of this level.
    fn deflater(&mut self, level: Level) -> &mut Compress {
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
        deflater
    }

    /// One member after another: Java's reader takes them too.
    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut BoundedOutput<'_>,
    ) -> Result<(), DecompressError> {
        let mut rest = input;
        loop {
            self.member(&mut rest, out)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn member(
        &mut self,
        rest: &mut &[u8],
        out: &mut BoundedOutput<'_>,
    ) -> Result<(), DecompressError> {
        skip_header(rest)?;
        let member_at = out.produced().len();
        self.inflate(rest, out)?;
        let content = out.produced().get(member_at..).unwrap_or_default();
        let trailer = take(rest, 8)?;
        let mut crc = Crc::new();
        crc.update(content);
        if trailer != [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat() {
            return Err(corrupt("the content fails its checksum"));
        }
        Ok(())
    }

    fn inflate(
        &mut self,
        rest: &mut &[u8],
        out: &mut BoundedOutput<'_>,
    ) -> Result<(), DecompressError> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        inflater.reset(false);
        loop {
            let (in_before, out_before) = (inflater.total_in(), inflater.total_out());
            let status = out
                .stream(|bytes| inflater.decompress_vec(rest, bytes, FlushDecompress::None))?
                .map_err(|_| corrupt("the deflate stream does not decode"))?;
            let read_bytes = (inflater.total_in() - in_before) as usize;
            take(rest, read_bytes)?;
            if status == Status::StreamEnd {
                return Ok(());
            }
            if read_bytes == 0 && inflater.total_out() == out_before {
                return Err(corrupt("the deflate stream is cut short"));
            }
        }
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
