//! A node starts: its shards, its leader epochs, and new owners where the number of shards changed.

use std::collections::BTreeMap;

use super::Draft;
use super::change::{Made, NodeStart};
use super::error::ControllerError;
use super::placement::{fewest, turns};
use crate::cluster::image::Image;
use crate::cluster::records::{Move, PARTITIONS_PER_RECORD, Record};
use crate::cluster::topic::Placement;
use crate::model::{LeaderEpoch, NodeId, ShardIndex};

/// A node starts. With another number of shards than before, all partitions of the node are dealt
/// out anew: a restart is the moment when that costs nothing, because journals are replayed by
/// whoever owns the partitions now, and clients ask for leaders again anyway.
///
/// Topics whose deletion was cut short are off their names: recovery has renamed the directories of
/// every topic that it was not told of.
pub(super) fn start(draft: &mut Draft, start: &NodeStart) -> Result<Made, ControllerError> {
    if draft.image.cluster_id().is_none() {
        let cluster_id = start.cluster_id.clone();
        draft.add(Record::ClusterCreated { cluster_id })?;
    }
    let node = start.node;
    let shards_before = draft.image.node(node).map(|state| state.shards);
    draft.add(Record::RunStarted {
        node,
        shards: start.shards,
        after_clean_stop: start.after_clean_stop,
    })?;
    if shards_before.is_some_and(|count| count != start.shards) {
        let moves = deal(&draft.image, node, start.shards);
        for moves in moves.chunks(PARTITIONS_PER_RECORD) {
            let moves = moves.to_vec();
            draft.add(Record::PartitionsMoved { moves })?;
        }
    }
    let leaving = draft.image.leaving_topics().map(|topic| topic.id);
    for id in leaving.collect::<Vec<_>>() {
        draft.add(Record::TopicPurged { id })?;
    }
    Ok(Made::Node)
}

/// Deals the node's replicas of each topic out in turns, beginning where there are fewest so far.
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
        let indexed = topic.indexed();
        let of_node =
            indexed.filter_map(|(index, state)| Some((index, state, state.replica_of(node)?)));
        for ((index, state, replica), placement) in of_node.zip(turns) {
            *load.entry(placement).or_default() += 1;
            if replica.placement != placement {
                moves.push(Move {
                    topic: topic.id,
                    index,
                    placement,
                    leader_epoch: LeaderEpoch(state.leader_epoch.0.saturating_add(1)),
                    owner_epoch: replica.owner_epoch.saturating_add(1),
                });
            }
        }
    }
    moves
}
