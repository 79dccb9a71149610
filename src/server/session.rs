//! What the broker knows of one client connection, from its first byte to its last.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Who a client is to the broker. Authentication adds the others; each place that decides by
/// principal then has to say what it does with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Kafka's `User:ANONYMOUS`: a client of a listener without authentication.
    Anonymous,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("User:ANONYMOUS"),
        }
    }
}

/// Where a connection comes from and arrives.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    /// Which of the configured listeners it came through.
    pub listener: usize,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The client's own.
    pub remote: SocketAddr,
}

/// A client's program as it names itself (KIP-511).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Software {
    /// Such as `apache-kafka-java` or `librdkafka`; empty while unknown.
    pub name: String,
    /// Its version; empty while unknown.
    pub version: String,
}

/// The state of one connection.
pub struct Session {
    number: u64,
    endpoints: Endpoints,
    principal: Principal,
    client_id: RefCell<Rc<str>>,
    software: RefCell<Rc<Software>>,
    muted_until: Cell<Duration>,
    at_end: RefCell<Vec<Box<dyn FnOnce()>>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} of {})", self.number, self.endpoints.remote)
    }
}

impl Session {
    /// The session of connection `number` of a shard.
    pub fn new(number: u64, endpoints: Endpoints) -> Self {
        Self {
            number,
            endpoints,
            principal: Principal::Anonymous,
            client_id: RefCell::new("".into()),
            software: RefCell::default(),
            muted_until: Cell::default(),
            at_end: RefCell::default(),
        }
    }

    /// Number of the connection on this shard.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its two ends.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Whose requests they are.
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// The client id of the request that came last; empty where none was given.
    pub fn client_id(&self) -> Rc<str> {
        self.client_id.borrow().clone()
    }

    /// Takes the client id of a request's header. It is the same in nearly every one of them.
    pub fn set_client_id(&self, client_id: &str) {
        if **self.client_id.borrow() != *client_id {
            self.client_id.replace(client_id.into());
        }
    }

    /// The client's program, as ApiVersions told it.
    pub fn software(&self) -> Rc<Software> {
        self.software.borrow().clone()
    }

    /// Takes what ApiVersions tells of the client's program.
    pub fn set_software(&self, software: Software) {
        self.software.replace(Rc::new(software));
    }

    /// Until when nothing further is read from the client, in time of the runtime.
    pub fn muted_until(&self) -> Duration {
        self.muted_until.get()
    }

    /// Reads nothing further from the client before `until` (KIP-219: the response that says so is
    /// sent at once, and the broker holds the client to it).
    pub fn mute_until(&self, until: Duration) {
        self.muted_until.set(self.muted_until.get().max(until));
    }

    /// Has `at_end` called once the connection is gone.
    pub fn on_end(&self, at_end: impl FnOnce() + 'static) {
        self.at_end.borrow_mut().push(Box::new(at_end));
    }
}

impl Drop for Session {
    /// The connection's task and what it left under way are gone, in whatever way it ended.
    fn drop(&mut self) {
        for at_end in self.at_end.take() {
            at_end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let address = ([127, 0, 0, 1], 9092).into();
        let endpoints = Endpoints {
            listener: 0,
            local: address,
            remote: address,
        };
        Session::new(7, endpoints)
    }

    #[test]
    fn everything_that_hangs_on_a_session_ends_with_it() {
        let ended = Rc::new(RefCell::new(Vec::new()));
        let session = Rc::new(session());
        for nth in 0..2 {
            let ended = ended.clone();
            session.on_end(move || ended.borrow_mut().push(nth));
        }
        let of_a_request = session.clone();
        drop(session);
        assert!(ended.borrow().is_empty(), "a request is under way");
        drop(of_a_request);
        assert_eq!(*ended.borrow(), [0, 1]);
    }

    #[test]
    fn a_mute_is_never_shortened() {
        let session = session();
        session.mute_until(Duration::from_secs(9));
        session.mute_until(Duration::from_secs(3));
        assert_eq!(session.muted_until(), Duration::from_secs(9));
    }

    #[test]
    fn the_client_id_is_the_last_requests() {
        let session = session();
        session.set_client_id("a");
        let first = session.client_id();
        session.set_client_id("a");
        assert!(Rc::ptr_eq(&first, &session.client_id()));
        session.set_client_id("b");
        assert_eq!(&*session.client_id(), "b");
    }
}
