//! A shard from its seed to its end, and a node from its data directory to its last shard.
//!
//! The start of a node is in two places: [`run_node`] first has [`open_node`]
//! (`shard/node.rs`) open the data directory, which gives a seed for every shard, and then starts
//! the shards.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::fetch_session::SessionCache;
use super::listeners::{Connections, bind};
use crate::log::{RecoveryReport, StorageError};
use crate::rt::{Event, Listener, Runtime, TaskClass};
use crate::shard::{
    NodeOptions, OpenedNode, Shard, ShardMessage, ShardSeed, StartError, Topology, open_node,
};

/// How long a stop waits for requests that were accepted.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How many fetch sessions one connection may hold; clients use one.
const SESSIONS_PER_CONNECTION: usize = 8;
/// Requests take at most this part of a shard's memory.
const REQUEST_MEMORY_SHARE: usize = 4;

/// What a shard's thread waits for before it can start.
pub struct ShardSetup {
    /// Everything that it is opened with.
    pub seed: ShardSeed,
    /// Where to tell what it has bound.
    pub started: flume::Sender<(usize, Result<Vec<SocketAddr>, ServeError>)>,
    /// Where it learns where the others listen.
    pub topology: flume::Receiver<Arc<Topology>>,
}

/// A node that serves.
#[derive(Debug)]
pub struct Started {
    /// What recovery did.
    pub report: RecoveryReport,
    /// Whether the run before ended cleanly.
    pub clean: bool,
    /// Where it listens: by shard, then by listener.
    pub listeners: Vec<Vec<SocketAddr>>,
    /// The cluster's id.
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
        /// Which shard.
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
    mailboxes: Vec<flume::Sender<ShardMessage>>,
    starts: flume::Receiver<(usize, Result<Vec<SocketAddr>, ServeError>)>,
    topologies: Vec<flume::Sender<Arc<Topology>>>,
}

