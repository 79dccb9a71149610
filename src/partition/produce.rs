//! Produce to one partition: accepted first, acknowledged later.

use std::cell::RefCell;

use super::{AdmissionError, Partition};
use crate::compress::Codecs;
use crate::log::{AppendError, StorageError};
use crate::model::Offset;
use crate::rt::Runtime;

/// A batch in the log: its offsets and its place in the order are fixed, but it may still be lost.
pub struct Accepted<R: Runtime> {
    partition: Partition<R>,
    base_offset: Offset,
    end_offset: Offset,
    log_append_time_ms: Option<i64>,
}

/// A batch that is as safe as the durability level promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The time of its records, where the broker set it.
    pub log_append_time_ms: Option<i64>,
    /// The partition's log start offset.
    pub log_start: Offset,
}

/// Why a batch was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// It breaks the topic's rules.
    #[error(transparent)]
    Refused(#[from] AdmissionError),
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl<R: Runtime> std::fmt::Debug for Accepted<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} [{}, {})",
            self.partition, self.base_offset, self.end_offset
        )
    }
}

impl<R: Runtime> Partition<R> {
    /// Accepts a partition's records of a Produce request: checks them, waits for room, and fixes
    /// their offsets. `min.insync.replicas` does not count here: Kafka takes the smaller of it and
    /// the number of replicas (`Partition.effectiveMinIsr`), which is one.
    pub async fn produce(
        &self,
        records: &[u8],
        is_zstd_allowed: bool,
        codecs: &RefCell<Codecs>,
        now_ms: i64,
    ) -> Result<Accepted<R>, ProduceError> {
        let config = self.inner.config.borrow().clone();
        let admitted = {
            let mut codecs = codecs.borrow_mut();
            config
                .rules
                .admit(records, is_zstd_allowed, &mut codecs, now_ms)?
        };
        let appended = self.inner.log.append(&admitted.batch, now_ms).await?;
        // A duplicate keeps the time that it was given when it came first.
        let log_append_time_ms = match appended.duplicate {
            true => appended.log_append_time_ms,
            false => admitted.log_append_time_ms,
        };
        Ok(Accepted {
            partition: self.clone(),
            base_offset: appended.base_offset,
            end_offset: appended.end_offset,
            log_append_time_ms,
        })
    }
}

impl<R: Runtime> Accepted<R> {
    /// Completes when the batch is as safe as the durability level promises.
    pub async fn acknowledged(self) -> Result<Acknowledged, StorageError> {
        self.partition
            .inner
            .log
            .wait_durable(self.end_offset)
            .await?;
        Ok(Acknowledged {
            base_offset: self.base_offset,
            log_append_time_ms: self.log_append_time_ms,
            log_start: self.partition.log_start(),
        })
    }
}
