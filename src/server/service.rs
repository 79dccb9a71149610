//! From a frame to its handler.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::connection::{Reply, ResponseFrame, Service};
use super::errors::Code;
use super::fetch_session::SessionCache;
use super::handlers;
use crate::model::{BrokerId, PartitionIndex};
use crate::partition::Partition;
use crate::rt::{Buf, Runtime};
use crate::shard::{Found, Shard};
use crate::wire::messages::NodeEndpoint;
use crate::wire::{
    self, ApiKey, DecodeError, ErrorCode, Message, Piece, RequestError, RequestHeader,
    encode_response,
};

/// What the handlers of one shard share.
pub struct Context<R: Runtime> {
    /// The shard.
    pub shard: Shard<R>,
    /// Its fetch sessions.
    pub sessions: Rc<RefCell<SessionCache>>,
    /// What was refused of late.
    pub refusals: Rc<Refusals>,
}

/// Requests that cannot be read, so that their connection is closed. The client shows its user no
/// more than a lost connection: the broker's log has to say why, but not as often as a hostile
/// client likes.
#[derive(Default)]
pub struct Refusals {
    told_at: Cell<Option<Duration>>,
    untold: Cell<u64>,
}

impl Refusals {
    const PAUSE: Duration = Duration::from_secs(1);

    fn tell(&self, now: Duration, client: SocketAddr, what: &dyn Display, error: &dyn Display) {
        let is_due = |told_at| now.saturating_sub(told_at) >= Self::PAUSE;
        if !self.told_at.get().is_none_or(is_due) {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        self.told_at.set(Some(now));
        let others = self.untold.take();
        tracing::warn!(%client, %what, %error, others, "request refused, connection closed");
    }
}

impl<R: Runtime> Clone for Context<R> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard.clone(),
            sessions: self.sessions.clone(),
            refusals: self.refusals.clone(),
        }
    }
}

/// A client's connection, as handlers know it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Number of the connection on this shard.
    pub connection: u64,
    /// Which of the configured listeners it came through.
    pub listener: usize,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The client's own.
    pub remote: SocketAddr,
}

/// Serves one connection's requests.
pub struct ConnectionService<R: Runtime> {
    context: Context<R>,
    peer: Peer,
}

/// One request on its way to its handler.
pub struct Call {
    /// API of the request.
    pub api: ApiKey,
    /// Version of request and response.
    pub version: i16,
    correlation_id: i32,
    frame: Buf,
    body_at: usize,
}

impl Call {
    /// The request's message.
    pub fn read<'a, M: Message<'a>>(&'a self) -> Result<M, DecodeError> {
        M::decode_lenient(&self.frame[self.body_at..], self.version)
    }

    /// The frame of a response that holds everything itself.
    pub fn respond<'a, M: wire::Response<'a>>(&self, message: &M) -> ResponseFrame {
        self.respond_with(message, &[])
    }

    /// The frame of a response whose records (`Records::Elsewhere`, in order) are `records`, each
    /// the pieces of one partition.
    pub fn respond_with<'a, M: wire::Response<'a>>(
        &self,
        message: &M,
        records: &[Vec<Buf>],
    ) -> ResponseFrame {
        let mut framing = Vec::new();
        let encoded =
            match encode_response(&mut framing, self.version, self.correlation_id, message) {
                Ok(encoded) => encoded,
                // Nothing that a handler makes comes near the protocol's limits; should it, the
                // connection is closed.
                Err(error) => {
                    tracing::error!(api = %self.api, %error, "response cannot be encoded");
                    return None;
                }
            };
        let framing = Buf::from_vec(framing);
        let mut pieces = Vec::with_capacity(1 + 2 * records.len());
        for piece in encoded.pieces() {
            match piece {
                Piece::Framing(range) => pieces.push(framing.slice(range)),
                Piece::Records(index) => pieces.extend(records[index].iter().cloned()),
            }
        }
        Some(pieces)
    }
}

impl<R: Runtime> ConnectionService<R> {
    /// A service for one client.
    pub fn new(context: Context<R>, peer: Peer) -> Self {
        Self { context, peer }
    }

    fn refuse(&self, what: &dyn Display, error: &dyn Display) -> Reply {
        let now = self.context.shard.rt().now();
        let refusals = &self.context.refusals;
        refusals.tell(now, self.peer.remote, what, error);
        Reply::Close
    }

