//! Lines from files and standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{CliError, Exit};
use crate::rt::{LaneReceiver, LaneSender, lane};

/// Bytes read at once, and how many such pieces wait to be taken.
const PIECE_BYTES: usize = 1 << 20;
const PIECES_AHEAD: usize = 4;

/// The input in pieces, in order; read by a thread of its own, since a pipe may keep one waiting.
pub(super) struct Input {
    pieces: LaneReceiver<Piece>,
    is_stopped: Arc<AtomicBool>,
}

/// Bytes of the input, or why there are no more.
type Piece = Result<Vec<u8>, CliError>;

impl Input {
    /// Begins to read files one behind the other; `-`, or no file at all, is standard input.
    pub(super) fn open(files: Vec<PathBuf>) -> Result<Self, CliError> {
        let (sender, pieces) = lane(PIECES_AHEAD);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let files = if files.is_empty() {
            vec!["-".into()]
        } else {
            files
        };
        let stopped = is_stopped.clone();
        let read = move || {
            for file in files {
                // The other side is gone when the command has failed: then nobody wants more.
                if let Err(error) = read_file(&file, &sender, &stopped)
                    && sender.send_blocking(Err(error)).is_err()
                {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("input".into());
        thread.spawn(read)?;
        Ok(Self { pieces, is_stopped })
    }

    /// The next piece; none when the input has ended.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    /// Reads no further. What was read already still comes.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Size of the input, where it is files alone.
pub(super) fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    if files.is_empty() {
        return None;
    }
    files
        .iter()
        .map(|file| file.metadata().ok().filter(|found| found.is_file()))
        .try_fold(0, |sum, found| Some(sum + found?.len()))
}

/// Why a file of the input cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> CliError {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Failure,
    };
    CliError::new(exit, format!("{}: {error}", path.display()))
}

fn read_file(
    path: &Path,
    sender: &LaneSender<Piece>,
    is_stopped: &AtomicBool,
) -> Result<(), CliError> {
    let failed = |error| unreadable(path, &error);
    let mut source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut ends_with_line_feed = true;
    loop {
        if is_stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut piece = vec![0; PIECE_BYTES];
        let count = source.read(&mut piece).map_err(failed)?;
        piece.truncate(count);
        if let Some(last) = piece.last() {
            ends_with_line_feed = *last == b'\n';
        } else if ends_with_line_feed {
            return Ok(());
        } else {
            // The last line of a file is one, line feed or not.
            piece.push(b'\n');
        }
        if sender.send_blocking(Ok(piece)).is_err() || count == 0 {
            return Ok(());
        }
    }
}

/// Cuts pieces into lines.
#[derive(Default)]
pub(super) struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// Bytes of a line whose end has not come.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes a piece and gives the bytes of all lines that are whole now: cut them with
    /// [`lines_of`].
    pub(super) fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        match piece.iter().rposition(|byte| *byte == b'\n') {
            None => {
                self.held.extend_from_slice(piece);
                Vec::new()
            }
            Some(last) => {
                let (whole, rest) = piece.split_at(last + 1);
                let mut lines = std::mem::take(&mut self.held);
                lines.extend_from_slice(whole);
                self.held.extend_from_slice(rest);
                lines
            }
        }
    }
}

/// The lines of bytes that end with a line feed, without it.
pub(super) fn lines_of(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = bytes.strip_suffix(b"\n");
    whole
        .into_iter()
        .flat_map(|whole| whole.split(|byte| *byte == b'\n'))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(lines_of(&lines.take(piece)).map(<[u8]>::to_vec));
        }
        all
    }

    #[test]
    fn pieces_end_anywhere() {
        let text = b"a\n\nlong line\nz\n";
        let expected: Vec<&[u8]> = vec![b"a", b"", b"long line", b"z"];
        for first in 0..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(cut(&pieces), expected, "{first} {second}");
            }
        }
        assert!(cut(&[b"", b"no end"]).is_empty());
    }

    /// The next piece, as a thread without a runtime waits for it.
    fn next(input: &mut Input) -> Option<Piece> {
        let mut piece = std::pin::pin!(input.next());
        loop {
            if let Some(piece) = piece.as_mut().now_or_never() {
                return piece;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_last_line_needs_no_line_feed() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = vec![file("1", "a\nb"), file("2", ""), file("3", "c\n\n")];
        assert_eq!(total_bytes(&files), Some(6));
        let mut input = Input::open(files).unwrap();
        let next = || next(&mut input).map(Result::unwrap);
        let pieces: Vec<Vec<u8>> = std::iter::from_fn(next).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let expected: Vec<&[u8]> = vec![b"a", b"b", b"c", b""];
        assert_eq!(cut(&pieces), expected);
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let mut input = Input::open(vec!["/nonexistent".into()]).unwrap();
        let error = next(&mut input).unwrap().unwrap_err();
        assert_eq!(error.exit_code(), Exit::NotFound as u8);
    }
}
