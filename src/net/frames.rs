//! Length-prefixed frames from a stream: four bytes of big-endian length, then as many bytes.

use std::io;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::stream::Stream;
use crate::rt::{Budget, Buf, BufMut, Permit, Runtime};

/// Bytes of the length before every frame.
pub const PREFIX_BYTES: usize = 4;
/// What a quiet connection holds while it waits; thousands of them cost little.
const QUIET_BYTES: usize = 4 << 10;
/// What a busy connection of small frames reads into at a time; frames beyond are *large*.
const BUSY_BYTES: usize = 64 << 10;
/// Room is made at once for a large frame up to here, while there is plenty of memory: to grow
/// with its bytes costs a copy of them.
const AT_ONCE_BYTES: usize = 2 << 20;
/// Silence within a large frame that is not suffered where others wait for its memory.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// Time that any frame has, from its first byte, memory waited for included. Clients give up a
/// request after as long (`request.timeout.ms`).
const FRAME_GRACE: Duration = Duration::from_secs(30);
/// And on top of it the time that its bytes take at this rate.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// The same for a frame in the memory that is there for one at a time.
const HURRIED_GRACE: Duration = Duration::from_secs(2);
const HURRIED_BYTES_PER_SECOND: u64 = 1 << 20;

/// What frames are charged to. Nobody holds a part of `growing` and waits for more without an end
/// to it: whoever finds no room there waits for `completing` as well, which is taken for a whole
/// frame or not at all, and each frame has a deadline.
///
/// With 24 MiB of `growing` and 32 of `completing`: 48 connections that have sent the first half of
/// 1 MiB each hold all of `growing`. The next one that comes gets its MiB from `completing`, has
/// three seconds to send it, and is served; those that stay where they are lose their connection
/// after 34 seconds at the latest, ten if they are silent.
#[derive(Clone, Debug)]
pub struct FrameMemory {
    /// Frames of up to 64 KiB, charged when they are whole, and what busy connections read into.
    pub small: Budget,
    /// Larger frames, charged as their bytes arrive.
    pub growing: Budget,
    /// Whole larger frames, where `growing` has no room.
    pub completing: Budget,
    /// Whether a frame that does not come is given up, as others wait for the memory.
    pub has_deadlines: bool,
}

impl FrameMemory {
    /// One budget for all frames of one stream, which waits for them as long as they take.
    pub fn own(budget: Budget) -> Self {
        Self {
            small: budget.clone(),
            growing: budget.clone(),
            completing: budget,
            has_deadlines: false,
        }
    }
}

/// Reads frames, one behind the other, in as few copies as the sizes allow.
///
/// A large frame is charged as its bytes arrive, so that announcing costs nobody anything: the
/// buffer doubles, from 128 KiB to the frame's length. While there is plenty of memory it gets its
/// whole buffer at once. A small one is charged when it is there.
#[derive(Debug)]
pub struct FrameReader<R: Runtime> {
    rt: R,
    stream: Stream<R>,
    limit_bytes: usize,
    memory: FrameMemory,
    buffer: BufMut,
    /// Bytes of `buffer` that were already handed out as frames.
    consumed: usize,
    standing_bytes: usize,
    /// For a buffer beyond [`QUIET_BYTES`] that small frames are read into.
    standing: Option<Permit>,
    /// For the large frame that is under way.
    large: Option<Permit>,
    /// When the first bytes of the frame under way were there.
    begun_at: Option<Duration>,
    /// When it must be whole, where it took the memory that is there for one at a time.
    hurried_until: Option<Duration>,
    /// When it must be whole.
    deadline: Option<Duration>,
}