    async fn handle(&self, call: Call) -> Result<Reply, DecodeError> {
        let (context, peer) = (&self.context, &self.peer);
        let response = match call.api {
            ApiKey::Produce => return handlers::produce(context, peer, call).await,
            ApiKey::Fetch => return handlers::fetch(context, peer, call),
            ApiKey::ListOffsets => handlers::list_offsets(context, &call).await?,
            ApiKey::OffsetForLeaderEpoch => handlers::offset_for_leader_epoch(context, &call)?,
            ApiKey::Metadata => handlers::metadata(context, peer, &call).await?,
            ApiKey::ApiVersions => handlers::api_versions(&call)?,
            ApiKey::DescribeCluster => handlers::describe_cluster(context, peer, &call)?,
            ApiKey::DescribeTopicPartitions => handlers::describe_topic_partitions(context, &call)?,
            ApiKey::CreateTopics => handlers::create_topics(context, &call).await?,
            ApiKey::DeleteTopics => handlers::delete_topics(context, &call).await?,
            ApiKey::CreatePartitions => handlers::create_partitions(context, &call).await?,
            ApiKey::DescribeConfigs => handlers::describe_configs(context, &call)?,
            ApiKey::AlterConfigs => handlers::alter_configs(context, &call).await?,
            ApiKey::IncrementalAlterConfigs => {
                handlers::incremental_alter_configs(context, &call).await?
            }
            ApiKey::DeleteRecords => handlers::delete_records(context, &call).await?,
            ApiKey::DescribeLogDirs => handlers::describe_log_dirs(context, &call)?,
            ApiKey::InitProducerId => handlers::init_producer_id(context, &call).await?,
        };
        Ok(Reply::ready(response))
    }
}

impl<R: Runtime> Service for ConnectionService<R> {
    async fn accept(&self, frame: Buf) -> Reply {
        let call = match RequestHeader::decode(&frame) {
            Ok((header, body)) => Call {
                api: header.api,
                version: header.version,
                correlation_id: header.correlation_id,
                body_at: frame.len() - body.len(),
                frame: frame.clone(),
            },
            Err(RequestError::UnsupportedVersion {
                api: ApiKey::ApiVersions,
                correlation_id,
                ..
            }) => {
                return Reply::ready(handlers::unsupported_api_versions(correlation_id));
            }
            Err(error) => return self.refuse(&"a frame", &error),
        };
        let (api, version) = (call.api, call.version);
        match self.handle(call).await {
            Ok(reply) => reply,
            Err(error) => self.refuse(&format_args!("{api} version {version}"), &error),
        }
    }
}

impl<R: Runtime> Context<R> {
    /// Where a broker of this node can be reached by a client of this connection: as advertised, or
    /// at the address that the client used, with the port of the broker's shard.
    pub fn endpoint(&self, broker: BrokerId, peer: &Peer) -> Option<NodeEndpoint<'static>> {
        let image = self.shard.image();
        let place = image.shards().find(|place| place.broker() == broker)?;
        let config = self.shard.config();
        let name = &config.client_listeners().0.get(peer.listener)?.name.clone();
        let advertised = config.advertised_listeners.address(name, place.shard.0);
        let (host, port) = match advertised {
            Some(address) => (address.host, address.port),
            None => {
                let topology = self.shard.topology();
                let bound = topology.listeners.get(usize::from(place.shard.0))?;
                (
                    peer.local.ip().to_string(),
                    bound.get(peer.listener)?.port(),
                )
            }
        };
        Some(NodeEndpoint {
            node_id: broker,
            host: host.into(),
            port: i32::from(port),
            rack: config.broker_rack.clone().map(Into::into),
        })
    }

    /// The partition of this name, if this shard leads it and can use it.
    pub fn led_here(&self, topic: &str, index: PartitionIndex) -> Result<Partition<R>, ErrorCode> {
        let image = self.shard.image();
        let topic = image
            .topic(topic)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        match self.shard.find(topic.id, index) {
            Found::Here(partition) => match partition.failure() {
                Some(failure) => Err(failure.code()),
                None => Ok(partition),
            },
            Found::Elsewhere { .. } => Err(ErrorCode::NotLeaderOrFollower),
            Found::Unusable => Err(ErrorCode::KafkaStorageError),
            Found::Unknown => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

/// Both halves of an outcome that carries words: none where all went well.
pub fn outcome<E: Code + std::fmt::Display>(
    result: &Result<impl Sized, E>,
) -> (ErrorCode, Option<wire::Str<'static>>) {
    match result {
        Ok(_) => (ErrorCode::None, None),
        Err(error) => (error.code(), Some(error.to_string().into())),
    }
}
