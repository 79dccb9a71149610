//! Output that grows with what was produced, up to a limit.

use super::DecompressError;

/// Least that a streaming codec is given to write into.
const CHUNK_BYTES: usize = 64 << 10;

/// What one decompression appends to the caller's buffer.
pub(super) struct BoundedOutput<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    limit_bytes: usize,
}

impl<'a> BoundedOutput<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit_bytes: usize) -> Self {
        let start = bytes.len();
        Self {
            bytes,
            start,
            limit_bytes,
        }
    }

    /// Everything produced so far.
    pub(super) fn produced(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Takes back what was produced so far.
    pub(super) fn restart(&mut self) {
        self.bytes.truncate(self.start);
    }

    fn room_bytes(&self) -> usize {
        self.limit_bytes.saturating_sub(self.produced().len())
    }

    /// Lets `write` append to spare capacity, as streaming codecs do, and checks what came.
    ///
    /// One byte more than allowed is offered, so that output which ends at the limit can be told
    /// from output which goes on.
    pub(super) fn stream<T>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, DecompressError> {
        if self.bytes.capacity() - self.bytes.len() < CHUNK_BYTES {
            let doubled = self.produced().len().max(CHUNK_BYTES);
            self.bytes
                .reserve_exact(doubled.min(self.room_bytes().saturating_add(1)));
        }
        let result = write(self.bytes);
        if self.produced().len() > self.limit_bytes {
            return Err(self.too_large());
        }
        Ok(result)
    }

    /// Appends a block of at most `max_bytes` that `write` fills: it sees what was produced so far and
    /// the space for the block, and answers how much it wrote. When less than `max_bytes` may still be
    /// produced, a failure of `write` is taken for that.
    pub(super) fn block(
        &mut self,
        max_bytes: usize,
        write: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, DecompressError>,
    ) -> Result<(), DecompressError> {
        let before = self.bytes.len();
        let space_bytes = max_bytes.min(self.room_bytes());
        self.bytes.resize(before + space_bytes, 0);
        let (done, space) = self.bytes.split_at_mut(before);
        let written = write(done.get(self.start..).unwrap_or_default(), space);
        self.bytes
            .truncate(before + written.as_ref().copied().unwrap_or(0));
        match written {
            Ok(_) => Ok(()),
            Err(_) if space_bytes < max_bytes => Err(self.too_large()),
            Err(error) => Err(error),
        }
    }

    fn too_large(&self) -> DecompressError {
        DecompressError::TooLarge {
            limit_bytes: self.limit_bytes,
        }
    }
}
