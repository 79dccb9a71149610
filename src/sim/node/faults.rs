//! What happens to the node's machine, and to the network before it.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;

use super::{CLIENTS, Scene};
use crate::rt::{DurableWrites, Runtime};
use crate::sim::Rng;

/// Faults of one seed.
const FAULTS: u64 = 7;
/// A life that is to be cut at a step is cut without it after this time.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// Lets one fault after the other happen, with some time between them.
pub(super) async fn happen(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..3 + rng.below(FAULTS) {
        scene.rt.sleep(any_time(rng)).await;
        match rng.below(8) {
            0..=2 => end_lives(scene, rng).await?,
            3 => pause(scene, rng).await,
            4 if rng.one_in(3) => {
                scene.faultless().await?;
                scene.stop().await?;
                scene.machine.set_shards(1 + rng.below(3) as u16);
                scene.machine.start();
            }
            _ => part(scene, rng).await,
        }
    }
    Ok(())
}

/// From a millisecond to four seconds, mostly short.
fn any_time(rng: &mut Rng) -> Duration {
    let longest_ms = [20, 300, 4_000][rng.index(3)];
    Duration::from_micros(1_000 + rng.below(longest_ms * 1_000))
}

/// Ends the node's life at some I/O step, starts it again, and does so again while that start is
/// under way, as often as the dice say.
async fn end_lives(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    loop {
        let Some(process) = scene.machine.process() else {
            return Ok(());
        };
        let steps = match scene.machine.has_started() {
            true => [10, 100, 1_000][rng.index(3)],
            false => scene.machine.start_io_count(),
        };
        process.cut_at_io(process.io_count() + 1 + rng.below(steps.max(1)));
        let cut = pin!(scene.machine.wait_cut());
        select(cut, pin!(scene.rt.sleep(CUT_AFTER))).await;
        end_life(scene, rng.coin());
        scene.rt.sleep(any_time(rng)).await;
        scene
            .machine
            .set_durable_writes(DurableWrites::ALL[rng.index(2)]);
        scene.machine.start();
        if !rng.one_in(3) {
            return Ok(());
        }
    }
}

/// Ends the node's life here and now.
pub(super) fn end_life(scene: &Scene, with_power_cut: bool) {
    let mut report = scene.report.borrow_mut();
    match with_power_cut {
        true => report.power_cuts += 1,
        false => report.kills += 1,
    }
    report.cut_in_start += u32::from(!scene.machine.has_started());
    scene.machine.end(with_power_cut);
}

async fn pause(scene: &Scene, rng: &mut Rng) {
    let Some(process) = scene.machine.process() else {
        return;
    };
    scene.report.borrow_mut().pauses += 1;
    process.set_paused(true);
    scene.rt.sleep(any_time(rng) * 5).await;
    process.set_paused(false);
}

/// Something between the node and its clients, in one direction or the other.
async fn part(scene: &Scene, rng: &mut Rng) {
    scene.report.borrow_mut().network_faults += 1;
    let (clients, node) = (address_of_clients(), scene.machine.address());
    let (from, to) = match rng.coin() {
        true => (clients, node),
        false => (node, clients),
    };
    let world = &scene.world;
    match rng.below(5) {
        0 => world.reset(from, to),
        1 => world.lose(from, to),
        2 => {
            world.hold(from, to, true);
            scene.rt.sleep(any_time(rng) * 3).await;
            world.hold(from, to, false);
        }
        3 => {
            world.cut(from, to, true);
            scene.rt.sleep(any_time(rng)).await;
            world.cut(from, to, false);
        }
        _ => {
            world.delay(from, to, any_time(rng) / 10);
            scene.rt.sleep(any_time(rng)).await;
            world.delay(from, to, Duration::ZERO);
        }
    }
}

/// Ends what still goes on.
pub(super) fn clear(scene: &Scene) {
    let (clients, node) = (address_of_clients(), scene.machine.address());
    for (from, to) in [(clients, node), (node, clients)] {
        scene.world.delay(from, to, Duration::ZERO);
        scene.world.hold(from, to, false);
        scene.world.cut(from, to, false);
    }
}

fn address_of_clients() -> std::net::Ipv4Addr {
    [10, 0, 0, CLIENTS].into()
}
