//! What users do to a log: several producers, deletions, retention, reads.

use std::rc::Rc;
use std::time::Duration;

use crate::log::options::PartitionSpec;
use crate::log::{AppendError, PartitionLog, ReadError, StorageError};
use crate::model::batch::{BatchBuilder, BatchFields, BatchView};
use crate::model::{
    Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, ShardIndex, TopicId,
};
use crate::rt::{Runtime, TaskClass};
use crate::sim::{Rng, SimRuntime};

use super::life::{Node, Plan, check_read, pause};
use super::rewrite;
use super::truth::{Accepted, PartitionTruth, Stored};

/// How long a client waits before it tries again on a full disk.
const RETRY: Duration = Duration::from_millis(10);

/// Works on several partitions at a time, then ends.
pub async fn work(node: Rc<Node>, plan: &Plan) -> Result<(), String> {
    let mut rng = Rng::new(plan.seed);
    while node.truth.borrow().partitions.len() < plan.partitions {
        create(&node, &mut rng).await?;
    }
    let drivers: Vec<_> = {
        let truth = node.truth.borrow();
        let ids = truth.partitions.keys().copied();
        ids.map(|id| drive(node.clone(), id, rng.fork(), plan.operations))
            .collect()
    };
    let results = futures_util::future::join_all(drivers).await;
    results.into_iter().collect::<Result<(), String>>()?;
    if let Some(broken) = &node.truth.borrow().broken {
        return Err(broken.clone());
    }
    Ok(())
}

/// Sends again what a crash left unanswered, in order, as an idempotent client does.
pub async fn retry_unanswered(node: &Rc<Node>) -> Result<(), String> {
    let unanswered: Vec<_> = {
        let truth = node.truth.borrow();
        let of = |(id, known): (&PartitionId, &PartitionTruth)| (*id, known.unanswered.clone());
        truth.partitions.iter().map(of).collect()
    };
    for (id, producers) in unanswered {
        let Some(log) = node.partition(id) else {
            continue;
        };
        for (_, batches) in producers {
            for batch in batches {
                send(node, &log, batch).await?;
            }
        }
    }
    Ok(())
}

async fn drive(
    node: Rc<Node>,
    id: PartitionId,
    mut rng: Rng,
    operations: usize,
) -> Result<(), String> {
    let mut id = id;
    for _ in 0..operations {
        let Some(log) = node.partition(id) else {
            return Ok(());
        };
        match rng.below(100) {
            0 => id = create_again(&node, &log, &mut rng).await?,
            1..4 => delete_records(&node, &log, &mut rng).await?,
            4..6 => retention(&node, &log).await?,
            6..8 => checkpoint(&node, &mut rng).await?,
            8..20 => read(&node, &log, &mut rng).await?,
            20..24 => look_up(&node, &log, &mut rng).await?,
            24..27 => rewrite::begin(&node, &log, &mut rng),
            _ => {
                let batch = next_batch(&node, id, &mut rng);
                send(&node, &log, batch).await?;
            }
        }
        pause(&node.runtimes[0], &mut rng).await;
    }
    // Let some acknowledgements come.
    match node.partition(id) {
        Some(log) => log
            .wait_durable(log.marks().log_end)
            .await
            .map_err(|e| e.to_string()),
        None => Ok(()),
    }
}

