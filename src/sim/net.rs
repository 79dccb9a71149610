//! Sockets in memory: bounded, late, and in pieces.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, pending};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::world::World;
use crate::rt::{Buf, BufMut, Event, Listener, Socket};

/// Bytes that may be on their way or unread, per direction.
const PIPE_BYTES: usize = 256 << 10;
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// Who listens, by port.
#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<u16, Weak<Listening>>,
    next_port: u16,
}

impl Net {
    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port.max(FIRST_EPHEMERAL_PORT);
            self.next_port = port.wrapping_add(1);
            if !self.is_taken(port) {
                return port;
            }
        }
    }

    fn is_taken(&self, port: u16) -> bool {
        let listener = self.listeners.get(&port);
        listener.is_some_and(|listener| listener.strong_count() > 0)
    }
}

/// A listening socket.
pub struct SimListener {
    listening: Rc<Listening>,
}

struct Listening {
    world: Rc<World>,
    address: SocketAddr,
    waiting: RefCell<VecDeque<SimSocket>>,
    changed: Event,
}

pub(super) fn listen(world: &Rc<World>, mut address: SocketAddr) -> io::Result<SimListener> {
    let mut net = world.net();
    if address.port() == 0 {
        address.set_port(net.free_port());
    } else if net.is_taken(address.port()) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let listening = Rc::new(Listening {
        world: world.clone(),
        address,
        waiting: RefCell::default(),
        changed: Event::new(),
    });
    net.listeners
        .insert(address.port(), Rc::downgrade(&listening));
    Ok(SimListener { listening })
}

/// How long bytes, or a connection, take.
pub(super) fn draw_latency(world: &World) -> Duration {
    world.draw(|rng| {
        Duration::from_micros(if rng.one_in(30) {
            5_000
        } else {
            5 + rng.below(100)
        })
    })
}

pub(super) fn connect(world: &Rc<World>, address: SocketAddr) -> io::Result<SimSocket> {
    let mut net = world.net();
    let listener = net.listeners.get(&address.port()).and_then(Weak::upgrade);
    let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, net.free_port()));
    drop(net);
    let (there, back) = (Pipe::new(world), Pipe::new(world));
    let theirs = SimSocket::new(there.clone(), back.clone(), address, own);
    listener.waiting.borrow_mut().push_back(theirs);
    listener.changed.notify();
    Ok(SimSocket::new(back, there, own, address))
}

impl Listener for SimListener {
    type Socket = SimSocket;

    async fn accept(&self) -> io::Result<SimSocket> {
        let listening = &self.listening;
        if listening.world.is_cut() {
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
            let count = pipe.changed.wait_until(|| pipe.take(&mut buf)).await;
            (Ok(count), buf)
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
    world: Rc<World>,
    state: RefCell<PipeState>,
    /// Bytes sent and not read.
    used_bytes: Cell<usize>,
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
}

/// The arrival of the next piece of a pipe.
pub(super) struct Delivery {
    pipe: Rc<Pipe>,
}

impl Delivery {
    pub(super) fn arrive(self) {
        let mut state = self.pipe.state.borrow_mut();
        match state.travelling.pop_front() {
            Some(piece) if piece.is_empty() => state.has_ended = true,
            Some(piece) => state.arrived.extend(piece),
            None => {}
        }
        drop(state);
        self.pipe.changed.notify();
    }
}

impl Pipe {
    fn new(world: &Rc<World>) -> Rc<Self> {
        Rc::new(Self {
            world: world.clone(),
            state: RefCell::default(),
            used_bytes: Cell::new(0),
            changed: Event::new(),
        })
    }

    /// Lets the reader see the end behind what has arrived.
    fn end(&self) {
        self.state.borrow_mut().has_ended = true;
        self.changed.notify();
    }

    /// Reads some of what has arrived.
    fn take(&self, buf: &mut BufMut) -> Option<usize> {
        if self.world.is_cut() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        let available = state.arrived.len().min(buf.room());
        if state.is_refused || buf.room() == 0 || (available == 0 && state.has_ended) {
            return Some(0);
        }
        let count = self.piece(available)?;
        for byte in state.arrived.drain(..count) {
            buf.extend_from_slice(&[byte]);
        }
        drop(state);
        self.used_bytes.set(self.used_bytes.get() - count);
        self.changed.notify();
        Some(count)
    }

    /// Sends some of `bytes`.
    fn put(self: &Rc<Self>, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.world.is_cut() {
            return None;
        }
        let state = self.state.borrow();
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
        let is_cut_short = self.world.draw(|rng| rng.one_in(4));
        Some(match is_cut_short {
            true => self.world.draw(|rng| 1 + rng.below(possible_u64)) as usize,
            false => possible,
        })
    }

    fn send(self: &Rc<Self>, piece: Vec<u8>) {
        self.used_bytes.set(self.used_bytes.get() + piece.len());
        let arrival = self.world.now() + draw_latency(&self.world);
        let mut state = self.state.borrow_mut();
        // Arrivals of one moment come in any order, which does not matter: each brings the next piece.
        let arrival = arrival.max(state.last_arrival);
        state.last_arrival = arrival;
        state.travelling.push_back(piece);
        drop(state);
        let pipe = self.clone();
        self.world.deliver(arrival, Delivery { pipe });
    }

    /// The writing side sends no more.
    fn finish(self: &Rc<Self>) {
        let was_finished = std::mem::replace(&mut self.state.borrow_mut().is_finished, true);
        if !was_finished && !self.world.is_cut() {
            self.send(Vec::new());
        }
        self.changed.notify();
    }

    /// The reading side reads no more.
    fn refuse(&self) {
        self.state.borrow_mut().is_refused = true;
        self.changed.notify();
    }
}
