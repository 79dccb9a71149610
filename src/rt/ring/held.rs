//! What an operation owns while the kernel works on it.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::SocketAddrAny;

use crate::rt::{Buf, BufMut};

/// Pieces that one system call takes (IOV_MAX).
const PIECES_MAX: usize = 1024;

/// Memory and descriptors of one operation. All memory lies behind pointers, so that moving a
/// `Held` moves nothing the kernel knows.
#[expect(dead_code, reason = "the kernel uses what is only kept here")]
pub enum Held {
    /// Just the file or socket.
    Fd(Rc<OwnedFd>),
    /// Bytes are filled into the buffer's rest.
    Into(Rc<OwnedFd>, BufMut),
    /// Bytes are taken from pieces.
    From(Rc<OwnedFd>, Pieces),
    /// Names of files.
    Paths(CString, Option<CString>),
    /// The other side's address.
    Address(Rc<OwnedFd>, Box<SocketAddrAny>),
}

/// Buffers on their way out, and the kernel's description of the first of them.
pub struct Pieces {
    /// In reverse order, so that the front is cheap to take off.
    bufs: Vec<Buf>,
    iovecs: Vec<libc::iovec>,
    header: Option<Box<libc::msghdr>>,
}

impl Pieces {
    /// `bufs` one behind the other; empty ones are left out.
    pub(super) fn new(mut bufs: Vec<Buf>) -> Self {
        bufs.retain(|buf| !buf.is_empty());
        bufs.reverse();
        Self {
            bufs,
            iovecs: Vec::new(),
            header: None,
        }
    }

    /// Whether everything has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.bufs.is_empty()
    }

    /// The only piece left, if there is only one.
    pub(super) fn single(&self) -> Option<&Buf> {
        match self.bufs.as_slice() {
            [buf] => Some(buf),
            _ => None,
        }
    }

    /// Describes the next pieces; valid until the next call or [`Pieces::take`].
    pub(super) fn iovecs(&mut self) -> &[libc::iovec] {
        self.iovecs.clear();
        let next = self.bufs.iter().rev().take(PIECES_MAX);
        self.iovecs.extend(next.map(|buf| libc::iovec {
            iov_base: buf.as_ptr().cast_mut().cast(),
            iov_len: buf.len(),
        }));
        &self.iovecs
    }

    /// The next pieces as a message; valid until the next call or [`Pieces::take`].
    pub(super) fn message(&mut self) -> *const libc::msghdr {
        self.iovecs();
        let header = self.header.get_or_insert_with(|| {
            // SAFETY: a msghdr of zeros is a valid message without address, pieces or control data.
            Box::new(unsafe { std::mem::zeroed() })
        });
        header.msg_iov = self.iovecs.as_mut_ptr();
        header.msg_iovlen = self.iovecs.len();
        &raw const **header
    }

    /// Takes the first `count` bytes off.
    pub(super) fn take(&mut self, mut count: usize) {
        while let Some(buf) = self.bufs.pop() {
            if count < buf.len() {
                self.bufs.push(buf.slice(count..buf.len()));
                return;
            }
            count -= buf.len();
            if count == 0 {
                return;
            }
        }
    }
}
