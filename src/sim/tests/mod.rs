//! The simulator itself: what it keeps, what it loses, and that it does so reproducibly.

mod contract_runs;
mod disk;
mod life;
mod many;
mod net;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::rt::{BLOCK_BYTES, Buf, File, OpenMode, Runtime, WriteMode};

/// A block-aligned buffer of `blocks` blocks full of `byte`.
fn blocks(shard: &SimRuntime, blocks: usize, byte: u8) -> Vec<Buf> {
    let mut buf = shard.arena().alloc(blocks * BLOCK_BYTES).unwrap();
    buf.extend_from_slice(&vec![byte; blocks * BLOCK_BYTES]);
    vec![buf.freeze()]
}

async fn create(shard: &SimRuntime, path: &str) -> SimFile {
    let path = Path::new(path);
    let file = shard.open(path, OpenMode::DIRECT_CREATE).await.unwrap();
    let dir = path.parent().unwrap();
    shard.sync_dir(dir).await.unwrap();
    file
}

/// A model in which everything takes about as long.
fn even(fua: bool) -> DiskModel {
    DiskModel {
        fua,
        slow_one_in: 0,
        latency: Duration::from_micros(10)..Duration::from_micros(20),
        ..DiskModel::default()
    }
}
