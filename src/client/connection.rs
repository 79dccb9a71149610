//! One connection to one broker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_channel::oneshot;

use super::ClientError;
use crate::net::{Frame, FrameMemory, FrameReader, Stream};
use crate::rt::{Budget, Buf, Event, Permit, Runtime, TaskClass};
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{
    ApiKey, DecodeError, Piece, Request, Response, correlation_id, decode_response, encode_request,
};

/// Largest response that is accepted.
const MAX_RESPONSE_BYTES: usize = 256 << 20;
/// Memory for responses that arrived and wait to be read.
const RESPONSE_MEMORY_BYTES: usize = 512 << 20;
const CLIENT_ID: &str = "corelane";

/// A connection that knows which versions its broker speaks. Clones share it.
///
/// Requests are pipelined: a broker answers in the order of the requests, so responses are matched
/// by order and their correlation ids only checked.
pub struct Connection<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    stream: Stream<R>,
    broker: String,
    versions: RefCell<Vec<(ApiKey, i16)>>,
    next_correlation_id: Cell<i32>,
    waiting: RefCell<VecDeque<(i32, oneshot::Sender<Frame>)>>,
    /// Frames to be written: what gathers during a write goes out with the next.
    outgoing: RefCell<Vec<Buf>>,
    put: Event,
    written: Event,
    failure: RefCell<Option<(io::ErrorKind, String)>>,
}

impl<R: Runtime> Clone for Connection<R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<R: Runtime> fmt::Debug for Connection<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.inner.broker)
    }
}

/// The answer to a request that was sent. Dropping it lets the answer go unread.
#[derive(Debug)]
pub struct PendingAnswer<R: Runtime> {
    connection: Connection<R>,
    version: i16,
    receiver: oneshot::Receiver<Frame>,
}

impl<R: Runtime> Future for PendingAnswer<R> {
    type Output = Result<Answer, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        let Ok(Frame { bytes, memory, .. }) = received else {
            return Poll::Ready(Err(self.connection.failure()));
        };
        let broker = self.connection.inner.broker.clone();
        Poll::Ready(Ok(Answer {
            broker,
            version: self.version,
            frame: bytes,
            _memory: memory,
        }))
    }
}

/// A response as it came, from which the message is read: it borrows from the frame.
#[derive(Debug)]
pub struct Answer {
    broker: String,
    version: i16,
    frame: Buf,
    _memory: Permit,
}

impl Answer {
    /// The message.
    pub fn read<'a, M: Response<'a>>(&'a self) -> Result<M, ClientError> {
        decode_response(&self.frame, self.version)
            .map(|(_, message)| message)
            .map_err(|source| self.malformed(M::KEY, source))
    }

    /// The frame, for those who keep parts of it (fetched records).
    pub fn frame(&self) -> &Buf {
        &self.frame
    }

    /// The version it was asked in.
    pub fn version(&self) -> i16 {
        self.version
    }

    fn malformed(&self, api: ApiKey, source: DecodeError) -> ClientError {
        ClientError::Malformed {
            broker: self.broker.clone(),
            api,
            source,
        }
    }
}

impl<R: Runtime> Connection<R> {
    /// Connects and agrees on versions.
    pub async fn open(rt: &R, address: SocketAddr) -> Result<Self, ClientError> {
        let broker = address.to_string();
        let connected = Stream::connect(rt, address).await;
        let stream = connected.map_err(|source| ClientError::Connection {
            broker: broker.clone(),
            source,
        })?;
        let memory = FrameMemory::own(Budget::new(RESPONSE_MEMORY_BYTES));
        let frames = FrameReader::new(rt.clone(), stream.clone(), MAX_RESPONSE_BYTES, memory);
        let inner = Rc::new(Inner {
            stream,
            broker,
            versions: RefCell::default(),
            next_correlation_id: Cell::new(0),
            waiting: RefCell::default(),
            outgoing: RefCell::default(),
            put: Event::new(),
            written: Event::new(),
            failure: RefCell::default(),
        });
        let connection = Self { inner };
        rt.spawn(
            TaskClass::Foreground,
            connection.clone().read_responses(frames),
        );
        rt.spawn(TaskClass::Foreground, connection.clone().write_requests());
        connection.negotiate().await?;
        Ok(connection)
    }

    /// The broker's address.
    pub fn broker(&self) -> &str {
        &self.inner.broker
    }

    /// Whether it still works.
    pub fn is_open(&self) -> bool {
        self.inner.failure.borrow().is_none()
    }

    /// Ends the connection; requests under way fail.
    pub fn close(&self) {
        self.inner.stream.shutdown();
    }

    /// The highest version of `api` that both sides speak.
    pub fn version(&self, api: ApiKey) -> Result<i16, ClientError> {
        let versions = self.inner.versions.borrow();
        versions
            .iter()
            .find(|(known, _)| *known == api)
            .map(|(_, version)| *version)
            .ok_or_else(|| ClientError::NoCommonVersion {
                broker: self.inner.broker.clone(),
                api,
            })
    }

    /// Sends a request and waits for its answer.
    pub async fn call<'a, Q: Request<'a>>(&self, request: &Q) -> Result<Answer, ClientError> {
        self.send(request, self.version(Q::KEY)?, &[])?.await
    }

