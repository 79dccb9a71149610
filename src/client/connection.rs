//! One connection to one broker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use futures_channel::oneshot;

use super::ClientError;
use crate::rt::{Budget, Buf, Frame, FrameReader, Permit, Runtime, Socket, TaskClass};
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{
    ApiKey, DecodeError, Piece, Request, Response, decode_response, encode_request, frame,
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
    socket: R::Socket,
    broker: String,
    versions: RefCell<Vec<(ApiKey, i16)>>,
    next_correlation_id: Cell<i32>,
    waiting: RefCell<VecDeque<(i32, oneshot::Sender<Frame>)>>,
    /// Frames to be written, so that concurrent requests do not interleave their pieces.
    writing: Budget,
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
        let socket = rt
            .connect(address)
            .await
            .map_err(|source| ClientError::Connection {
                broker: broker.clone(),
                source,
            })?;
        let memory = Budget::new(RESPONSE_MEMORY_BYTES);
        let frames = FrameReader::new(rt.clone(), socket.clone(), MAX_RESPONSE_BYTES, memory);
        let inner = Rc::new(Inner {
            socket,
            broker,
            versions: RefCell::default(),
            next_correlation_id: Cell::new(0),
            waiting: RefCell::default(),
            writing: Budget::new(1),
            failure: RefCell::default(),
        });
        let connection = Self { inner };
        rt.spawn(
            TaskClass::Foreground,
            connection.clone().read_responses(frames),
        );
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
        self.inner.socket.shutdown();
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
        let version = self.version(Q::KEY)?;
        self.call_with(request, version, &[]).await
    }

    /// Like [`Connection::call`] in a given version; `records` are the bytes that the request holds
    /// elsewhere (`Records::Elsewhere`), in order.
    pub async fn call_with<'a, Q: Request<'a>>(
        &self,
        request: &Q,
        version: i16,
        records: &[Buf],
    ) -> Result<Answer, ClientError> {
        let (correlation_id, pieces) = self.encode(request, version, records)?;
        let (sender, receiver) = oneshot::channel();
        {
            let _turn = self.inner.writing.acquire(1).await;
            self.check_open()?;
            self.inner
                .waiting
                .borrow_mut()
                .push_back((correlation_id, sender));
            let written = self.inner.socket.write(pieces).await;
            if let Err(error) = written {
                self.fail(error);
            }
        }
        let Ok(Frame { bytes, memory }) = receiver.await else {
            return Err(self.failure());
        };
        Ok(Answer {
            broker: self.inner.broker.clone(),
            version,
            frame: bytes,
            _memory: memory,
        })
    }

    /// Sends a request that has no answer (Produce with acks=0).
    pub async fn send_only<'a, Q: Request<'a>>(
        &self,
        request: &Q,
        version: i16,
        records: &[Buf],
    ) -> Result<(), ClientError> {
        let (_, pieces) = self.encode(request, version, records)?;
        let _turn = self.inner.writing.acquire(1).await;
        self.check_open()?;
        let broker = self.inner.broker.clone();
        let written = self.inner.socket.write(pieces).await;
        written.map_err(|source| ClientError::Connection { broker, source })
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
            ..Default::default()
        };
        let newest = *ApiKey::ApiVersions.versions().end();
        let mut answer = self.call_with(&request, newest, &[]).await?;
        let mut response: ApiVersionsResponse = answer.read()?;
        if !response.error_code.is_none() {
            // An older broker names its range in a version 0 body (KIP-511); version 0 always works.
            answer = self.call_with(&request, 0, &[]).await?;
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
        self.inner.socket.shutdown();
    }

    fn hand_out(&self, frame: Frame) -> io::Result<()> {
        let got = frame::correlation_id(&frame.bytes).map_err(io::Error::other)?;
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
        self.inner.waiting.borrow_mut().clear();
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
