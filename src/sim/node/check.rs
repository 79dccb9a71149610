//! Whether a client finds what the history promises.

use std::collections::BTreeMap;

use super::Scene;
use super::history::{
    Answer, BatchAnswer, History, PartitionName, RecordId, SentBatch, TopicHistory,
};
use super::load::{self, client};
use crate::client::{Client, Consumer, ConsumerOptions, Metadata, Resource, When};
use crate::compress::Codecs;
use crate::model::Offset;
use crate::sim::SimRuntime;

type Records = BTreeMap<i64, RecordId>;

/// Checks metadata and records of everything.
pub(super) async fn check(scene: &Scene) -> Result<(), String> {
    let client = client(scene);
    let metadata = scene.within("metadata", client.refresh(None)).await?;
    let metadata = metadata.map_err(|error| error.to_string())?;
    let expected = scene.history.borrow().topics.clone();
    check_topics(&expected, &metadata)?;
    {
        let mut history = scene.history.borrow_mut();
        (history.records, history.allowed_losses) = (0, 0);
    }
    for (name, topic) in &metadata.topics {
        let configs = check_config(&client, name, &expected[name]);
        scene.within("configs", configs).await??;
        for partition in &topic.partitions {
            let name = (name.clone(), partition.index);
            let what = format!("reading {name:?}");
            let read = scene.within(&what, read(&client, &name)).await?;
            let (start, records) = read.map_err(|error| format!("{what}: {error}"))?;
            let mut history = scene.history.borrow_mut();
            history.allowed_losses += check_partition(&history, &name, start, &records)?;
            history.records += records.len() as u64;
        }
    }
    client.close();
    Ok(())
}

/// Has every partition take a batch: none has stopped to accept for good.
pub(super) async fn check_accepts(scene: &Scene) -> Result<(), String> {
    let client = client(scene);
    let metadata = scene.within("metadata", client.refresh(None)).await?;
    let metadata = metadata.map_err(|error| error.to_string())?;
    for (topic, found) in &metadata.topics {
        let partitions = found.partitions.len();
        let deleted = scene.history.borrow().topics[topic].deleted.is_some();
        if !deleted {
            let accepted = load::send_to_each(scene, &client, topic, partitions);
            scene
                .within("a batch for each partition", accepted)
                .await??;
        }
    }
    client.close();
    Ok(())
}

fn check_topics(
    expected: &BTreeMap<String, TopicHistory>,
    metadata: &Metadata,
) -> Result<(), String> {
    let there = &metadata.topics;
    if let Some(name) = there.keys().find(|name| !expected.contains_key(*name)) {
        return Err(format!(
            "topic {name} is there, and nobody has asked for it"
        ));
    }
    for (name, topic) in expected {
        let found = there.get(name);
        let must_be_there = topic.created == Answer::Ok && topic.deleted.is_none();
        let must_be_gone = topic.deleted == Some(Answer::Ok);
        match found {
            None if must_be_there => return Err(format!("topic {name} is lost: {topic:?}")),
            Some(_) if must_be_gone => return Err(format!("topic {name} was deleted")),
            _ => {}
        }
        let Some(found) = found else { continue };
        let count = found.partitions.len() as i32;
        if !topic.partitions.contains(&count) {
            return Err(format!("topic {name} has {count} partitions: {topic:?}"));
        }
        if let Some(lost) = found
            .partitions
            .iter()
            .find(|partition| partition.leader < 0)
        {
            return Err(format!("nobody leads {name}-{}", lost.index));
        }
    }
    Ok(())
}

async fn check_config(
    client: &Client<SimRuntime>,
    name: &str,
    topic: &TopicHistory,
) -> Result<(), String> {
    let resource = Resource::Topic(name.to_owned());
    let configs = client.configs(&resource, Some(&["retention.ms"])).await;
    let configs = configs.map_err(|error| format!("configs of {name}: {error}"))?;
    let value = configs.first().and_then(|config| config.value.as_deref());
    let may_be = |expected: &Option<i64>| {
        let expected = expected.map_or("604800000".to_owned(), |ms| ms.to_string());
        value == Some(expected.as_str())
    };
    match topic.retention_ms.iter().any(may_be) {
        true => Ok(()),
        false => Err(format!("retention.ms of {name} is {value:?}: {topic:?}")),
    }
}

async fn offset(
    client: &Client<SimRuntime>,
    name: &PartitionName,
    when: When,
) -> Result<i64, String> {
    let listed = client.list_offsets(&name.0, &[name.1], when).await;
    let listed = listed.map_err(|error| error.to_string())?;
    let offset = listed.get(&name.1).and_then(|listed| listed.offset);
    offset.map_or(
        Err(format!("no offset for {when:?}")),
        |offset| Ok(offset.0),
    )
}

