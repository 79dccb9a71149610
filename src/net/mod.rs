//! Between sockets and all that speaks over them.
//!
//! | file | what |
//! |---|---|
//! | `stream` | a connection's bytes, whatever carries them: plain for now |
//! | `frames` | length-prefixed frames from a stream, and what they cost in memory and time |

mod frames;
mod stream;

pub use frames::{Cut, Frame, FrameError, FrameMemory, FrameReader, PREFIX_BYTES, cut_frame};
pub use stream::Stream;
