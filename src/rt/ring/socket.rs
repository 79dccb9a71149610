//! TCP on the ring.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use super::held::{Held, Pieces};
use super::{OpKind, Pending, Ring, count_of, is_transient, own};
use crate::rt::{Buf, BufMut, Listener, Socket};

/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// The kernel goes on sending while there is something left, and raises no SIGPIPE.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// A connected TCP socket of a ring.
#[derive(Clone)]
pub struct RingSocket {
    inner: Rc<SocketInner>,
}

struct SocketInner {
    ring: Ring,
    fd: Rc<OwnedFd>,
}

impl Drop for SocketInner {
    /// Operations that were abandoned still hold the descriptor: end the connection now.
    fn drop(&mut self) {
        if Rc::strong_count(&self.fd) > 1 {
            let _ = rustix::net::shutdown(&*self.fd, Shutdown::Both);
        }
    }
}

impl RingSocket {
    fn new(ring: Ring, fd: Rc<OwnedFd>) -> io::Result<Self> {
        sockopt::set_tcp_nodelay(&*fd, true)?;
        Ok(Self {
            inner: Rc::new(SocketInner { ring, fd }),
        })
    }

    fn target(&self) -> types::Fd {
        types::Fd(self.inner.fd.as_raw_fd())
    }

    fn send_entry(&self, pieces: &mut Pieces) -> squeue::Entry {
        match pieces.single() {
            Some(buf) => opcode::Send::new(self.target(), buf.as_ptr(), buf.len() as u32)
                .flags(SEND_FLAGS)
                .build(),
            None => opcode::SendMsg::new(self.target(), pieces.message())
                .flags(SEND_FLAGS as u32)
                .build(),
        }
    }

    async fn send(self, mut pieces: Pieces) -> io::Result<()> {
        while !pieces.is_empty() {
            let entry = self.send_entry(&mut pieces);
            let held = Held::From(self.inner.fd.clone(), pieces);
            // SAFETY: the entry points to the pieces' heap memory.
            let pending = unsafe { self.inner.ring.start(entry, held, OpKind::Socket) };
            let (result, Held::From(_, back)) = pending.await else {
                unreachable!("an operation gives back what it held")
            };
            pieces = back;
            if !is_transient(result) {
                pieces.take(count_of(result)?);
            }
        }
        Ok(())
    }

    async fn receive(self, mut buf: BufMut) -> (io::Result<usize>, BufMut) {
        loop {
            let rest = buf.spare_mut();
            let (start, room) = (rest.as_mut_ptr(), rest.len().min(1 << 30) as u32);
            let entry = opcode::Recv::new(self.target(), start, room).build();
            let held = Held::Into(self.inner.fd.clone(), buf);
            // SAFETY: the entry points to the buffer's memory, which lives behind a pointer.
            let pending = unsafe { self.inner.ring.start(entry, held, OpKind::Socket) };
            let (result, Held::Into(_, back)) = pending.await else {
                unreachable!("an operation gives back what it held")
            };
            buf = back;
            if !is_transient(result) {
                let count = count_of(result);
                buf.advance(*count.as_ref().unwrap_or(&0));
                return (count, buf);
            }
        }
    }
}

impl Socket for RingSocket {
    fn read(&self, buf: BufMut) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static {
        self.clone().receive(buf)
    }

    fn write(&self, bufs: Vec<Buf>) -> impl Future<Output = io::Result<()>> + 'static {
        self.clone().send(Pieces::new(bufs))
    }

    fn shutdown(&self) {
        // An error says that the connection has ended already.
        let _ = rustix::net::shutdown(&*self.inner.fd, Shutdown::Both);
    }

    fn stop_reading(&self) {
        // An error says that the connection has ended already.
        let _ = rustix::net::shutdown(&*self.inner.fd, Shutdown::Read);
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(rustix::net::getsockname(&*self.inner.fd)?.try_into()?)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match rustix::net::getpeername(&*self.inner.fd)? {
            Some(address) => Ok(address.try_into()?),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A listening TCP socket of a ring.
pub struct RingListener {
    ring: Ring,
    fd: Rc<OwnedFd>,
    /// An accept whose future was dropped; the next one goes on with it, so that no connection is
    /// lost.
    unfinished: RefCell<Option<Pending>>,
}

impl Drop for RingListener {
    /// Ends a pending accept, which holds the descriptor.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.fd, Shutdown::Both);
    }
}

impl Listener for RingListener {
    type Socket = RingSocket;

    async fn accept(&self) -> io::Result<RingSocket> {
        loop {
            let (result, _) = Accepting::of(self).await;
            if is_transient(result) || result == -libc::ECONNABORTED {
                continue;
            }
            let fd = own(count_of(result)? as i32);
            return RingSocket::new(self.ring.clone(), Rc::new(fd));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(rustix::net::getsockname(&*self.fd)?.try_into()?)
    }
}

/// Waits for the listener's pending accept and leaves it there when dropped.
struct Accepting<'a> {
    listener: &'a RingListener,
    pending: Option<Pending>,
}

impl<'a> Accepting<'a> {
    fn of(listener: &'a RingListener) -> Self {
        let unfinished = listener.unfinished.take();
        let pending = unfinished.unwrap_or_else(|| {
            let target = types::Fd(listener.fd.as_raw_fd());
            let entry = opcode::Accept::new(target, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build();
            let held = Held::Fd(listener.fd.clone());
            // SAFETY: the entry's pointers are null.
            unsafe { listener.ring.start(entry, held, OpKind::Accept) }
        });
        Self {
            listener,
            pending: Some(pending),
        }
    }
}

impl Future for Accepting<'_> {
    type Output = (i32, Held);

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let Some(pending) = &mut self.pending else {
            unreachable!("polled after its end")
        };
        let ready = std::pin::Pin::new(pending).poll(context);
        if ready.is_ready() {
            self.pending = None;
        }
        ready
    }
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.listener.unfinished.replace(Some(pending));
        }
    }
}

impl Ring {
    /// Binds a listening socket with SO_REUSEADDR.
    pub fn listen(&self, address: SocketAddr) -> io::Result<RingListener> {
        let fd = stream_socket(address)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(RingListener {
            ring: self.clone(),
            fd: Rc::new(fd),
            unfinished: RefCell::new(None),
        })
    }

    /// Connects to a listener.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<RingSocket> {
        let fd = Rc::new(stream_socket(address)?);
        let address = Box::new(address.as_any());
        let entry = opcode::Connect::new(
            types::Fd(fd.as_raw_fd()),
            address.as_ptr().cast(),
            address.addr_len(),
        )
        .build();
        let held = Held::Address(fd.clone(), address);
        // SAFETY: the entry points to the boxed address.
        let (result, _) = unsafe { self.start(entry, held, OpKind::Socket) }.await;
        count_of(result)?;
        RingSocket::new(self.clone(), fd)
    }
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}