/// Where a partition's log starts, and everything in it.
async fn read(client: &Client<SimRuntime>, name: &PartitionName) -> Result<(i64, Records), String> {
    let start = offset(client, name, When::Start).await?;
    let end = offset(client, name, When::End).await?;
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    consumer.assign(&name.0, name.1, Offset(start));
    let (mut records, mut codecs) = (Records::new(), Codecs::new());
    while consumer
        .position(&name.0, name.1)
        .is_some_and(|next| next.0 < end)
    {
        let fetched = consumer.poll().await.map_err(|error| error.to_string())?;
        for part in fetched {
            let mut invented = None;
            let taken = part.for_each_record(&mut codecs, |offset, _, record| {
                match RecordId::of_value(record.value.unwrap_or_default()) {
                    Some(id) => drop(records.insert(offset.0, id)),
                    None => invented = Some(offset),
                }
            });
            taken.map_err(|error| error.to_string())?;
            if let Some(offset) = invented {
                return Err(format!("the record at {offset} is nobody's"));
            }
        }
    }
    match records.keys().copied().eq(start..end) {
        true => Ok((start, records)),
        false => Err(format!(
            "of offsets {start} to {end} there are {:?}",
            records.keys()
        )),
    }
}

fn check_partition(
    history: &History,
    name: &PartitionName,
    start: i64,
    records: &Records,
) -> Result<u64, String> {
    let wrong = |what: String| format!("{name:?}: {what}");
    let (asked, acknowledged) = history.trimmed.get(name).copied().unwrap_or_default();
    if !(acknowledged..=asked).contains(&start) {
        return Err(wrong(format!(
            "the log starts at {start}; {acknowledged} was acknowledged, {asked} asked for"
        )));
    }
    let sent = history.batches.get(name).map_or(&[][..], Vec::as_slice);
    check_records(history, sent, records).map_err(wrong)?;
    let mut losses = 0;
    for era in 0..=history.era {
        losses += check_era(history, sent, era, start, records).map_err(wrong)?;
    }
    for (offset, id) in history.shown.get(name).into_iter().flatten() {
        if *offset >= start && records.get(offset) != Some(id) {
            return Err(wrong(format!("{id:?} was shown at {offset} and is gone")));
        }
    }
    Ok(losses)
}

/// Every record is one that was sent and not refused, and those of an idempotent producer are there
/// once, in its order.
fn check_records(history: &History, sent: &[SentBatch], records: &Records) -> Result<(), String> {
    let ids = |batch: &SentBatch| {
        batch.records().map({
            let answer = batch.answer;
            move |id| (id, answer)
        })
    };
    let known: BTreeMap<RecordId, BatchAnswer> = sent.iter().flat_map(ids).collect();
    let mut newest: BTreeMap<u32, u32> = BTreeMap::new();
    for (offset, id) in records {
        match known.get(id) {
            None => return Err(format!("invented: {id:?} at {offset}")),
            Some(BatchAnswer::Refused) => {
                return Err(format!("refused, and yet at {offset}: {id:?}"));
            }
            Some(_) => {}
        }
        let before = newest.insert(id.producer, id.number);
        if history.idempotent.contains(&id.producer) && before.is_some_and(|n| n >= id.number) {
            return Err(format!("{id:?} at {offset} comes behind {before:?}"));
        }
    }
    Ok(())
}

/// What was acknowledged in an era is there, each record at its offset; or, if the era has ended, some
/// first part of it. Gives how many batches are not.
fn check_era(
    history: &History,
    sent: &[SentBatch],
    era: u32,
    start: i64,
    records: &Records,
) -> Result<u64, String> {
    let acknowledged = sent
        .iter()
        .filter_map(|batch| Some((batch.acknowledged_in(era)?, batch)));
    let by_offset: BTreeMap<i64, &SentBatch> = acknowledged.collect();
    let mut lost = None;
    let mut losses = 0;
    for (base, batch) in by_offset {
        let kept = batch.records().zip(base..);
        for (id, offset) in kept.filter(|(_, offset)| *offset >= start) {
            match (records.get(&offset) == Some(&id), lost) {
                (true, None) => {}
                (true, Some(lost)) => {
                    return Err(format!(
                        "{id:?} is at {offset}, and {lost:?} before it is lost"
                    ));
                }
                (false, _) if era == history.era => {
                    let found = records.get(&offset);
                    return Err(format!(
                        "lost: {id:?} was acknowledged at {offset}, where {found:?} is"
                    ));
                }
                (false, _) => lost = lost.or(Some((id, offset))),
            }
        }
        losses += u64::from(lost.is_some());
    }
    Ok(losses)
}
