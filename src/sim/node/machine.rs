//! The node's machine: a disk, and one process after the other on it.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Host, Sources};
use crate::log::Durability;
use crate::node::{NodeOptions, ServeError, ShardSetup, run_node, run_shard};
use crate::rt::{DurableWrites, Event, LaneReceiver, LaneSender, Runtime, TaskClass};
use crate::sim::process::FIRST_WALL_CLOCK_MS;
use crate::sim::{Rng, SimDisk, SimProcess, SimWorld};

const HOST: u8 = 1;
/// Where shard 0 listens; the others do so at the ports above.
pub const ADDRESS: &str = "10.0.0.1:9092";
const MEMORY_BYTES: usize = 32 << 20;
/// A clock's rate that is right, in millionths.
const RIGHT_RATE: u32 = 1_000_000;

/// A machine on which a node runs, again and again.
pub(super) struct Machine {
    world: Rc<SimWorld>,
    disk: SimDisk,
    settings: Vec<String>,
    durability: Durability,
    shards: Cell<u16>,
    durable_writes: Cell<DurableWrites>,
    /// By how much the wall clock is ahead.
    clock_ahead_ms: Cell<i64>,
    /// Lives whose clocks go too fast or too slow.
    wrong_rates: Cell<u32>,
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
    /// Whether the disk was full at some time of it.
    has_seen_full_disk: Rc<Cell<bool>>,
}

#[derive(Default)]
struct LifeState {
    serves: Cell<bool>,
    /// Shards that have not ended.
    running: Cell<usize>,
    /// Why the first one failed, if one has.
    failed: RefCell<Option<String>>,
    changed: Event,
}

impl LifeState {
    fn shard_ended(&self, ended: Result<(), ServeError>) {
        if let Err(error) = ended {
            let mut failed = self.failed.borrow_mut();
            failed.get_or_insert_with(|| error.to_string());
        }
        self.running.set(self.running.get() - 1);
        self.changed.notify();
    }

    /// How the node has ended, if it has.
    fn ended(&self) -> Option<Result<(), String>> {
        let result = || self.failed.borrow().clone().map_or(Ok(()), Err);
        (self.running.get() == 0).then(result)
    }
}

impl Machine {
    /// A machine whose node has one to three shards, and settings of its own.
    pub(super) fn new(
        world: &Rc<SimWorld>,
        disk: SimDisk,
        durability: Durability,
        rng: &mut Rng,
    ) -> Self {
        let segment_ms = [1_000_000_000, 2_000, 300][rng.index(3)];
        let settings = vec![
            "log.dirs=/data".to_owned(),
            format!("listeners=PLAINTEXT://{ADDRESS}"),
            "corelane.journal.bytes=8388608".to_owned(),
            "auto.create.topics.enable=false".to_owned(),
            "log.retention.check.interval.ms=5000".to_owned(),
            "connections.max.idle.ms=20000".to_owned(),
            format!("log.roll.ms={segment_ms}"),
            format!("corelane.durability={}", name_of(durability)),
        ];
        Self {
            world: world.clone(),
            disk,
            settings,
            durability,
            shards: Cell::new(1 + rng.below(3) as u16),
            durable_writes: Cell::new(DurableWrites::ALL[rng.index(2)]),
            clock_ahead_ms: Cell::new(0),
            wrong_rates: Cell::new(0),
            life: RefCell::default(),
            start_io_count: Cell::new(100),
        }
    }

