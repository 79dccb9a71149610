//! A node starts: its shards, its leader epochs, and new owners where the number of shards changed.

use std::collections::BTreeMap;

use super::placement::{fewest, turns};
use crate::cluster::apply::ApplyError;
use crate::cluster::image::Image;
use crate::cluster::records::{Move, Record};
use crate::cluster::topic::Placement;
use crate::model::{LeaderEpoch, NodeId, ShardIndex};

/// Moves in one record, so that it stays far below the longest one.
const MOVES_PER_RECORD: usize = 10_000;

/// Decides on a start. With another number of shards than before, all partitions of the node are
/// dealt out anew: a restart is the moment when that costs nothing, because journals are replayed
/// by whoever owns the partitions now, and clients ask for leaders again anyway.
pub fn start_run(
    image: &Image,
    node: NodeId,
    shards: u16,
    after_clean_stop: bool,
) -> Result<Vec<Record>, ApplyError> {
    let mut records = vec![Record::RunStarted {
        node,
        shards,
        after_clean_stop,
    }];
    let before = image
        .nodes()
        .find(|(id, _)| *id == node)
        .map(|(_, state)| state.shards);
    if before.is_some_and(|count| count != shards) {
        let started = image.apply_all(&records)?;
        let moves = deal(&started, node, shards);
        let chunks = moves.chunks(MOVES_PER_RECORD);
        records.extend(chunks.map(|chunk| Record::PartitionsMoved {
            moves: chunk.to_vec(),
        }));
    }
    Ok(records)
}

/// Deals each topic's partitions out in turns, beginning where there are fewest so far.
fn deal(image: &Image, node: NodeId, shards: u16) -> Vec<Move> {
    let owners: Vec<_> = (0..shards)
        .map(|s| Placement {
            node,
            shard: ShardIndex(s),
        })
        .collect();
    let mut load = BTreeMap::new();
    let mut moves = Vec::new();
    for topic in image.topics() {
        let first = fewest(&owners, |owner| load.get(&owner).copied().unwrap_or(0));
        let Some(turns) = turns(owners.clone(), first) else {
            continue;
        };
        let of_node = topic
            .indexed()
            .filter(|(_, state)| state.placement.node == node);
        for ((index, state), placement) in of_node.zip(turns) {
            *load.entry(placement).or_default() += 1;
            if state.placement != placement {
                moves.push(Move {
                    topic: topic.id,
                    index,
                    placement,
                    leader_epoch: LeaderEpoch(state.leader_epoch.0.saturating_add(1)),
                    owner_epoch: state.owner_epoch.saturating_add(1),
                });
            }
        }
    }
    moves
}
