//! Names of directories and files in the log directory, and the small text files, as Kafka has them.
//!
//! Pure: names and bytes only. Parsing accepts exactly what formatting yields, so a name that parses
//! is a name that would be written, and everything else in a directory is not ours.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::model::{
    DirectoryId, MAX_TOPIC_NAME_BYTES, NodeId, Offset, PartitionIndex, RESERVED_TOPIC_NAME,
    TopicId, is_topic_name,
};

/// Longest file name of Linux file systems.
const MAX_FILE_NAME_BYTES: usize = 255;
const DELETE_SUFFIX: &str = "-delete";
/// Digits of an offset in a file name, enough for all of them.
const OFFSET_DIGITS: usize = 20;

/// Name of the file that says which topic a directory belongs to.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Name of the file that says which node and cluster a log directory belongs to.
pub const META_PROPERTIES: &str = "meta.properties";

/// A partition's directory, live or waiting to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionDir<'a> {
    /// `TOPIC-P`.
    Live {
        /// The topic's whole name.
        topic: &'a str,
        /// The partition.
        index: PartitionIndex,
    },
    /// `TOPIC-P.UUID-delete`.
    Deleted {
        /// The topic's name, or as much of it as had room.
        topic_prefix: &'a str,
        /// The partition.
        index: PartitionIndex,
        /// What tells it from others deleted under the same name: here, the topic's id.
        topic_id: TopicId,
    },
}

impl<'a> PartitionDir<'a> {
    /// Reads a directory's name; `None` when it is not a partition's.
    pub fn parse(name: &'a str) -> Option<Self> {
        let Some(stem) = name.strip_suffix(DELETE_SUFFIX) else {
            let (topic, index) = topic_and_index(name)?;
            return Some(Self::Live { topic, index });
        };
        let (stem, hex) = stem.rsplit_once('.')?;
        let (topic_prefix, index) = topic_and_index(stem)?;
        Some(Self::Deleted {
            topic_prefix,
            index,
            topic_id: TopicId(simple_uuid(hex)?),
        })
    }
}

/// Name of a live partition's directory.
pub fn partition_dir(topic: &str, index: PartitionIndex) -> String {
    format!("{topic}-{index}")
}

/// Whether a directory of this name is a shard's; it parses as a partition's, too.
pub fn is_shard_dir(name: &str) -> bool {
    name.strip_prefix(RESERVED_TOPIC_NAME)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Name under which a deleted partition's directory waits for its removal, the topic's name shortened
/// where it is too long (Kafka's `LocalLog.logDeleteDirName`, which takes a random id instead).
pub fn deleted_dir(topic: &str, index: PartitionIndex, topic_id: TopicId) -> String {
    let suffix = format!("-{index}.{}{DELETE_SUFFIX}", topic_id.0.simple());
    // Topic names are ASCII; one that is not is shortened to a whole character.
    let room = MAX_FILE_NAME_BYTES.saturating_sub(suffix.len());
    let prefix = topic
        .get(..topic.floor_char_boundary(room))
        .unwrap_or(topic);
    format!("{prefix}{suffix}")
}

/// Which segment of a partition: where it begins, and the generation of what is in it.
///
/// A rewrite puts others in the place of segments, of a higher generation than any of theirs, so that
/// no two segments that a log ever had share a name. An example: the segments at 0 and at 50, both of
/// generation 0, are rewritten into one at 0 of generation 1; rewritten again, and too long for one,
/// they are 0 and 70 of generation 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Its first offset.
    pub base_offset: Offset,
    /// 0 as it was appended to.
    pub generation: u32,
}

impl SegmentId {
    /// The segment that is, or was, appended to at `base_offset`.
    pub const fn appended(base_offset: Offset) -> Self {
        Self {
            base_offset,
            generation: 0,
        }
    }
}

/// The files of a segment, by their extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentFile {
    /// Record batches.
    Log,
    /// Offset index.
    Index,
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producer state at the base offset.
    Snapshot,
}

impl SegmentFile {
    /// All of them, the data first.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::Index,
        Self::TimeIndex,
        Self::TxnIndex,
        Self::Snapshot,
    ];

    /// The file's extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
            Self::TimeIndex => "timeindex",
            Self::TxnIndex => "txnindex",
            Self::Snapshot => "snapshot",
        }
    }

    /// The file's name: the segment's base offset in 20 digits, its generation unless that is 0, and
    /// the extension. A producer snapshot is named by an offset alone.
    pub fn name(self, id: SegmentId) -> String {
        let (base, extension) = (id.base_offset.0, self.extension());
        match id.generation {
            generation if generation > 0 && self != Self::Snapshot => {
                format!("{base:020}.{generation}.{extension}")
            }
            _ => format!("{base:020}.{extension}"),
        }
    }

    /// Reads a file's name; `None` when it is not a segment's.
    pub fn parse(name: &str) -> Option<(SegmentId, Self)> {
        let (digits, rest) = name.split_once('.')?;
        let (generation, extension) = match rest.split_once('.') {
            Some((generation, extension)) => (decimal(generation)?, extension),
            None => (0, rest),
        };
        let file = Self::ALL.into_iter().find(|f| f.extension() == extension)?;
        let offset = (digits.len() == OFFSET_DIGITS).then(|| decimal(digits))??;
        let id = SegmentId {
            base_offset: Offset(offset),
            generation,
        };
        (file.name(id) == name).then_some((id, file))
    }
}

