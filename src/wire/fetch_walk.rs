//! A Fetch request that is read a partition at a time: of a hundred thousand, none is held.

use super::messages::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use super::{DecodeError, Message, Reader, Wire};
use crate::model::{PartitionIndex, TopicId};

/// Topics are named by id from this version on (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;
/// Sessions, and partitions that leave them, are from this version on (KIP-227).
const FIRST_VERSION_WITH_SESSIONS: i16 = 7;
const FIRST_VERSION_WITH_RACK: i16 = 11;

/// A walk through a Fetch request, in which every step is as small as the next. What it gives is what
/// [`Message::decode_lenient`] would: the tests hold it to that, version by version.
#[derive(Debug)]
pub struct FetchWalk<'a> {
    reader: Reader<'a>,
    /// Its lists stay empty.
    fields: FetchRequest<'a>,
    list: List,
    topics_left: usize,
    partitions_left: usize,
    // Whether the end of a topic is still to be read.
    in_topic: bool,
}

/// The list that the walk is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Topics,
    Forgotten,
    Ended,
}

/// What comes next in a Fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem<'a> {
    /// The partitions that follow are of this topic. It has a name or, from version 13 on, an id.
    Topic { name: &'a str, id: TopicId },
    /// One to read.
    Partition(FetchPartition),
    /// One that leaves the session.
    Forgotten(PartitionIndex),
}

impl<'a> FetchWalk<'a> {
    /// The fields before the partitions of a request's body.
    pub fn begin(body: &'a [u8], version: i16) -> Result<Self, DecodeError> {
        let key = FetchRequest::KEY;
        if !key.supports(version) {
            return Err(DecodeError::Version(version));
        }
        let mut reader = Reader::new(body, key.version(version));
        let mut fields = FetchRequest::default();
        if version <= 14 {
            fields.replica_id.read(&mut reader)?;
        }
        fields.max_wait_ms.read(&mut reader)?;
        fields.min_bytes.read(&mut reader)?;
        fields.max_bytes.read(&mut reader)?;
        fields.isolation_level.read(&mut reader)?;
        if version >= FIRST_VERSION_WITH_SESSIONS {
            fields.session_id.read(&mut reader)?;
            fields.session_epoch.read(&mut reader)?;
        }
        let topics_left = count::<FetchTopic<'_>>(&mut reader)?;
        Ok(Self {
            reader,
            fields,
            list: List::Topics,
            topics_left,
            partitions_left: 0,
            in_topic: false,
        })
    }

