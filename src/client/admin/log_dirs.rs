//! What partitions take on the brokers' disks.

use std::collections::BTreeMap;

use super::super::{Client, ClientError};
use super::accepted;
use crate::rt::Runtime;
use crate::wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

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