/// A batch of some size, from an idempotent producer or a plain one.
fn next_batch(node: &Node, id: PartitionId, rng: &mut Rng) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let largest = [100, 1_000, 6_000, 18_000][rng.index(4)];
    for _ in 0..1 + rng.index(4) {
        let mut value = vec![0; 1 + rng.index(largest / 4)];
        rng.fill(&mut value);
        let timestamp_ms = 1_700_000_000_000 + rng.below(100_000) as i64;
        let _ = builder.append(timestamp_ms, None, Some(&value), &[]);
    }
    let mut truth = node.truth.borrow_mut();
    let fields = builder.fields().ok();
    let (Some(known), Some(fields)) = (truth.partitions.get_mut(&id), fields) else {
        return Vec::new();
    };
    // As clients do: a retry is recognised five batches back.
    const MAX_IN_FLIGHT: usize = 5;
    let producer = match rng.below(4) as i64 - 1 {
        busy if known
            .unanswered
            .get(&busy)
            .is_some_and(|sent| sent.len() >= MAX_IN_FLIGHT) =>
        {
            -1
        }
        free => free,
    };
    let fields = match producer {
        ..0 => fields,
        _ => {
            let next = known.next_sequence.entry(producer).or_default();
            let base_sequence = *next;
            *next += builder.count();
            BatchFields {
                producer_id: ProducerId(producer),
                producer_epoch: ProducerEpoch(0),
                base_sequence,
                ..fields
            }
        }
    };
    let mut batch = Vec::new();
    let _ = fields.append(builder.records(), &mut batch);
    batch
}

/// Appends; what is acknowledged later is noted then.
pub async fn send(
    node: &Rc<Node>,
    log: &PartitionLog<SimRuntime>,
    batch: Vec<u8>,
) -> Result<(), String> {
    let id = log.id();
    let producer = match BatchView::first(&batch) {
        Ok(view) => view.producer_id().0,
        Err(_) => return Ok(()),
    };
    if producer >= 0
        && let Some(known) = node.truth.borrow_mut().partitions.get_mut(&id)
    {
        let unanswered = known.unanswered.entry(producer).or_default();
        if !unanswered.contains(&batch) {
            unanswered.push(batch.clone());
        }
    }
    let appended = loop {
        match log.append(&batch, node.runtimes[0].wall_clock_ms()).await {
            Ok(appended) => break appended,
            Err(AppendError::Storage(StorageError::Deleted)) => return Ok(()),
            Err(AppendError::DiskFull) => node.runtimes[0].sleep(RETRY).await,
            Err(error) => return Err(format!("append: {error}")),
        }
    };
    {
        let mut truth = node.truth.borrow_mut();
        let Some(known) = truth.partitions.get_mut(&id) else {
            return Ok(());
        };
        let result = match appended.duplicate {
            false => known.accept(&batch, appended.base_offset, log.leader_epoch()),
            true => known.check_duplicate(&batch, appended.base_offset),
        };
        truth.note(id, result);
    }
    let (node, log) = (node.clone(), log.clone());
    node.runtimes[0]
        .clone()
        .spawn(TaskClass::Foreground, async move {
            let durable = log.wait_durable(appended.end_offset).await;
            let mut truth = node.truth.borrow_mut();
            let truth = &mut *truth;
            if let (Ok(()), Some(known)) = (durable, truth.partitions.get_mut(&id)) {
                known.acknowledged = known.acknowledged.max(appended.end_offset);
                if let Some(waiting) = known.unanswered.get_mut(&producer) {
                    waiting.retain(|waiting| *waiting != batch);
                }
                truth.acknowledged_count += 1;
            }
        });
    Ok(())
}

impl PartitionTruth {
    /// A retry that the log recognised must be in it, at the offsets it names.
    fn check_duplicate(&self, sent: &[u8], base_offset: Offset) -> Result<(), String> {
        const STAMPED: usize = 16;
        let found = self
            .batches
            .iter()
            .find(|batch| batch.base_offset == base_offset);
        match found {
            Some(batch) if batch.bytes[STAMPED..] == sent[STAMPED..] => Ok(()),
            _ => Err(format!(
                "duplicate of a batch at {base_offset} that is not there"
            )),
        }
    }
}

async fn create(node: &Rc<Node>, rng: &mut Rng) -> Result<PartitionId, String> {
    let names: Vec<_> = {
        let truth = node.truth.borrow();
        truth
            .partitions
            .values()
            .map(|known| known.topic.clone())
            .collect()
    };
    let free = (0..)
        .map(|number| format!("t{number}"))
        .find(|name| !names.contains(name));
    create_named(node, &free.unwrap_or_default(), rng).await
}

