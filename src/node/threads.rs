//! The threads of a node: one per shard, the first of which starts and stops the others.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::ServeError;
use super::open::NodeOptions;
use super::roster::ShardSetup;
use super::run::{Started, run_node, run_shard};
use crate::rt::{LaneReceiver, LaunchError, ShardHandle, Shards, lane, run_shards};

/// Starts a thread per shard, and the node on the first of them. `ready` is called once all shards
/// listen; the threads end when `stop` says so or hangs up.
pub fn run_on_threads(
    shards: &Shards,
    options: NodeOptions,
    ready: impl FnOnce(Started) + Send + 'static,
    stop: LaneReceiver<()>,
) -> Result<Vec<ShardHandle<Result<(), ServeError>>>, LaunchError> {
    let seats = (1..shards.count).map(|_| lane::<ShardSetup>(1));
    let (setups, seats): (Vec<_>, Vec<_>) = seats.unzip();
    let seats = seats
        .into_iter()
        .map(|seat| Arc::new(Mutex::new(Some(seat))));
    let seats: Vec<_> = seats.collect();
    let node = Arc::new(Mutex::new(Some((options, setups, ready, stop))));
    run_shards(shards, move |rt, shard| async move {
        if shard > 0 {
            let Some(mut seat) = take(&seats[shard - 1]) else {
                return Ok(());
            };
            drop((seats, node));
            return match seat.recv().await {
                Some(setup) => run_shard(rt, setup).await,
                // Shard 0 could not take the data directory and says why.
                None => Ok(()),
            };
        }
        let Some((options, others, ready, stop)) = take(&node) else {
            return Ok(());
        };
        run_node(rt, options, others, ready, stop).await
    })
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
