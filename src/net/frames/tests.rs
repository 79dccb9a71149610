//! What frames cost while they come, and what becomes of those that do not.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::*;
use crate::rt::{Listener, Socket, TaskClass};
use crate::sim::{DiskModel, Sim, SimDisk, SimRuntime, SimSocket};

const LIMIT_BYTES: usize = 8 << 20;

#[test]
fn streams_are_cut_at_whole_frames() {
    let stream = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0];
    assert_eq!(cut_frame(&stream, 2).unwrap(), Cut::Whole(4..6));
    assert_eq!(cut_frame(&stream[6..], 2).unwrap(), Cut::Whole(4..4));
    assert_eq!(cut_frame(&stream[10..], 2).unwrap(), Cut::Needs(4));
    assert_eq!(cut_frame(&stream[..5], 2).unwrap(), Cut::Needs(6));
}

#[test]
fn lengths_are_checked_before_the_content_is_there() {
    let refused = |stream: &[u8], limit_bytes| match cut_frame(stream, limit_bytes) {
        Err(FrameError::Length { length, .. }) => Some(length),
        _ => None,
    };
    assert_eq!(refused(&[0xff; 4], 9), Some(-1));
    assert_eq!(refused(&[0, 0, 0, 10], 9), Some(10));
    let longest = [0x7f, 0xff, 0xff, 0xff];
    let limit_bytes = i32::MAX as usize;
    let needed = Cut::Needs(PREFIX_BYTES + limit_bytes);
    assert_eq!(cut_frame(&longest, limit_bytes).unwrap(), needed);
    assert_eq!(refused(&longest, limit_bytes - 1), Some(i32::MAX));
}

/// A shard that reads frames, and what came of each connection, in the order of their ends.
struct Door {
    rt: SimRuntime,
    address: SocketAddr,
    memory: FrameMemory,
    ends: Rc<RefCell<Vec<(usize, String)>>>,
}

impl Door {
    /// Serves every connection: a frame is held for a moment and then given back.
    fn open(rt: &SimRuntime, growing: usize, completing: usize) -> Self {
        let listener = rt.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let door = Self {
            rt: rt.clone(),
            address: listener.local_addr().unwrap(),
            memory: FrameMemory {
                small: Budget::new(1 << 20),
                growing: Budget::new(growing),
                completing: Budget::new(completing),
                has_deadlines: true,
            },
            ends: Rc::default(),
        };
        let (rt, memory, ends) = (rt.clone(), door.memory.clone(), door.ends.clone());
        door.rt.spawn(TaskClass::Foreground, async move {
            for nth in 0.. {
                let stream = Stream::plain(&rt, listener.accept().await.unwrap());
                let mut frames = FrameReader::new(rt.clone(), stream, LIMIT_BYTES, memory.clone());
                let ends = ends.clone();
                rt.spawn(TaskClass::Foreground, async move {
                    let end = loop {
                        match frames.next().await {
                            Ok(Some(frame)) => {
                                let whole = format!("{} bytes", frame.bytes.len());
                                ends.borrow_mut().push((nth, whole));
                            }
                            Ok(None) => break "end".to_owned(),
                            Err(error) => break format!("{error:?}"),
                        }
                    };
                    drop(frames);
                    ends.borrow_mut().push((nth, end));
                });
            }
        });
        door
    }

    /// A connection that announces a frame and sends a part of it.
    async fn send(&self, announced: usize, sent: usize) -> SimSocket {
        let socket = self.rt.connect(self.address).await.unwrap();
        let prefix = Buf::from_vec((announced as u32).to_be_bytes().to_vec());
        let writing = socket.write(vec![prefix, Buf::from_vec(vec![7; sent])]);
        self.rt.spawn(TaskClass::Foreground, async move {
            let _ = writing.await;
        });
        self.sleep_ms(200).await;
        socket
    }

    async fn sleep_ms(&self, ms: u64) {
        self.rt.sleep(Duration::from_millis(ms)).await;
    }

    fn large_taken(&self) -> (usize, usize) {
        let FrameMemory {
            growing,
            completing,
            ..
        } = &self.memory;
        (growing.taken(), completing.taken())
    }

    fn ends(&self) -> Vec<(usize, String)> {
        self.ends.borrow().clone()
    }
}

fn run(growing: usize, completing: usize, work: impl AsyncFnOnce(Door)) {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(5, &disk);
    let door = Door::open(&life.runtime(0), growing, completing);
    life.run(work(door)).unwrap();
}

#[test]
fn an_announcement_costs_what_has_come() {
    run(4 << 20, 8 << 20, async |door| {
        let socket = door.send(8 << 20, 300 << 10).await;
        assert_eq!(door.large_taken(), (512 << 10, 0));
        socket.shutdown();
        door.sleep_ms(200).await;
        assert_eq!(
            door.large_taken(),
            (0, 0),
            "a connection that goes gives back all"
        );
        assert_eq!(door.ends(), [(0, "CutShort".to_owned())]);
    });
}

#[test]
fn room_is_made_at_once_while_there_is_plenty() {
    run(5 << 20, 8 << 20, async |door| {
        let first = door.send(1 << 20, 10).await;
        let second = door.send(1 << 20, 10).await;
        let third = door.send(1 << 20, 10).await;
        assert_eq!(door.large_taken().0, (2 << 20) + (128 << 10) + 8);
        drop((first, second, third));
    });
}

#[test]
fn a_frame_that_does_not_come_is_given_up() {
    run(4 << 20, 8 << 20, async |door| {
        let silent = door.send(8 << 20, 300 << 10).await;
        let dribbling = door.send(8 << 20, 10).await;
        for _ in 0..80 {
            let _ = dribbling.write(vec![Buf::from_vec(vec![7])]).await;
            door.sleep_ms(1_000).await;
        }
        let ends = door.ends();
        assert_eq!(ends[0], (0, "Silent".to_owned()));
        assert!(ends[1].1.starts_with("Late"), "{ends:?}");
        assert_eq!(door.large_taken(), (0, 0));
        drop((silent, dribbling));
    });
}

/// Connections that hold all there is, and never send the rest, keep the next one for seconds.
#[test]
fn many_halves_do_not_keep_out_a_whole_one() {
    run(2 << 20, 2 << 20, async |door| {
        let mut halves = Vec::new();
        for _ in 0..8 {
            halves.push(door.send(1 << 20, 512 << 10).await);
        }
        assert!(
            door.large_taken().0 > (2 << 20) - (512 << 10),
            "{:?}",
            door.large_taken()
        );
        let whole = door.send(200 << 10, 200 << 10).await;
        door.sleep_ms(12_000).await;
        let ends = door.ends();
        assert!(
            ends.contains(&(8, format!("{} bytes", 200 << 10))),
            "{ends:?}"
        );
        drop((halves, whole));
    });
}

#[test]
fn a_frame_as_large_as_the_limit_comes_through_where_nothing_is_free() {
    run(1 << 20, 8 << 20, async |door| {
        let half = door.send(4 << 20, 900 << 10).await;
        let whole = door.send(LIMIT_BYTES, LIMIT_BYTES).await;
        door.sleep_ms(9_000).await;
        let ends = door.ends();
        assert!(
            ends.contains(&(1, format!("{LIMIT_BYTES} bytes"))),
            "{ends:?}"
        );
        drop((half, whole));
    });
}
