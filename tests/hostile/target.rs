//! The broker under attack, and a client that means well.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corelane::wire::ErrorCode;
use rustix::net::sockopt;

use crate::common::{Batch, Broker, Connection, Options};

const WITNESS: &str = "witness";
/// How long a well-meant request may take while others attack.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the broker's memory may grow by under any one attack.
pub const GROWTH_LIMIT_BYTES: u64 = 192 << 20;

pub struct Target {
    pub broker: Broker,
    witness: Connection,
    written: i64,
    resident_before: u64,
    _dir: tempfile::TempDir,
}

impl Target {
    pub fn start(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = Broker::start(&dir.path().join("data"), &options);
        let mut witness = broker.connect();
        assert_eq!(witness.create_topic(WITNESS, 1, &[]), ErrorCode::None);
        let resident_before = broker.resident_bytes();
        let mut target = Self {
            broker,
            witness,
            written: 0,
            resident_before,
            _dir: dir,
        };
        for _ in 0..100 {
            target.serves();
        }
        target.resident_before = target.broker.resident_bytes();
        target
    }

    /// The process lives, and another client writes and reads as before.
    pub fn serves(&mut self) {
        assert!(
            self.broker.is_alive(),
            "the broker ended\n{}",
            self.broker.log()
        );
        let began = Instant::now();
        let value = format!("well meant {}", self.written).into_bytes();
        let offset = self
            .witness
            .produce(WITNESS, 0, &Batch::of([value.clone()]).bytes());
        assert_eq!(offset, Ok(self.written));
        let read = self.witness.read_partition(WITNESS, 0, self.written);
        assert_eq!(read[0].value, Some(value));
        self.written += 1;
        let mut other = self.broker.connect();
        assert!(other.answers(), "a new connection is not served");
        assert!(
            began.elapsed() < PATIENCE,
            "served after {:?}",
            began.elapsed()
        );
    }

    /// Checks that all is well after an attack, and says what it cost.
    pub fn survived(&mut self, attack: &str, count: usize) {
        for _ in 0..10 {
            self.serves();
        }
        let now = self.broker.resident_bytes();
        let grown = now.saturating_sub(self.resident_before);
        println!(
            "hostile, {attack}: {count} sent, alive, served; resident {} MiB, grown by {} KiB",
            now >> 20,
            grown >> 10
        );
        assert!(
            grown < GROWTH_LIMIT_BYTES,
            "{attack}: grown by {} MiB",
            grown >> 20
        );
    }

    /// A socket that is reset when it is dropped, so that a million of them leave no trace.
    pub fn socket(&self) -> TcpStream {
        let stream = TcpStream::connect(self.broker.address()).expect("the broker accepts");
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("SO_LINGER");
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        stream
            .set_write_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        stream
    }

    /// Sends bytes on a connection of their own, and waits for an answer, the end, or a moment.
    pub fn send(&self, bytes: &[u8]) {
        let mut stream = self.socket();
        if stream.write_all(bytes).is_ok() {
            let _ = stream.read(&mut [0; 512]);
        }
    }
}
