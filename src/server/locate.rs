//! From what a request names to the partition that is meant, or to where else it is.

use super::context::Context;
use super::errors::Code;
use super::session::Session;
use crate::cluster::Image;
use crate::model::{BrokerId, PartitionIndex, PartitionSlot, TopicId};
use crate::partition::Partition;
use crate::rt::Runtime;
use crate::shard::Found;
use crate::wire::ErrorCode;
use crate::wire::messages::{LeaderIdAndEpoch, NodeEndpoint};

/// A topic as a request names it: by name, or by id where the API's version has ids (KIP-516).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRef<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id(TopicId),
}

/// Why a partition cannot be served here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHere {
    /// What the client is told.
    pub code: ErrorCode,
    /// Who leads the partition, if another does (KIP-951).
    pub leader: Option<LeaderIdAndEpoch>,
}

impl From<ErrorCode> for NotHere {
    fn from(code: ErrorCode) -> Self {
        Self { code, leader: None }
    }
}

/// The brokers that a response sends its client to, each once (KIP-951).
#[derive(Debug, Default)]
pub struct Redirects(Vec<NodeEndpoint<'static>>);

impl Redirects {
    /// Adds where a leader can be reached.
    pub fn add<R: Runtime>(
        &mut self,
        context: &Context<R>,
        session: &Session,
        leader: &LeaderIdAndEpoch,
    ) {
        let broker = leader.leader_id;
        if self.0.iter().all(|known| known.node_id != broker) {
            self.0.extend(context.endpoint(broker, session));
        }
    }

    /// For the response.
    pub fn into_endpoints(self) -> Vec<NodeEndpoint<'static>> {
        self.0
    }
}

impl<R: Runtime> Context<R> {
    /// The partition, if this shard leads it, and where it is to be found again.
    pub fn locate(
        &self,
        image: &Image,
        topic: TopicRef<'_>,
        index: PartitionIndex,
    ) -> Result<(PartitionSlot, Partition<R>), NotHere> {
        let id = match topic {
            TopicRef::Id(id) => id,
            TopicRef::Name(name) => match image.topic(name) {
                Some(topic) => topic.id,
                None => return Err(ErrorCode::UnknownTopicOrPartition.into()),
            },
        };
        match self.shard.find(id, index) {
            Found::Here(slot, partition) => Ok((slot, partition)),
            Found::Elsewhere { leader, epoch } => Err(NotHere {
                code: ErrorCode::NotLeaderOrFollower,
                leader: Some(LeaderIdAndEpoch {
                    leader_id: leader,
                    leader_epoch: epoch,
                }),
            }),
            Found::NotMade => Err(ErrorCode::NotLeaderOrFollower.into()),
            Found::Unusable => Err(ErrorCode::KafkaStorageError.into()),
            // Of an id, it matters whether its topic exists.
            Found::Unknown => Err(match topic {
                TopicRef::Id(id) if image.topic_by_id(id).is_none() => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            }
            .into()),
        }
    }

    /// The partition of this name, if this shard leads it and can use it.
    pub fn led_here(&self, topic: &str, index: PartitionIndex) -> Result<Partition<R>, ErrorCode> {
        let located = self.locate(&self.shard.image(), TopicRef::Name(topic), index);
        let (_, partition) = located.map_err(|not_here| not_here.code)?;
        match partition.failure() {
            Some(failure) => Err(failure.code()),
            None => Ok(partition),
        }
    }

    /// Where a broker of this node can be reached by a client of this connection: as advertised, or
    /// at the address that the client used, with the port of the broker's shard.
    pub fn endpoint(&self, broker: BrokerId, session: &Session) -> Option<NodeEndpoint<'static>> {
        let image = self.shard.image();
        let place = image.shards().find(|place| place.broker() == broker)?;
        let config = self.shard.config();
        let (listener, local) = (session.endpoints().listener, session.endpoints().local);
        let name = &config.client_listeners().0.get(listener)?.name.clone();
        let advertised = config.advertised_listeners.address(name, place.shard.0);
        let (host, port) = match advertised {
            Some(address) => (address.host, address.port),
            None => {
                let topology = self.shard.topology();
                let bound = topology.listeners.get(usize::from(place.shard.0))?;
                (local.ip().to_string(), bound.get(listener)?.port())
            }
        };
        Some(NodeEndpoint {
            node_id: broker,
            host: host.into(),
            port: i32::from(port),
            rack: config.broker_rack.clone().map(Into::into),
        })
    }
}