    /// Sends a request in a given version; `records` are the bytes that the request holds elsewhere
    /// (`Records::Elsewhere`), in order. Requests leave in the order of the calls; whoever calls
    /// bounds how many are under way.
    pub fn send<'a, Q: Request<'a>>(
        &self,
        request: &Q,
        version: i16,
        records: &[Buf],
    ) -> Result<PendingAnswer<R>, ClientError> {
        let (correlation_id, pieces) = self.encode(request, version, records)?;
        self.check_open()?;
        let (sender, receiver) = oneshot::channel();
        self.inner
            .waiting
            .borrow_mut()
            .push_back((correlation_id, sender));
        self.put(pieces);
        Ok(PendingAnswer {
            connection: self.clone(),
            version,
            receiver,
        })
    }

    /// Sends a request that has no answer (Produce with acks=0) and waits until it is written.
    pub async fn send_only<'a, Q: Request<'a>>(
        &self,
        request: &Q,
        version: i16,
        records: &[Buf],
    ) -> Result<(), ClientError> {
        let (_, pieces) = self.encode(request, version, records)?;
        self.check_open()?;
        self.put(pieces);
        let inner = &self.inner;
        inner
            .written
            .wait_until(|| {
                let done = inner.outgoing.borrow().is_empty() || !self.is_open();
                done.then_some(())
            })
            .await;
        self.check_open()
    }

    fn put(&self, pieces: Vec<Buf>) {
        self.inner.outgoing.borrow_mut().extend(pieces);
        self.inner.put.notify();
    }

    fn encode<'a, Q: Request<'a>>(
        &self,
        request: &Q,
        version: i16,
        records: &[Buf],
    ) -> Result<(i32, Vec<Buf>), ClientError> {
        let correlation_id = self.inner.next_correlation_id.get();
        self.inner
            .next_correlation_id
            .set(correlation_id.wrapping_add(1));
        let mut framing = Vec::new();
        let encoded = encode_request(&mut framing, version, correlation_id, CLIENT_ID, request)
            .map_err(|source| ClientError::Encode {
                api: Q::KEY,
                source,
            })?;
        let framing = Buf::from_vec(framing);
        let pieces = encoded
            .pieces()
            .map(|piece| match piece {
                Piece::Framing(range) => framing.slice(range),
                Piece::Records(index) => records[index].clone(),
            })
            .collect();
        Ok((correlation_id, pieces))
    }

    async fn negotiate(&self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let newest = *ApiKey::ApiVersions.versions().end();
        let mut answer = self.send(&request, newest, &[])?.await?;
        let mut response: ApiVersionsResponse = answer.read()?;
        if !response.error_code.is_none() {
            // An older broker names its range in a version 0 body (KIP-511); version 0 always works.
            answer = self.send(&request, 0, &[])?.await?;
            response = answer.read()?;
        }
        let mut versions = Vec::new();
        for range in &response.api_keys {
            let Some(api) = ApiKey::from_key(range.api_key) else {
                continue;
            };
            let ours = api.versions();
            let newest = range.max_version.min(*ours.end());
            if newest >= range.min_version.max(*ours.start()) {
                versions.push((api, newest));
            }
        }
        self.inner.versions.replace(versions);
        Ok(())
    }

    async fn read_responses(self, mut frames: FrameReader<R>) {
        let error = loop {
            match frames.next().await {
                Ok(Some(frame)) => {
                    if let Err(error) = self.hand_out(frame) {
                        break error;
                    }
                }
                Ok(None) => break io::ErrorKind::ConnectionReset.into(),
                Err(error) => break io::Error::other(error),
            }
        };
        self.fail(error);
        self.inner.stream.shutdown();
    }

    async fn write_requests(self) {
        loop {
            let pieces = self
                .inner
                .put
                .wait_until(|| {
                    let pieces = std::mem::take(&mut *self.inner.outgoing.borrow_mut());
                    (!pieces.is_empty() || !self.is_open()).then_some(pieces)
                })
                .await;
            if !self.is_open() {
                return;
            }
            if let Err(error) = self.inner.stream.send(pieces).await {
                self.fail(error);
            }
            self.inner.written.notify();
        }
    }

    fn hand_out(&self, frame: Frame) -> io::Result<()> {
        let got = correlation_id(&frame.bytes).map_err(io::Error::other)?;
        let Some((expected, sender)) = self.inner.waiting.borrow_mut().pop_front() else {
            return Err(io::Error::other("a response that nobody asked for"));
        };
        if got != expected {
            return Err(io::Error::other(format!(
                "response {got} where {expected} was due"
            )));
        }
        // Whoever asked may have given up; the response is then dropped.
        let _ = sender.send(frame);
        Ok(())
    }

    fn fail(&self, error: io::Error) {
        let mut failure = self.inner.failure.borrow_mut();
        failure.get_or_insert_with(|| (error.kind(), error.to_string()));
        drop(failure);
        self.inner.waiting.borrow_mut().clear();
        self.inner.put.notify();
        self.inner.written.notify();
    }

    fn check_open(&self) -> Result<(), ClientError> {
        if self.is_open() {
            Ok(())
        } else {
            Err(self.failure())
        }
    }

    fn failure(&self) -> ClientError {
        let failure = self.inner.failure.borrow();
        let (kind, text) = failure
            .clone()
            .unwrap_or_else(|| (io::ErrorKind::ConnectionReset, "closed".to_owned()));
        let source = io::Error::new(kind, text);
        ClientError::Connection {
            broker: self.inner.broker.clone(),
            source,
        }
    }
}