    /// The request without its lists. Those fields that come behind these (the replica's state, the
    /// rack) are there when the walk has ended.
    pub fn fields(&self) -> &FetchRequest<'a> {
        &self.fields
    }

    /// One step further; nothing at the end.
    pub fn step(&mut self) -> Result<Option<FetchItem<'a>>, DecodeError> {
        if let Some(left) = self.partitions_left.checked_sub(1) {
            self.partitions_left = left;
            return self.partition().map(Some);
        }
        if std::mem::take(&mut self.in_topic) {
            self.reader.tagged(&mut (), |(), _, _| Ok(false))?;
        }
        while self.list != List::Ended {
            if let Some(left) = self.topics_left.checked_sub(1) {
                self.topics_left = left;
                return self.topic().map(Some);
            }
            self.end_list()?;
        }
        Ok(None)
    }

    fn topic(&mut self) -> Result<FetchItem<'a>, DecodeError> {
        let (mut name, mut id) = ("", TopicId::ZERO);
        if self.reader.version().number < FIRST_VERSION_BY_ID {
            name = self.reader.string()?.ok_or(DecodeError::Null)?;
        } else {
            id.read(&mut self.reader)?;
        }
        self.partitions_left = match self.list {
            List::Forgotten => count::<PartitionIndex>(&mut self.reader)?,
            List::Topics | List::Ended => count::<FetchPartition>(&mut self.reader)?,
        };
        self.in_topic = true;
        Ok(FetchItem::Topic { name, id })
    }

    fn partition(&mut self) -> Result<FetchItem<'a>, DecodeError> {
        match self.list {
            List::Forgotten => self.reader.value().map(FetchItem::Forgotten),
            List::Topics | List::Ended => self.reader.value().map(FetchItem::Partition),
        }
    }

    /// What follows the last topic of a list.
    fn end_list(&mut self) -> Result<(), DecodeError> {
        let version = self.reader.version().number;
        if self.list == List::Topics && version >= FIRST_VERSION_WITH_SESSIONS {
            self.list = List::Forgotten;
            self.topics_left = count::<ForgottenTopic<'_>>(&mut self.reader)?;
            return Ok(());
        }
        self.list = List::Ended;
        if version >= FIRST_VERSION_WITH_RACK {
            self.fields.rack_id.read(&mut self.reader)?;
        }
        self.reader.tagged(&mut self.fields, |fields, tag, reader| {
            match tag {
                0 => fields.cluster_id.read(reader)?,
                1 if reader.version().number >= 15 => fields.replica_state.read(reader)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

fn count<'a, T: Wire<'a>>(reader: &mut Reader<'a>) -> Result<usize, DecodeError> {
    let least = T::min_bytes(reader.version());
    reader.count(least, 0)?.ok_or(DecodeError::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BrokerId, LeaderEpoch, Offset};
    use crate::wire::messages::{FetchReplicaState, FetchRequest};
    use crate::wire::{ApiKey, encode_request};

    fn request(version: i16, topics: usize) -> FetchRequest<'static> {
        let named = |at: usize| match version < FIRST_VERSION_BY_ID {
            true => (format!("topic-{at}").into(), TopicId::ZERO),
            false => ("".into(), TopicId(uuid::Uuid::from_u128(at as u128 + 1))),
        };
        let partition = |at: usize| FetchPartition {
            partition: PartitionIndex(at as i32),
            fetch_offset: Offset(7 * at as i64),
            partition_max_bytes: 1000,
            current_leader_epoch: LeaderEpoch(if version >= 9 { 3 } else { -1 }),
            ..Default::default()
        };
        let topic = |at: usize| FetchTopic {
            topic: named(at).0,
            topic_id: named(at).1,
            partitions: (0..at).map(partition).collect(),
        };
        let forgotten = |at: usize| ForgottenTopic {
            topic: named(at).0,
            topic_id: named(at).1,
            partitions: (0..2 * at as i32).map(PartitionIndex).collect(),
        };
        let has_sessions = version >= FIRST_VERSION_WITH_SESSIONS;
        let replica_id = BrokerId(if version >= 15 { 5 } else { -1 });
        FetchRequest {
            replica_state: FetchReplicaState {
                replica_id,
                replica_epoch: -1,
            },
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_id: if has_sessions { 9 } else { 0 },
            session_epoch: if has_sessions { 4 } else { -1 },
            topics: (0..topics).map(topic).collect(),
            forgotten_topics_data: (0..topics)
                .filter(|_| has_sessions)
                .map(forgotten)
                .collect(),
            rack_id: if version >= FIRST_VERSION_WITH_RACK {
                "r".into()
            } else {
                "".into()
            },
            ..Default::default()
        }
    }

    /// The message as the walk gives it.
    fn walked(body: &[u8], version: i16) -> Result<FetchRequest<'_>, DecodeError> {
        let mut walk = FetchWalk::begin(body, version)?;
        let (mut topics, mut forgotten) = (Vec::new(), Vec::new());
        while let Some(item) = walk.step()? {
            match (item, walk.list) {
                (FetchItem::Topic { name, id }, List::Forgotten) => {
                    forgotten.push(ForgottenTopic {
                        topic: name.into(),
                        topic_id: id,
                        ..Default::default()
                    })
                }
                (FetchItem::Topic { name, id }, _) => topics.push(FetchTopic {
                    topic: name.into(),
                    topic_id: id,
                    ..Default::default()
                }),
                (FetchItem::Partition(partition), _) => {
                    topics.last_mut().unwrap().partitions.push(partition);
                }
                (FetchItem::Forgotten(index), _) => {
                    forgotten.last_mut().unwrap().partitions.push(index);
                }
            }
        }
        Ok(FetchRequest {
            topics: topics.into_iter().collect(),
            forgotten_topics_data: forgotten,
            ..walk.fields
        })
    }

    #[test]
    fn it_gives_what_the_message_says_in_every_version_and_wherever_it_is_cut() {
        for version in ApiKey::Fetch.versions() {
            for topics in [0, 1, 4] {
                let request = request(version, topics);
                let mut frame = Vec::new();
                let _ = encode_request(&mut frame, version, 1, "", &request).unwrap();
                let (_, body) = crate::wire::RequestHeader::decode(&frame[4..]).unwrap();
                for cut in 0..=body.len() {
                    let expected = FetchRequest::decode_lenient(&body[..cut], version);
                    assert_eq!(walked(&body[..cut], version), expected, "{version} {cut}");
                }
                assert_eq!(walked(body, version), Ok(request));
            }
        }
    }
}
