//! One client connection: requests are accepted in order, several may be under way, and responses
//! leave in the order of the requests.
//!
//! Two tasks share a queue: one reads frames and has each *accepted* (order fixed) before the next
//! is looked at, the other waits for each reply to be *acknowledged* and writes it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::{Either, select};

use super::response::{Counted, Pieces, ResponseFrame};
use crate::metrics::{RequestTimes, Stage};
use crate::net::{Frame, FrameError, FrameReader, Stream};
use crate::rt::{Budget, Buf, Event, Permit, Pooled, Runtime};

/// How many requests of one connection may be under way.
const REQUESTS_IN_FLIGHT: usize = 64;

/// Responses that are there leave with one write until it has this many bytes.
const TOGETHER_BYTES: usize = 64 << 10;

/// A response leaves in writes of at most so many bytes.
const WRITE_AT_ONCE_BYTES: usize = 1 << 20;

/// How long a client that has closed its side may wait for what it asked before.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// What accepting a request gives.
pub enum Reply {
    /// The response is there.
    Ready(ResponseFrame),
    /// The response comes when the future completes (durability, a long poll).
    Later(Pooled<ResponseFrame>),
    /// The request wants no response (Produce with acks=0).
    Nothing,
    /// The request cannot be answered in the protocol: the connection is closed.
    Close,
}

/// Who serves the requests of a connection.
pub trait Service {
    /// Accepts one request. The next one of this connection is looked at when this completes.
    fn accept(&self, frame: Buf, times: RequestTimes) -> impl Future<Output = Reply>;
    /// The response to a request has been written.
    fn answered(&self, counted: &Counted, times: &RequestTimes);
    /// Until when no further request is to be read.
    fn muted_until(&self) -> Duration;
    /// No further request can be read.
    fn ended(&self, error: &FrameError);
}

/// A connection as the server sees it from outside.
#[derive(Debug)]
pub struct Connection<R: Runtime> {
    stream: Stream<R>,
    last_active: Cell<Duration>,
    /// Since when the client has taken nothing of what is being written to it.
    stuck_since: Cell<Option<Duration>>,
    in_flight: Budget,
    replies: RefCell<VecDeque<PendingReply>>,
    changed: Event,
    reading_ended: Cell<bool>,
    stopping: Cell<bool>,
}

struct PendingReply {
    response: Coming,
    /// What the response is charged with, from when it is there.
    response_memory: Option<Permit>,
    /// What its request was, and its stages, from when the response is there.
    measured: Option<(Counted, RequestTimes)>,
    _memory: Permit,
    _slot: Permit,
}

/// A response, or what gives it.
enum Coming {
    /// It is there: from the beginning, or it came while an earlier one was being written.
    There(ResponseFrame),
    Later(Pooled<ResponseFrame>),
}

impl PendingReply {
    /// The response's pieces, if they are there.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Pieces>> {
        let came = match &mut self.response {
            Coming::There(came) => came.take(),
            Coming::Later(response) => ready!(Pin::new(response).poll(context)),
        };
        Poll::Ready(came.map(|outgoing| {
            self.response_memory = outgoing.memory;
            self.measured = Some((outgoing.counted, outgoing.times));
            outgoing.pieces
        }))
    }

    /// Goes on with what the response waits for, and never completes.
    async fn go_on(&mut self) {
        if let Coming::Later(response) = &mut self.response {
            self.response = Coming::There(response.await);
        }
        std::future::pending().await
    }
}

impl std::fmt::Debug for PendingReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingReply")
    }
}

impl<R: Runtime> Connection<R> {
    /// A connection over `stream`, to be run with [`Connection::run`].
    pub fn new(rt: &R, stream: Stream<R>) -> Rc<Self> {
        Rc::new(Self {
            stream,
            last_active: Cell::new(rt.now()),
            stuck_since: Cell::new(None),
            in_flight: Budget::new(REQUESTS_IN_FLIGHT),
            replies: RefCell::default(),
            changed: Event::new(),
            reading_ended: Cell::new(false),
            stopping: Cell::new(false),
        })
    }

    /// Serves the connection until it ends from either side.
    pub async fn run(self: &Rc<Self>, rt: &R, mut frames: FrameReader<R>, service: &impl Service) {
        let reading = async {
            if let Err(error) = self.read_requests(rt, &mut frames, service).await {
                tracing::debug!(%error, "connection ends");
                service.ended(&error);
            }
            self.reading_ended.set(true);
            self.changed.notify();
        };
        let writing = async {
            let (responses, patience) = (
                pin!(self.write_responses(rt, service)),
                pin!(self.patience(rt)),
            );
            let written = select(responses, patience).await;
            if let Either::Left((Err(error), _)) = &written {
                tracing::debug!(%error, "connection ends while writing");
            }
            self.give_up();
        };
        futures_util::join!(reading, writing);
    }

