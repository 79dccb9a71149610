//! Tests of a simulated life: time, order, cuts, kills.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::rt::{Event, TaskClass};

/// Some tasks that use files at random; the same seed must do the same.
async fn scenario(shard: SimRuntime, seed: u64) {
    let done = Rc::new((Cell::new(0), Event::new()));
    for task in 0..3 {
        let (shard, done, mut rng) = (shard.clone(), done.clone(), Rng::new(seed ^ task));
        shard.clone().spawn(TaskClass::Foreground, async move {
            let file = create(&shard, &format!("/{task}")).await;
            for _ in 0..8 {
                let (at, byte) = (rng.below(4) * 4096, rng.next_u64() as u8);
                let mode = if rng.coin() {
                    WriteMode::Plain
                } else {
                    WriteMode::Durable
                };
                file.write_at(blocks(&shard, 1, byte), at, mode)
                    .await
                    .unwrap();
            }
            done.0.set(done.0.get() + 1);
            done.1.notify();
        });
    }
    done.1
        .wait_until(|| (done.0.get() == 3).then_some(()))
        .await;
}

fn traced(seed: u64, cut: Option<u64>) -> (Vec<String>, u64, u64, u64) {
    let disk = SimDisk::new(DiskModel::any(seed));
    let mut life = Sim::new(seed, &disk);
    life.record_trace();
    if let Some(step) = cut {
        life.cut_at_io(step);
    }
    let shard = life.runtime(0);
    let _ = life.run(scenario(shard, seed));
    let (trace, hash, steps) = (life.trace(), life.trace_hash(), life.io_count());
    life.power_cut();
    (trace, hash, disk.hash(), steps)
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    for seed in 0..50 {
        assert_eq!(traced(seed, None), traced(seed, None));
        assert_eq!(traced(seed, Some(20)), traced(seed, Some(20)));
    }
    assert_ne!(traced(1, None).1, traced(2, None).1);
}

#[test]
fn a_life_can_be_cut_at_every_step() {
    let steps = traced(3, None).3;
    assert!(steps >= 3 * (2 + 2 + 8 * 2));
    for step in 1..=steps {
        assert_eq!(traced(3, Some(step)).3, step);
    }
}