/// A frame's content, without its prefix, and the memory it is charged with.
#[derive(Debug)]
pub struct Frame {
    /// The content.
    pub bytes: Buf,
    /// Given back when the frame has been served.
    pub memory: Permit,
    /// When its first bytes were there, in time of the runtime, where the rest or memory for it was
    /// waited for.
    pub begun_at: Option<Duration>,
}

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The length is negative or beyond the limit. Nothing was allocated for it.
    #[error("a frame of {length} bytes is not accepted, {limit} is the limit")]
    Length {
        /// As announced.
        length: i32,
        /// What is accepted.
        limit: usize,
    },
    /// The stream ended within a frame.
    #[error("the connection ended within a frame")]
    CutShort,
    /// A large frame was begun, and nothing more of it came.
    #[error("nothing came for {} s within a large frame", SILENCE_LIMIT.as_secs())]
    Silent,
    /// A frame was begun, and did not become whole in its time.
    #[error("{held} bytes of a frame came, and not the rest in time")]
    Late {
        /// What had come.
        held: usize,
    },
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
        _ => {
            return Err(FrameError::Length {
                length,
                limit: limit_bytes,
            });
        }
    };
    Ok(if stream.len() < total {
        Cut::Needs(total)
    } else {
        Cut::Whole(PREFIX_BYTES..total)
    })
}

impl<R: Runtime> FrameReader<R> {
    /// Frames of at most `limit_bytes` from `stream`, charged to `memory`. A full shard makes its
    /// clients wait instead of failing.
    pub fn new(rt: R, stream: Stream<R>, limit_bytes: usize, memory: FrameMemory) -> Self {
        Self {
            rt,
            stream,
            limit_bytes,
            memory,
            buffer: BufMut::empty(),
            consumed: 0,
            standing_bytes: QUIET_BYTES,
            standing: None,
            large: None,
            begun_at: None,
            hurried_until: None,
            deadline: None,
        }
    }

    /// The next frame; none at the regular end of the stream.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let held = &self.buffer[self.consumed..];
            let wanted = match cut_frame(held, self.limit_bytes)? {
                Cut::Whole(content) => return Ok(Some(self.take(content).await)),
                Cut::Needs(total) => total,
            };
            if !held.is_empty() && self.memory.has_deadlines {
                self.set_deadline(wanted);
            }
            self.make_room(wanted).await?;
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

    fn late(&self) -> FrameError {
        let held = self.held();
        FrameError::Late { held }
    }

    /// Sets the deadline of a frame whose first bytes are there, and `wanted` in all.
    fn set_deadline(&mut self, wanted: usize) {
        let begun_at = *self.begun_at.get_or_insert_with(|| self.rt.now());
        let patient = begun_at + FRAME_GRACE + time_for(wanted, SLOWEST_BYTES_PER_SECOND);
        self.deadline = self.hurried_until.or(Some(patient));
    }

    /// Hands out the first frame of the held bytes, whose content lies there at `content`.
    async fn take(&mut self, content: Range<usize>) -> Frame {
        (self.hurried_until, self.deadline) = (None, None);
        let small = &self.memory.small;
        let memory = match self.large.take() {
            Some(permit) => permit,
            None => match small.try_acquire(content.end) {
                Some(permit) => permit,
                None => {
                    self.begun_at.get_or_insert_with(|| self.rt.now());
                    small.acquire(content.end).await
                }
            },
        };
        let bytes = self
            .buffer
            .slice(self.consumed + content.start..self.consumed + content.end);
        self.consumed += content.end;
        Frame {
            bytes,
            memory,
            begun_at: self.begun_at.take(),
        }
    }

    /// Sees to it that there is room for the frame of `wanted` bytes that begins the held ones, or
    /// for more of it: the buffer grows as its bytes come.
    async fn make_room(&mut self, wanted: usize) -> Result<(), FrameError> {
        let is_small = wanted <= BUSY_BYTES;
        let fits = self.buffer.capacity() - self.consumed >= wanted;
        let grows = match is_small {
            true => self.consumed == 0 && wanted > self.standing_bytes,
            false => self.large.is_some(),
        };
        if self.buffer.room() > 0 && (fits || grows) {
            return Ok(());
        }
        let capacity = if is_small {
            self.stand(wanted)
        } else {
            self.charge(wanted).await?
        };
        let held = self.held();
        if held == 0 {
            // The stream brings a buffer with the bytes.
            self.buffer = BufMut::empty();
        } else {
            let room = self.stream.room(capacity);
            let Some(mut buffer) = within(&self.rt, self.deadline, room).await else {
                return Err(self.late());
            };
            buffer.extend_from_slice(&self.buffer[self.consumed..]);
            self.buffer = buffer;
        }
        self.consumed = 0;
        Ok(())
    }

