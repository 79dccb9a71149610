//! The promises of the trait, as every other runtime has to keep them, for some seeds each.

use std::path::PathBuf;

use super::*;
use crate::rt::DurableWrites;
use crate::rt::contract::contract_tests;

fn run<F: Future<Output = ()>>(check: fn(SimRuntime, PathBuf) -> F) {
    for seed in 0..6 {
        let model = DiskModel {
            misaligned_panics: false,
            ..DiskModel::default()
        };
        let disk = SimDisk::new(model);
        let mut life = Sim::new(seed, &disk);
        if seed % 3 == 0 {
            life.set_order(Order::Fifo);
        }
        life.set_durable_writes(DurableWrites::ALL[seed as usize % 2]);
        let shard = life.runtime(0);
        let dir = PathBuf::from("/dir");
        let work = async {
            shard.create_dir(&dir).await.unwrap();
            check(shard.clone(), dir).await;
        };
        life.run(work).unwrap();
    }
}

contract_tests!(run);
