//! What happens to the node's machine, and to the network before it.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;

use super::{CLIENTS, Scene};
use crate::rt::{DurableWrites, Runtime};
use crate::sim::Rng;

/// Faults of one seed.
const FAULTS: u64 = 8;
const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A life that is to be cut at a step is cut without it after this time.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// Lets one fault after the other happen, with some time between them.
pub(super) async fn happen(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..3 + rng.below(FAULTS) {
        scene.rt.sleep(any_time(rng)).await;
        match rng.below(14) {
            0..=3 => end_lives(scene, rng).await?,
            4 => pause(scene, rng).await,
            5 if rng.one_in(3) => {
                scene.faultless(rng).await?;
                scene.stop().await?;
                scene.machine.set_shards(1 + rng.below(3) as u16);
                scene.machine.start(rng);
            }
            6..=8 => fill_disk(scene, rng).await?,
            9 => set_clock(scene, rng).await?,
            10 => slow_disk(scene, rng).await?,
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
        scene.machine.start(rng);
        if !rng.one_in(3) {
            return Ok(());
        }
    }
}

/// Ends the node's life here and now.
pub(super) fn end_life(scene: &Scene, with_power_cut: bool) {
    if scene.machine.may_lose(with_power_cut) {
        scene.history.borrow_mut().begin_era();
    }
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

/// The disk has no room, or no inode, left for a while, or little; meanwhile the node may end, and start.
async fn fill_disk(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    scene.report.borrow_mut().full_disks += 1;
    let disk = scene.machine.disk();
    scene.machine.note_full_disk();
    match rng.one_in(4) {
        true => disk.set_most_names(Some(disk.name_count() + rng.index(4))),
        false => {
            let spare = [0, 0, rng.below(300_000), rng.below(8 << 20)][rng.index(4)];
            disk.set_capacity(Some(disk.used_bytes() + spare));
        }
    }
    meanwhile(scene, rng).await?;
    if rng.one_in(3) {
        // Somebody has removed a little.
        disk.set_capacity(Some(disk.used_bytes() + rng.below(1 << 20)));
        scene.rt.sleep(any_time(rng)).await;
    }
    room_again(scene);
    Ok(())
}

/// What is going on goes on for a while, perhaps with ends of the node, and a start or two.
async fn meanwhile(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    scene.rt.sleep(any_time(rng) * 2).await;
    match rng.below(6) {
        0 | 1 => end_lives(scene, rng).await?,
        2 if scene.machine.has_started() => {
            let stopped = scene.stop().await;
            if !scene.machine.is_running() {
                scene.machine.start(rng);
            }
            stopped?;
        }
        _ => {}
    }
    scene.rt.sleep(any_time(rng) * 2).await;
    Ok(())
}

fn room_again(scene: &Scene) {
    let disk = scene.machine.disk();
    disk.set_capacity(None);
    disk.set_most_names(None);
}

/// The wall clock is wrong for a while, by up to weeks, also where the node starts meanwhile.
async fn set_clock(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    scene.report.borrow_mut().clock_jumps += 1;
    let ahead_ms = match rng.below(4) {
        0 => rng.below(30 * DAY_MS as u64) as i64,
        1 => rng.below(20 * HOUR_MS as u64) as i64,
        2 => -(rng.below(10 * HOUR_MS as u64) as i64),
        _ => -(rng.below(10 * DAY_MS as u64) as i64),
    };
    scene.machine.set_clock(ahead_ms);
    meanwhile(scene, rng).await?;
    scene.machine.set_clock(0);
    Ok(())
}

/// Everything on the disk takes longer for a while.
async fn slow_disk(scene: &Scene, rng: &mut Rng) -> Result<(), String> {
    scene.report.borrow_mut().slow_disks += 1;
    let disk = scene.machine.disk();
    disk.set_slowness([5, 30, 200][rng.index(3)]);
    let gone_through = meanwhile(scene, rng).await;
    disk.set_slowness(1);
    gone_through
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
    room_again(scene);
    scene.machine.disk().set_slowness(1);
    scene.machine.set_clock(0);
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
