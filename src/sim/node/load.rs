//! Producers, consumers, and one who changes topics: the project's own client.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use super::history::{Answer, RecordId, TopicHistory};
use super::{ADDRESS, Scene, once};
use crate::client::{
    Client, ClientOptions, Consumer, ConsumerOptions, Delivery, NewTopic, Producer, ProducerOptions,
};
use crate::compress::{Codecs, Level};
use crate::model::batch::BatchBuilder;
use crate::model::{Codec, Offset};
use crate::rt::{Event, Runtime, TaskClass};
use crate::sim::{Rng, SimRuntime};

const TIMEOUT: Duration = Duration::from_secs(20);
/// A client's request takes no second attempt before this time.
const AGAIN: Duration = Duration::from_millis(20);
/// Batches that one producer has under way.
const WINDOW: usize = 5;

/// What runs beside the faults.
pub(super) struct Load {
    shared: Rc<Shared>,
}

/// What those who make it share.
#[derive(Default)]
pub(super) struct Shared {
    is_ending: Cell<bool>,
    running: Cell<usize>,
    changed: Event,
}

/// Begins the load of a seed.
pub(super) fn begin(scene: &Scene, rng: &mut Rng) -> Load {
    let load = Load {
        shared: Rc::default(),
    };
    load.run(
        scene,
        change_topics(scene.clone(), load.shared.clone(), rng.fork()),
    );
    for _ in 0..2 + rng.below(3) {
        load.run(
            scene,
            produce(scene.clone(), load.shared.clone(), rng.fork()),
        );
    }
    for _ in 0..1 + rng.below(2) {
        load.run(
            scene,
            once::produce(scene.clone(), load.shared.clone(), rng.fork()),
        );
    }
    load.run(
        scene,
        consume(scene.clone(), load.shared.clone(), rng.fork()),
    );
    load
}

/// A client of the node.
pub(super) fn client(scene: &Scene) -> Client<SimRuntime> {
    let options = ClientOptions {
        brokers: vec![ADDRESS.to_owned()],
        timeout: TIMEOUT,
    };
    Client::new(scene.rt.clone(), options)
}

impl Shared {
    /// Whether everyone is to end what is under way.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }
}

impl Load {
    fn run(&self, scene: &Scene, task: impl Future<Output = ()> + 'static) {
        let shared = self.shared.clone();
        shared.running.set(shared.running.get() + 1);
        scene.rt.spawn(TaskClass::Foreground, async move {
            task.await;
            shared.running.set(shared.running.get() - 1);
            shared.changed.notify();
        });
    }

    /// Lets everyone end what is under way.
    pub(super) fn end(&self) {
        self.shared.is_ending.set(true);
    }

    /// Completes when everyone has.
    pub(super) async fn ended(&self) {
        let look = || (self.shared.running.get() == 0).then_some(());
        self.shared.changed.wait_until(look).await;
    }
}

/// Creates, grows, changes and deletes topics.
async fn change_topics(scene: Scene, shared: Rc<Shared>, mut rng: Rng) {
    let client = client(&scene);
    let mut number = 0;
    while !shared.is_ending() {
        if client.refresh(Some(&[])).await.is_err() {
            scene.rt.sleep(Duration::from_millis(50)).await;
            continue;
        }
        let live = scene.history.borrow().live_topics();
        let any = |rng: &mut Rng| live[rng.index(live.len())].clone();
        match rng.below(10) {
            _ if live.len() < 2 => {
                number += 1;
                create(&scene, &client, number, &mut rng).await;
            }
            0..=3 if live.len() < 8 => {
                number += 1;
                create(&scene, &client, number, &mut rng).await;
            }
            4 | 5 => grow(&scene, &client, any(&mut rng), &mut rng).await,
            6 if live.len() > 3 => delete(&scene, &client, any(&mut rng)).await,
            7 => trim(&scene, &client, any(&mut rng), &mut rng).await,
            _ => configure(&scene, &client, any(&mut rng), &mut rng).await,
        }
        scene.rt.sleep(Duration::from_millis(rng.below(400))).await;
    }
    client.close();
}

async fn create(scene: &Scene, client: &Client<SimRuntime>, number: u32, rng: &mut Rng) {
    let name = format!("topic-{number}");
    let partitions = 1 + rng.below(4) as i32;
    let compression = ["producer", "zstd", "lz4", "uncompressed"][rng.index(4)];
    let topic = NewTopic {
        name: name.clone(),
        partitions,
        replication_factor: 1,
        configs: vec![("compression.type".into(), compression.into())],
    };
    // It may exist from now on, whatever is answered.
    let history = TopicHistory {
        created: Answer::Unknown,
        partitions: [partitions].into(),
        deleted: None,
        retention_ms: [None].into(),
        late_retention_ms: BTreeSet::new(),
    };
    scene
        .history
        .borrow_mut()
        .topics
        .insert(name.clone(), history);
    let answer = Answer::of(&client.create_topic(&topic, false).await);
    let mut history = scene.history.borrow_mut();
    history.note_change(answer);
    if let Some(topic) = history.topics.get_mut(&name) {
        topic.created = answer;
    }
}

