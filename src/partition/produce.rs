//! Produce to one partition: accepted first, acknowledged later.

use std::time::Duration;

use super::refusals::EarlierBatchAwaited;
use super::{AdmissionError, BatchOpener, Partition};
use crate::log::partition::producers::{ProducerBatch, ProducerError};
use crate::log::{AppendError, Appended, StorageError};
use crate::model::Offset;
use crate::model::batch::BatchView;
use crate::rt::{Latch, Runtime};

/// A batch in the log: its offsets and its place in the order are fixed, but it may still be lost.
pub struct Accepted<R: Runtime> {
    partition: Partition<R>,
    base_offset: Offset,
    end_offset: Offset,
    acks: Acks,
    log_append_time_ms: Option<i64>,
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// acks=1: the batch is as safe here as the durability level promises.
    Leader,
    /// acks=all: it is so on every replica in sync.
    All,
}

/// What a Produce request says beside its records, and when.
#[derive(Clone, Copy, Debug)]
pub struct ProduceAsk {
    /// Whether the request's version allows zstd (KIP-110).
    pub is_zstd_allowed: bool,
    /// What its acknowledgement waits for.
    pub acks: Acks,
    /// [`Runtime::now`].
    pub now: Duration,
    /// [`Runtime::wall_clock_ms`].
    pub now_ms: i64,
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
    /// One before it was refused, and has to come first.
    #[error(transparent)]
    Awaited(#[from] EarlierBatchAwaited),
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
    /// the number of replicas (`Partition.effectiveMinIsr`), which is one. `checked` is called between
    /// the first and the rest.
    pub async fn produce(
        &self,
        records: &[u8],
        ask: ProduceAsk,
        opener: &BatchOpener,
        pause: &impl AsyncFn(),
        checked: &impl Fn(),
    ) -> Result<Accepted<R>, ProduceError> {
        let config = self.inner.config.borrow().clone();
        let rules = &config.rules;
        let admitted = rules.admit(records, ask.is_zstd_allowed, opener, ask.now_ms, pause);
        let admitted = admitted.await;
        checked();
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                let sent = BatchView::first(records).ok();
                let producer = sent.and_then(|batch| ProducerBatch::of(&batch));
                if let Some(producer) = producer.filter(|_| error.comes_again()) {
                    self.inner.refusals.refused(&producer, ask.now);
                }
                return Err(error.into());
            }
        };
        let appended = self.append(&admitted.batch, ask).await?;
        // A duplicate keeps the time that it was given when it came first.
        let log_append_time_ms = match appended.duplicate {
            true => appended.log_append_time_ms,
            false => admitted.log_append_time_ms,
        };
        Ok(Accepted {
            partition: self.clone(),
            base_offset: appended.base_offset,
            end_offset: appended.end_offset,
            acks: ask.acks,
            log_append_time_ms,
        })
    }
}

impl<R: Runtime> Partition<R> {
    /// Appends a batch in the order of its producer, also where one before it was refused for a time.
    async fn append(&self, batch: &[u8], ask: ProduceAsk) -> Result<Appended, ProduceError> {
        let (log, refusals) = (&self.inner.log, &self.inner.refusals);
        let view = BatchView::first(batch).ok();
        let Some(producer) = view.and_then(|view| ProducerBatch::of(&view)) else {
            return Ok(log.append(batch, ask.now_ms).await?);
        };
        refusals.check(&producer, ask.now)?;
        let producer_id = producer.producer_id;
        let may_be_behind = refusals.may_be_behind(&producer, ask.now);
        if may_be_behind && !log.knows_producer(producer_id) {
            return Err(EarlierBatchAwaited { producer_id }.into());
        }
        match log.append(batch, ask.now_ms).await {
            Ok(appended) => {
                refusals.taken(&producer);
                Ok(appended)
            }
            Err(AppendError::Producer(ProducerError::OutOfOrderSequence { .. }))
                if may_be_behind =>
            {
                Err(EarlierBatchAwaited { producer_id }.into())
            }
            Err(error) => {
                if matches!(error, AppendError::DiskFull | AppendError::Storage(_)) {
                    refusals.refused(&producer, ask.now);
                }
                Err(error.into())
            }
        }
    }
}

impl<R: Runtime> Accepted<R> {
    /// What has become of it: none while it is not safe yet. One that is safe in a partition that
    /// cannot be used any more is not acknowledged.
    pub fn outcome(&self) -> Option<Result<Acknowledged, StorageError>> {
        let log = &self.partition.inner.log;
        if let Some(failure) = log.failure() {
            return Some(Err(failure));
        }
        let marks = self.partition.watermarks();
        let safe = match self.acks {
            Acks::Leader => marks.durable,
            Acks::All => marks.high_watermark,
        };
        (safe >= self.end_offset).then_some(Ok(Acknowledged {
            base_offset: self.base_offset,
            log_append_time_ms: self.log_append_time_ms,
            log_start: marks.log_start,
        }))
    }

    /// Has `latch` wait until there is an outcome, where there is none yet.
    pub fn join(&self, latch: &Latch) {
        if self.outcome().is_some() {
            return;
        }
        match self.acks {
            Acks::Leader => self
                .partition
                .inner
                .log
                .join_durable(self.end_offset, latch),
            Acks::All => {
                let queue = &self.partition.inner.state.high_watermark;
                queue.join(self.end_offset, latch);
            }
        }
    }
}
