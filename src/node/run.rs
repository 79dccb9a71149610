//! A node from its data directory to its last shard, and a shard from its seed to its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::open::{NodeOptions, OpenedNode, StartError, open_node};
use crate::log::{RecoveryReport, StorageError};
use crate::metrics::tell;
use crate::rt::{Event, LaneReceiver, LaneSender, Listener, Runtime, TaskClass, UNBOUNDED};
use crate::server::{bind, request_metrics, serve};
use crate::shard::{ControlMessage, Shard, ShardCall, ShardLanes, ShardSeed, Topology};

/// What a shard's thread waits for before it can start.
pub struct ShardSetup {
    /// Everything that it is opened with.
    seed: ShardSeed,
    /// Where to tell what it has bound.
    started: LaneSender<ShardStart>,
    /// Where it learns where the others listen.
    topology: LaneReceiver<Arc<Topology>>,
}

/// What a shard has bound, by its index, or why it does not serve.
type ShardStart = (usize, Result<Vec<SocketAddr>, ServeError>);

/// A node that serves.
#[derive(Debug)]
pub struct Started {
    /// What recovery did.
    pub report: RecoveryReport,
    /// Whether the run before ended cleanly.
    pub clean: bool,
    /// Where it listens: by shard, then by listener.
    pub listeners: Vec<Vec<SocketAddr>>,
    pub cluster_id: String,
}

/// Why a node or shard does not serve (any more).
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A shard's log cannot be opened or closed.
    #[error("shard {shard}: {source}")]
    Log {
        shard: usize,
        /// Why.
        source: StorageError,
    },
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The configured address, with the shard's port.
        address: String,
        /// Why.
        reason: String,
    },
    /// A shard's thread ended before it served.
    #[error("shard {0} ended before it served")]
    Lost(usize),
}

/// The shards of a node, as the one that starts and stops them sees them.
struct Roster {
    stops: Vec<LaneSender<()>>,
    starts: LaneReceiver<ShardStart>,
    topologies: Vec<LaneSender<Arc<Topology>>>,
}

/// Opens the data directory, starts every shard, and serves as shard 0 until `stop` says so or hangs
/// up. `others` lead to the threads of shards 1 and up, each of which calls [`run_shard`]; `ready` is
/// called once all of them listen.
pub async fn run_node<R: Runtime>(
    rt: R,
    options: NodeOptions,
    others: Vec<LaneSender<ShardSetup>>,
    ready: impl FnOnce(Started),
    mut stop: LaneReceiver<()>,
) -> Result<(), ServeError> {
    let mut opened = open_node(&rt, options).await?;
    let seeds = std::mem::take(&mut opened.seeds);
    let mut started = Started {
        report: opened.report.clone(),
        clean: opened.clean,
        listeners: Vec::new(),
        cluster_id: opened.cluster_id(),
    };
    let (mut roster, first) = Roster::hand_out(&rt, &mut opened, seeds, others);
    let (stop_controller, controller_stop) = rt.lane(1);
    let controller_ended = run_controller(&rt, opened, controller_stop);
    let coordinate = async {
        let listeners = roster.start_all().await;
        let result = listeners.map(|listeners| {
            started.listeners = listeners;
            ready(started);
        });
        if result.is_ok() {
            // A hung-up sender stops the node as well.
            let _ = stop.recv().await;
        }
        roster.stop_all();
        result
    };
    let serve = async {
        match first {
            Some(setup) => run_shard(rt.clone(), setup).await,
            None => Ok(()),
        }
    };
    let (coordinated, served) = futures_util::join!(coordinate, serve);
    drop(stop_controller);
    controller_ended.await;
    coordinated.and(served)
}