/// Opens the data directory, starts every shard, and serves as shard 0 until `stop` says so.
/// `others` are the threads of shards 1 and up; `ready` is called once all of them listen.
pub async fn run_node<R: Runtime>(
    rt: R,
    options: NodeOptions,
    others: Vec<flume::Sender<ShardSetup>>,
    ready: impl FnOnce(Started),
    stop: flume::Receiver<()>,
) -> Result<(), ServeError> {
    let mut opened = open_node(&rt, options).await?;
    let seeds = std::mem::take(&mut opened.seeds);
    let mut started = Started {
        report: opened.report.clone(),
        clean: opened.clean,
        listeners: Vec::new(),
        cluster_id: opened.cluster_id(),
    };
    let (stop_controller, controller_stop) = flume::bounded(1);
    let controller_ended = run_controller(&rt, opened, controller_stop);
    let (roster, first) = Roster::hand_out(seeds, others);
    let coordinate = async {
        let listeners = roster.start_all().await;
        let result = listeners.map(|listeners| {
            started.listeners = listeners;
            ready(started);
        });
        if result.is_ok() {
            // A hung-up sender stops the node as well.
            let _ = stop.recv_async().await;
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
    fn hand_out(
        seeds: Vec<ShardSeed>,
        others: Vec<flume::Sender<ShardSetup>>,
    ) -> (Self, Option<ShardSetup>) {
        let first = seeds.first();
        let mailboxes = first
            .map(|seed| seed.control.mailboxes())
            .unwrap_or_default();
        let (started, starts) = flume::unbounded();
        let mut topologies = Vec::new();
        let mut setups = seeds.into_iter().map(|seed| {
            let (sender, topology) = flume::bounded(1);
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
            let _ = thread.send(setup);
        }
        (
            Self {
                mailboxes,
                starts,
                topologies,
            },
            first,
        )
    }

    /// Waits until every shard listens, and tells each where the others do.
    async fn start_all(&self) -> Result<Vec<Vec<SocketAddr>>, ServeError> {
        let listeners = collect_starts(&self.starts, self.topologies.len()).await?;
        let topology = Arc::new(Topology {
            listeners: listeners.clone(),
        });
        for shard in &self.topologies {
            // A shard that has ended needs no topology.
            let _ = shard.send(topology.clone());
        }
        Ok(listeners)
    }

    /// Tells every shard to stop; one that still waits for the others learns that they do not come.
    fn stop_all(self) {
        for mailbox in self.mailboxes {
            // A shard that has ended is stopped already.
            let _ = mailbox.send(ShardMessage::Stop);
        }
    }
}

/// Runs the controller beside shard 0; completes when it has ended.
fn run_controller<R: Runtime>(
    rt: &R,
    opened: OpenedNode<R>,
    stop: flume::Receiver<()>,
) -> impl Future<Output = ()> + use<R> {
    let ended = Rc::new((Cell::new(false), Event::new()));
    let told = ended.clone();
    rt.spawn(TaskClass::Foreground, async move {
        opened.run_controller(stop).await;
        told.0.set(true);
        told.1.notify();
    });
    async move { ended.1.wait_until(|| ended.0.get().then_some(())).await }
}

async fn collect_starts(
    starts: &flume::Receiver<(usize, Result<Vec<SocketAddr>, ServeError>)>,
    shards: usize,
) -> Result<Vec<Vec<SocketAddr>>, ServeError> {
    let mut listeners: Vec<Option<Vec<SocketAddr>>> = vec![None; shards];
    while let Some(missing) = listeners.iter().position(Option::is_none) {
        let (shard, bound) = starts
            .recv_async()
            .await
            .map_err(|_| ServeError::Lost(missing))?;
        listeners[shard] = Some(bound?);
    }
    Ok(listeners.into_iter().flatten().collect())
}

/// Runs one shard from its seed until it is told to stop.
pub async fn run_shard<R: Runtime>(rt: R, setup: ShardSetup) -> Result<(), ServeError> {
    let ShardSetup {
        seed,
        started,
        topology,
    } = setup;
    let index = usize::from(seed.place.shard.0);
    let inbox = seed.inbox.clone();
    let prepared = prepare(&rt, seed).await;
    let (shard, listeners) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = started.send((index, Err(error)));
            return Ok(());
        }
    };
    let bound = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect();
    let _ = started.send((index, Ok(bound)));
    drop(started);
    let stop = Rc::new((Cell::new(false), Event::new()));
    rt.spawn(
        TaskClass::Foreground,
        read_mailbox(shard.clone(), inbox, stop.clone()),
    );
    // Without a topology another shard did not start, and a stop follows.
    if let Ok(topology) = topology.recv_async().await {
        shard.set_topology(topology);
        serve(&shard, listeners, &stop).await;
    }
    shard.close().await.map_err(|source| ServeError::Log {
        shard: index,
        source,
    })
}

async fn prepare<R: Runtime>(
    rt: &R,
    seed: ShardSeed,
) -> Result<(Shard<R>, Vec<R::Listener>), ServeError> {
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
    let shard = Shard::open(rt.clone(), seed).await.map_err(log_error)?;
    Ok((shard, listeners))
}

async fn serve<R: Runtime>(
    shard: &Shard<R>,
    listeners: Vec<R::Listener>,
    stop: &Rc<(Cell<bool>, Event)>,
) {
    let config = shard.config();
    let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let sessions = SessionCache::new(slots, SESSIONS_PER_CONNECTION);
    let context = Context {
        shard: shard.clone(),
        sessions: Rc::new(RefCell::new(sessions)),
        refusals: Rc::default(),
    };
    let queued = usize::try_from(config.queued_max_request_bytes).unwrap_or(usize::MAX);
    let memory = queued.min(shard.rt().arena().limit_bytes() / REQUEST_MEMORY_SHARE);
    let connections = Connections::new(context, memory);
    for (index, listener) in listeners.into_iter().enumerate() {
        connections.accept_from(index, listener);
    }
    let rt = shard.rt();
    let idle = connections.clone();
    rt.spawn(
        TaskClass::Background,
        async move { idle.close_idle().await },
    );
    rt.spawn(
        TaskClass::Background,
        enforce_retention(shard.clone(), stop.clone()),
    );
    let watching = shard.clone();
    rt.spawn(TaskClass::Foreground, async move {
        watching.watch_log_directory().await
    });
    stop.1.wait_until(|| stop.0.get().then_some(())).await;
    connections.stop(STOP_GRACE).await;
}

async fn enforce_retention<R: Runtime>(shard: Shard<R>, stop: Rc<(Cell<bool>, Event)>) {
    loop {
        let interval_ms = shard.config().log_retention_check_interval_ms;
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(u64::MAX));
        let sleep = std::pin::pin!(shard.rt().sleep(interval));
        let stopped = std::pin::pin!(stop.1.wait_until(|| stop.0.get().then_some(())));
        futures_util::future::select(sleep, stopped).await;
        if stop.0.get() {
            return;
        }
        shard.repair().await;
        shard.enforce_retention().await;
    }
}

/// Does what the controller and the other shards say, in their order.
async fn read_mailbox<R: Runtime>(
    shard: Shard<R>,
    inbox: flume::Receiver<ShardMessage>,
    stop: Rc<(Cell<bool>, Event)>,
) {
    while let Ok(message) = inbox.recv_async().await {
        match message {
            ShardMessage::Apply {
                records,
                image,
                done,
            } => {
                let all_deleted = shard.apply(&records, image).await;
                // Nobody waits any more when the node stops.
                let _ = done.send(all_deleted);
            }
            ShardMessage::LogDirFailed(reason) => shard.take_offline(&reason),
            ShardMessage::Stop => {
                stop.0.set(true);
                stop.1.notify();
                return;
            }
        }
    }
}
