//! All partitions' logs of one shard, and what they share.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::vec::Drain;

use futures_util::future::join_all;

use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::partition_dirs;
use crate::log::files::partition_files::{SegmentId, partition_dir, prepared_name};
use crate::log::files::run::RunId;
use crate::log::journal::{Journal, JournalIdentity, Sequence};
use crate::log::options::{JOURNAL_DIR, LogOptions, PartitionSpec, ToldPartition};
use crate::log::partition::effects::Restored;
use crate::log::partition::snapshot::Snapshot;
use crate::log::partition::state::State;
use crate::log::recovery::RecoveredPartition;
use crate::log::segment::index::SegmentIndex;
use crate::log::shard::checkpointer::{self, run_checkpointer};
use crate::log::shard::lifecycle;
use crate::log::shard::open_log::{DirIs, OpenLog, OpenLogs, ShardStorage, Work, hand_back};
use crate::log::shard::partition_log::PartitionLog;
use crate::log::shard::reader::complete_indexes;
use crate::log::shard::storage::{HeldRoom, Token};
use crate::log::shard::write_back::{name_file, run_write_back, write_back_below};
use crate::model::{Offset, PartitionId, RESERVED_TOPIC_NAME};
use crate::rt::{File, MarkQueue, Mutex, Runtime, TaskClass};

/// The logs of one shard. Clones are the same. Lives on its shard.
pub struct ShardLog<R: Runtime>(pub(in crate::log) Rc<OpenShard<R>>);

impl<R: Runtime> Clone for ShardLog<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What the handles of a shard's logs share. The logs hold the storage, which lists them: without a handle
/// they go.
pub(in crate::log) struct OpenShard<R: Runtime> {
    pub storage: Rc<ShardStorage<R>>,
}

impl<R: Runtime> Drop for OpenShard<R> {
    fn drop(&mut self) {
        self.storage.close();
        self.storage.logs.take();
    }
}

impl<R: Runtime> ShardLog<R> {
    /// Opens the shard's log in a run that [`crate::log::Recovery::commit`] has committed, with the partitions
    /// that its part of the recovery has. `told` gives what the metadata says of each one.
    pub async fn open(
        rt: R,
        options: LogOptions,
        run: RunId,
        recovered: Vec<RecoveredPartition>,
        told: impl Fn(PartitionId) -> ToldPartition,
    ) -> Result<Self, StorageError> {
        let dir = options.shard_dir();
        let identity = JournalIdentity {
            node: options.node,
            shard: options.shard,
            run,
        };
        let slots = CheckpointSlots::open(&rt, &dir).await?;
        let logs: Rc<OpenLogs<R>> = Rc::default();
        let handed_to = logs.clone();
        let on_completed = move |_, tokens: Drain<'_, Token>| hand_back(&handed_to, tokens);
        let journal_dir = dir.join(JOURNAL_DIR);
        let journal = options.journal();
        let journal =
            Journal::create(rt.clone(), &journal_dir, identity, journal, on_completed).await?;
        let storage = ShardStorage::new(rt, options, run, journal, logs, slots);
        let storage = Rc::new(storage);
        let mut needed = 0;
        for recovered in recovered {
            let told = told(recovered.id());
            if let Some(partition) = open_partition(&storage, recovered, told) {
                needed += partition.state.borrow().snapshot().most_bytes();
            }
        }
        storage.checkpoint_room.end(needed);
        let shard = Rc::new(OpenShard { storage });
        start_tasks(&shard);
        Ok(Self(shard))
    }

    /// Makes sure of the room that new partitions will need, for so many of each topic; may wait.
    ///
    /// # Errors
    /// `DiskFull`: there is none, and nothing is held. Any other is final.
    pub async fn reserve_partitions<'t>(
        &self,
        topics: impl IntoIterator<Item = (&'t str, usize)>,
    ) -> Result<HeldRoom, StorageError> {
        let storage = self.0.storage.clone();
        storage.check_online()?;
        let bytes = topics
            .into_iter()
            .map(|(topic, count)| Snapshot::most_bytes_of_empty(topic).saturating_mul(count))
            .fold(0, usize::saturating_add);
        storage.hold_checkpoint(bytes).await
    }

    /// Room for no partition.
    pub fn no_room(&self) -> HeldRoom {
        HeldRoom::none(&self.0.storage.checkpoint_room)
    }

