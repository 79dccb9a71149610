//! The controller with a metadata log on a simulated disk, and shards that the tests play.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use uuid::Uuid;

use super::controller::Controller;
use super::error::ServeError;
use super::metadata_log::MetadataLog;
use super::roster::Steps;
use super::rules::NodeRules;
use crate::cluster::controller::{Change, Made, NewTopic, NodeStart, TopicKey};
use crate::config::{DynamicConfigs, Host, Sources};
use crate::model::{NodeId, TopicId};
use crate::rt::{LaneReceiver, LaneSender, Runtime, TaskClass, UNBOUNDED};
use crate::shard::{
    Applied, Apply, ChangeError, Changed, ControlMessage, ControlPlane, ShardCall, ShardLink,
};
use crate::sim::{DiskModel, Sim, SimDisk, SimRuntime};

const DIR: &str = "/metadata";
const NODE: NodeId = NodeId(0);

/// A controller that runs, and the control lanes of its shards.
struct Scene {
    rt: SimRuntime,
    control: Rc<ControlPlane>,
    shards: Vec<LaneReceiver<ControlMessage>>,
    calls: Vec<LaneReceiver<ShardCall>>,
    _stop: LaneSender<()>,
}

async fn controller(rt: &SimRuntime) -> Controller<SimRuntime> {
    let host = Host {
        cpus: 1,
        memory_bytes: 1 << 30,
        is_root: false,
    };
    let settings = Sources::default().load(&host).expect("defaults hold").0;
    let config = settings
        .resolve(&DynamicConfigs::default())
        .expect("defaults hold");
    let (log, image) = MetadataLog::open(rt, Path::new(DIR)).await.expect("opens");
    let rules = NodeRules::new(NODE, Arc::new(settings), Arc::new(config));
    let mut controller = Controller::new(rt, log, Arc::new(image), rules);
    let start = Change::StartNode(NodeStart {
        cluster_id: "cluster".into(),
        node: NODE,
        shards: 2,
        after_clean_stop: false,
    });
    controller.propose(start).await.expect("starts");
    controller
}

async fn scene(rt: &SimRuntime) -> Scene {
    let mut controller = controller(rt).await;
    let (requests, inbox) = rt.lane(64);
    let (stop, stopped) = rt.lane(1);
    let (to_shards, shards): (Vec<_>, Vec<_>) = (0..2).map(|_| rt.lane(UNBOUNDED)).unzip();
    let (to_calls, calls): (Vec<_>, Vec<_>) = (0..2).map(|_| rt.lane(UNBOUNDED)).unzip();
    let links = to_shards.iter().cloned().zip(to_calls);
    let links = links.map(|(control, calls)| ShardLink { control, calls });
    controller.set_shards(links.collect());
    rt.spawn(TaskClass::Foreground, controller.run(inbox, stopped));
    Scene {
        rt: rt.clone(),
        control: Rc::new(ControlPlane::new(requests, to_shards)),
        shards,
        calls,
        _stop: stop,
    }
}

impl Scene {
    fn ask(&self, change: Change) -> impl Future<Output = Changed> + use<> {
        let (rt, control) = (self.rt.clone(), self.control.clone());
        async move { control.change(&rt, change, false).await }
    }

    /// Waits for what a shard is told next.
    async fn told(&mut self, shard: usize) -> Apply {
        match self.shards[shard].recv().await {
            Some(ControlMessage::Apply(apply)) => apply,
            _ => panic!("shard {shard} is told something else"),
        }
    }

    /// Waits for what a shard is asked for next.
    async fn called(&mut self, shard: usize) -> ShardCall {
        self.calls[shard]
            .recv()
            .await
            .expect("the controller lives")
    }

    /// Both shards have room for everything.
    fn have_room(&mut self) {
        for mut calls in self.calls.drain(..) {
            self.rt.spawn(TaskClass::Foreground, async move {
                while let Some(call) = calls.recv().await {
                    grant(call);
                }
            });
        }
    }

    /// Both shards carry out whatever they are told.
    fn obey(&mut self) {
        self.have_room();
        for mut shard in self.shards.drain(..) {
            self.rt.spawn(TaskClass::Foreground, async move {
                while let Some(ControlMessage::Apply(apply)) = shard.recv().await {
                    report(apply, Applied::default());
                }
            });
        }
    }
}

