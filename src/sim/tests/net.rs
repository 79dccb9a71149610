//! Tests of the simulated network.

use std::net::SocketAddr;

use super::*;
use crate::rt::{Listener, Socket, TaskClass};

const ANY_PORT: &str = "127.0.0.1:0";

#[test]
fn a_large_stream_arrives_whole_and_in_order() {
    for seed in 0..20 {
        let disk = SimDisk::new(DiskModel::default());
        let mut life = Sim::new(seed, &disk);
        let shard = life.runtime(0);
        let listener = shard.listen(ANY_PORT.parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n >> 3) as u8).collect();
        let bufs = vec![
            Buf::from_vec(sent[..7].to_vec()),
            Buf::from_vec(sent[7..].to_vec()),
        ];
        let client = shard.clone();
        shard.spawn(TaskClass::Foreground, async move {
            let socket = client.connect(address).await.unwrap();
            assert_eq!(socket.peer_addr().unwrap(), address);
            socket.write(bufs).await.unwrap();
        });
        let received = life.run(async {
            let socket = listener.accept().await.unwrap();
            let mut received = Vec::new();
            loop {
                let buf = shard.arena().alloc(50_000).unwrap();
                let (result, buf) = socket.read(buf).await;
                if result.unwrap() == 0 {
                    return received;
                }
                received.extend_from_slice(&buf);
            }
        });
        assert!(received.unwrap() == sent);
    }
}

#[test]
fn nobody_listening_is_refused_and_a_taken_port_too() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    let address: SocketAddr = "127.0.0.1:9092".parse().unwrap();
    let work = async {
        let refused = shard.connect(address).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let listener = shard.listen(address).unwrap();
        assert!(shard.listen(address).is_err());
        drop(listener);
        assert!(shard.listen(address).is_ok());
    };
    life.run(work).unwrap();
}

#[test]
fn a_shut_socket_ends_reads_and_fails_writes_on_both_sides() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    let work = async {
        let listener = shard.listen(ANY_PORT.parse().unwrap()).unwrap();
        let client = shard.connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        let read = server.read(shard.arena().alloc(10).unwrap());
        client.shutdown();
        assert_eq!(read.await.0.unwrap(), 0);
        let (own_read, _) = client.read(shard.arena().alloc(10).unwrap()).await;
        assert_eq!(own_read.unwrap(), 0);
        let byte = || vec![Buf::from_vec(vec![1])];
        assert!(client.write(byte()).await.is_err());
        assert!(server.write(byte()).await.is_err());
    };
    life.run(work).unwrap();
}

#[test]
fn a_socket_that_stops_reading_gives_what_has_arrived_and_still_writes() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    let work = async {
        let listener = shard.listen(ANY_PORT.parse().unwrap()).unwrap();
        let client = shard.connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        client.write(vec![Buf::from_vec(vec![1])]).await.unwrap();
        shard.sleep(Duration::from_secs(1)).await;
        server.stop_reading();
        let room = || shard.arena().alloc(10).unwrap();
        assert_eq!(server.read(room()).await.0.unwrap(), 1);
        assert_eq!(server.read(room()).await.0.unwrap(), 0);
        server.write(vec![Buf::from_vec(vec![2])]).await.unwrap();
        assert_eq!(client.read(room()).await.0.unwrap(), 1);
    };
    life.run(work).unwrap();
}