    /// Creates a partition, in memory: its directory is made by its first append. One that exists is
    /// returned.
    ///
    /// # Errors
    /// `DiskFull` where `room` is less than it needs, which leaves that as it was.
    pub fn create_partition(
        &self,
        spec: PartitionSpec,
        room: &mut HeldRoom,
    ) -> Result<PartitionLog<R>, StorageError> {
        let storage = &self.0.storage;
        storage.check_online()?;
        if let Some(existing) = self.partition(spec.id) {
            return Ok(existing);
        }
        if spec.topic == RESERVED_TOPIC_NAME {
            let why = format!("topic {RESERVED_TOPIC_NAME:?} would share directories with shards");
            return Err(StorageError::Conflict(why));
        }
        room.take(Snapshot::most_bytes_of_empty(&spec.topic))?;
        let empty = Restored {
            snapshot: Snapshot::empty(spec.id, &spec.topic, storage.rt.wall_clock_ms())
                .owned_by(spec.owner_epoch),
            index: SegmentIndex::new(Offset::ZERO),
        };
        let told = ToldPartition {
            leader_epoch: spec.leader_epoch,
            config: spec.config.clone(),
        };
        let partition = restore(storage, empty, &told, DirIs::Unmade);
        let negative = || StorageError::Conflict("a partition has no negative index".into());
        partition.map(PartitionLog).ok_or_else(negative)
    }

    /// The log of a partition that this shard owns.
    pub fn partition(&self, id: PartitionId) -> Option<PartitionLog<R>> {
        self.0.storage.log_of(id).map(PartitionLog)
    }

    /// All of the shard's partitions.
    pub fn partitions(&self) -> Vec<PartitionLog<R>> {
        let logs = self.0.storage.logs.borrow();
        logs.values().cloned().map(PartitionLog).collect()
    }

    /// Deletes a partition: its directory has been renamed, durably, when this returns, and its
    /// name is free; files are removed after `file.delete.delay.ms`. One that is not there is no
    /// error.
    pub async fn delete_partition(&self, id: PartitionId) -> Result<(), StorageError> {
        let removed = self.0.storage.logs.borrow_mut().remove(id);
        let Some(partition) = removed else {
            return Ok(());
        };
        let deleted = lifecycle::delete(&partition).await;
        deleted.map_err(|error| self.0.storage.failed(error))
    }

    /// Takes a directory off its name that the creation of a partition has left unfinished.
    pub async fn discard_unfinished(
        &self,
        topic: &str,
        id: PartitionId,
    ) -> Result<(), StorageError> {
        let storage = &self.0.storage;
        let (rt, data_dir) = (&storage.rt, &storage.options.data_dir);
        let discarded = partition_dirs::discard(rt, data_dir, topic, id).await;
        discarded.map_err(|error| storage.failed(error))?;
        // An attempt that was taken back, on a full disk, is gone for good only now: the metadata must not
        // forget the topic before, or a power cut brings back a directory that is nobody's.
        let synced = storage.names.sync(rt, data_dir).await;
        synced.map_err(|error| storage.failed(error))
    }

    /// Why the log directory is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.0.storage.offline_reason()
    }

    /// Completes, with the reason, when the log directory goes offline.
    pub async fn wait_offline(&self) -> String {
        let storage = &self.0.storage;
        let look = || storage.offline_reason();
        storage.ended.wait_until(look).await
    }

    /// Takes the log directory offline: another shard's write has failed.
    pub fn take_offline(&self, reason: &str) {
        self.0.storage.take_offline(reason);
    }

    /// Writes a checkpoint now.
    pub async fn checkpoint(&self) -> Result<(), StorageError> {
        self.0.storage.checkpointed().await
    }

    /// A clean stop: writes everything back to segments, writes a last checkpoint, and says in the journal
    /// that nothing is missing.
    pub async fn close(&self) -> Result<(), StorageError> {
        let storage = &self.0.storage;
        write_back_below(storage, Sequence(u64::MAX)).await?;
        storage.close();
        let is_clean = match checkpointer::write_checkpoint(storage, 0).await {
            Err(StorageError::DiskFull) => {
                tracing::warn!(
                    "no disk space for a last checkpoint: the next start replays the journal"
                );
                false
            }
            written => written.map(|()| true)?,
        };
        give_back_reserved(storage).await;
        storage.journal.close(is_clean).await?;
        storage.slots.borrow_mut().take();
        storage.files.clear();
        Ok(())
    }
}

/// Gives back what was made for batches to come: Kafka's tools take zeros behind a log's end for damage,
/// and do not know the files of segments that have not begun. Nothing depends on it, so a failure is no
/// more than told.
async fn give_back_reserved<R: Runtime>(storage: &ShardStorage<R>) {
    const AT_A_TIME: usize = 64;
    let slots = storage.logs.borrow().slot_count();
    for from in (0..slots).step_by(AT_A_TIME) {
        let logs = storage.logs_in(from..from + AT_A_TIME).into_iter();
        let given_back = logs.map(|partition| async move {
            if let Err(error) = give_back(&partition).await {
                tracing::warn!(dir = %partition.dir.display(), %error, "reserved space not given back");
            }
        });
        join_all(given_back).await;
    }
}

