//! Length-prefixed frames from a socket: four bytes of big-endian length, then as many bytes.

use std::io;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::{Arena, Budget, Buf, BufMut, Permit, Runtime, Socket};

const PREFIX_BYTES: usize = 4;
/// What a quiet connection holds while it waits; thousands of them cost little.
const QUIET_BYTES: usize = 4 << 10;
/// What a busy connection of small frames reads into at a time.
const BUSY_BYTES: usize = 64 << 10;
/// How long the rest of a large frame may keep others waiting for its memory.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Reads frames, one behind the other, in as few copies as the sizes allow: a frame beyond the
/// standing buffer gets one of its own, into which the socket is read directly.
///
/// A large frame is charged when its length is known, so that those that were begun can be
/// finished; a small one when it is there, so that announcing costs its sender's bytes alone. With
/// a budget of their own, small frames do not wait for large ones that never come.
#[derive(Debug)]
pub struct FrameReader<R: Runtime> {
    rt: R,
    socket: R::Socket,
    limit_bytes: usize,
    memory: Budget,
    small_memory: Budget,
    buffer: BufMut,
    /// Bytes of `buffer` that were already handed out as frames.
    consumed: usize,
    standing_bytes: usize,
    large: Option<Permit>,
}

/// A frame's content, without its prefix, and the memory it is charged with.
#[derive(Debug)]
pub struct Frame {
    /// The content.
    pub bytes: Buf,
    /// Given back when the frame has been served.
    pub memory: Permit,
}

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The length is negative or beyond the limit. Nothing was allocated for it.
    #[error("a frame of {0} bytes is not accepted")]
    Length(i32),
    /// The stream ended within a frame.
    #[error("the connection ended within a frame")]
    CutShort,
    /// A large frame was begun, and nothing more of it came.
    #[error("nothing came for {} s within a large frame", STALL_LIMIT.as_secs())]
    Stalled,
}

/// What a stream begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A whole frame, whose content lies here; the next one begins where it ends.
    Whole(Range<usize>),
    /// A part of a frame. More can be said when this many bytes of the stream are there.
    Needs(usize),
}

/// Looks for the first frame of `stream`, whose content may have `limit_bytes`. A length that is
/// not accepted is refused as soon as the prefix is there.
pub fn cut_frame(stream: &[u8], limit_bytes: usize) -> Result<Cut, FrameError> {
    let Some(prefix) = stream.first_chunk::<PREFIX_BYTES>() else {
        return Ok(Cut::Needs(PREFIX_BYTES));
    };
    let length = i32::from_be_bytes(*prefix);
    let total = match usize::try_from(length) {
        Ok(content) if content <= limit_bytes => PREFIX_BYTES + content,
        _ => return Err(FrameError::Length(length)),
    };
    Ok(if stream.len() < total {
        Cut::Needs(total)
    } else {
        Cut::Whole(PREFIX_BYTES..total)
    })
}

impl<R: Runtime> FrameReader<R> {
    /// Frames of at most `limit_bytes` from `socket`, each charged to `memory`: a large one before
    /// room is made for it, a small one before it is handed out. So a full shard makes its clients
    /// wait instead of failing.
    pub fn new(rt: R, socket: R::Socket, limit_bytes: usize, memory: Budget) -> Self {
        let buffer = BufMut::empty();
        let standing_bytes = QUIET_BYTES;
        Self {
            rt,
            socket,
            limit_bytes,
            small_memory: memory.clone(),
            memory,
            buffer,
            consumed: 0,
            standing_bytes,
            large: None,
        }
    }

    /// Charges frames of up to 64 KiB to a budget of their own.
    pub fn small_frames(mut self, memory: Budget) -> Self {
        self.small_memory = memory;
        self
    }