/// Path of one of a segment's files.
pub fn segment_path(dir: &Path, id: SegmentId, file: SegmentFile) -> PathBuf {
    dir.join(file.name(id))
}

/// Extension of files that are made for segments to come.
const PREPARED_SUFFIX: &str = ".prepared";

/// Name of a file that is made before the segment begins for which it is: it has none of a segment, and
/// is no shorter than one.
pub fn prepared_name(number: u64) -> String {
    format!("{number:020}{PREPARED_SUFFIX}")
}

/// Reads such a name; `None` when it is another file's.
pub fn parse_prepared(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(PREPARED_SUFFIX)?;
    (digits.len() == OFFSET_DIGITS).then(|| decimal(digits))?
}

/// Why a small text file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmallFileError {
    /// Not text, or a line that is no pair.
    #[error("line {line} is malformed")]
    Malformed {
        /// Counted from 1.
        line: usize,
    },
    /// A key that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value that cannot be read.
    #[error("{key} has the value {value:?}")]
    Value {
        /// Whose value.
        key: &'static str,
        /// As found.
        value: String,
    },
}

/// The text of `partition.metadata` (KIP-516).
pub fn encode_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// Reads `partition.metadata`: the id of the topic that a directory belongs to.
pub fn decode_partition_metadata(bytes: &[u8]) -> Result<TopicId, SmallFileError> {
    let pairs = Pairs::parse(bytes, &[':'])?;
    pairs.version("0")?;
    pairs.value("topic_id")
}

/// What `meta.properties` says of a log directory (version 1, KIP-858).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster; letters, digits, `-` and `_`, as in an id's base64.
    pub cluster_id: String,
    /// The node whose directory this is.
    pub node_id: NodeId,
    /// The directory itself.
    pub directory_id: DirectoryId,
}

impl MetaProperties {
    /// The file's text.
    pub fn encode(&self) -> String {
        let mut text = String::from("version=1\n");
        // Writing to a string does not fail.
        let _ = writeln!(text, "cluster.id={}", self.cluster_id);
        let _ = writeln!(text, "node.id={}", self.node_id);
        let _ = writeln!(text, "directory.id={}", self.directory_id);
        text
    }

    /// Reads the file, also as Kafka writes it: comments, keys in any order, further keys.
    pub fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let pairs = Pairs::parse(bytes, &['=', ':'])?;
        pairs.version("1")?;
        let cluster_id: String = pairs.value("cluster.id")?;
        if !is_cluster_id(&cluster_id) {
            return Err(bad_value("cluster.id", &cluster_id));
        }
        Ok(Self {
            cluster_id,
            node_id: NodeId(pairs.value("node.id")?),
            directory_id: pairs.value("directory.id")?,
        })
    }
}

/// Whether a cluster may have this id: it fits on its line and in a log message.
pub fn is_cluster_id(id: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=MAX_TOPIC_NAME_BYTES).contains(&id.len()) && id.bytes().all(legal)
}

/// Lines of `key SEPARATOR value`, without blank lines and `#` comments.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn parse(bytes: &'a [u8], separators: &[char]) -> Result<Self, SmallFileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SmallFileError::Malformed { line: 1 })?;
        let pair = |(at, line): (usize, &'a str)| {
            let (key, value) = line
                .split_once(separators)
                .ok_or(SmallFileError::Malformed { line: at + 1 })?;
            Ok((key.trim(), value.trim()))
        };
        let told = |(_, line): &(usize, &str)| !line.trim().is_empty() && !line.starts_with('#');
        let lines = text.lines().enumerate().filter(told);
        lines.map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// The value of a key that is there once; the last where there are several, as in Java.
    fn value<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, SmallFileError> {
        let found = self.0.iter().rev().find(|(k, _)| *k == key);
        let (_, value) = found.ok_or(SmallFileError::Missing(key))?;
        value.parse().map_err(|_| bad_value(key, value))
    }

    fn version(&self, known: &str) -> Result<(), SmallFileError> {
        let version: String = self.value("version")?;
        match version == known {
            true => Ok(()),
            false => Err(bad_value("version", &version)),
        }
    }
}

fn bad_value(key: &'static str, value: &str) -> SmallFileError {
    SmallFileError::Value {
        key,
        value: value.to_owned(),
    }
}

fn topic_and_index(name: &str) -> Option<(&str, PartitionIndex)> {
    let (topic, digits) = name.rsplit_once('-')?;
    let index: i32 = decimal(digits)?;
    let canonical = digits.len() == 1 || !digits.starts_with('0');
    (canonical && is_topic_name(topic)).then_some((topic, PartitionIndex(index)))
}

/// Digits alone: no sign, no spaces.
fn decimal<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

/// 32 lower-case hexadecimal digits.
fn simple_uuid(hex: &str) -> Option<uuid::Uuid> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let all = hex.len() == 32 && hex.bytes().all(digit);
    all.then(|| {
        u128::from_str_radix(hex, 16)
            .ok()
            .map(uuid::Uuid::from_u128)
    })?
}

#[cfg(test)]
mod tests;