async fn give_back<R: Runtime>(partition: &Rc<OpenLog<R>>) -> Result<(), StorageError> {
    let storage = &partition.storage;
    let (next, active) = {
        let mut state = partition.state.borrow_mut();
        (state.take_next_file(), state.give_back_reserved())
    };
    if let Some(number) = next {
        let path = partition.dir.join(prepared_name(number));
        storage.rt.remove_file(&path).await?;
    }
    if let Some((base, end)) = active {
        name_file(partition, base).await?;
        let key = (partition.id, SegmentId::appended(base));
        let file = storage.files.get(key, &partition.dir).await?;
        file.set_len(end).await?;
    }
    Ok(())
}

fn start_tasks<R: Runtime>(shard: &Rc<OpenShard<R>>) {
    let storage = &shard.storage;
    let lacks_index = |partition: &Rc<OpenLog<R>>| {
        let lacks = partition.state.borrow().active_index().starts_behind();
        lacks.is_some().then_some(partition.slot)
    };
    let lacking = {
        let logs = storage.logs.borrow();
        logs.values().filter_map(lacks_index).collect()
    };
    storage.rt.spawn(
        TaskClass::Background,
        complete_indexes(storage.clone(), lacking),
    );
    for _ in 0..storage.options.write_backs_in_flight.max(1) {
        storage
            .rt
            .spawn(TaskClass::Background, run_write_back(storage.clone()));
    }
    let checkpointer = run_checkpointer(storage.clone());
    storage.rt.spawn(TaskClass::Background, checkpointer);
    storage
        .rt
        .spawn(TaskClass::Foreground, watch(shard.clone()));
    if storage.options.shard.0 == 0 {
        storage.rt.spawn(
            TaskClass::Background,
            lifecycle::remove_leftovers(storage.clone()),
        );
    }
}

/// Partitions whose waiters are told in a step.
const TOLD_AT_ONCE: usize = 64;

/// Tells every partition's waiters when the journal fails or the directory goes offline.
async fn watch<R: Runtime>(shard: Rc<OpenShard<R>>) {
    let storage = &shard.storage;
    let on_journal = storage.journal.progressed();
    let failed = on_journal.wait_until(|| storage.journal.failure());
    let offline = storage.ended.wait_until(|| storage.is_over().then_some(()));
    let (failed, offline) = (std::pin::pin!(failed), std::pin::pin!(offline));
    if let futures_util::future::Either::Left((error, _)) =
        futures_util::future::select(failed, offline).await
        && !storage.closing.get()
    {
        storage.take_offline(&error.to_string());
    }
    if storage.offline_reason().is_none() {
        return;
    }
    let slots = storage.logs.borrow().slot_count();
    for from in (0..slots).step_by(TOLD_AT_ONCE) {
        for partition in storage.logs_in(from..from + TOLD_AT_ONCE) {
            partition.tell_failed();
        }
        storage.rt.yield_now().await;
    }
}

/// A partition as recovery has left it.
fn open_partition<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    found: RecoveredPartition,
    told: ToldPartition,
) -> Option<Rc<OpenLog<R>>> {
    let lacks = found.lacks;
    if found.is_elsewhere {
        storage.unsynced.add_elsewhere(found.log.snapshot.id());
    }
    let dir_is = match found.has_dir {
        true => DirIs::Durable,
        false => DirIs::Unmade,
    };
    let partition = restore(storage, found.log, &told, dir_is)?;
    if let Some(reason) = lacks {
        partition.state.borrow_mut().take_offline_for_now(reason);
    }
    storage.producer_memory.count(&partition);
    Some(partition)
}

/// Lists the log of a partition; none for a negative index, which no partition has.
fn restore<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    log: Restored,
    told: &ToldPartition,
    dir_is: DirIs,
) -> Option<Rc<OpenLog<R>>> {
    let (id, topic) = (log.snapshot.id(), log.snapshot.topic().to_owned());
    let dir: &Path = &storage.options.data_dir;
    let config = (*told.config).clone();
    let durability = storage.options.durability;
    let open = |slot| {
        Rc::new(OpenLog {
            dir: dir.join(partition_dir(&topic, id.index)),
            storage: storage.clone(),
            producer_account: storage.producer_memory.account(),
            id,
            slot,
            topic,
            turn: Mutex::new(),
            rewrite_turn: Mutex::new(),
            log_start_turn: Mutex::new(),
            safe_log_start: Cell::new(log.snapshot.log_start()),
            durable: MarkQueue::default(),
            watcher: RefCell::default(),
            state: RefCell::new(State::restore(log, told.leader_epoch, config, durability)),
            work: Work::default(),
            dir_is: Cell::new(dir_is),
            dir_turn: Mutex::new(),
        })
    };
    storage.logs.borrow_mut().insert_with(id, open).cloned()
}
