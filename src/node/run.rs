//! A node from its data directory to its last shard, and a shard from its first step to its end.

use std::cell::Cell;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::error::{ServeError, StartError};
use super::open::{NodeOptions, OpenedNode, OpeningNode, lock_dir};
use super::roster::{Roster, ShardSetup, Step};
use crate::log::files::run::RunId;
use crate::log::{RecoveryReport, ShardPart, ShardRecovery, ShardReport};
use crate::metrics::tell;
use crate::rt::{Event, LaneReceiver, LaneSender, Listener, Runtime, TaskClass};
use crate::server::{bind, request_metrics, serve};
use crate::shard::{ControlMessage, Shard, ShardCall, ShardLanes, ShardSeed, Topology};

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

/// The controller, which runs beside shard 0.
struct RunningController {
    stop: LaneSender<()>,
    ended: Flag,
}

/// Opens the data directory, starts every shard, and serves as shard 0 until `stop` says so or hangs
/// up. `others` lead to the threads of shards 1 and up, each of which calls [`run_shard`]; `ready` is
/// called once all of them listen. Ends when all of them have.
pub async fn run_node<R: Runtime>(
    rt: R,
    options: NodeOptions,
    others: Vec<LaneSender<ShardSetup>>,
    ready: impl FnOnce(Started),
    stop: LaneReceiver<()>,
) -> Result<(), ServeError> {
    let lock = lock_dir(&rt, &options).await?;
    let (roster, setups, mut ended) = Roster::new(&rt, options.shards);
    let mut setups = setups.into_iter();
    let first = setups.next();
    for (setup, thread) in setups.zip(others) {
        // A thread that is gone shows when its first answer is awaited.
        let _ = thread.try_send(setup);
    }
    let mut controller = None;
    let lead = lead(&rt, options, roster, &mut controller, ready, stop);
    let serve = async {
        match first {
            Some(setup) => run_shard(rt.clone(), setup).await,
            None => Ok(()),
        }
    };
    let (led, served) = futures_util::join!(lead, serve);
    // Nothing is sent: the lane ends with the last shard.
    while ended.recv().await.is_some() {}
    if let Some(RunningController { stop, ended }) = controller {
        drop(stop);
        ended.raised().await;
    }
    drop(lock);
    led.and(served)
}

/// Leads all shards through their start, and stops them in the end.
async fn lead<R: Runtime>(
    rt: &R,
    options: NodeOptions,
    mut roster: Roster,
    controller: &mut Option<RunningController>,
    ready: impl FnOnce(Started),
    mut stop: LaneReceiver<()>,
) -> Result<(), ServeError> {
    let (mut opening, parts) = OpeningNode::prepare(rt, options).await?;
    let reports = roster.recovery.take(parts).await?;
    let run = opening.gather(reports).await?;
    let runs = std::iter::repeat_n(run, roster.topologies.len());
    roster.checkpoint.take(runs).await?;
    let mut opened = opening.commit().await?;
    let (seeds, stops) = (mem::take(&mut opened.seeds), mem::take(&mut opened.stops));
    let mut started = Started {
        report: mem::take(&mut opened.report),
        clean: opened.clean,
        listeners: Vec::new(),
        cluster_id: opened.cluster_id(),
    };
    *controller = Some(run_controller(rt, opened));
    let listeners = roster.opening.take(seeds).await;
    let result = listeners.map(|listeners| {
        let topology = Arc::new(Topology {
            listeners: listeners.clone(),
        });
        for shard in &roster.topologies {
            // A shard that has ended needs no topology.
            let _ = shard.try_send(topology.clone());
        }
        started.listeners = listeners;
        ready(started);
    });
    if result.is_ok() {
        // A hung-up sender stops the node as well.
        let _ = stop.recv().await;
    }
    for shard in stops {
        // A shard that has ended is stopped already.
        let _ = shard.try_send(());
    }
    result
}

/// Runs the controller beside shard 0.
fn run_controller<R: Runtime>(rt: &R, opened: OpenedNode<R>) -> RunningController {
    let (stop, stopped) = rt.lane(1);
    let ended = Flag::default();
    let told = ended.clone();
    rt.spawn(TaskClass::Foreground, async move {
        opened.run_controller(stopped).await;
        told.raise();
    });
    RunningController { stop, ended }
}

/// Runs one shard from its first step until it is told to stop.
pub async fn run_shard<R: Runtime>(rt: R, setup: ShardSetup) -> Result<(), ServeError> {
    let ShardSetup {
        recovery,
        checkpoint,
        opening,
        mut topology,
        lives: _lives,
    } = setup;
    let Some(recovered) = recover(&rt, recovery, checkpoint).await else {
        return Ok(());
    };
    let opened = opening.take(async |seed| {
        let (opened, bound) = open_shard(&rt, seed, recovered).await?;
        Ok((opened, bound))
    });
    let Some((shard, lanes, listeners)) = opened.await else {
        return Ok(());
    };
    let index = usize::from(shard.place().shard.0);
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

/// What a shard has recovered, once it has written its checkpoint of the next run; none where the start has
/// failed.
async fn recover<R: Runtime>(
    rt: &R,
    recovery: Step<ShardPart, ShardReport>,
    checkpoint: Step<RunId, ()>,
) -> Option<ShardRecovery<R>> {
    let replay = async |part| {
        let replayed = ShardRecovery::replay(rt.clone(), part).await;
        replayed.map_err(StartError::from).map_err(Into::into)
    };
    let mut recovered = recovery.take_while_wanted(replay).await?;
    let write = async |run| {
        let written = recovered.write_checkpoint(run).await;
        written.map_err(StartError::from)?;
        Ok((recovered, ()))
    };
    checkpoint.take(write).await
}

/// A shard that is open, what it is told by, and its listeners.
type OpenedShard<R> = (Shard<R>, ShardLanes, Vec<<R as Runtime>::Listener>);

/// Opens a shard of a run that is committed. Gives what its listeners have bound, too.
async fn open_shard<R: Runtime>(
    rt: &R,
    seed: ShardSeed,
    recovered: ShardRecovery<R>,
) -> Result<(OpenedShard<R>, Vec<SocketAddr>), ServeError> {
    let shard_index = seed.place.shard.0;
    let configured = seed.config.client_listeners().0;
    let listeners = bind(rt, &configured, shard_index).map_err(|(listener, error)| {
        let port = listener.port_of(shard_index);
        ServeError::Bind {
            address: format!("{}:{port}", listener.host),
            reason: error.to_string(),
        }
    })?;
    let bound = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect();
    let recovered = recovered.end().await.map_err(StartError::from)?;
    let opened = Shard::open(rt.clone(), seed, recovered).await;
    let (shard, lanes) = opened.map_err(|source| ServeError::Log {
        shard: usize::from(shard_index),
        source,
    })?;
    Ok(((shard, lanes, listeners), bound))
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