impl Roster {
    /// Sends every thread its seed; the first one's stays here.
    fn hand_out<R: Runtime>(
        rt: &R,
        opened: &mut OpenedNode<R>,
        seeds: Vec<ShardSeed>,
        others: Vec<LaneSender<ShardSetup>>,
    ) -> (Self, Option<ShardSetup>) {
        let (started, starts) = rt.lane(UNBOUNDED);
        let mut topologies = Vec::new();
        let mut setups = seeds.into_iter().map(|seed| {
            let (sender, topology) = rt.lane(1);
            topologies.push(sender);
            let started = started.clone();
            ShardSetup {
                seed,
                started,
                topology,
            }
        });
        let first = setups.next();
        for (setup, thread) in setups.zip(others) {
            // A thread that is gone shows when its start is awaited.
            let _ = thread.try_send(setup);
        }
        let stops = std::mem::take(&mut opened.stops);
        (
            Self {
                stops,
                starts,
                topologies,
            },
            first,
        )
    }

    /// Waits until every shard listens, and tells each where the others do.
    async fn start_all(&mut self) -> Result<Vec<Vec<SocketAddr>>, ServeError> {
        let listeners = collect_starts(&mut self.starts, self.topologies.len()).await?;
        let topology = Arc::new(Topology {
            listeners: listeners.clone(),
        });
        for shard in &self.topologies {
            // A shard that has ended needs no topology.
            let _ = shard.try_send(topology.clone());
        }
        Ok(listeners)
    }

    /// Tells every shard to stop; one that still waits for the others learns that they do not come.
    fn stop_all(self) {
        for shard in self.stops {
            // A shard that has ended is stopped already.
            let _ = shard.try_send(());
        }
    }
}

/// Runs the controller beside shard 0; completes when it has ended.
fn run_controller<R: Runtime>(
    rt: &R,
    opened: OpenedNode<R>,
    stop: LaneReceiver<()>,
) -> impl Future<Output = ()> + use<R> {
    let ended = Flag::default();
    let told = ended.clone();
    rt.spawn(TaskClass::Foreground, async move {
        opened.run_controller(stop).await;
        told.raise();
    });
    async move { ended.raised().await }
}

async fn collect_starts(
    starts: &mut LaneReceiver<ShardStart>,
    shards: usize,
) -> Result<Vec<Vec<SocketAddr>>, ServeError> {
    let mut listeners: Vec<Option<Vec<SocketAddr>>> = vec![None; shards];
    while let Some(missing) = listeners.iter().position(Option::is_none) {
        let (shard, bound) = starts.recv().await.ok_or(ServeError::Lost(missing))?;
        listeners[shard] = Some(bound?);
    }
    Ok(listeners.into_iter().flatten().collect())
}

/// Runs one shard from its seed until it is told to stop.
pub async fn run_shard<R: Runtime>(rt: R, setup: ShardSetup) -> Result<(), ServeError> {
    let ShardSetup {
        seed,
        started,
        mut topology,
    } = setup;
    let index = usize::from(seed.place.shard.0);
    let (shard, lanes, listeners) = match prepare(&rt, seed).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = started.try_send((index, Err(error)));
            return Ok(());
        }
    };
    let bound = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect();
    let _ = started.try_send((index, Ok(bound)));
    drop(started);
    let stop = Flag::default();
    attend(&shard, lanes, &stop);
    let metrics = Rc::new(request_metrics());
    let starting = rt.take_steps();
    // Without a topology another shard did not start, and a stop follows.
    if let Some(topology) = topology.recv().await {
        shard.set_topology(topology);
        serve(&shard, listeners, metrics.clone(), stop.raised()).await;
    }
    let serving = rt.take_steps();
    let closed = shard.close().await;
    let steps = [
        ("starting", starting),
        ("serving", serving),
        ("stopping", rt.take_steps()),
    ];
    tell(index, &metrics, &steps);
    closed.map_err(|source| ServeError::Log {
        shard: index,
        source,
    })
}

