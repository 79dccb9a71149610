//! Lives of a node that lead straight to where chance comes seldom.

use super::*;
use crate::client::{Client, NewTopic};

/// A node on a machine of its own, and whoever asks it.
struct Lives {
    scene: Scene,
    rng: Rng,
}

impl Lives {
    fn run<F: Future<Output = ()>>(seed: u64, shards: u16, test: impl FnOnce(Lives) -> F) {
        let mut rng = Rng::new(seed);
        let world = Rc::new(SimWorld::new(seed));
        let disk = SimDisk::new(DiskModel::default());
        let clients = world.start(
            &SimDisk::new(DiskModel::default()),
            CLIENTS,
            CLIENT_MEMORY_BYTES,
        );
        let machine = Machine::new(&world, disk, Durability::Fsync, &mut rng);
        machine.set_shards(shards);
        let scene = Scene {
            rt: clients.runtime(0),
            machine: Rc::new(machine),
            history: Rc::default(),
            report: Rc::default(),
            world: world.clone(),
        };
        world.run(test(Lives { scene, rng }));
    }

    /// A client that has made topic `t`, of two partitions with a record each.
    async fn two_partitions(&self) -> Client<SimRuntime> {
        let client = load::client(&self.scene);
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions: 2,
            replication_factor: 1,
            configs: Vec::new(),
        };
        client.create_topic(&topic, false).await.expect("a topic");
        client.wait_for_leaders("t").await.expect("leaders");
        let sent = load::send_to_each(&self.scene, &client, "t", 2).await;
        sent.expect("records");
        client
    }

    async fn start(&mut self) {
        self.scene.machine.start(&mut self.rng);
        self.scene.machine.serves().await.expect("a start");
    }
}

/// The power goes at each step behind the deletion of a topic that has just got its first record: of
/// its directory anything may be there or not. The node starts all the same, twice, and the name is
/// free.
#[test]
fn a_topic_deleted_as_the_power_goes() {
    for seed in 0..60 {
        Lives::run(seed, 1, async |mut lives| {
            lives.start().await;
            let client = lives.two_partitions().await;
            let process = lives.scene.machine.process().expect("it runs");
            process.cut_at_io(process.io_count() + 1 + seed % 12);
            let deletion = pin!(client.delete_topic("t"));
            select(deletion, pin!(process.wait_cut())).await;
            lives.scene.machine.end(true);
            client.close();
            for _ in 0..2 {
                lives.start().await;
                lives.scene.machine.end(true);
            }
        });
    }
}

/// One of two shards cannot recover its partition: the start fails with its error, both shards end, and
/// nothing is committed. When the cause is gone the node starts.
#[test]
fn a_start_that_one_shard_fails() {
    for (seed, partition) in [(0, 0), (1, 1)] {
        Lives::run(seed, 2, async |mut lives| {
            lives.start().await;
            lives.two_partitions().await.close();
            lives.scene.machine.end(false);
            // From here on something of both is in segment files.
            lives.start().await;
            lives.scene.machine.end(false);
            let mark = format!("/data/t-{partition}/partition.metadata");
            let disk = lives.scene.machine.disk().clone();
            let (whole, run) = (disk.read_file(&mark), disk.read_file("/data/run"));
            disk.write_file(&mark, b"?").expect("damage");
            lives.scene.machine.start(&mut lives.rng);
            let refused = lives.scene.machine.serves().await;
            let reason = refused.expect_err("a start without a mark");
            assert!(reason.contains("printf"), "{reason}");
            assert_eq!(disk.read_file("/data/run"), run, "committed");
            lives.scene.machine.end(false);
            let restored = disk.write_file(&mark, &whole.expect("a mark"));
            restored.expect("repair");
            lives.start().await;
        });
    }
}
