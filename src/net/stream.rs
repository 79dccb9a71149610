//! A connection's bytes. What carries them stays below: nothing above knows the socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::rt::{Arena, Buf, BufMut, Runtime, Socket};

/// How long to wait before a full arena is asked again: budgets keep that rare.
const ARENA_PAUSE: Duration = Duration::from_millis(1);

/// A connected stream of bytes. Clones share it; one may receive while another sends.
pub struct Stream<R: Runtime> {
    rt: R,
    socket: R::Socket,
}

impl<R: Runtime> Clone for Stream<R> {
    fn clone(&self) -> Self {
        Self {
            rt: self.rt.clone(),
            socket: self.socket.clone(),
        }
    }
}

impl<R: Runtime> fmt::Debug for Stream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?})", self.peer_addr().ok())
    }
}

impl<R: Runtime> Stream<R> {
    /// The bytes of a socket as they are.
    pub fn plain(rt: &R, socket: R::Socket) -> Self {
        let rt = rt.clone();
        Self { rt, socket }
    }

    /// Connects to a listener.
    pub async fn connect(rt: &R, address: SocketAddr) -> io::Result<Self> {
        Ok(Self::plain(rt, rt.connect(address).await?))
    }

    /// Receives into `buf` behind what it holds, at most its room; 0 at the end of the stream.
    pub fn receive_into(
        &self,
        buf: BufMut,
    ) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static {
        self.socket.read(buf)
    }

    /// Receives up to `bytes` into a buffer that the runtime chooses; it is empty at the end of the
    /// stream.
    pub async fn receive(&self, bytes: usize) -> io::Result<BufMut> {
        let (received, buf) = self.receive_into(self.room(bytes).await).await;
        received.map(|_| buf)
    }

    /// An empty buffer with room for `bytes`, once the arena has one.
    pub async fn room(&self, bytes: usize) -> BufMut {
        loop {
            match Arena::alloc(self.rt.arena(), bytes) {
                Ok(buf) => return buf,
                Err(_) => self.rt.sleep(ARENA_PAUSE).await,
            }
        }
    }

    /// Sends all of `bufs` in order.
    pub fn send(&self, bufs: Vec<Buf>) -> impl Future<Output = io::Result<()>> + 'static {
        self.socket.write(bufs)
    }

    /// Ends both directions: pending and later receives see the end, sends an error.
    pub fn shutdown(&self) {
        self.socket.shutdown();
    }

    /// Ends receiving alone: once what has arrived is received, pending and later receives see the
    /// end.
    pub fn stop_reading(&self) {
        self.socket.stop_reading();
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }
}
