//! The cluster as a client sees it: which brokers there are, who leads what, and how to reach them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::address::{resolve, split};
use super::{Answer, ClientError, Connection};
use crate::model::TopicId;
use crate::rt::Runtime;
use crate::wire::messages::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use crate::wire::{ErrorCode, Request};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Bootstrap addresses, each HOST:PORT; without a port it is 9092.
    pub brokers: Vec<String>,
    /// How long one operation may take, retries included.
    pub timeout: Duration,
}

/// Waiting times between attempts: doubling from 20 ms to 1 s.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: Duration::from_millis(20),
        }
    }
}

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(1);

    /// Waits, each time longer.
    pub async fn wait<R: Runtime>(&mut self, rt: &R) {
        let wait = self.next;
        self.next = (wait * 2).min(Self::LONGEST);
        rt.sleep(wait).await;
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// A topic of the cluster.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    /// Its id; zero from brokers that have none.
    pub id: TopicId,
    /// Whether it is the broker's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// Its partitions by rising index.
    pub partitions: Vec<Partition>,
}

/// A partition of a topic.
#[derive(Clone, Debug)]
pub struct Partition {
    pub index: i32,
    /// Broker id of its leader, −1 when there is none.
    pub leader: i32,
    pub leader_epoch: i32,
    /// Broker ids of its replicas.
    pub replicas: Vec<i32>,
    /// Broker ids of its in-sync replicas.
    pub in_sync: Vec<i32>,
}

/// What one metadata response says.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub cluster_id: Option<String>,
    /// Broker id of the controller.
    pub controller: i32,
    /// The brokers by id.
    pub brokers: BTreeMap<i32, Broker>,
    /// Topics without an error, by name.
    pub topics: BTreeMap<String, Topic>,
    /// Topics with an error.
    pub errors: BTreeMap<String, ErrorCode>,
}

/// A client of one cluster. Clones share connections and metadata.
pub struct Client<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    rt: R,
    options: ClientOptions,
    connections: RefCell<BTreeMap<SocketAddr, Connection<R>>>,
    metadata: RefCell<Metadata>,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.inner.options.brokers.join(","))
    }
}

impl<R: Runtime> Client<R> {
    /// A client; nothing is connected before the first request.
    pub fn new(rt: R, options: ClientOptions) -> Self {
        let connections = RefCell::default();
        let metadata = RefCell::default();
        Self {
            inner: Rc::new(Inner {
                rt,
                options,
                connections,
                metadata,
            }),
        }
    }

    /// The runtime it runs on.
    pub fn rt(&self) -> &R {
        &self.inner.rt
    }

    /// How long one operation may take.
    pub fn timeout(&self) -> Duration {
        self.inner.options.timeout
    }

