//! What a checkpoint costs, and that the next life finds what it says.

use std::time::Duration;

use super::*;
use crate::log::shard::checkpointer::write_checkpoint;
use crate::rt::BLOCK_BYTES;

const AT_REST: u128 = 400;

fn topic(number: u128) -> String {
    format!("topic-{number}")
}

impl Scene {
    /// So many partitions, all empty.
    fn with_partitions(count: u128) -> Self {
        let mut scene = Self::new();
        let specs = (1..=count).map(|number| PartitionSpec {
            topic: topic(number),
            ..scene.spec(id(number))
        });
        scene.live(async |_, shard| {
            for spec in specs {
                create(&shard, spec).await.unwrap();
            }
            shard.close().await.unwrap();
        });
        scene.known.extend((1..=count).map(|number| KnownPartition {
            id: id(number),
            topic: topic(number),
            shard: ShardIndex(0),
            former_shard: ShardIndex(0),
            owner_epoch: OwnerEpoch::default(),
            next_owner_epoch: OwnerEpoch::default(),
        }));
        scene
    }
}

/// Bytes that a checkpoint takes of what is left for changes: in whole blocks, its header included.
async fn cost(shard: &ShardLog<SimRuntime>) -> usize {
    let storage = &shard.0.storage;
    let left = || {
        let slots = storage.slots.borrow();
        slots.as_ref().unwrap().change_bytes(storage.run)
    };
    let before = left();
    write_checkpoint(storage, 0).await.unwrap();
    before.saturating_sub(left())
}

/// All of them would be 100 KB.
#[test]
fn a_checkpoint_costs_what_has_changed() {
    let scene = Scene::with_partitions(AT_REST);
    let ids = (1..=AT_REST).map(id);
    let ends = scene.live(async |_, shard| {
        let storage = &shard.0.storage;
        write_checkpoint(storage, 0).await.unwrap();
        let log = |number| shard.partition(id(number)).unwrap();
        assert_eq!(cost(&shard).await, 8192, "nothing has changed");
        for hot in [3, 300] {
            fill(&log(hot), 2).await;
        }
        assert_eq!(cost(&shard).await, 8192);
        log(4).0.state.borrow_mut().retain(1 << 40, 1 << 40);
        log(5).0.state.borrow_mut().check_usable().unwrap();
        assert!([4, 5].map(|at| log(at).0.state.borrow().snapshot().changes()) == [1, 1]);
        for hot in 100..=115 {
            fill(&log(hot), 1).await;
        }
        fill(&log(3), 1).await;
        assert_eq!(cost(&shard).await, 8192, "some 200 bytes each");
        ids.clone()
            .map(|id| shard.partition(id).unwrap().marks().log_end)
            .collect::<Vec<_>>()
    });
    assert_eq!(ends.iter().filter(|end| end.0 > 0).count(), 18);
    scene.live(async |_, shard| {
        for (id, end) in ids.zip(&ends) {
            assert_eq!(shard.partition(id).unwrap().marks().log_end, *end);
        }
    });
}

/// Others hold all of the shard's memory for a second.
#[test]
fn a_checkpoint_waits_for_memory() {
    Scene::with_partitions(1).live(async |rt, shard| {
        let held: Vec<_> = std::iter::from_fn(|| rt.arena().alloc(BLOCK_BYTES).ok()).collect();
        let began = rt.now();
        let others = async {
            rt.sleep(Duration::from_secs(1)).await;
            drop(held);
        };
        let (written, ()) = futures_util::join!(write_checkpoint(&shard.0.storage, 0), others);
        written.unwrap();
        assert!(rt.now() - began >= Duration::from_secs(1));
        assert_eq!(shard.offline_reason(), None);
    });
}

/// Where a checkpoint could not be written, the next one says what that one would have.
#[test]
fn what_a_failed_checkpoint_had_is_said_by_the_next() {
    let scene = Scene::with_partitions(1);
    scene.live(async |_, shard| {
        let storage = &shard.0.storage;
        write_checkpoint(storage, 0).await.unwrap();
        assert!(storage.checkpoints.is_last_durable());
        fill(&shard.partition(id(1)).unwrap(), 1).await;
        let slots = storage.slots.borrow_mut().take();
        write_checkpoint(storage, 0).await.unwrap_err();
        storage.slots.replace(slots);
        storage.checkpoints.begin();
        assert!(!storage.checkpoints.is_last_durable());
        assert_eq!(cost(&shard).await, 0, "a whole one");
    });
}