    /// The next frame; none at the regular end of the stream.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let held = &self.buffer[self.consumed..];
            let wanted = match cut_frame(held, self.limit_bytes)? {
                Cut::Whole(content) => return Ok(Some(self.take(content).await)),
                Cut::Needs(total) => total,
            };
            self.make_room(wanted).await;
            if self.read_in_time().await? == 0 {
                let ended = if self.held() == 0 {
                    Ok(None)
                } else {
                    Err(FrameError::CutShort)
                };
                return ended;
            }
        }
    }

    fn held(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    /// Hands out the first frame of the held bytes, whose content lies there at `content`.
    async fn take(&mut self, content: Range<usize>) -> Frame {
        let memory = match self.large.take() {
            Some(permit) => permit,
            None => self.small_memory.acquire(content.end).await,
        };
        let bytes = self
            .buffer
            .slice(self.consumed + content.start..self.consumed + content.end);
        self.consumed += content.end;
        Frame { bytes, memory }
    }

    /// Sees to it that there is room for the frame of `wanted` bytes that begins the held ones, or
    /// for more of it: the buffer of a small one grows as its bytes come.
    async fn make_room(&mut self, wanted: usize) {
        let is_small = wanted <= BUSY_BYTES;
        let fits = self.buffer.capacity() - self.consumed >= wanted;
        let grows = is_small && self.consumed == 0 && wanted > self.standing_bytes;
        if self.buffer.room() > 0 && (fits || grows) {
            return;
        }
        let capacity = if wanted <= self.standing_bytes {
            self.standing_bytes
        } else if is_small {
            wanted.min((2 * self.held()).max(self.standing_bytes))
        } else {
            self.large = Some(self.memory.acquire(wanted).await);
            wanted
        };
        let mut buffer = alloc(&self.rt, capacity).await;
        buffer.extend_from_slice(&self.buffer[self.consumed..]);
        self.buffer = buffer;
        self.consumed = 0;
    }

    /// Reads what there is, and within a large frame waits only so long for it.
    async fn read_in_time(&mut self) -> Result<usize, FrameError> {
        if self.large.is_none() {
            return self.read_some().await;
        }
        let limit = self.rt.sleep(STALL_LIMIT);
        match select(pin!(self.read_some()), pin!(limit)).await {
            Either::Left((count, _)) => count,
            Either::Right(_) => Err(FrameError::Stalled),
        }
    }

    async fn read_some(&mut self) -> Result<usize, FrameError> {
        let buffer = std::mem::replace(&mut self.buffer, BufMut::empty());
        let room = buffer.room();
        let (result, buffer) = self.socket.read(buffer).await;
        self.buffer = buffer;
        let count = result?;
        // A read that fills the buffer says that more is waiting; a small one that it is quiet.
        if count == room {
            self.standing_bytes = (self.standing_bytes * 2).min(BUSY_BYTES);
        } else if count < room / 4 {
            self.standing_bytes = (self.standing_bytes / 2).max(QUIET_BYTES);
        }
        Ok(count)
    }
}

/// A buffer of the arena, waiting while it is full: budgets keep that wait short.
async fn alloc<R: Runtime>(rt: &R, capacity: usize) -> BufMut {
    loop {
        match Arena::alloc(rt.arena(), capacity) {
            Ok(buffer) => return buffer,
            Err(_) => rt.sleep(Duration::from_millis(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_cut_at_whole_frames() {
        let stream = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0];
        assert_eq!(cut_frame(&stream, 2).unwrap(), Cut::Whole(4..6));
        assert_eq!(cut_frame(&stream[6..], 2).unwrap(), Cut::Whole(4..4));
        assert_eq!(cut_frame(&stream[10..], 2).unwrap(), Cut::Needs(4));
        assert_eq!(cut_frame(&stream[..5], 2).unwrap(), Cut::Needs(6));
    }

    #[test]
    fn lengths_are_checked_before_the_content_is_there() {
        let refused = |stream: &[u8], limit_bytes| match cut_frame(stream, limit_bytes) {
            Err(FrameError::Length(length)) => Some(length),
            _ => None,
        };
        assert_eq!(refused(&[0xff; 4], 9), Some(-1));
        assert_eq!(refused(&[0, 0, 0, 10], 9), Some(10));
        let longest = [0x7f, 0xff, 0xff, 0xff];
        let limit_bytes = i32::MAX as usize;
        let needed = Cut::Needs(PREFIX_BYTES + limit_bytes);
        assert_eq!(cut_frame(&longest, limit_bytes).unwrap(), needed);
        assert_eq!(refused(&longest, limit_bytes - 1), Some(i32::MAX));
    }
}
