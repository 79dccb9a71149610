//! The node's machine: a disk, and one process after the other on it.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Host, Sources};
use crate::node::{NodeOptions, ShardSetup, run_node, run_shard};
use crate::rt::{DurableWrites, Event, LaneReceiver, LaneSender, Runtime, TaskClass};
use crate::sim::{Rng, SimDisk, SimProcess, SimWorld};

const HOST: u8 = 1;
/// Where shard 0 listens; the others do so at the ports above.
pub const ADDRESS: &str = "10.0.0.1:9092";
const MEMORY_BYTES: usize = 32 << 20;

/// A machine on which a node runs, again and again.
pub(super) struct Machine {
    world: Rc<SimWorld>,
    disk: SimDisk,
    settings: Vec<String>,
    shards: Cell<u16>,
    durable_writes: Cell<DurableWrites>,
    life: RefCell<Option<Life>>,
    /// I/O steps of the last start.
    start_io_count: Cell<u64>,
}

/// One life of the node.
#[derive(Clone)]
struct Life {
    process: SimProcess,
    state: Rc<LifeState>,
    stop: LaneSender<()>,
}

#[derive(Default)]
struct LifeState {
    serves: Cell<bool>,
    /// How shard 0 ended, and with it the node.
    ended: RefCell<Option<Result<(), String>>>,
    changed: Event,
}

impl Machine {
    /// A machine whose node has one to three shards, and settings of its own.
    pub(super) fn new(world: &Rc<SimWorld>, disk: SimDisk, rng: &mut Rng) -> Self {
        let segment_ms = [1_000_000_000, 2_000, 300][rng.index(3)];
        let settings = vec![
            "log.dirs=/data".to_owned(),
            format!("listeners=PLAINTEXT://{ADDRESS}"),
            "corelane.journal.bytes=8388608".to_owned(),
            "auto.create.topics.enable=false".to_owned(),
            "log.retention.check.interval.ms=5000".to_owned(),
            "connections.max.idle.ms=20000".to_owned(),
            format!("log.roll.ms={segment_ms}"),
        ];
        Self {
            world: world.clone(),
            disk,
            settings,
            shards: Cell::new(1 + rng.below(3) as u16),
            durable_writes: Cell::new(DurableWrites::ALL[rng.index(2)]),
            life: RefCell::default(),
            start_io_count: Cell::new(100),
        }
    }

    /// Starts the node, in a new process.
    pub(super) fn start(&self) {
        let process = self.world.start(&self.disk, HOST, MEMORY_BYTES);
        process.set_durable_writes(self.durable_writes.get());
        let state = Rc::new(LifeState::default());
        let rt = process.runtime(0);
        let (stop, stopped) = rt.lane(2);
        let (setups, seats): (Vec<_>, Vec<_>) = (1..self.shards.get()).map(|_| rt.lane(1)).unzip();
        for (seat, shard) in seats.into_iter().zip(1..) {
            other_shard(&process, shard, seat);
        }
        let (options, life) = (self.options(), state.clone());
        rt.clone().spawn(TaskClass::Foreground, async move {
            let serving = life.clone();
            let ready = move |_| {
                serving.serves.set(true);
                serving.changed.notify();
            };
            let ended = run_node(rt, options, setups, ready, stopped).await;
            life.ended
                .replace(Some(ended.map_err(|error| error.to_string())));
            life.changed.notify();
        });
        self.life.replace(Some(Life {
            process,
            state,
            stop,
        }));
    }

    fn options(&self) -> NodeOptions {
        let host = Host {
            cpus: 1,
            memory_bytes: 1 << 30,
            is_root: false,
        };
        let mut sources = Sources::default();
        for setting in &self.settings {
            sources.set(setting).expect("a setting");
        }
        let shards = self.shards.get();
        sources
            .set(&format!("corelane.shards={shards}"))
            .expect("a setting");
        let (settings, _) = sources.load(&host).expect("settings");
        let config = settings.resolve(&Default::default()).expect("settings");
        NodeOptions {
            settings: Arc::new(settings),
            config: Arc::new(config),
            shards,
            memory_bytes: MEMORY_BYTES / 2,
        }
    }

    fn life(&self) -> Option<Life> {
        self.life.borrow().clone()
    }

    /// The node's process.
    pub(super) fn process(&self) -> Option<SimProcess> {
        Some(self.life()?.process)
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, HOST)
    }

    /// Whether there is a process.
    pub(super) fn is_running(&self) -> bool {
        self.life.borrow().is_some()
    }

    /// Whether it has come as far as to serve.
    pub(super) fn has_started(&self) -> bool {
        self.life().is_some_and(|life| life.state.serves.get())
    }

    /// I/O steps of the last start that came to its end.
    pub(super) fn start_io_count(&self) -> u64 {
        self.start_io_count.get()
    }

    /// Gives the node another number of shards from its next start on.
    pub(super) fn set_shards(&self, shards: u16) {
        self.shards.set(shards);
    }

    /// How the node makes its writes durable from its next start on.
    pub(super) fn set_durable_writes(&self, way: DurableWrites) {
        self.durable_writes.set(way);
    }

    /// Completes when the node serves.
    ///
    /// # Errors
    /// It has ended before.
    pub(super) async fn serves(&self) -> Result<(), String> {
        let Some(life) = self.life() else {
            return Err("the node does not run".to_owned());
        };
        let look = || match (&*life.state.ended.borrow(), life.state.serves.get()) {
            (Some(ended), _) => Some(Err(format!("the node has ended: {ended:?}"))),
            (None, true) => Some(Ok(())),
            (None, false) => None,
        };
        life.state.changed.wait_until(look).await?;
        self.start_io_count.set(life.process.io_count());
        Ok(())
    }

    /// Completes when the node's process has been cut at an I/O step.
    pub(super) async fn wait_cut(&self) {
        match self.process() {
            Some(process) => process.wait_cut().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the process.
    pub(super) fn end(&self, with_power_cut: bool) {
        if let Some(life) = self.life.take() {
            match with_power_cut {
                true => life.process.power_cut(),
                false => life.process.kill(),
            }
        }
    }

    /// Stops the node in good order.
    ///
    /// # Errors
    /// It says that something failed.
    pub(super) async fn stop(&self) -> Result<(), String> {
        let Some(life) = self.life() else {
            return Ok(());
        };
        // It may have ended by itself, which shows.
        let _ = life.stop.try_send(());
        let look = || life.state.ended.borrow_mut().take();
        let ended = life.state.changed.wait_until(look).await;
        self.end(false);
        ended.map_err(|error| format!("the stop failed: {error}"))
    }
}

fn other_shard(process: &SimProcess, shard: u32, mut seat: LaneReceiver<ShardSetup>) {
    let rt = process.runtime(shard);
    rt.clone().spawn(TaskClass::Foreground, async move {
        if let Some(setup) = seat.recv().await
            && let Err(error) = run_shard(rt, setup).await
        {
            panic!("shard {shard}: {error}");
        }
    });
}
