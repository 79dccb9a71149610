//! Lives that make their journal durable by flushes, and end with the power.

use std::rc::Rc;
use std::time::Duration;

use crate::rt::{DurableWrites, Runtime};
use crate::sim::{DiskModel, EIO, Fault, FaultOn, Rng, Sim, SimDisk};

use super::caught;
use super::directed::{SELDOM, SOON, Scene, append, append_up_to, uncut};
use super::life::{self, Node};
use super::work::create_named;

/// Longer than a journal takes to be prepared to its end.
const PREPARED: Duration = Duration::from_secs(3);

/// Commits go over the end of a journal file, on a disk where a flush reaches its own file alone; the
/// power goes somewhere among them.
///
/// # Errors
/// The promise that was broken.
pub fn commits_over_two_files(seed: u64) -> Result<(), String> {
    caught(|| {
        let mut scene = Scene::new(seed, SELDOM);
        scene.disk = SimDisk::new(DiskModel {
            slow_one_in: 5,
            ..DiskModel::default()
        });
        scene.plan.options.journal_writes_in_flight = 4;
        scene.life(async |node, rng| create_named(node, "t", rng).await.map(drop))?;
        let id = scene.partition()?;
        let mut rng = Rng::new(!seed);
        for _ in 0..4 {
            let steps = 20 + rng.below(300);
            without_power(&scene, &mut rng, Some(steps), async |node, rng| {
                for _ in 0..200 {
                    append_up_to(12_000, node, id, rng).await?;
                }
                Ok(())
            })?;
        }
        scene.life(async |_, _| Ok(()))
    })
}

/// One flush of the journal fails, those behind it would succeed; then the power goes.
///
/// # Errors
/// The promise that was broken.
pub fn failed_flush(seed: u64) -> Result<(), String> {
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        scene.life(async |node, rng| create_named(node, "t", rng).await.map(drop))?;
        let id = scene.partition()?;
        let mut rng = Rng::new(!seed);
        without_power(&scene, &mut rng, None, async |node, rng| {
            node.runtimes[0].sleep(PREPARED).await;
            scene.disk.inject(Fault {
                on: FaultOn::Sync,
                path: "/journal/".to_owned(),
                skip: 0,
                times: 1,
                errno: EIO,
            });
            append(node, id, rng).await?;
            node.runtimes[0].sleep(SOON).await;
            Ok(())
        })?;
        scene.life(async |_, _| Ok(()))
    })
}

/// A life that flushes and works until it has, or so many I/O steps long; then the power goes.
fn without_power(
    scene: &Scene,
    rng: &mut Rng,
    steps: Option<u64>,
    work: impl AsyncFnOnce(&Rc<Node>, &mut Rng) -> Result<(), String>,
) -> Result<(), String> {
    let mut sim = Sim::new(rng.next_u64(), &scene.disk);
    sim.set_durable_writes(DurableWrites::Flush);
    let rt = sim.runtime(0);
    let opened: Result<_, String> = uncut(sim.run(async {
        let recovered = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth).await?;
        let runtimes = vec![rt.clone()];
        life::open(runtimes, recovered, &scene.plan, scene.truth.clone()).await
    }))?;
    let node = opened?;
    if let Some(steps) = steps {
        sim.cut_at_io(sim.io_count() + steps);
    }
    if let Ok(worked) = sim.run(work(&node, rng)) {
        worked?;
    }
    sim.power_cut();
    Ok(())
}
