//! Sockets in memory: bounded, late, in pieces, and between machines that may lose each other.
//!
//! What a socket writes travels in order and takes its time. On the way, each direction between two
//! machines for itself can be slow, held back or cut; a connection can be reset at one side or
//! forgotten by one. A killed process's kernel closes its connections; of one without power nobody
//! hears, until it has been started again and answers with a reset.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, pending};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::process::Process;
use super::runtime::SimRuntime;
use super::world::{Event as WorldEvent, World};
use crate::rt::{Buf, BufMut, Event, Listener, Runtime, Socket};

/// Bytes that may be on their way or unread, per direction.
const PIPE_BYTES: usize = 256 << 10;
const FIRST_EPHEMERAL_PORT: u16 = 32_768;
/// After this time a connection that gets no answer is asked for again.
const CONNECT_AGAIN: Duration = Duration::from_millis(500);

/// Who listens, and how the machines reach each other.
#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<(Ipv4Addr, u16), Weak<Listening>>,
    next_port: u16,
    ways: BTreeMap<(Ipv4Addr, Ipv4Addr), Way>,
    pipes: Vec<Weak<Pipe>>,
}

/// One direction between two machines.
#[derive(Default)]
struct Way {
    /// On top of the ordinary time.
    delay: Duration,
    is_held: bool,
    /// What has arrived while it was held, in order.
    held: Vec<Delivery>,
    /// What is sent is lost.
    is_cut: bool,
}

impl Net {
    fn free_port(&mut self, host: Ipv4Addr) -> u16 {
        loop {
            let port = self.next_port.max(FIRST_EPHEMERAL_PORT);
            self.next_port = port.wrapping_add(1);
            if !self.is_taken(host, port) {
                return port;
            }
        }
    }

    fn is_taken(&self, host: Ipv4Addr, port: u16) -> bool {
        self.listener(host, port).is_some()
    }

    fn listener(&self, host: Ipv4Addr, port: u16) -> Option<Rc<Listening>> {
        let listening = self.listeners.get(&(host, port))?.upgrade()?;
        (!listening.process.is_cut()).then_some(listening)
    }

    fn way(&self, from: Ipv4Addr, to: Ipv4Addr) -> Option<&Way> {
        self.ways.get(&(from, to))
    }

    fn register(&mut self, pipe: &Rc<Pipe>) {
        if self.pipes.len() == self.pipes.capacity() {
            self.pipes.retain(|pipe| pipe.strong_count() > 0);
            let held = self.pipes.len();
            self.pipes.reserve(held.max(8));
        }
        self.pipes.push(Rc::downgrade(pipe));
    }