async fn grow(scene: &Scene, client: &Client<SimRuntime>, name: String, rng: &mut Rng) {
    let asked = {
        let mut history = scene.history.borrow_mut();
        let topic = history.topics.get_mut(&name);
        let Some(topic) = topic.filter(|topic| topic.created == Answer::Ok) else {
            return;
        };
        let most = topic.partitions.last().copied().unwrap_or(1);
        let asked = most + 1 + rng.below(2) as i32;
        topic.partitions.insert(asked);
        asked
    };
    let answer = Answer::of(&client.add_partitions(&name, asked, false).await);
    let mut history = scene.history.borrow_mut();
    history.note_change(answer);
    if let Some(topic) = history.topics.get_mut(&name)
        && answer == Answer::Ok
    {
        topic.partitions = [asked].into();
    }
}

async fn delete(scene: &Scene, client: &Client<SimRuntime>, name: String) {
    let note = |answer| {
        if let Some(topic) = scene.history.borrow_mut().topics.get_mut(&name) {
            topic.deleted = Some(answer);
        }
    };
    note(Answer::Unknown);
    let answer = Answer::of(&client.delete_topic(&name).await);
    note(answer);
    scene.history.borrow_mut().note_change(answer);
}

/// Deletes some first part of a partition's records.
async fn trim(scene: &Scene, client: &Client<SimRuntime>, topic: String, rng: &mut Rng) {
    let (name, start) = {
        let mut history = scene.history.borrow_mut();
        let partitions = history.topics[&topic].partitions.first().copied();
        let partition = rng.below(partitions.unwrap_or(1) as u64) as i32;
        let name = (topic, partition);
        let start = rng.below(history.known_end(&name) as u64 + 1) as i64;
        let trimmed = history.trimmed.entry(name.clone()).or_default();
        trimmed.0 = trimmed.0.max(start);
        (name, start)
    };
    let asked = [(name.1, Offset(start))].into();
    let answer = Answer::of(&client.delete_records(&name.0, &asked).await);
    let mut history = scene.history.borrow_mut();
    history.note_change(answer);
    if let (Some(trimmed), Answer::Ok) = (history.trimmed.get_mut(&name), answer) {
        trimmed.1 = trimmed.1.max(start);
    }
}

async fn configure(scene: &Scene, client: &Client<SimRuntime>, name: String, rng: &mut Rng) {
    let value = (!rng.one_in(4)).then(|| 1_000_000_000 + rng.below(1_000_000) as i64);
    {
        let mut history = scene.history.borrow_mut();
        let Some(topic) = history.topics.get_mut(&name) else {
            return;
        };
        topic.retention_ms.insert(value);
    }
    let change = (
        "retention.ms".to_owned(),
        value.map(|value| value.to_string()),
    );
    let began = scene.rt.now();
    let result = client.alter_topic_configs(&name, &[change], false).await;
    let mut history = scene.history.borrow_mut();
    history.note_change(Answer::of(&result));
    if let (Some(topic), Ok(())) = (history.topics.get_mut(&name), &result) {
        topic.retention_ms = topic.late_retention_ms.clone();
        topic.retention_ms.insert(value);
        // It was asked for more than once: one of these may be done later than the next change.
        if scene.rt.now() - began >= AGAIN {
            topic.late_retention_ms.insert(value);
        }
    } else if let Some(topic) = history.topics.get_mut(&name) {
        topic.late_retention_ms.insert(value);
    }
}

/// One producer after the other: each until something of it fails.
async fn produce(scene: Scene, shared: Rc<Shared>, mut rng: Rng) {
    while !shared.is_ending() {
        let client = client(&scene);
        one_producer(&scene, &shared, &client, &mut rng).await;
        client.close();
        scene.rt.sleep(Duration::from_millis(rng.below(100))).await;
    }
}

async fn one_producer(scene: &Scene, shared: &Shared, client: &Client<SimRuntime>, rng: &mut Rng) {
    let topics = scene.history.borrow().live_topics();
    let Some(topic) = topics.get(rng.index(topics.len().max(1))).cloned() else {
        return;
    };
    let idempotent = !rng.one_in(3);
    let options = ProducerOptions {
        acks: if idempotent || rng.coin() { -1 } else { 1 },
        idempotent,
        codec: Level::default_of(Codec::ALL[rng.index(Codec::ALL.len())]),
    };
    let Ok(producer) = Producer::new(client.clone(), options).await else {
        return;
    };
    let partitions = scene.history.borrow().partitions_of(&topic);
    let mut writer = Writer::new(scene, producer, idempotent, topic, partitions);
    let window = if idempotent { WINDOW } else { 1 };
    for _ in 0..1 + rng.below(40) {
        if shared.is_ending() || !writer.send(rng) {
            break;
        }
        while writer.under_way.len() >= window {
            if !writer.settle_one().await {
                return writer.give_up().await;
            }
        }
        scene
            .rt
            .sleep(Duration::from_micros(rng.below(100_000)))
            .await;
    }
    writer.give_up().await;
}

