//! Tests of worlds with several processes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use futures_util::future::{Either, select};

use super::*;
use crate::rt::{Listener, Socket, TaskClass};

const SERVER: u8 = 1;
const CLIENT: u8 = 2;
const MEMORY: usize = 16 << 20;

/// A client and a server that sends back what it gets.
struct Pair {
    world: SimWorld,
    disk: SimDisk,
    server: SimProcess,
    client: SimProcess,
}

fn address() -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, SERVER), 9092).into()
}

impl Pair {
    fn new(seed: u64) -> Self {
        let world = SimWorld::new(seed);
        let disk = SimDisk::new(DiskModel::default());
        let server = world.start(&disk, SERVER, MEMORY);
        let client = world.start(&SimDisk::new(DiskModel::default()), CLIENT, MEMORY);
        serve(&server);
        Self {
            world,
            disk,
            server,
            client,
        }
    }

    async fn connect(&self) -> SimSocket {
        self.client.runtime(0).connect(address()).await.unwrap()
    }

    /// Sends a byte and waits for it for ten seconds: none when it does not come.
    async fn ask(&self, socket: &SimSocket) -> Option<io::Result<usize>> {
        let rt = self.client.runtime(0);
        if let Err(error) = socket.write(vec![Buf::from_vec(vec![7])]).await {
            return Some(Err(error));
        }
        let answer = pin!(socket.read(rt.arena().alloc(1).unwrap()));
        match select(answer, pin!(rt.sleep(Duration::from_secs(10)))).await {
            Either::Left(((answer, _), _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    fn ways(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.client.address(), self.server.address())
    }
}

fn serve(server: &SimProcess) {
    let rt = server.runtime(0);
    let listener = rt.listen(address()).unwrap();
    let serving = rt.clone();
    rt.spawn(TaskClass::Foreground, async move {
        loop {
            let socket = listener.accept().await.unwrap();
            let arena = serving.arena().clone();
            serving.spawn(TaskClass::Foreground, async move {
                loop {
                    let (read, buf) = socket.read(arena.alloc(1).unwrap()).await;
                    if !matches!(read, Ok(1)) || socket.write(vec![buf.freeze()]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn is_reset(answer: Option<io::Result<usize>>) -> bool {
    let reset = io::ErrorKind::ConnectionReset;
    matches!(answer, Some(Err(error)) if error.kind() == reset)
}

#[test]
fn a_killed_process_closes_its_connections_and_one_without_power_does_not() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed);
        pair.world.run(async {
            let socket = pair.connect().await;
            assert!(matches!(pair.ask(&socket).await, Some(Ok(1))));
            pair.server.kill();
            assert!(!matches!(pair.ask(&socket).await, None | Some(Ok(1))));
            let refused = pair.client.runtime(0);
            let waits = pin!(refused.connect(address()));
            let limit = pin!(refused.sleep(Duration::from_secs(3)));
            assert!(matches!(select(waits, limit).await, Either::Right(_)));
        });
        pair.server = pair.world.start(&pair.disk, SERVER, MEMORY);
        serve(&pair.server);
        pair.world.run(async {
            let socket = pair.connect().await;
            pair.server.power_cut();
            assert!(pair.ask(&socket).await.is_none(), "nobody says anything");
            let again = pair.world.start(&pair.disk, SERVER, MEMORY);
            serve(&again);
            assert!(
                is_reset(pair.ask(&socket).await),
                "the new one does not know it"
            );
        });
    }
}

#[test]
fn a_paused_process_goes_on_where_it_was() {
    let pair = Pair::new(1);
    pair.world.run(async {
        let socket = pair.connect().await;
        pair.server.set_paused(true);
        assert!(pair.ask(&socket).await.is_none());
        pair.server.set_paused(false);
        let rt = pair.client.runtime(0);
        let (read, _) = socket.read(rt.arena().alloc(4096).unwrap()).await;
        assert_eq!(read.unwrap(), 1);
    });
}

#[test]
fn what_is_held_comes_later_and_what_is_cut_never() {
    let pair = Pair::new(2);
    let (client, server) = pair.ways();
    pair.world.run(async {
        let socket = pair.connect().await;
        pair.world.hold(server, client, true);
        assert!(pair.ask(&socket).await.is_none());
        pair.world.hold(server, client, false);
        let rt = pair.client.runtime(0);
        let (read, _) = socket.read(rt.arena().alloc(4096).unwrap()).await;
        assert_eq!(read.unwrap(), 1);
        pair.world.cut(client, server, true);
        assert!(pair.ask(&socket).await.is_none());
        pair.world.cut(client, server, false);
        assert!(pair.ask(&socket).await.is_none(), "it has lost a byte");
        let fresh = pair.connect().await;
        assert!(matches!(pair.ask(&fresh).await, Some(Ok(1))));
        pair.world.lose(server, client);
        assert!(pair.ask(&fresh).await.is_none());
    });
}

#[test]
fn a_reset_is_seen_at_its_side_and_by_the_other_when_it_sends() {
    let pair = Pair::new(3);
    let (client, server) = pair.ways();
    pair.world.run(async {
        let (first, second) = (pair.connect().await, pair.connect().await);
        pair.world.reset(server, client);
        assert!(is_reset(pair.ask(&first).await));
        let third = pair.connect().await;
        pair.world.reset(client, server);
        assert!(!matches!(pair.ask(&third).await, Some(Ok(1))));
        assert!(is_reset(pair.ask(&third).await));
        assert!(is_reset(pair.ask(&second).await));
    });
}

#[test]
fn delays_are_per_direction_and_clocks_per_process() {
    let pair = Pair::new(4);
    let (client, server) = pair.ways();
    pair.server.set_clock_rate(2_000_000);
    pair.server.set_wall_clock_ms(1_000);
    pair.world.run(async {
        let socket = pair.connect().await;
        pair.world.delay(server, client, Duration::from_secs(1));
        let (theirs, before) = (pair.server.runtime(0), pair.world.now());
        let began = theirs.now();
        assert!(matches!(pair.ask(&socket).await, Some(Ok(1))));
        let passed = pair.world.now() - before;
        assert!((1..2).contains(&passed.as_secs()), "{passed:?}");
        assert!((2..3).contains(&(theirs.now() - began).as_secs()));
        let before = pair.world.now();
        theirs.sleep(Duration::from_secs(4)).await;
        let passed = pair.world.now() - before;
        assert!(
            passed.abs_diff(Duration::from_secs(2)) < Duration::from_millis(1),
            "{passed:?}"
        );
        assert!((7_000..10_000).contains(&theirs.wall_clock_ms()));
    });
}

#[test]
fn a_process_is_cut_at_a_step_and_the_others_go_on() {
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let pair = Pair::new(5);
        pair.server.cut_at_io(4);
        let rt = pair.server.runtime(0);
        rt.clone().spawn(TaskClass::Foreground, async move {
            let file = create(&rt, "/a").await;
            file.write_at(blocks(&rt, 1, 1), 0, WriteMode::Durable)
                .await
                .unwrap();
        });
        pair.world.run(async {
            pair.server.wait_cut().await;
            pair.server.power_cut();
            pair.client.runtime(0).sleep(Duration::from_secs(1)).await;
        });
        assert_eq!(pair.server.io_count(), 4);
        hashes.push((pair.world.trace_hash(), pair.disk.hash()));
    }
    assert_eq!(hashes[0], hashes[1]);
}