pub async fn create_named(
    node: &Rc<Node>,
    topic: &str,
    rng: &mut Rng,
) -> Result<PartitionId, String> {
    let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    let id = PartitionId {
        topic: TopicId(uuid::Uuid::from_u128(bits)),
        index: PartitionIndex(0),
    };
    let number = rng.index(node.shards.len());
    let shard = &node.shards[number];
    let mut known = PartitionTruth::new(topic);
    known.owner.0 = Some(ShardIndex(number as u16));
    let (leader_epoch, owner_epoch) = (known.leader_epoch, known.owner.1);
    node.truth.borrow_mut().partitions.insert(id, known);
    let spec = PartitionSpec {
        id,
        topic: topic.to_owned(),
        leader_epoch,
        owner_epoch,
        config: node.config.clone(),
    };
    let failed = |error| format!("create {topic}: {error}");
    let mut room = loop {
        match shard.reserve_partitions([(topic, 1)]).await {
            Ok(room) => break room,
            Err(StorageError::DiskFull) => node.runtimes[0].sleep(RETRY).await,
            Err(error) => return Err(failed(error)),
        }
    };
    shard.create_partition(spec, &mut room).map_err(failed)?;
    if let Some(known) = node.truth.borrow_mut().partitions.get_mut(&id) {
        known.is_created = true;
    }
    Ok(id)
}

/// Deletes a topic and creates another of the same name.
async fn create_again(
    node: &Rc<Node>,
    log: &PartitionLog<SimRuntime>,
    rng: &mut Rng,
) -> Result<PartitionId, String> {
    let topic = log.topic().to_owned();
    node.truth.borrow_mut().partitions.remove(&log.id());
    for shard in &node.shards {
        let deleted = shard.delete_partition(log.id()).await;
        deleted.map_err(|error| format!("delete {topic}: {error}"))?;
    }
    create_named(node, &topic, rng).await
}

async fn delete_records(
    node: &Rc<Node>,
    log: &PartitionLog<SimRuntime>,
    rng: &mut Rng,
) -> Result<(), String> {
    let marks = log.marks();
    let span = (marks.durable.0 - marks.log_start.0) as u64;
    let before = marks.log_start.plus(rng.below(span + 1) as i64);
    let id = log.id();
    if let Some(known) = node.truth.borrow_mut().partitions.get_mut(&id) {
        known.asked_log_starts.insert(before);
    }
    let log_start = loop {
        match log.delete_records(before).await {
            Ok(log_start) => break log_start,
            // The journal was not prepared to its end before the disk was full.
            Err(ReadError::Storage(StorageError::DiskFull)) => node.runtimes[0].sleep(RETRY).await,
            Err(error) => return Err(format!("delete records: {error}")),
        }
    };
    promise_log_start(node, id, log_start);
    Ok(())
}

pub async fn retention(node: &Rc<Node>, log: &PartitionLog<SimRuntime>) -> Result<(), String> {
    let id = log.id();
    // It may choose any end of a segment.
    if let Some(known) = node.truth.borrow_mut().partitions.get_mut(&id) {
        let ends: Vec<_> = known.batches.iter().map(|batch| batch.end_offset).collect();
        known.asked_log_starts.extend(ends);
    }
    let now_ms = 1_700_000_000_000;
    match log.enforce_retention(now_ms).await {
        Ok(_) | Err(StorageError::DiskFull) => {}
        Err(error) => return Err(format!("retention: {error}")),
    }
    promise_log_start(node, id, log.marks().log_start);
    Ok(())
}

fn promise_log_start(node: &Node, id: PartitionId, log_start: Offset) {
    if let Some(known) = node.truth.borrow_mut().partitions.get_mut(&id) {
        known.log_start = known.log_start.max(log_start);
    }
}

