//! The clients of one shard, from its listeners to the last connection: what it accepts, how many, and
//! how long they may be silent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use super::connection::Connection;
use super::context::Context;
use super::fetch_session::SessionCache;
use super::memory::{FetchMemory, frame_memory, response_memory};
use super::router::{Pending, Router};
use super::session::{Endpoints, Session};
use crate::config::Listener as ListenerConfig;
use crate::metrics::{ApiCounters, Counter, RequestMetrics, StageTimes};
use crate::net::{FrameMemory, FrameReader, Stream};
use crate::rt::{Budget, Event, FileShares, Latches, Listener, Runtime, TaskClass};
use crate::shard::Shard;
use crate::wire::ApiKey;

/// How often silent connections are looked for, as a part of the time they may be silent.
const IDLE_CHECKS: u32 = 10;
const IDLE_CHECK_MIN: Duration = Duration::from_millis(50);
const IDLE_CHECK_MAX: Duration = Duration::from_secs(30);
/// A client that takes nothing of a response for so long is closed where others wait for the memory.
const STUCK_LIMIT: Duration = Duration::from_secs(10);
/// How often such clients are looked for.
const STUCK_CHECK: Duration = Duration::from_secs(2);
/// After an error of accept, such as too many open files, the next attempt waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a stop waits for requests that were accepted.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How many fetch sessions one connection may hold; clients use one.
const SESSIONS_PER_CONNECTION: usize = 8;

/// Nothing measured yet.
pub fn request_metrics() -> RequestMetrics {
    RequestMetrics {
        times: StageTimes::default(),
        apis: ApiCounters::new(ApiKey::ALL.iter().map(|api| api.name())),
        sessions_refused: Counter::default(),
    }
}

/// Serves clients until `stopped` completes, and then what was accepted. What is measured of
/// it goes to `metrics`.
pub async fn serve<R: Runtime>(
    shard: &Shard<R>,
    listeners: Vec<R::Listener>,
    metrics: Rc<RequestMetrics>,
    stopped: impl Future<Output = ()>,
) {
    let config = shard.config();
    let plan = shard.memory();
    let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let sessions = SessionCache::new(
        slots,
        SESSIONS_PER_CONNECTION,
        Budget::new(plan.session_bytes),
    );
    let context = Context {
        shard: shard.clone(),
        sessions: Rc::new(RefCell::new(sessions)),
        refusals: Rc::default(),
        writer: Rc::default(),
        responses: response_memory(plan),
        fetches: FetchMemory::new(plan.fetch_bytes),
        latches: Latches::default(),
        metrics,
    };
    let connections = Connections::new(context);
    for (index, listener) in listeners.into_iter().enumerate() {
        connections.accept_from(index, listener);
    }
    let idle = connections.clone();
    shard.rt().spawn(
        TaskClass::Background,
        async move { idle.close_idle().await },
    );
    stopped.await;
    connections.stop(STOP_GRACE).await;
}

/// The open connections of one shard.
struct Connections<R: Runtime> {
    context: Context<R>,
    pending: Rc<Pending<R>>,
    memory: FrameMemory,
    largest_request_bytes: usize,
    /// How many connections there are file descriptors for.
    descriptors: usize,
    /// How many there are buffers for.
    buffers: usize,
    open: RefCell<BTreeMap<u64, Open<R>>>,
    next: Cell<u64>,
    stopping: Cell<bool>,
    changed: Event,
}

/// An open connection and where it comes from.
type Open<R> = (IpAddr, Rc<Connection<R>>);

impl<R: Runtime> Connections<R> {
    /// None yet; their requests take what the plan of the shard's memory allows.
    pub fn new(context: Context<R>) -> Rc<Self> {
        let plan = *context.shard.memory();
        let shards = context.shard.topology().listeners.len();
        Rc::new(Self {
            context,
            pending: Rc::default(),
            descriptors: FileShares::of_process(shards).connections,
            buffers: plan.connections,
            memory: frame_memory(&plan),
            largest_request_bytes: plan.largest_request_bytes,
            open: RefCell::default(),
            next: Cell::new(0),
            stopping: Cell::new(false),
            changed: Event::new(),
        })
    }