fn grant(call: ShardCall) {
    if let ShardCall::HoldRoom { reply, .. } = call {
        let _ = reply.try_send(Ok(()));
    }
}

fn report(apply: Apply, applied: Applied) {
    if let Some(waiting) = apply.applied {
        let _ = waiting.try_send(applied);
    }
}

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn topic(number: u128) -> NewTopic {
    NewTopic {
        name: format!("t{number}"),
        id: id(number),
        partition_count: 4,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    }
}

fn create(number: u128) -> Change {
    Change::CreateTopics(vec![topic(number)])
}

fn delete(number: u128) -> Change {
    Change::DeleteTopics(vec![TopicKey::Id(id(number))])
}

fn in_sim(seed: u64, main: impl AsyncFnOnce(SimRuntime, SimDisk)) {
    let disk = SimDisk::new(DiskModel::any(seed));
    let mut sim = Sim::new(seed, &disk);
    let rt = sim.runtime(0);
    sim.run(main(rt, disk.clone())).expect("no cut");
}

/// A change that shards are busy with holds up no other.
#[test]
fn an_answer_waits_for_its_shards_and_the_next_change_for_nobody() {
    in_sim(1, async |rt, _| {
        let mut scene = scene(&rt).await;
        scene.have_room();
        let mut created = Box::pin(scene.ask(create(1)));
        assert!((&mut created).now_or_never().is_none());
        let first = [scene.told(0).await, scene.told(1).await];
        let ids = scene
            .ask(Change::AllocateProducerIds)
            .await
            .expect("answered");
        assert!(matches!(ids[..], [Ok(Made::ProducerIds(_))]));
        assert!(
            (&mut created).now_or_never().is_none(),
            "no shard has made it"
        );
        let [one, other] = first;
        report(one, Applied::default());
        rt.sleep(Duration::from_secs(1)).await;
        assert!((&mut created).now_or_never().is_none(), "one shard has not");
        report(other, Applied::default());
        assert!(matches!(
            created.await.expect("answered")[..],
            [Ok(Made::Topic { .. })]
        ));
    });
}

/// A topic for which a shard has no room is refused before anybody has seen it, and holds up no other
/// change.
#[test]
fn what_has_no_room_is_never_decided() {
    in_sim(2, async |rt, _| {
        let mut scene = scene(&rt).await;
        let mut created = Box::pin(scene.ask(create(1)));
        assert!((&mut created).now_or_never().is_none());
        let [first, second] = [scene.called(0).await, scene.called(1).await];
        let (ShardCall::HoldRoom { topics, reply, .. }, ShardCall::HoldRoom { reply: refuse, .. }) =
            (first, second)
        else {
            panic!("room is asked for");
        };
        assert_eq!(*topics, [("t1".into(), 2)], "4 partitions on 2 shards");
        let ids = scene.ask(Change::AllocateProducerIds).await;
        assert!(ids.is_ok(), "needs no room");
        let _ = reply.try_send(Ok(()));
        let _ = refuse.try_send(Err(ChangeError::DiskFull));
        assert!(matches!(created.await, Err(ChangeError::DiskFull)));
        for shard in [0, 1] {
            let call = scene.called(shard).await;
            assert!(matches!(call, ShardCall::LetGo(_)));
        }
        scene.obey();
        let again = scene.ask(create(1)).await.expect("answered");
        assert!(
            matches!(again[..], [Ok(Made::Topic { .. })]),
            "as if never asked for"
        );
    });
}

/// What is refused for another reason gives its room back.
#[test]
fn a_refusal_lets_its_room_go() {
    in_sim(5, async |rt, _| {
        let mut scene = scene(&rt).await;
        let mut bad = topic(1);
        bad.configs.insert("no.such.key".into(), "1".into());
        let mut refused = Box::pin(scene.ask(Change::CreateTopics(vec![bad])));
        assert!((&mut refused).now_or_never().is_none());
        for shard in [0, 1] {
            grant(scene.called(shard).await);
        }
        let refused = refused.await.expect("answered");
        assert!(matches!(refused[..], [Err(ChangeError::Refused(_))]));
        for shard in [0, 1] {
            let call = scene.called(shard).await;
            assert!(matches!(call, ShardCall::LetGo(_)));
        }
    });
}

