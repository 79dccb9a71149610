//! Batch after batch through consecutive bytes, as in a segment file or a Fetch response.

use super::{BatchError, BatchView};

/// Where consecutive batches end before the bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {error}")]
pub struct BatchBreak {
    /// Byte position behind the last good batch.
    pub position: usize,
    /// Why no batch follows there.
    pub error: BatchError,
}

/// The batches in `bytes`, each with its byte position; the first error ends it.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    verifies: bool,
    is_done: bool,
}

impl<'a> Batches<'a> {
    /// Checks what is needed to walk on; CRCs are not looked at.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            verifies: false,
            is_done: false,
        }
    }

    /// Checks each CRC as well.
    pub fn verified(bytes: &'a [u8]) -> Self {
        Self {
            verifies: true,
            ..Self::new(bytes)
        }
    }

    /// Byte position behind the last batch given out.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(usize, BatchView<'a>), BatchBreak>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        if self.is_done || rest.is_empty() {
            return None;
        }
        let batch = if self.verifies {
            BatchView::first_verified(rest)
        } else {
            BatchView::first(rest)
        };
        let position = self.position;
        match batch {
            Ok(batch) => {
                self.position += batch.bytes().len();
                Some(Ok((position, batch)))
            }
            Err(error) => {
                self.is_done = true;
                Some(Err(BatchBreak { position, error }))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches<'_> {}
