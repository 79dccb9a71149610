//! What partitions hold: where their offsets start, end, pass a time; moving the start; what they take
//! on the brokers' disks.

use std::collections::BTreeMap;

use super::super::cluster::refused;
use super::super::{Client, ClientError};
use super::accepted;
use crate::model::{LeaderEpoch, Offset, PartitionIndex};
use crate::rt::Runtime;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
    DescribeLogDirsRequest, DescribeLogDirsResponse, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopic,
};

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The log start offset.
    Start,
    /// The high watermark.
    End,
    /// The first record at or after a Unix time in milliseconds.
    TimestampMs(i64),
}

/// An offset as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; none when no record is as late as the time asked for.
    pub offset: Option<Offset>,
    /// The leader's epoch at that offset.
    pub leader_epoch: LeaderEpoch,
}

impl When {
    /// The number on the wire (ListOffsets).
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
            Self::TimestampMs(time) => time,
        }
    }
}

/// One log directory of one broker.
#[derive(Clone, Debug)]
pub struct LogDir {
    /// The broker's id.
    pub broker: i32,
    /// Its path there.
    pub path: String,
    /// Size of each partition in it, in bytes, by topic and index.
    pub partitions: BTreeMap<(String, i32), i64>,
}

impl<R: Runtime> Client<R> {
    /// The offsets of `partitions` of a topic, each from its leader.
    pub async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        when: When,
    ) -> Result<BTreeMap<i32, ListedOffset>, ClientError> {
        let what = format!("offsets of '{topic}'");
        self.retry(&what, || async {
            let listed = self.list_once(topic, partitions, when).await?;
            let told = |(index, offset): (i32, Option<ListedOffset>)| match offset {
                Some(offset) => Ok((index, offset)),
                None => {
                    self.forget(topic);
                    let what = format!("offset of {topic}-{index}");
                    Err(refused(what, ErrorCode::KafkaStorageError))
                }
            };
            listed.into_iter().map(told).collect()
        })
        .await
    }

    /// As [`Client::list_offsets`], with none for a partition whose files its leader cannot use.
    pub async fn list_usable_offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        when: When,
    ) -> Result<BTreeMap<i32, Option<ListedOffset>>, ClientError> {
        let what = format!("offsets of '{topic}'");
        let list = || self.list_once(topic, partitions, when);
        self.retry(&what, list).await
    }

    async fn list_once(
        &self,
        topic: &str,
        partitions: &[i32],
        when: When,
    ) -> Result<BTreeMap<i32, Option<ListedOffset>>, ClientError> {
        let listed = self.list_by_leader(topic, partitions, when).await;
        if listed.is_err() {
            self.forget(topic);
        }
        listed
    }

    async fn list_by_leader(
        &self,
        topic: &str,
        partitions: &[i32],
        when: When,
    ) -> Result<BTreeMap<i32, Option<ListedOffset>>, ClientError> {
        let mut found = BTreeMap::new();
        for (leader, partitions) in self.by_leader(topic, partitions).await? {
            let asked = |index: &i32| ListOffsetsPartition {
                partition_index: PartitionIndex(*index),
                timestamp: when.timestamp(),
                ..Default::default()
            };
            let request = ListOffsetsRequest {
                replica_id: (-1).into(),
                topics: vec![ListOffsetsTopic {
                    name: topic.into(),
                    partitions: partitions.iter().map(asked).collect(),
                }],
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            let answer = self.broker(leader).await?.call(&request).await?;
            let response: ListOffsetsResponse = answer.read()?;
            for result in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let index = result.partition_index.0;
                let listed = match result.error_code.ok() {
                    Ok(()) => Some(ListedOffset {
                        offset: (result.offset.0 >= 0).then_some(result.offset),
                        leader_epoch: result.leader_epoch,
                    }),
                    Err(ErrorCode::KafkaStorageError) => None,
                    Err(code) => return Err(refused(format!("offset of {topic}-{index}"), code)),
                };
                found.insert(index, listed);
            }
        }
        Ok(found)
    }

    /// Deletes the records below each partition's given offset (−1: the high watermark); returns
    /// the new log start offsets.
    pub async fn delete_records(
        &self,
        topic: &str,
        partitions: &BTreeMap<i32, Offset>,
    ) -> Result<BTreeMap<i32, Offset>, ClientError> {
        let what = format!("delete records of '{topic}'");
        self.retry(&what, || async {
            let result = self.delete_once(topic, partitions).await;
            if result.is_err() {
                self.forget(topic);
            }
            result
        })
        .await
    }

    async fn delete_once(
        &self,
        topic: &str,
        partitions: &BTreeMap<i32, Offset>,
    ) -> Result<BTreeMap<i32, Offset>, ClientError> {
        let indexes: Vec<i32> = partitions.keys().copied().collect();
        let mut starts = BTreeMap::new();
        for (leader, indexes) in self.by_leader(topic, &indexes).await? {
            let below = |index: &i32| DeleteRecordsPartition {
                partition_index: PartitionIndex(*index),
                offset: partitions.get(index).copied().unwrap_or(Offset(-1)),
            };
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: topic.into(),
                    partitions: indexes.iter().map(below).collect(),
                }],
                timeout_ms: self.timeout_ms(),
            };
            let answer = self.broker(leader).await?.call(&request).await?;
            let response: DeleteRecordsResponse = answer.read()?;
            for result in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let index = result.partition_index.0;
                let what = || format!("delete records of {topic}-{index}");
                result
                    .error_code
                    .ok()
                    .map_err(|code| refused(what(), code))?;
                starts.insert(index, result.low_watermark);
            }
        }
        Ok(starts)
    }

    async fn by_leader(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, Vec<i32>>, ClientError> {
        let mut by_leader = BTreeMap::<i32, Vec<i32>>::new();
        for index in partitions {
            let leader = match self.known_leader(topic, *index) {
                Some(leader) => leader,
                None => self.leader(topic, *index).await?.0,
            };
            by_leader.entry(leader).or_default().push(*index);
        }
        Ok(by_leader)
    }

    /// The log directories of all brokers that the last metadata named.
    pub async fn log_dirs(&self) -> Result<Vec<LogDir>, ClientError> {
        let brokers = self.refresh(Some(&[])).await?.brokers;
        let mut dirs = Vec::new();
        for broker in brokers.into_keys() {
            let what = format!("log directories of broker {broker}");
            let found = self
                .retry(&what, || self.log_dirs_of(broker, &what))
                .await?;
            dirs.extend(found);
        }
        Ok(dirs)
    }

    async fn log_dirs_of(&self, broker: i32, what: &str) -> Result<Vec<LogDir>, ClientError> {
        let request = DescribeLogDirsRequest { topics: None };
        let answer = self.broker(broker).await?.call(&request).await?;
        let response: DescribeLogDirsResponse = answer.read()?;
        accepted(what, response.error_code, None)?;
        let mut dirs = Vec::new();
        for dir in &response.results {
            accepted(what, dir.error_code, None)?;
            let mut partitions = BTreeMap::new();
            for topic in &dir.topics {
                for partition in &topic.partitions {
                    let key = (topic.name.to_string(), partition.partition_index.0);
                    partitions.insert(key, partition.partition_size);
                }
            }
            dirs.push(LogDir {
                broker,
                path: dir.log_dir.to_string(),
                partitions,
            });
        }
        Ok(dirs)
    }
}