    fn pipes_between(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<Rc<Pipe>> {
        let pipes = self.pipes.iter().filter_map(Weak::upgrade);
        let fits = |pipe: &Rc<Pipe>| (pipe.writer.address(), pipe.reader.address()) == (from, to);
        pipes.filter(fits).collect()
    }
}

/// What goes from one machine to another from now on takes so much longer.
pub(super) fn delay(world: &World, from: Ipv4Addr, to: Ipv4Addr, delay: Duration) {
    world.net().ways.entry((from, to)).or_default().delay = delay;
}

/// What goes from one machine to another is held back, until it no longer is.
pub(super) fn hold(world: &World, from: Ipv4Addr, to: Ipv4Addr, is_held: bool) {
    let held = {
        let mut net = world.net();
        let way = net.ways.entry((from, to)).or_default();
        way.is_held = is_held;
        match is_held {
            true => Vec::new(),
            false => std::mem::take(&mut way.held),
        }
    };
    held.into_iter().for_each(Delivery::arrive);
}

/// What is sent from one machine to another is lost, until it no longer is. Connections that have
/// lost something never deliver anything again in this direction.
pub(super) fn cut(world: &World, from: Ipv4Addr, to: Ipv4Addr, is_cut: bool) {
    world.net().ways.entry((from, to)).or_default().is_cut = is_cut;
}

/// A reset arrives at `to` for each connection with `from`, which does not know of it.
pub(super) fn reset(world: &World, from: Ipv4Addr, to: Ipv4Addr) {
    let pipes = world.net().pipes_between(from, to);
    pipes.iter().for_each(|pipe| pipe.reset_reader());
}

/// The connections between two machines deliver nothing from `from` to `to` any more; new ones do.
pub(super) fn lose(world: &World, from: Ipv4Addr, to: Ipv4Addr) {
    let pipes = world.net().pipes_between(from, to);
    pipes.iter().for_each(|pipe| pipe.is_lost.set(true));
}

/// A listening socket.
pub struct SimListener {
    listening: Rc<Listening>,
}

struct Listening {
    process: Rc<Process>,
    address: SocketAddr,
    waiting: RefCell<VecDeque<SimSocket>>,
    changed: Event,
}

pub(super) fn listen(process: &Rc<Process>, mut address: SocketAddr) -> io::Result<SimListener> {
    let host = process.host_of(address.ip());
    if host != process.address() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    let mut net = process.world().net();
    if address.port() == 0 {
        address.set_port(net.free_port(host));
    } else if net.is_taken(host, address.port()) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let listening = Rc::new(Listening {
        process: process.clone(),
        address,
        waiting: RefCell::default(),
        changed: Event::new(),
    });
    let weak = Rc::downgrade(&listening);
    net.listeners.insert((host, address.port()), weak);
    Ok(SimListener { listening })
}

/// How long bytes, or a connection, take.
fn draw_latency(world: &World) -> Duration {
    world.draw(|rng| {
        Duration::from_micros(if rng.one_in(30) {
            5_000
        } else {
            5 + rng.below(100)
        })
    })
}

pub(super) async fn connect(
    rt: &SimRuntime,
    process: &Rc<Process>,
    address: SocketAddr,
) -> io::Result<SimSocket> {
    let world = process.world();
    let (from, to) = (process.address(), process.host_of(address.ip()));
    loop {
        rt.sleep(draw_latency(world)).await;
        if process.is_cut() {
            return pending().await;
        }
        let is_through = {
            let net = world.net();
            let is_open = |way: Option<&Way>| way.is_none_or(|way| !way.is_held && !way.is_cut);
            is_open(net.way(from, to)) && is_open(net.way(to, from))
        };
        let machine = world
            .processes()
            .into_iter()
            .find(|p| p.address() == to && !p.is_cut());
        if let (true, Some(_)) = (is_through, machine) {
            return join(process, address, to);
        }
        rt.sleep(CONNECT_AGAIN).await;
    }
}

fn join(process: &Rc<Process>, address: SocketAddr, to: Ipv4Addr) -> io::Result<SimSocket> {
    let mut net = process.world().net();
    let listener = net.listener(to, address.port());
    let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
    let host = match address.ip().is_loopback() {
        true => Ipv4Addr::LOCALHOST,
        false => process.address(),
    };
    let own = SocketAddr::from((host, net.free_port(process.address())));
    let there = Pipe::new(process, &listener.process);
    let back = Pipe::new(&listener.process, process);
    there.back.replace(Rc::downgrade(&back));
    back.back.replace(Rc::downgrade(&there));
    net.register(&there);
    net.register(&back);
    drop(net);
    let theirs = SimSocket::new(there.clone(), back.clone(), address, own);
    listener.waiting.borrow_mut().push_back(theirs);
    listener.changed.notify();
    Ok(SimSocket::new(back, there, own, address))
}

impl Listener for SimListener {
    type Socket = SimSocket;

    async fn accept(&self) -> io::Result<SimSocket> {
        let listening = &self.listening;
        if listening.process.is_cut() {
            return pending().await;
        }
        let next = || listening.waiting.borrow_mut().pop_front();
        Ok(listening.changed.wait_until(next).await)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listening.address)
    }
}

/// A connected socket.
#[derive(Clone)]
pub struct SimSocket {
    ends: Rc<Ends>,
}