    /// Room for small frames. What a quiet connection needs costs nothing; more is for those that
    /// are busy, while there is memory.
    fn stand(&mut self, wanted: usize) -> usize {
        self.standing = None;
        if wanted > self.standing_bytes {
            return wanted.min((2 * self.held()).max(self.standing_bytes));
        }
        if self.standing_bytes > QUIET_BYTES {
            self.standing = self.memory.small.try_acquire(self.standing_bytes);
            if self.standing.is_none() {
                self.standing_bytes = QUIET_BYTES;
            }
        }
        self.standing_bytes.max(wanted)
    }

    /// Charges more of a large frame, or all of it, and says for how many bytes there may be room
    /// now.
    async fn charge(&mut self, wanted: usize) -> Result<usize, FrameError> {
        let (growing, completing) = (self.memory.growing.clone(), self.memory.completing.clone());
        let has_plenty = growing.taken().saturating_add(wanted) <= growing.total() / 2;
        let capacity = match self.large.is_none() && wanted <= AT_ONCE_BYTES && has_plenty {
            true => wanted,
            false => wanted.min(2 * self.held().max(BUSY_BYTES)),
        };
        let charged = self.large.as_ref().map_or(0, Permit::amount);
        let more = capacity.saturating_sub(charged);
        if let Some(permit) = growing.try_acquire(more) {
            self.grow(permit);
            return Ok(capacity);
        }
        let (more, whole) = (
            pin!(growing.acquire(more)),
            pin!(completing.acquire(wanted)),
        );
        let either = select(more, whole);
        match within(&self.rt, self.deadline, either).await {
            None => Err(self.late()),
            Some(Either::Left((permit, _))) => {
                self.grow(permit);
                Ok(capacity)
            }
            Some(Either::Right((permit, _))) => {
                if self.memory.has_deadlines {
                    let time = HURRIED_GRACE + time_for(wanted, HURRIED_BYTES_PER_SECOND);
                    self.hurried_until = Some(self.rt.now() + time);
                    self.deadline = self.hurried_until;
                }
                self.large = Some(permit);
                Ok(wanted)
            }
        }
    }

    fn grow(&mut self, permit: Permit) {
        match &mut self.large {
            Some(large) => large.join(permit),
            None => self.large = Some(permit),
        }
    }

    /// Reads what there is, and of a frame that was begun waits only so long for it.
    async fn read_in_time(&mut self) -> Result<usize, FrameError> {
        let Some(deadline) = self.deadline else {
            return self.read_some().await;
        };
        let now = self.rt.now();
        let mut until = deadline;
        if self.large.is_some() {
            until = until.min(now + SILENCE_LIMIT);
        }
        let rt = self.rt.clone();
        match within(&rt, Some(until), self.read_some()).await {
            Some(count) => count,
            None if until < deadline => Err(FrameError::Silent),
            None => Err(self.late()),
        }
    }

    async fn read_some(&mut self) -> Result<usize, FrameError> {
        if self.buffer.room() == 0 {
            self.buffer = self.stream.receive(self.standing_bytes).await?;
            self.adapt(self.buffer.len(), self.buffer.capacity());
            return Ok(self.buffer.len());
        }
        let buffer = std::mem::replace(&mut self.buffer, BufMut::empty());
        let room = buffer.room();
        let (result, buffer) = self.stream.receive_into(buffer).await;
        self.buffer = buffer;
        let count = result?;
        self.adapt(count, room);
        Ok(count)
    }

    /// A read that fills the buffer says that more is waiting; a small one that it is quiet.
    fn adapt(&mut self, count: usize, room: usize) {
        if count == room {
            self.standing_bytes = (self.standing_bytes * 2).min(BUSY_BYTES);
        } else if count < room / 4 {
            self.standing_bytes = (self.standing_bytes / 2).max(QUIET_BYTES);
        }
    }
}

/// What `future` gives, unless the moment is there before.
async fn within<R: Runtime, T>(
    rt: &R,
    deadline: Option<Duration>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let Some(deadline) = deadline else {
        return Some(future.await);
    };
    let sleep = rt.sleep(deadline.saturating_sub(rt.now()));
    match select(pin!(future), pin!(sleep)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

fn time_for(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / bytes_per_second)
}

#[cfg(test)]
mod tests;