/// A full disk drops what adds, together with all that was decided on it, and nothing that frees.
#[test]
fn a_full_disk_fails_what_adds_and_lets_deletions_through() {
    in_sim(3, async |rt, disk| {
        let mut scene = scene(&rt).await;
        scene.obey();
        scene.ask(create(0)).await.expect("there is room");
        disk.set_capacity(Some(disk.used_bytes()));
        let mut number = 1;
        let full = loop {
            match scene.ask(create(number)).await {
                Ok(_) => number += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, ChangeError::DiskFull), "{full}");
        let adding = [create(number), create(number), Change::AllocateProducerIds];
        let adding = adding.map(|change| scene.ask(change));
        let (added, deleted) =
            futures_util::join!(futures_util::future::join_all(adding), scene.ask(delete(0)));
        assert!(
            added
                .iter()
                .all(|added| matches!(added, Err(ChangeError::DiskFull)))
        );
        assert!(matches!(
            deleted.expect("goes through")[..],
            [Ok(Made::Deleted { .. })]
        ));
        disk.set_capacity(None);
        let again = scene.ask(create(number)).await.expect("answered");
        assert!(
            matches!(again[..], [Ok(Made::Topic { .. })]),
            "as if never asked for"
        );
        let freed = scene.ask(create(0)).await.expect("answered");
        assert!(
            matches!(freed[..], [Ok(Made::Topic { .. })]),
            "the name is free"
        );
    });
}

/// The log of a node that starts often is summed up at its image's size, not at that of the log that
/// the last start found.
#[test]
fn many_starts_do_not_let_the_log_grow() {
    in_sim(4, async |rt, disk| {
        for _ in 0..8 {
            let mut scene = scene(&rt).await;
            scene.obey();
            for _ in 0..150 {
                scene
                    .ask(Change::AllocateProducerIds)
                    .await
                    .expect("answered");
            }
            drop(scene);
            rt.sleep(Duration::from_secs(1)).await;
        }
        let bytes = disk
            .read_file(format!("{DIR}/log"))
            .map_or(0, |log| log.len());
        assert!(bytes < 6 << 20, "{bytes} bytes");
    });
}

/// Shards answer a step in any order. One that fails fails the step at once, and what the others are at is
/// dropped when they learn of it.
#[test]
fn a_step_ends_with_all_shards_or_with_the_first_that_fails() {
    in_sim(6, async |rt, _| {
        let mut steps = Steps::<u64, u64>::new();
        for step in [0, 1].map(|_| steps.add(&rt)) {
            let waiter = rt.clone();
            rt.spawn(TaskClass::Foreground, async move {
                let work = async |told| {
                    waiter.sleep(Duration::from_millis(told)).await;
                    Ok(((), told + 1))
                };
                step.take_while_wanted(work).await;
            });
        }
        assert_eq!(steps.take([20, 10]).await.expect("all answer"), [21, 11]);

        let mut steps = Steps::<u64, u64>::new();
        let (endless, fails) = (steps.add(&rt), steps.add(&rt));
        let dropped = Rc::new(());
        let held = dropped.clone();
        rt.spawn(TaskClass::Foreground, async move {
            let work = async |_| {
                std::future::pending::<()>().await;
                Ok((held, 0))
            };
            endless.take_while_wanted(work).await;
        });
        rt.spawn(TaskClass::Foreground, async move {
            let lost = async |shard| Err::<((), u64), _>(ServeError::Lost(shard as usize));
            fails.take(lost).await;
        });
        let failed = steps.take([0, 9]).await;
        assert!(matches!(failed, Err(ServeError::Lost(9))), "{failed:?}");
        drop(steps);
        rt.sleep(Duration::from_secs(1)).await;
        assert_eq!(Rc::strong_count(&dropped), 1, "the work goes on");

        let mut steps = Steps::<u64, u64>::new();
        drop(steps.add(&rt));
        let gone = steps.take([0]).await;
        assert!(matches!(gone, Err(ServeError::Lost(0))), "{gone:?}");
    });
}