    /// Starts the node, in a new process, whose clocks may go too fast or too slow.
    pub(super) fn start(&self, rng: &mut Rng) {
        let process = self.world.start(&self.disk, HOST, MEMORY_BYTES);
        process.set_durable_writes(self.durable_writes.get());
        let rate = [RIGHT_RATE, RIGHT_RATE, RIGHT_RATE + 200, 900_000, 1_100_000][rng.index(5)];
        if rate != RIGHT_RATE {
            self.wrong_rates.set(self.wrong_rates.get() + 1);
        }
        process.set_clock_rate(rate);
        process.set_wall_clock_ms(self.right_clock_ms() + self.clock_ahead_ms.get());
        let state = Rc::new(LifeState::default());
        state.running.set(self.shards.get().into());
        let rt = process.runtime(0);
        let (stop, stopped) = rt.lane(2);
        let (setups, seats): (Vec<_>, Vec<_>) = (1..self.shards.get()).map(|_| rt.lane(1)).unzip();
        for (seat, shard) in seats.into_iter().zip(1..) {
            other_shard(&process, shard, seat, state.clone());
        }
        let (options, life) = (self.options(), state.clone());
        rt.clone().spawn(TaskClass::Foreground, async move {
            let serving = life.clone();
            let ready = move |_| {
                serving.serves.set(true);
                serving.changed.notify();
            };
            life.shard_ended(run_node(rt, options, setups, ready, stopped).await);
        });
        self.life.replace(Some(Life {
            process,
            state,
            stop,
            has_seen_full_disk: Rc::new(Cell::new(self.disk.is_limited())),
        }));
    }

    /// What a right wall clock says.
    fn right_clock_ms(&self) -> i64 {
        FIRST_WALL_CLOCK_MS + self.world.now().as_millis() as i64
    }

    /// Sets the wall clock so much ahead of a right one, or behind.
    pub(super) fn set_clock(&self, ahead_ms: i64) {
        self.clock_ahead_ms.set(ahead_ms);
        if let Some(life) = self.life() {
            life.process
                .set_wall_clock_ms(self.right_clock_ms() + ahead_ms);
        }
    }

    /// Lives so far with clocks that go too fast or too slow.
    pub(super) fn wrong_rates(&self) -> u32 {
        self.wrong_rates.get()
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The level at which the node acknowledges.
    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether the level allows that an end like this loses what was acknowledged.
    pub(super) fn may_lose(&self, with_power_cut: bool) -> bool {
        match self.durability {
            Durability::Fsync => false,
            Durability::Written => with_power_cut,
            Durability::Memory => true,
        }
    }

    /// From now on this life may fail to stop.
    pub(super) fn note_full_disk(&self) {
        if let Some(life) = self.life() {
            life.has_seen_full_disk.set(true);
        }
    }

    /// Removes a life that has ended by itself, as one may on a full disk; false when there is none.
    ///
    /// # Errors
    /// It had no reason to.
    pub(super) fn clear_ended(&self) -> Result<bool, String> {
        let Some(life) = self.life() else {
            return Ok(false);
        };
        match life.state.ended() {
            Some(_) if life.has_seen_full_disk.get() && !life.state.serves.get() => {
                self.end(false);
                Ok(true)
            }
            Some(ended) => Err(format!("the node has ended: {ended:?}")),
            None => Ok(false),
        }
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
        let look = || match (life.state.ended(), life.state.serves.get()) {
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
    /// It says that something failed; with whether it may, as the disk was full.
    pub(super) async fn stop(&self) -> Result<(), (bool, String)> {
        let Some(life) = self.life() else {
            return Ok(());
        };
        // It may have ended by itself, which shows.
        let _ = life.stop.try_send(());
        let ended = life.state.changed.wait_until(|| life.state.ended()).await;
        self.end(false);
        let may_fail = life.has_seen_full_disk.get();
        ended.map_err(|error| (may_fail, format!("the stop failed: {error}")))
    }
}

fn name_of(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Written => "written",
        Durability::Memory => "memory",
    }
}

fn other_shard(
    process: &SimProcess,
    shard: u32,
    mut seat: LaneReceiver<ShardSetup>,
    life: Rc<LifeState>,
) {
    let rt = process.runtime(shard);
    rt.clone().spawn(TaskClass::Foreground, async move {
        life.shard_ended(match seat.recv().await {
            Some(setup) => run_shard(rt, setup).await,
            None => Ok(()),
        });
    });
}