/// A producer with what it has under way.
struct Writer<'a> {
    scene: &'a Scene,
    producer: Producer<SimRuntime>,
    id: u32,
    topic: String,
    /// The number of its next record, by partition.
    next: Vec<u32>,
    /// Deliveries that are to come: of which partition, and which of its batches.
    under_way: VecDeque<(i32, usize, Delivery)>,
    builder: BatchBuilder,
}

/// Sends a batch to each partition of a topic.
///
/// # Errors
/// One was not acknowledged.
pub(super) async fn send_to_each(
    scene: &Scene,
    client: &Client<SimRuntime>,
    topic: &str,
    partitions: usize,
) -> Result<(), String> {
    let options = ProducerOptions {
        acks: -1,
        idempotent: true,
        codec: Level::default_of(Codec::None),
    };
    let producer = Producer::new(client.clone(), options).await;
    let producer = producer.map_err(|error| format!("no producer id: {error}"))?;
    let mut writer = Writer::new(scene, producer, true, topic.to_owned(), partitions);
    let sent = (0..partitions).all(|partition| writer.send_to(partition, 1));
    let taken = writer.settle().await;
    writer.producer.close();
    match sent && taken {
        true => Ok(()),
        false => Err(format!("a partition of {topic} takes no records any more")),
    }
}

impl<'a> Writer<'a> {
    fn new(
        scene: &'a Scene,
        producer: Producer<SimRuntime>,
        idempotent: bool,
        topic: String,
        partitions: usize,
    ) -> Self {
        Self {
            scene,
            producer,
            id: scene.history.borrow_mut().next_producer(idempotent),
            next: vec![0; partitions],
            topic,
            under_way: VecDeque::new(),
            builder: BatchBuilder::new(),
        }
    }

    fn send(&mut self, rng: &mut Rng) -> bool {
        self.send_to(rng.index(self.next.len()), 1 + rng.below(20) as u32)
    }

    fn send_to(&mut self, partition: usize, count: u32) -> bool {
        let first = RecordId {
            producer: self.id,
            number: self.next[partition],
        };
        let now = self.scene.rt.wall_clock_ms();
        for number in 0..count {
            let value = first.plus(number).value();
            if self.builder.append(now, None, Some(&value), &[]).is_err() {
                return false;
            }
        }
        self.next[partition] += count;
        let name = (self.topic.clone(), partition as i32);
        let index = self.scene.history.borrow_mut().send(name, first, count);
        let partition = partition as i32;
        let sent = self
            .producer
            .send(&self.topic, partition, &mut self.builder);
        sent.map(|delivery| self.under_way.push_back((partition, index, delivery)))
            .is_ok()
    }

    /// Waits for the oldest delivery; false when it has failed.
    async fn settle_one(&mut self) -> bool {
        let Some((partition, index, delivery)) = self.under_way.pop_front() else {
            return true;
        };
        let Ok(Ok(delivered)) = delivery.await else {
            return false;
        };
        let mut history = self.scene.history.borrow_mut();
        let answer = history.acknowledged(delivered.base_offset.0);
        history.answer(&(self.topic.clone(), partition), index, answer);
        true
    }

    /// Waits for what is under way; false when some of it has failed.
    async fn settle(&mut self) -> bool {
        let mut all = true;
        while !self.under_way.is_empty() {
            all &= self.settle_one().await;
        }
        all
    }

    /// Waits for what is under way, and ends the producer.
    async fn give_up(mut self) {
        self.settle().await;
        self.producer.close();
    }
}

/// Reads topics from their beginning, and remembers what it saw.
async fn consume(scene: Scene, shared: Rc<Shared>, mut rng: Rng) {
    let mut codecs = Codecs::new();
    while !shared.is_ending() {
        let client = client(&scene);
        let (topics, era) = {
            let history = scene.history.borrow();
            (history.live_topics(), history.era)
        };
        if let Some(topic) = topics.get(rng.index(topics.len().max(1))) {
            let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
            let partitions = scene.history.borrow().partitions_of(topic);
            for partition in 0..partitions {
                consumer.assign(topic, partition as i32, Offset(0));
            }
            for _ in 0..rng.below(20) {
                let Ok(fetched) = consumer.poll().await else {
                    break;
                };
                // What an earlier life has shown may be gone.
                if scene.history.borrow().era != era {
                    break;
                }
                show(&scene, &fetched, &mut codecs);
            }
        }
        client.close();
        scene.rt.sleep(Duration::from_millis(rng.below(300))).await;
    }
}

fn show(scene: &Scene, fetched: &[crate::client::Fetched], codecs: &mut Codecs) {
    let mut history = scene.history.borrow_mut();
    for part in fetched {
        let name = (part.topic.to_string(), part.partition);
        let mut shown = Ok(());
        let read = part.for_each_record(codecs, |offset, _, record| {
            let seen = history.show(&name, offset.0, record.value.unwrap_or_default());
            shown = std::mem::replace(&mut shown, Ok(())).and(seen);
        });
        assert!(read.is_ok() && shown.is_ok(), "{read:?} {shown:?}");
    }
}