async fn checkpoint(node: &Node, rng: &mut Rng) -> Result<(), String> {
    let shard = &node.shards[rng.index(node.shards.len())];
    shard
        .checkpoint()
        .await
        .map_err(|error| format!("checkpoint: {error}"))
}

async fn read(node: &Node, log: &PartitionLog<SimRuntime>, rng: &mut Rng) -> Result<(), String> {
    let marks = log.marks();
    if marks.durable <= marks.log_start {
        return Ok(());
    }
    let span = (marks.durable.0 - marks.log_start.0) as u64;
    let from = marks.log_start.plus(rng.below(span) as i64);
    let end = from.plus(30).0.min(marks.durable.0);
    let max_bytes = [1, 5_000, 100_000][rng.index(3)];
    // The bound may lie within a batch: then nothing more is given.
    let truth_end = {
        let truth = node.truth.borrow();
        let Some(known) = truth.partitions.get(&log.id()) else {
            return Ok(());
        };
        let whole = known
            .batches
            .iter()
            .rev()
            .find(|batch| batch.end_offset.0 <= end);
        whole.map_or(from, |batch| batch.end_offset)
    };
    check_read(node, log, from, truth_end, max_bytes).await
}

async fn look_up(node: &Node, log: &PartitionLog<SimRuntime>, rng: &mut Rng) -> Result<(), String> {
    let at_ms = 1_700_000_000_000 + rng.below(110_000) as i64;
    let marks = log.marks();
    let mut expected = node.first_at(log, at_ms, marks.log_start, marks.durable);
    let found = log.offset_for_timestamp(at_ms, marks.durable).await;
    let found = match found {
        Ok(found) => found.map(|(timestamp_ms, offset, _)| (timestamp_ms, offset)),
        Err(_) if log.marks().log_start > marks.log_start || log.failure().is_some() => {
            return Ok(());
        }
        Err(error) => return Err(format!("look up {at_ms}: {error}")),
    };
    if log.marks().log_start > marks.log_start {
        return Ok(());
    }
    if !node.truth.borrow().partitions.contains_key(&log.id()) {
        return Ok(());
    }
    // What a rewrite has swapped meanwhile may have been seen or not.
    expected.extend(node.first_at(log, at_ms, marks.log_start, marks.durable));
    match expected.contains(&found) {
        true => Ok(()),
        false => Err(format!("look up {at_ms}: {found:?}, expected {expected:?}")),
    }
}

/// A record: its timestamp and its offset.
type Found = Option<(i64, Offset)>;

impl Node {
    /// What a look-up may find: before the rewrite that is under way has swapped, and behind it.
    fn first_at(
        &self,
        log: &PartitionLog<SimRuntime>,
        at_ms: i64,
        from: Offset,
        end: Offset,
    ) -> Vec<Found> {
        let truth = self.truth.borrow();
        let Some(known) = truth.partitions.get(&log.id()) else {
            return Vec::new();
        };
        let next = known.rewrite.as_ref().map(|rewrite| &rewrite.stored);
        let behind = |batch: &Accepted| next.and_then(|next| next.get(&batch.base_offset)).cloned();
        let now = known.first_at(at_ms, from, end, |batch| batch.stored.clone());
        let then = known.first_at(at_ms, from, end, |batch| {
            behind(batch).unwrap_or_else(|| batch.stored.clone())
        });
        vec![now, then]
    }
}

impl PartitionTruth {
    fn first_at(
        &self,
        at_ms: i64,
        from: Offset,
        end: Offset,
        stored: impl Fn(&Accepted) -> Stored,
    ) -> Found {
        self.batches.iter().find_map(|batch| {
            let records = rewrite::records_of(&stored(batch));
            records.into_iter().find(|(timestamp_ms, offset)| {
                *timestamp_ms >= at_ms && *offset >= from && *offset < end
            })
        })
    }
}