    /// Since when the connection is of no use: nothing was read or written and no request is under
    /// way, or the client does not take what is written to it, whatever is under way.
    pub fn idle_since(&self) -> Option<Duration> {
        let is_quiet = self.in_flight.taken() == 0;
        let quiet_since = is_quiet.then(|| self.last_active.get());
        self.stuck_since.get().or(quiet_since)
    }

    /// Since when the client takes nothing of what is being written to it, if so.
    pub fn stuck_since(&self) -> Option<Duration> {
        self.stuck_since.get()
    }

    /// Ends the connection at once.
    pub fn close(&self) {
        self.stream.shutdown();
    }

    /// Accepts no further request, answers those accepted, and ends.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.changed.notify();
        self.stream.stop_reading();
    }

    /// Nothing can be answered any more, so nothing more is accepted. What waits for its turn goes now: the
    /// reader may be waiting for the slots or the memory that it holds, and with it every other connection
    /// that needs some.
    fn give_up(&self) {
        self.stream.shutdown();
        self.stopping.set(true);
        self.in_flight.set_total(usize::MAX);
        drop(self.replies.take());
        self.changed.notify();
    }

    async fn read_requests(
        &self,
        rt: &R,
        frames: &mut FrameReader<R>,
        service: &impl Service,
    ) -> Result<(), FrameError> {
        while !self.stopping.get() {
            // Nothing is read, and no memory taken, while as many are under way as may be. The slot
            // is taken when there is a request for it: a quiet connection must count as idle.
            drop(self.in_flight.acquire(1).await);
            self.wait_unmuted(rt, service.muted_until()).await;
            let Some(frame) = frames.next().await? else {
                break;
            };
            let Frame {
                bytes,
                memory,
                begun_at,
            } = frame;
            let now = rt.now();
            let times = RequestTimes::begin(begun_at.unwrap_or(now), now);
            self.last_active.set(now);
            if self.stopping.get() {
                break;
            }
            let slot = self.in_flight.acquire(1).await;
            let response = match service.accept(bytes, times).await {
                Reply::Ready(response) => Coming::There(response),
                Reply::Later(response) => Coming::Later(response),
                Reply::Nothing => continue,
                Reply::Close => break,
            };
            self.replies.borrow_mut().push_back(PendingReply {
                response,
                response_memory: None,
                measured: None,
                _memory: memory,
                _slot: slot,
            });
            self.changed.notify();
        }
        Ok(())
    }

    async fn wait_unmuted(&self, rt: &R, muted_until: Duration) {
        // Hardly anybody ever is, and to look at the clock costs more than the question.
        if muted_until.is_zero() {
            return;
        }
        let left = muted_until.saturating_sub(rt.now());
        if left.is_zero() {
            return;
        }
        let stopping = || self.stopping.get().then_some(());
        let stopped = pin!(self.changed.wait_until(stopping));
        select(stopped, pin!(rt.sleep(left))).await;
    }

    /// Writes responses in order. Those that are there already leave together: a small response
    /// costs more in its system call, and in the other side's wake-up, than in its making.
    async fn write_responses(&self, rt: &R, service: &impl Service) -> std::io::Result<()> {
        let (mut unfinished, mut served) = (None, Vec::new());
        loop {
            let first = match unfinished.take() {
                Some(pending) => Some(pending),
                None => self.next_reply().await,
            };
            let Some(mut first) = first else {
                return Ok(());
            };
            let Some(pieces) = poll_fn(|context| first.poll(context)).await else {
                // There is no response that could be sent: the closed connection says so.
                return Ok(());
            };
            let mut pieces = pieces.into_vec();
            served.push(first);
            while bytes_of(&pieces) < TOGETHER_BYTES && unfinished.is_none() {
                let next = self.replies.borrow_mut().pop_front();
                let Some(mut next) = next else { break };
                match poll_fn(|context| Poll::Ready(next.poll(context))).await {
                    Poll::Ready(None) => return self.write(rt, pieces).await,
                    Poll::Ready(Some(response)) => {
                        pieces.extend(response);
                        served.push(next);
                    }
                    Poll::Pending => unfinished = Some(next),
                }
            }
            let write = pin!(self.write(rt, pieces));
            match &mut unfinished {
                // It may be reading, with a share of what there is for reads: a client that does
                // not take what is written now must not keep that from others.
                Some(next) => match select(write, pin!(next.go_on())).await {
                    Either::Left((written, _)) => written?,
                    Either::Right(((), _)) => {}
                },
                None => write.await?,
            }
            for (counted, times) in served.iter().filter_map(|reply| reply.measured.as_ref()) {
                times.lap(Stage::Answered, self.last_active.get());
                service.answered(counted, times);
            }
            served.clear();
        }
    }

    /// Writes `pieces` a part at a time, so that a slow client can be told from one that takes
    /// nothing.
    async fn write(&self, rt: &R, mut pieces: Vec<Buf>) -> std::io::Result<()> {
        loop {
            let rest = split_off(&mut pieces, WRITE_AT_ONCE_BYTES);
            self.stuck_since.set(Some(rt.now()));
            let written = self.stream.send(pieces).await;
            self.stuck_since.set(None);
            self.last_active.set(rt.now());
            written?;
            if rest.is_empty() {
                return Ok(());
            }
            pieces = rest;
        }
    }

    /// Ends when the client has sent its last for so long that nobody can be waiting: a long poll
    /// of days must not keep a connection that is gone.
    async fn patience(&self, rt: &R) {
        let ended = || self.reading_ended.get().then_some(());
        self.changed.wait_until(ended).await;
        rt.sleep(HALF_CLOSED).await;
    }

    async fn next_reply(&self) -> Option<PendingReply> {
        self.changed
            .wait_until(|| match self.replies.borrow_mut().pop_front() {
                Some(pending) => Some(Some(pending)),
                None => self.reading_ended.get().then_some(None),
            })
            .await
    }
}

