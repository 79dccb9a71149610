//! What is ingested, and what must come back: every record follows from its line and number.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::cli::input::unreadable;
use crate::cli::{CliError, Exit};
use crate::client::{NewRecord, partition_of};
use crate::model::batch::{Header, RecordRef};

/// Keys are as much of a line's beginning.
const KEY_BYTES_MAX: usize = 16;
/// Lines without a key stay together in runs of so many.
const UNKEYED_RUN: usize = 1024;

/// The lines of a file and where each belongs.
pub(super) struct Corpus {
    bytes: Vec<u8>,
    /// Where each line ends; the next begins one further.
    ends: Vec<u32>,
    /// The lines of each partition, in order: what offset 0, 1, … must hold.
    partitions: Vec<Vec<u32>>,
    base_timestamp_ms: i64,
}

/// A record as it was sent.
pub(super) struct Expected<'a> {
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    number: [u8; 8],
    has_headers: bool,
}

impl Corpus {
    /// Most bytes that a corpus takes: it is held in memory, and positions have 32 bits.
    pub(super) const BYTES_MAX: u64 = u32::MAX as u64;

    /// The first whole lines of a file, at most `limit_bytes`, each with its line feed. The last
    /// line of the file needs none.
    pub(super) fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, CliError> {
        let failed = |error| unreadable(path, &error);
        let mut bytes = Vec::new();
        let mut file = File::open(path).map_err(failed)?;
        let mut limited = (&mut file).take(limit_bytes.min(Self::BYTES_MAX));
        limited.read_to_end(&mut bytes).map_err(failed)?;
        let is_all = file.read(&mut [0]).map_err(failed)? == 0;
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(last) if last + 1 == bytes.len() => {}
            _ if is_all && !bytes.is_empty() => bytes.push(b'\n'),
            Some(last) => bytes.truncate(last + 1),
            None => bytes.clear(),
        }
        if bytes.is_empty() {
            let what = match is_all {
                true => format!("{} is empty", path.display()),
                false => format!(
                    "{} has no line of at most {limit_bytes} bytes",
                    path.display()
                ),
            };
            return Err(CliError::new(Exit::Failure, what));
        }
        Ok(bytes)
    }

    /// `bytes` are lines, each with its line feed.
    pub(super) fn of(bytes: Vec<u8>, partitions: i32, base_timestamp_ms: i64) -> Self {
        let line_feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<u32> = line_feeds.map(|(at, _)| at as u32).collect();
        let mut corpus = Self {
            bytes,
            ends,
            partitions: vec![Vec::new(); partitions as usize],
            base_timestamp_ms,
        };
        for line in 0..corpus.ends.len() {
            let partition = corpus.partition(line, partitions);
            corpus.partitions[partition as usize].push(line as u32);
        }
        corpus
    }

    /// Number of records.
    pub(super) fn records(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all lines: what rates count.
    pub(super) fn bytes(&self) -> u64 {
        (self.bytes.len() - self.ends.len()) as u64
    }

    /// The lines of each partition, in the order of their offsets.
    pub(super) fn partitions(&self) -> &[Vec<u32>] {
        &self.partitions
    }

    /// The partition that a line goes to: a key decides as Kafka's default partitioner does.
    pub(super) fn partition(&self, line: usize, partitions: i32) -> i32 {
        match self.expected(line).key {
            Some(key) => partition_of(key, partitions),
            None => (line / UNKEYED_RUN % partitions as usize) as i32,
        }
    }

    /// The record that a line makes: three of four have a key, one of sixteen has headers, one of a
    /// thousand is a tombstone, and timestamps go back now and then.
    pub(super) fn expected(&self, line: usize) -> Expected<'_> {
        let text = self.line(line);
        let key_end = text
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(text.len());
        let has_key = line % 4 != 3;
        Expected {
            timestamp_ms: self.base_timestamp_ms + (line / 8) as i64 - (line % 3) as i64,
            key: has_key.then(|| &text[..key_end.min(KEY_BYTES_MAX)]),
            value: (line % 1000 != 500).then_some(text),
            number: (line as u64).to_be_bytes(),
            has_headers: line.is_multiple_of(16),
        }
    }

    fn line(&self, line: usize) -> &[u8] {
        let start = match line {
            0 => 0,
            line => self.ends[line - 1] as usize + 1,
        };
        &self.bytes[start..self.ends[line] as usize]
    }
}

impl Expected<'_> {
    /// As it is sent; `headers` is room for its headers.
    pub(super) fn record<'r>(&'r self, headers: &'r mut [Header<'r>; 2]) -> NewRecord<'r> {
        *headers = self.headers();
        let count = if self.has_headers { headers.len() } else { 0 };
        NewRecord {
            timestamp_ms: self.timestamp_ms,
            key: self.key,
            value: self.value,
            headers: &headers[..count],
        }
    }

    /// What of a record is not as it was sent.
    pub(super) fn difference(
        &self,
        timestamp_ms: i64,
        read: &RecordRef<'_>,
    ) -> Option<&'static str> {
        let headers = self.headers();
        let count = if self.has_headers { headers.len() } else { 0 };
        if read.value != self.value {
            Some("value")
        } else if read.key != self.key {
            Some("key")
        } else if timestamp_ms != self.timestamp_ms {
            Some("timestamp")
        } else if !read.headers.eq(headers.into_iter().take(count)) {
            Some("headers")
        } else {
            None
        }
    }

    fn headers(&self) -> [Header<'_>; 2] {
        [
            Header {
                key: b"line",
                value: Some(&self.number),
            },
            Header {
                key: b"nothing",
                value: None,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_input_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input");
        let read = |text: &str, limit| {
            std::fs::write(&path, text).unwrap();
            let bytes = Corpus::read(&path, limit).map_err(|error| error.exit_code())?;
            Ok(String::from_utf8(bytes).unwrap())
        };
        assert_eq!(read("a\nbc", 100), Ok("a\nbc\n".into()));
        assert_eq!(read("a\nbc\n", 100), Ok("a\nbc\n".into()));
        assert_eq!(read("a\nbc", 4), Ok("a\nbc\n".into()));
        assert_eq!(read("a\nbc", 3), Ok("a\n".into()), "cut within a line");
        assert_eq!(read("abc", 2), Err(1));
        assert_eq!(read("", 100), Err(1));
        std::fs::remove_file(&path).unwrap();
        let missing = Corpus::read(&path, 100).unwrap_err();
        assert_eq!(missing.exit_code(), Exit::NotFound as u8);
    }
}