    /// Accepts connections of one listener until the shard stops.
    pub fn accept_from(self: &Rc<Self>, index: usize, listener: R::Listener) {
        let connections = self.clone();
        let rt = self.context.shard.rt();
        rt.spawn(TaskClass::Foreground, async move {
            while !connections.stopping.get() {
                match listener.accept().await {
                    Ok(socket) => connections.take(index, socket),
                    Err(_) if connections.stopping.get() => return,
                    Err(error) => {
                        // Too many open files, most of all. Those that wait are taken later.
                        let rt = connections.context.shard.rt();
                        let refusals = &connections.context.refusals;
                        refusals.tell_of_connection(rt.now(), None, &error);
                        rt.sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }

    /// Closes connections that have been silent for `connections.max.idle.ms`, and those that take
    /// nothing while others wait for memory, as long as the shard serves.
    pub async fn close_idle(&self) {
        let rt = self.context.shard.rt();
        let mut looked_at = rt.now();
        while !self.stopping.get() {
            let idle_ms = self.context.shard.config().connections_max_idle_ms;
            let limit = Duration::from_millis(u64::try_from(idle_ms).unwrap_or(u64::MAX));
            let pause = (limit / IDLE_CHECKS).clamp(IDLE_CHECK_MIN, IDLE_CHECK_MAX);
            rt.sleep(pause.min(STUCK_CHECK)).await;
            self.context.take_down_sessions().await;
            let now = rt.now();
            if self.context.responses.is_awaited() {
                self.close_after(STUCK_LIMIT, Connection::stuck_since);
            }
            if now.saturating_sub(looked_at) >= pause {
                looked_at = now;
                self.close_after(limit, Connection::idle_since);
            }
        }
    }

    /// Closes connections of which something has been so for `limit`.
    fn close_after(&self, limit: Duration, since: impl Fn(&Connection<R>) -> Option<Duration>) {
        let now = self.context.shard.rt().now();
        for (_, connection) in self.open.borrow().values() {
            if since(connection).is_some_and(|since| now.saturating_sub(since) >= limit) {
                connection.close();
            }
        }
    }

    /// Accepts nothing more, answers what was accepted, and completes when every connection has
    /// ended; those that take longer than `grace` are cut off.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.set(true);
        for (_, connection) in self.open.borrow().values() {
            connection.stop();
        }
        let drained = self
            .changed
            .wait_until(|| self.open.borrow().is_empty().then_some(()));
        let sleep = self.context.shard.rt().sleep(grace);
        futures_util::future::select(std::pin::pin!(drained), std::pin::pin!(sleep)).await;
        for (_, connection) in self.open.borrow().values() {
            connection.close();
        }
    }

    fn take(self: &Rc<Self>, listener: usize, socket: R::Socket) {
        let stream = Stream::plain(self.context.shard.rt(), socket);
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            return;
        };
        if self.stopping.get() {
            return stream.shutdown();
        }
        if let Some(why) = self.is_full_for(peer.ip()) {
            let (now, refusals) = (self.context.shard.rt().now(), &self.context.refusals);
            refusals.tell_of_connection(now, Some(peer.ip()), &why);
            return stream.shutdown();
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let rt = self.context.shard.rt().clone();
        let connection = Connection::new(&rt, stream.clone());
        self.open
            .borrow_mut()
            .insert(number, (peer.ip(), connection.clone()));
        let (limit, memory) = (self.largest_request_bytes, self.memory.clone());
        let frames = FrameReader::new(rt.clone(), stream, limit, memory);
        let session = Session::new(
            number,
            Endpoints {
                listener,
                local,
                remote: peer,
            },
        );
        let sessions = self.context.sessions.clone();
        session.on_end(move || sessions.borrow_mut().close_connection(number));
        let router = Router::new(self.context.clone(), Rc::new(session), self.pending.clone());
        let connections = self.clone();
        rt.clone().spawn(TaskClass::Foreground, async move {
            connection.run(&rt, frames, &router).await;
            connections.open.borrow_mut().remove(&number);
            connections.changed.notify();
        });
    }

    /// Why no further connection from this address is taken, if so.
    fn is_full_for(&self, peer: IpAddr) -> Option<&'static str> {
        let config = self.context.shard.config();
        let reached = |count: usize, limit: i32| usize::try_from(limit).is_ok_and(|l| count >= l);
        let open = self.open.borrow();
        let from_peer = || open.values().filter(|(ip, _)| *ip == peer).count();
        if reached(open.len(), config.max_connections) {
            Some("max.connections are open")
        } else if open.len() >= self.descriptors {
            Some("as many are open as the limit of open files (RLIMIT_NOFILE) leaves for them")
        } else if open.len() >= self.buffers {
            Some("as many are open as corelane.memory has buffers for")
        } else if reached(from_peer(), config.max_connections_per_ip) {
            Some("max.connections.per.ip are open")
        } else {
            None
        }
    }
}

/// Binds the configured listeners for one shard.
pub fn bind<R: Runtime>(
    rt: &R,
    listeners: &[ListenerConfig],
    shard: u16,
) -> Result<Vec<R::Listener>, (ListenerConfig, io::Error)> {
    let bind_one = |listener: &ListenerConfig| {
        let port = listener.port_of(shard);
        let bound = resolve(&listener.host, port).and_then(|address| rt.listen(address));
        bound.map_err(|error| (listener.clone(), error))
    };
    listeners.iter().map(bind_one).collect()
}

/// The first address of a host, an IP address or a name; without one, every address of this machine.
pub fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if host.is_empty() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    let mut addresses = (host, port).to_socket_addrs()?;
    addresses
        .next()
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}
