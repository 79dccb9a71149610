//! A disk that fails while the log works.

use std::rc::Rc;
use std::time::Duration;

use crate::log::AppendError;
use crate::log::StorageError;
use crate::model::batch::BatchBuilder;
use crate::rt::{Runtime, TaskClass};
use crate::sim::{EIO, Fault, FaultOn, Rng, Sim};

use super::life::Node;

/// Longer than anything that is under way takes.
const WHILE: Duration = Duration::from_secs(2);

/// Longer than it takes to tell everyone.
const SOON: Duration = Duration::from_millis(10);

/// A failure of writes or syncs, sooner or later, once or for ever.
pub fn any(rng: &mut Rng) -> Fault {
    Fault {
        on: [FaultOn::Write, FaultOn::Sync][rng.index(2)],
        path: ["/journal/", ".log", "/checkpoint", "/shard-0/"][rng.index(4)].to_owned(),
        skip: rng.below(60) as u32,
        times: [1, u32::MAX][rng.index(2)],
        errno: EIO,
    }
}

/// Tells every shard when one has failed, as a node does.
pub fn watch(node: &Rc<Node>) {
    for shard in node.shards.clone() {
        let shards = node.shards.clone();
        node.runtimes[0].spawn(TaskClass::Foreground, async move {
            let reason = shard.wait_offline().await;
            for other in shards {
                other.take_offline(&reason);
            }
        });
    }
}

/// The work has ended because of the failure: from then on nothing is accepted or acknowledged.
pub fn check(sim: &mut Sim, node: &Rc<Node>, ended: Result<(), String>) -> Result<(), String> {
    let rt = node.runtimes[0].clone();
    // Whoever waits learns of it in no order.
    let told = sim.run(rt.sleep(SOON));
    if told.is_ok()
        && node
            .shards
            .iter()
            .any(|shard| shard.offline_reason().is_none())
    {
        return Err(format!("ended with {ended:?}, and not all is offline"));
    }
    let before = node.truth.borrow().acknowledged_count;
    let refused = sim.run(async {
        rt.sleep(WHILE).await;
        refuses_all(node).await
    });
    // A cut comes as well as not.
    refused.unwrap_or(Ok(()))?;
    match node.truth.borrow().acknowledged_count - before {
        0 => Ok(()),
        more => Err(format!("{more} batches acknowledged offline")),
    }
}

async fn refuses_all(node: &Rc<Node>) -> Result<(), String> {
    let mut builder = BatchBuilder::new();
    let mut batch = Vec::new();
    builder
        .append(0, None, Some(b"late"), &[])
        .and_then(|()| builder.append_batch(&mut batch))
        .map_err(|error| error.to_string())?;
    for shard in &node.shards {
        for log in shard.partitions() {
            match log.append(&batch, 0).await {
                Err(AppendError::Storage(StorageError::Offline(_))) => {}
                other => return Err(format!("offline, and an append gives {other:?}")),
            }
        }
    }
    Ok(())
}