/// Leaves the first `bytes` of `pieces` there and gives what lies behind.
fn split_off(pieces: &mut Vec<Buf>, bytes: usize) -> Vec<Buf> {
    let mut before = 0;
    for at in 0..pieces.len() {
        let (room, len) = (bytes - before, pieces[at].len());
        if len > room {
            let mut rest = pieces.split_off(at);
            if room > 0 {
                pieces.push(rest[0].slice(0..room));
                rest[0] = rest[0].slice(room..len);
            }
            return rest;
        }
        before += len;
    }
    Vec::new()
}

fn bytes_of(pieces: &[Buf]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::FrameMemory;
    use crate::rt::{Listener, Socket};
    use crate::sim::{DiskModel, Sim, SimDisk};

    /// Has no answer to anything.
    struct Speechless {
        accepted: Cell<usize>,
    }

    impl Service for Speechless {
        async fn accept(&self, _: Buf, _: RequestTimes) -> Reply {
            self.accepted.set(self.accepted.get() + 1);
            Reply::Ready(None)
        }
        fn answered(&self, _: &Counted, _: &RequestTimes) {}
        fn muted_until(&self) -> Duration {
            Duration::ZERO
        }
        fn ended(&self, _: &FrameError) {}
    }

    /// Of 5,000 requests that came at once the first has no answer: the connection closes. The others stand
    /// in the reader's buffer, and need more slots and more memory than there is.
    #[test]
    fn what_cannot_be_answered_holds_nothing() {
        let mut sim = Sim::new(3, &SimDisk::new(DiskModel::default()));
        let rt = sim.runtime(0);
        let (small, served) = sim
            .run(async move {
                let small = Budget::new(64 << 10);
                let memory = FrameMemory {
                    small: small.clone(),
                    ..FrameMemory::own(Budget::new(1 << 20))
                };
                let listener = rt.listen(([127, 0, 0, 1], 0).into()).unwrap();
                let client = rt.connect(listener.local_addr().unwrap()).await.unwrap();
                let requests = [0, 0, 0, 12].repeat(5_000 * 4);
                client.write(vec![Buf::from_vec(requests)]).await.unwrap();
                let stream = Stream::plain(&rt, listener.accept().await.unwrap());
                let frames = FrameReader::new(rt.clone(), stream.clone(), 1 << 10, memory);
                let connection = Connection::new(&rt, stream);
                let service = Speechless {
                    accepted: Cell::new(0),
                };
                let run = pin!(connection.run(&rt, frames, &service));
                let late = pin!(rt.sleep(Duration::from_secs(60)));
                let ended = matches!(select(run, late).await, Either::Left(_));
                (small.taken(), ended.then(|| service.accepted.get()))
            })
            .unwrap();
        let served = served.expect("the connection ends");
        assert!(served <= REQUESTS_IN_FLIGHT, "{served} requests");
        assert_eq!(small, 0);
    }

    #[test]
    fn writes_are_cut_where_they_are_long_enough() {
        let buf = |bytes: &[u8]| Buf::from_vec(bytes.to_vec());
        let texts = |pieces: &[Buf]| Vec::from_iter(pieces.iter().map(|piece| piece.to_vec()));
        let mut pieces = vec![buf(b"abc"), buf(b"defg"), buf(b"h")];
        let mut rest = split_off(&mut pieces, 5);
        assert_eq!(texts(&pieces), [b"abc".to_vec(), b"de".to_vec()]);
        assert_eq!(texts(&rest), [b"fg".to_vec(), b"h".to_vec()]);
        assert!(split_off(&mut rest, 3).is_empty());
        let last = split_off(&mut rest, 2);
        assert_eq!(
            (texts(&rest), texts(&last)),
            (vec![b"fg".to_vec()], vec![b"h".to_vec()])
        );
    }
}