#[test]
fn every_durable_write_that_was_acknowledged_survives_power_cuts_of_many_lives() {
    for seed in 0..300 {
        let disk = SimDisk::new(DiskModel::any(seed));
        let acknowledged = Rc::new(RefCell::new([0_u8; 8]));
        let tried = Rc::new(RefCell::new([0_u8; 8]));
        let mut rng = Rng::new(seed);
        for life_number in 1..=4_u8 {
            let mut life = Sim::new(rng.next_u64(), &disk);
            life.cut_at_io(rng.below(40) + 1);
            let shard = life.runtime(0);
            let work = async {
                let file = create(&shard, "/f").await;
                for block in 0..8 {
                    tried.borrow_mut()[block] = life_number;
                    let bytes = blocks(&shard, 1, life_number);
                    let at = block as u64 * 4096;
                    file.write_at(bytes, at, WriteMode::Durable).await.unwrap();
                    acknowledged.borrow_mut()[block] = life_number;
                }
            };
            let _ = life.run(work);
            life.power_cut();
            let bytes = disk.read_file("/f").unwrap_or_default();
            for (block, byte) in acknowledged.borrow().iter().enumerate() {
                let is_settled = tried.borrow()[block] == *byte;
                if *byte > 0 && is_settled {
                    let range = block * 4096..(block + 1) * 4096;
                    assert_eq!(
                        bytes[range], [*byte; 4096],
                        "seed {seed}, life {life_number}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_completed_and_its_locks_outlive_it() {
    let mut was_held = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(even(true));
        let mut life = Sim::new(seed, &disk);
        let shard = life.runtime(0);
        let work = async {
            let file = create(&shard, "/f").await;
            assert!(file.try_lock().unwrap());
            let other = shard.open(Path::new("/f"), OpenMode::DIRECT).await.unwrap();
            assert!(!other.try_lock().unwrap(), "another open does not get it");
            file.write_at(blocks(&shard, 2, 1), 0, WriteMode::Plain)
                .await
                .unwrap();
            drop(file.write_at(blocks(&shard, 2, 2), 0, WriteMode::Plain));
        };
        life.run(work).unwrap();
        life.process_kill();

        let mut life = Sim::new(seed + 1000, &disk);
        let shard = life.runtime(0);
        let held = life.run(async {
            let file = shard.open(Path::new("/f"), OpenMode::DIRECT).await.unwrap();
            let mut held = 0;
            while !file.try_lock().unwrap() {
                held = 1;
                shard.sleep(Duration::from_micros(1)).await;
            }
            let before = disk.read_file("/f");
            shard.sleep(Duration::from_secs(1)).await;
            assert_eq!(
                disk.read_file("/f"),
                before,
                "a write after the lock was free"
            );
            held
        });
        was_held += held.unwrap();
        let bytes = disk.read_file("/f").unwrap();
        assert!(bytes.iter().all(|byte| [1, 2].contains(byte)));
    }
    assert!((10..90).contains(&was_held), "{was_held}");
}

#[test]
fn a_dropped_write_goes_on() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    let work = async {
        let file = create(&shard, "/f").await;
        drop(file.write_at(blocks(&shard, 1, 5), 0, WriteMode::Plain));
        shard.sleep(Duration::from_secs(1)).await;
    };
    life.run(work).unwrap();
    assert_eq!(disk.read_file("/f").unwrap(), [5; 4096]);
}

#[test]
#[should_panic(expected = "deadlock: process 1: 1 tasks left")]
fn waiting_for_nothing_is_found() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    life.runtime(0)
        .spawn(TaskClass::Foreground, std::future::pending());
    let _ = life.run(std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "no end after 100 turns")]
fn running_for_ever_is_found() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    life.set_max_turns(100);
    let shard = life.runtime(0);
    let _ = life.run(async {
        loop {
            shard.yield_now().await;
        }
    });
}

#[test]
#[should_panic(expected = "not aligned to blocks")]
fn a_direct_write_that_is_not_aligned_is_found() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    let _ = life.run(async {
        let file = create(&shard, "/f").await;
        let bytes = vec![Buf::from_vec(vec![0; 100])];
        let _ = file.write_at(bytes, 0, WriteMode::Plain).await;
    });
}

#[test]
fn time_is_virtual_and_the_wall_clock_goes_on_over_lives() {
    let disk = SimDisk::new(DiskModel::default());
    let clock = |seed| {
        let mut life = Sim::new(seed, &disk);
        let shard = life.runtime(0);
        let start = shard.wall_clock_ms();
        let day = Duration::from_secs(86_400);
        life.run(async { shard.sleep(day).await }).unwrap();
        assert_eq!(life.now(), day);
        start
    };
    let first = clock(1);
    assert_eq!(clock(2) - first, 86_400_000);
}

#[test]
fn ready_tasks_run_in_an_order_of_the_seed_or_as_they_came() {
    let run = |seed, order| {
        let disk = SimDisk::new(DiskModel::default());
        let mut life = Sim::new(seed, &disk);
        life.set_order(order);
        let shard = life.runtime(0);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for task in 0..6 {
            let seen = seen.clone();
            let note = async move { seen.borrow_mut().push(task) };
            shard.spawn(TaskClass::Background, note);
        }
        life.run(shard.sleep(Duration::from_millis(1))).unwrap();
        seen.take()
    };
    assert_eq!(run(1, Order::Fifo), [0, 1, 2, 3, 4, 5]);
    assert_eq!(run(1, Order::Random), run(1, Order::Random));
    assert!((0..5).any(|seed| run(seed, Order::Random) != run(seed + 1, Order::Random)));
}

#[test]
fn the_trace_says_what_was_done() {
    let disk = SimDisk::new(even(true));
    let mut life = Sim::new(1, &disk);
    life.record_trace();
    let shard = life.runtime(0);
    let work = async {
        let file = create(&shard, "/f").await;
        let bytes = blocks(&shard, 2, 1);
        file.write_at(bytes, 4096, WriteMode::Durable)
            .await
            .unwrap();
        shard.remove_file(Path::new("/g")).await.unwrap_err();
    };
    life.run(work).unwrap();
    let trace = life.trace();
    assert!(
        trace[4].ends_with("/f write Durable 4096+8192"),
        "{trace:#?}"
    );
    assert!(trace[7].ends_with("fails: entity not found"), "{trace:#?}");
}