struct Ends {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Ends {
    fn close(&self) {
        self.incoming.refuse();
        self.outgoing.finish();
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.close();
    }
}

impl SimSocket {
    fn new(incoming: Rc<Pipe>, outgoing: Rc<Pipe>, local: SocketAddr, peer: SocketAddr) -> Self {
        let ends = Ends {
            incoming,
            outgoing,
            local,
            peer,
        };
        Self {
            ends: Rc::new(ends),
        }
    }
}

impl Socket for SimSocket {
    fn read(&self, mut buf: BufMut) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static {
        let ends = self.ends.clone();
        async move {
            let pipe = &ends.incoming;
            let result = pipe.changed.wait_until(|| pipe.take(&mut buf)).await;
            (result, buf)
        }
    }

    fn write(&self, bufs: Vec<Buf>) -> impl Future<Output = io::Result<()>> + 'static {
        let ends = self.ends.clone();
        async move {
            let pipe = &ends.outgoing;
            for buf in bufs {
                let mut done = 0;
                while done < buf.len() {
                    done += pipe.changed.wait_until(|| pipe.put(&buf[done..])).await?;
                }
            }
            Ok(())
        }
    }

    fn shutdown(&self) {
        self.ends.close();
    }

    fn stop_reading(&self) {
        self.ends.incoming.end();
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.ends.local)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.ends.peer)
    }
}

/// One direction of a connection.
struct Pipe {
    writer: Rc<Process>,
    reader: Rc<Process>,
    /// The other direction.
    back: RefCell<Weak<Pipe>>,
    state: RefCell<PipeState>,
    /// Bytes sent and not read.
    used_bytes: Cell<usize>,
    /// Nothing arrives any more, and nobody says so.
    is_lost: Cell<bool>,
    changed: Event,
}

#[derive(Default)]
struct PipeState {
    arrived: VecDeque<u8>,
    /// What is on its way, in order; an empty piece is the end of the stream.
    travelling: VecDeque<Vec<u8>>,
    last_arrival: Duration,
    is_finished: bool,
    has_ended: bool,
    is_refused: bool,
    /// The reading side has got a reset.
    is_reader_reset: bool,
    /// The writing side has got a reset.
    is_writer_reset: bool,
}

/// The arrival of the next piece of a pipe.
pub(super) struct Delivery {
    pipe: Rc<Pipe>,
}

impl Delivery {
    pub(super) fn arrive(self) {
        let pipe = self.pipe.clone();
        let (from, to) = (pipe.writer.address(), pipe.reader.address());
        let world = pipe.reader.world().clone();
        if from != to
            && let Some(way) = world.net().ways.get_mut(&(from, to))
        {
            if way.is_held {
                way.held.push(self);
                return;
            }
            if way.is_cut {
                pipe.is_lost.set(true);
            }
        }
        pipe.arrive();
    }
}

impl Pipe {
    fn new(writer: &Rc<Process>, reader: &Rc<Process>) -> Rc<Self> {
        Rc::new(Self {
            writer: writer.clone(),
            reader: reader.clone(),
            back: RefCell::default(),
            state: RefCell::default(),
            used_bytes: Cell::new(0),
            is_lost: Cell::new(false),
            changed: Event::new(),
        })
    }

    fn arrive(self: &Rc<Self>) {
        let piece = self.state.borrow_mut().travelling.pop_front();
        let Some(piece) = piece.filter(|_| !self.is_lost.get()) else {
            return;
        };
        if self.reader.is_dark() {
            // Whoever has its address now does not know the connection.
            let world = self.reader.world();
            let address = self.reader.address();
            if world
                .processes()
                .iter()
                .any(|process| process.address() == address)
            {
                self.reset_writer();
            }
            return;
        }
        let world = self.reader.world();
        world.note(
            &[
                u64::from(self.reader.address().to_bits()),
                piece.len() as u64,
            ],
            || {
                format!(
                    "{} bytes from {} to {}",
                    piece.len(),
                    self.writer.address(),
                    self.reader.address()
                )
            },
        );
        let mut state = self.state.borrow_mut();
        if state.is_reader_reset {
            drop(state);
            self.reset_writer();
            return;
        }
        match piece.is_empty() {
            true => state.has_ended = true,
            false => state.arrived.extend(piece),
        }
        drop(state);
        self.changed.notify();
    }

