//! Starts with another number of shards than the run before had: journals are read by several, or by one
//! that needs nothing of them.

use crate::rt::Runtime;
use crate::sim::Sim;

use super::caught;
use super::damage::{JOURNAL, corrupt, recover, three_topics};
use super::directed::{SELDOM, SOON, Scene, append, uncut};
use super::life;
use super::recovery::RecoveredShards;
use super::work::create_named;

/// Three partitions of one shard, in whose journal a write has rotted, are recovered by one shard or by
/// three, with a partition each: either way the same is offline, and the same is told, once.
///
/// # Errors
/// The promise that was broken.
pub fn read_by_several(seed: u64) -> Result<(), String> {
    const BLOCK: u64 = 4096;
    let told = |shards| {
        let mut scene = Scene::new(seed, SELDOM);
        three_topics(&scene)?;
        corrupt(&scene, JOURNAL, BLOCK)?;
        scene.plan.shards = shards;
        let RecoveredShards { clean, report, .. } = recover(&scene)?;
        let mut offline = report.offline;
        offline.sort();
        Ok::<_, String>((
            clean,
            offline,
            report.warnings,
            report.journal_bytes_replayed,
        ))
    };
    caught(|| {
        let (alone, several) = (told(1)?, told(3)?);
        let is_told = |warning: &String| warning.contains("journal writes 1 to 1 of shard 0");
        let count = alone.2.iter().filter(|warning| is_told(warning)).count();
        match count == 1 && alone == several {
            true => Ok(()),
            false => Err(format!("one shard: {alone:?}; three: {several:?}")),
        }
    })
}

/// Of two shards one has the only partition. Each may have been stopped cleanly or not, and the next start
/// has one shard: it is behind a clean stop only if both were.
///
/// # Errors
/// The promise that was broken.
pub fn stopped_in_part(seed: u64) -> Result<(), String> {
    for closes in [[true, true], [true, false], [false, true]] {
        caught(|| stopped(seed, closes)).map_err(|what| format!("closed: {closes:?}: {what}"))?;
    }
    Ok(())
}

fn stopped(seed: u64, closes: [bool; 2]) -> Result<(), String> {
    let mut scene = Scene::new(seed, SELDOM);
    scene.plan.shards = 2;
    let mut sim = Sim::new(seed, &scene.disk);
    let runtimes = vec![sim.runtime(0), sim.runtime(1)];
    let mut rng = crate::sim::Rng::new(seed);
    let lived = sim.run(async {
        let rt = runtimes[0].clone();
        let recovered = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth).await?;
        let node = life::open(runtimes, recovered, &scene.plan, scene.truth.clone()).await?;
        let id = create_named(&node, "t", &mut rng).await?;
        append(&node, id, &mut rng).await?;
        rt.sleep(SOON).await;
        for (shard, _) in node.shards.iter().zip(closes).filter(|(_, closes)| *closes) {
            let closed = shard.close().await;
            closed.map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    uncut::<Result<(), String>>(lived)??;
    sim.process_kill();
    scene.plan.shards = 1;
    let mut sim = Sim::new(seed + 1, &scene.disk);
    let rt = sim.runtime(0);
    let recovery = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth);
    let found: Result<RecoveredShards, String> = uncut(sim.run(recovery))?;
    match (found?.clean, closes == [true, true]) {
        (clean, expected) if clean == expected => Ok(()),
        (clean, _) => Err(format!("clean: {clean}")),
    }
}