async fn prepare<R: Runtime>(
    rt: &R,
    seed: ShardSeed,
) -> Result<(Shard<R>, ShardLanes, Vec<R::Listener>), ServeError> {
    let shard_index = seed.place.shard.0;
    let configured = seed.config.client_listeners().0;
    let listeners = bind(rt, &configured, shard_index).map_err(|(listener, error)| {
        let port = listener.port_of(shard_index);
        ServeError::Bind {
            address: format!("{}:{port}", listener.host),
            reason: error.to_string(),
        }
    })?;
    let log_error = |source| ServeError::Log {
        shard: usize::from(shard_index),
        source,
    };
    let (shard, lanes) = Shard::open(rt.clone(), seed).await.map_err(log_error)?;
    Ok((shard, lanes, listeners))
}

/// Starts what a shard does beside its clients: what its lanes say, retention, the watch over the log
/// directory.
fn attend<R: Runtime>(shard: &Shard<R>, lanes: ShardLanes, stop: &Flag) {
    let rt = shard.rt();
    let ShardLanes {
        control,
        calls,
        stop: mut stopped,
    } = lanes;
    rt.spawn(TaskClass::Foreground, follow(shard.clone(), control));
    rt.spawn(TaskClass::Foreground, answer_calls(shard.clone(), calls));
    let stopping = stop.clone();
    rt.spawn(TaskClass::Foreground, async move {
        // A hung-up sender stops the shard as well.
        let _ = stopped.recv().await;
        stopping.raise();
    });
    rt.spawn(
        TaskClass::Background,
        enforce_retention(shard.clone(), stop.clone()),
    );
    let watching = shard.clone();
    rt.spawn(TaskClass::Foreground, async move {
        watching.watch_log_directory().await
    });
}

/// Does what the controller and the other shards say. Images are taken over in their order; what
/// follows from a change is a task of its own, so that none waits for another.
async fn follow<R: Runtime>(shard: Shard<R>, mut control: LaneReceiver<ControlMessage>) {
    while let Some(message) = control.recv().await {
        match message {
            ControlMessage::Apply(apply) => {
                let work = shard.apply(apply.records, apply.image, apply.room);
                shard.rt().spawn(TaskClass::Foreground, async move {
                    let applied = work.await;
                    if let Some(waiting) = apply.applied {
                        // Nobody waits any more when the node stops.
                        let _ = waiting.try_send(applied);
                    }
                });
            }
            ControlMessage::LogDirFailed(reason) => shard.take_offline(&reason),
        }
    }
}

/// Answers what the controller and the other shards ask, each call by a task of its own.
async fn answer_calls<R: Runtime>(shard: Shard<R>, mut calls: LaneReceiver<ShardCall>) {
    while let Some(call) = calls.recv().await {
        match call {
            ShardCall::HoldRoom {
                ticket,
                topics,
                reply,
            } => {
                let asked = shard.clone();
                shard.rt().spawn(TaskClass::Foreground, async move {
                    // Nobody waits any more when the node stops.
                    let _ = reply.try_send(asked.hold_room(ticket, &topics).await);
                });
            }
            ShardCall::LetGo(ticket) => shard.let_go_room(ticket),
        }
    }
}

async fn enforce_retention<R: Runtime>(shard: Shard<R>, stop: Flag) {
    loop {
        let interval_ms = shard.config().log_retention_check_interval_ms;
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(u64::MAX));
        let sleep = std::pin::pin!(shard.rt().sleep(interval));
        let stopped = std::pin::pin!(stop.raised());
        futures_util::future::select(sleep, stopped).await;
        if stop.is_raised() {
            return;
        }
        shard.make_missing().await;
        shard.enforce_retention().await;
    }
}

/// Something that happens once, and who waits for it. Clones are the same one.
#[derive(Clone, Default)]
struct Flag(Rc<(Cell<bool>, Event)>);

impl Flag {
    fn raise(&self) {
        self.0.0.set(true);
        self.0.1.notify();
    }

    fn is_raised(&self) -> bool {
        self.0.0.get()
    }

    async fn raised(&self) {
        self.0.1.wait_until(|| self.is_raised().then_some(())).await;
    }
}