    /// The reading side, in both of its directions, learns that the connection is no more.
    fn reset_reader(&self) {
        let mut state = self.state.borrow_mut();
        state.is_reader_reset = true;
        state.arrived.clear();
        drop(state);
        self.changed.notify();
        if let Some(back) = self.back.borrow().upgrade() {
            back.state.borrow_mut().is_writer_reset = true;
            back.is_lost.set(true);
            back.changed.notify();
        }
    }

    /// The writing side, likewise.
    fn reset_writer(&self) {
        self.state.borrow_mut().is_writer_reset = true;
        self.is_lost.set(true);
        self.changed.notify();
        if let Some(back) = self.back.borrow().upgrade() {
            let mut state = back.state.borrow_mut();
            state.is_reader_reset = true;
            state.arrived.clear();
            drop(state);
            back.changed.notify();
        }
    }

    /// Reads some of what has arrived.
    fn take(&self, buf: &mut BufMut) -> Option<io::Result<usize>> {
        if self.reader.is_cut() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        if state.is_refused || buf.room() == 0 {
            return Some(Ok(0));
        }
        if state.is_reader_reset {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let available = state.arrived.len().min(buf.room());
        if available == 0 && state.has_ended {
            return Some(Ok(0));
        }
        let count = self.piece(available)?;
        let (first, second) = state.arrived.as_slices();
        let from_first = count.min(first.len());
        buf.extend_from_slice(&first[..from_first]);
        buf.extend_from_slice(&second[..count - from_first]);
        state.arrived.drain(..count);
        drop(state);
        self.used_bytes.set(self.used_bytes.get() - count);
        self.changed.notify();
        Some(Ok(count))
    }

    /// Sends some of `bytes`.
    fn put(self: &Rc<Self>, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.writer.is_cut() {
            return None;
        }
        let state = self.state.borrow();
        if state.is_writer_reset {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.is_refused || state.is_finished {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        drop(state);
        let room = PIPE_BYTES - self.used_bytes.get();
        let count = self.piece(bytes.len().min(room))?;
        self.send(bytes[..count].to_vec());
        Some(Ok(count))
    }

    /// All of what is possible, or less.
    fn piece(&self, possible: usize) -> Option<usize> {
        let possible_u64 = possible.checked_sub(1)? as u64 + 1;
        let world = self.reader.world();
        let is_cut_short = world.draw(|rng| rng.one_in(4));
        Some(match is_cut_short {
            true => world.draw(|rng| 1 + rng.below(possible_u64)) as usize,
            false => possible,
        })
    }

    fn send(self: &Rc<Self>, piece: Vec<u8>) {
        self.used_bytes.set(self.used_bytes.get() + piece.len());
        let world = self.writer.world();
        let way = (self.writer.address(), self.reader.address());
        let delay = world
            .net()
            .ways
            .get(&way)
            .map_or(Duration::ZERO, |way| way.delay);
        let arrival = world.now() + delay + draw_latency(world);
        let mut state = self.state.borrow_mut();
        // Arrivals of one moment come in any order, which does not matter: each brings the next piece.
        let arrival = arrival.max(state.last_arrival);
        state.last_arrival = arrival;
        state.travelling.push_back(piece);
        drop(state);
        let pipe = self.clone();
        world.schedule(arrival, WorldEvent::Delivery(Delivery { pipe }));
    }

    /// The writing side sends no more; its kernel says so.
    fn finish(self: &Rc<Self>) {
        let was_finished = std::mem::replace(&mut self.state.borrow_mut().is_finished, true);
        if !was_finished && !self.writer.is_dark() {
            self.send(Vec::new());
        }
        self.changed.notify();
    }

    /// The reading side reads what has arrived, and no more.
    fn end(&self) {
        self.state.borrow_mut().has_ended = true;
        self.changed.notify();
    }

    /// The reading side reads no more.
    fn refuse(&self) {
        if self.reader.is_dark() {
            return;
        }
        self.state.borrow_mut().is_refused = true;
        self.changed.notify();
    }
}