    /// The same in milliseconds, for requests that carry it.
    pub(super) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout().as_millis()).unwrap_or(i32::MAX)
    }

    /// A working connection to any of the bootstrap brokers.
    pub async fn any(&self) -> Result<Connection<R>, ClientError> {
        let mut last = "no address given".to_owned();
        for broker in &self.inner.options.brokers {
            let (host, port) = split(broker)?;
            let addresses = match resolve(host, port) {
                Ok(addresses) => addresses,
                Err(error) => {
                    last = format!("{host}: {error}");
                    continue;
                }
            };
            for address in addresses {
                match self.connection(address).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error.to_string(),
                }
            }
        }
        Err(ClientError::Unreachable {
            brokers: self.inner.options.brokers.join(","),
            last,
        })
    }

    /// A working connection to the broker of this id.
    pub async fn broker(&self, id: i32) -> Result<Connection<R>, ClientError> {
        let broker = self.inner.metadata.borrow().brokers.get(&id).cloned();
        let Some(broker) = broker else {
            return Err(refused(
                format!("broker {id}"),
                ErrorCode::BrokerNotAvailable,
            ));
        };
        let name = format!("{}:{}", broker.host, broker.port);
        let unreachable = |last: String| ClientError::Unreachable {
            brokers: name.clone(),
            last,
        };
        let port = u16::try_from(broker.port);
        let port = port.map_err(|_| unreachable("no such port".into()))?;
        let addresses = resolve(&broker.host, port);
        let mut last = None;
        for address in addresses.map_err(|error| unreachable(error.to_string()))? {
            match self.connection(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(String::new())))
    }

    /// A working connection to the controller, or to whatever broker forwards to it.
    pub async fn controller(&self) -> Result<Connection<R>, ClientError> {
        let metadata = self.refresh(Some(&[])).await?;
        if metadata.brokers.contains_key(&metadata.controller) {
            self.broker(metadata.controller).await
        } else {
            self.any().await
        }
    }

    /// A connection to the leader of a partition, looked up when it is not known.
    pub async fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(i32, Connection<R>), ClientError> {
        if let Some(leader) = self.known_leader(topic, partition) {
            return Ok((leader, self.broker(leader).await?));
        }
        self.refresh(Some(&[topic])).await?;
        let Some(leader) = self.known_leader(topic, partition) else {
            let code = self.inner.metadata.borrow().errors.get(topic).copied();
            let code = code.unwrap_or(ErrorCode::UnknownTopicOrPartition);
            return Err(refused(format!("{topic}-{partition}"), code));
        };
        Ok((leader, self.broker(leader).await?))
    }

    /// The leader that the last metadata names; none when unknown.
    pub fn known_leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let metadata = self.inner.metadata.borrow();
        let topic = metadata.topics.get(topic)?;
        let found = topic
            .partitions
            .iter()
            .find(|found| found.index == partition)?;
        (found.leader >= 0).then_some(found.leader)
    }

    /// Drops what is known about a topic, so that the next look asks again.
    pub fn forget(&self, topic: &str) {
        self.inner.metadata.borrow_mut().topics.remove(topic);
    }

    /// The topic's id as last heard; zero when unknown.
    pub fn topic_id(&self, topic: &str) -> TopicId {
        let metadata = self.inner.metadata.borrow();
        metadata
            .topics
            .get(topic)
            .map(|topic| topic.id)
            .unwrap_or_default()
    }

    /// Asks for metadata of `topics` (all when none are given) and remembers it.
    pub async fn refresh(&self, topics: Option<&[&str]>) -> Result<Metadata, ClientError> {
        self.metadata(topics, false).await
    }

    /// Asks for metadata; `create` lets the broker create topics that do not exist, if it is
    /// configured to.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<Metadata, ClientError> {
        let named = |name: &&str| MetadataRequestTopic {
            topic_id: TopicId::ZERO,
            name: Some((*name).to_owned().into()),
        };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let connection = self.any().await?;
        let answer = self
            .within(self.timeout(), "Metadata", connection.call(&request))
            .await?;
        let metadata = read_metadata(answer.read()?);
        let mut known = self.inner.metadata.borrow_mut();
        known.cluster_id.clone_from(&metadata.cluster_id);
        known.controller = metadata.controller;
        known.brokers.clone_from(&metadata.brokers);
        for (name, topic) in &metadata.topics {
            known.topics.insert(name.clone(), topic.clone());
            known.errors.remove(name);
        }
        known.errors.extend(metadata.errors.clone());
        Ok(metadata)
    }

    /// Sends a request to any broker, again while that may help, until the timeout.
    pub async fn call<'a, Q: Request<'a>>(&self, request: &Q) -> Result<Answer, ClientError> {
        self.retry(Q::KEY.name(), || async {
            self.any().await?.call(request).await
        })
        .await
    }

    /// Runs `attempt` again while it fails in a way that may pass, until the timeout.
    pub async fn retry<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        let deadline = self.inner.rt.now() + self.inner.options.timeout;
        let mut backoff = Backoff::default();
        loop {
            let left = deadline.saturating_sub(self.inner.rt.now());
            let error = match self.within(left, what, attempt()).await {
                Err(error) if error.is_retriable() => error,
                result => return result,
            };
            if self.inner.rt.now() + backoff.next >= deadline {
                return Err(error);
            }
            backoff.wait(&self.inner.rt).await;
        }
    }

    /// The result of `future`, or `TimedOut` when it takes longer than `limit`.
    pub async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        future: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let sleep = std::pin::pin!(self.inner.rt.sleep(limit));
        match select(std::pin::pin!(future), sleep).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(ClientError::TimedOut {
                what: what.to_owned(),
            }),
        }
    }

    /// Closes every connection.
    pub fn close(&self) {
        for (_, connection) in std::mem::take(&mut *self.inner.connections.borrow_mut()) {
            connection.close();
        }
    }

    async fn connection(&self, address: SocketAddr) -> Result<Connection<R>, ClientError> {
        if let Some(connection) = self.inner.connections.borrow().get(&address)
            && connection.is_open()
        {
            return Ok(connection.clone());
        }
        let what = format!("connecting to {address}");
        let opening = Connection::open(&self.inner.rt, address);
        let connection = self
            .within(self.inner.options.timeout, &what, opening)
            .await?;
        let mut connections = self.inner.connections.borrow_mut();
        if let Some(other) = connections.get(&address)
            && other.is_open()
        {
            // Somebody else connected meanwhile: two connections would mix up the order.
            connection.close();
            return Ok(other.clone());
        }
        connections.insert(address, connection.clone());
        Ok(connection)
    }
}

/// A broker's refusal of `what`, without words of its own.
pub(super) fn refused(what: impl Into<String>, code: ErrorCode) -> ClientError {
    ClientError::Refused {
        what: what.into(),
        code,
        message: None,
    }
}

fn read_metadata(response: MetadataResponse<'_>) -> Metadata {
    let mut metadata = Metadata {
        cluster_id: response.cluster_id.map(|id| id.into_owned()),
        controller: response.controller_id.0,
        ..Metadata::default()
    };
    for broker in response.brokers {
        let id = broker.node_id.0;
        let host = broker.host.into_owned();
        let rack = broker.rack.map(|rack| rack.into_owned());
        metadata.brokers.insert(
            id,
            Broker {
                id,
                host,
                port: broker.port,
                rack,
            },
        );
    }
    for topic in response.topics {
        let name = topic.name.unwrap_or_default().into_owned();
        if !topic.error_code.is_none() {
            metadata.errors.insert(name, topic.error_code);
            continue;
        }
        let mut partitions: Vec<Partition> = topic
            .partitions
            .into_iter()
            .map(|partition| Partition {
                index: partition.partition_index.0,
                leader: partition.leader_id.0,
                leader_epoch: partition.leader_epoch.0,
                replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
                in_sync: partition.isr_nodes.iter().map(|id| id.0).collect(),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.index);
        metadata.topics.insert(
            name.clone(),
            Topic {
                name,
                id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions,
            },
        );
    }
    metadata
}
