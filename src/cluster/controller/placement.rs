//! Which shard gets which partition: in turns, beginning where there are fewest.

use super::error::ControllerError;
use crate::cluster::image::Image;
use crate::cluster::topic::{Placement, Topic};
use crate::model::{BrokerId, PartitionIndex};

/// Owners for the partitions of a new topic: an endless round over all shards.
pub(super) fn round(image: &Image) -> Result<impl Iterator<Item = Placement>, ControllerError> {
    let shards: Vec<_> = image.shards().collect();
    let first = fewest(&shards, |shard| {
        image.load.get(&shard).copied().unwrap_or(0)
    });
    turns(shards, first).ok_or(ControllerError::NoShards)
}

/// Owners for further partitions of a topic: the round goes on behind its last one.
pub(super) fn round_after(
    image: &Image,
    topic: &Topic,
) -> Result<impl Iterator<Item = Placement>, ControllerError> {
    let shards: Vec<_> = image.shards().collect();
    let last = PartitionIndex(topic.partition_count() - 1);
    let last = topic.partition(last).and_then(|state| state.leader);
    let first = match shards.iter().position(|shard| Some(*shard) == last) {
        Some(position) => position + 1,
        None => fewest(&shards, |shard| {
            image.load.get(&shard).copied().unwrap_or(0)
        }),
    };
    turns(shards, first).ok_or(ControllerError::NoShards)
}

/// The shard that clients know as that broker.
pub(super) fn shard_of(image: &Image, broker: BrokerId) -> Result<Placement, ControllerError> {
    let found = image.shards().find(|shard| shard.broker() == broker);
    found.ok_or(ControllerError::UnknownReplica(broker))
}

/// The position of the shard with the least load, the first of equals.
pub(super) fn fewest(shards: &[Placement], load: impl Fn(Placement) -> usize) -> usize {
    let least = shards
        .iter()
        .enumerate()
        .min_by_key(|(_, shard)| load(**shard));
    least.map_or(0, |(position, _)| position)
}

/// Endless turns from a position on; `None` without shards.
pub(super) fn turns(
    shards: Vec<Placement>,
    first: usize,
) -> Option<impl Iterator<Item = Placement>> {
    let count = shards.len();
    (count > 0).then(|| (first % count..).filter_map(move |turn| shards.get(turn % count).copied()))
}
