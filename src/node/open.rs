//! The start of a node, on the runtime of shard 0: from a data directory to a seed for every shard.
//! Who calls it, and starts the shards from their seeds, is [`run_node`](super::run_node).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::controller::Controller;
use super::metadata_log::{MetadataError, MetadataLog};
use super::rules::NodeRules;
use crate::cluster::controller::{Change, NodeStart, decide};
use crate::cluster::{Image, Placement, Topic};
use crate::config::{BrokerConfig, Settings};
use crate::log::files::lock;
use crate::log::files::partition_files::{META_PROPERTIES, MetaProperties, SmallFileError};
use crate::log::files::small_file::{read_small, replace_small};
use crate::log::{
    KnownPartition, Recovered, RecoveryError, RecoveryOptions, RecoveryReport, SYNCS_BY_FILE,
    put_aside_unmarked, recover, refuse_unknown_dirs,
};
use crate::model::{DirectoryId, NodeId, OwnerEpoch, PartitionId, ShardIndex, TopicId};
use crate::rt::{LaneReceiver, LaneSender, OpenMode, Runtime};
use crate::shard::{
    ChangeError, ChangeRequest, ControlPlane, ShardLanes, ShardSeed, dynamic_configs,
};

/// Kafka's name for the file whose lock says that a process uses the directory.
const LOCK_FILE: &str = ".lock";
const METADATA_DIR: &str = "metadata";
/// Changes that wait for the controller; more wait at the door.
const CONTROL_QUEUE: usize = 256;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The settings of this start.
    pub settings: Arc<Settings>,
    /// What they add up to.
    pub config: Arc<BrokerConfig>,
    /// Number of shards.
    pub shards: u16,
    /// Memory that recovery may use, in bytes.
    pub memory_bytes: usize,
}

/// A node whose data directory is in order and that nobody else uses.
pub struct OpenedNode<R: Runtime> {
    /// One for each shard, in order.
    pub seeds: Vec<ShardSeed>,
    /// What recovery did.
    pub report: RecoveryReport,
    /// Whether the run before ended cleanly.
    pub clean: bool,
    /// Stops the shard of that index.
    pub(super) stops: Vec<LaneSender<()>>,
    controller: Controller<R>,
    requests: LaneReceiver<ChangeRequest>,
    /// Held for as long as the node lives.
    lock: R::File,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory of the start cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `meta.properties` does not parse.
    #[error("{}: {source}", path.display())]
    Meta {
        /// Which.
        path: PathBuf,
        /// Why.
        source: SmallFileError,
    },
    /// The directory is another node's.
    #[error("{} belongs to node {found}, but node.id is {configured}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who we are.
        configured: NodeId,
    },
    /// The start cannot be written into the metadata.
    #[error("metadata: {0}")]
    Change(#[from] ChangeError),
    /// The metadata log cannot be read or written.
    #[error("metadata log: {0}")]
    Metadata(#[from] MetadataError),
    /// The partitions cannot be brought back.
    #[error("recovery: {0}")]
    Recovery(#[from] RecoveryError),
    /// A setting that was accepted at run time no longer holds.
    #[error("{0}")]
    Config(#[from] crate::config::ConfigError),
}

/// Opens a data directory: locks it, brings metadata and partitions back, commits a new run.
pub async fn open_node<R: Runtime>(
    rt: &R,
    options: NodeOptions,
) -> Result<OpenedNode<R>, StartError> {
    let dir = options.config.log_dir().to_owned();
    let node = NodeId(options.config.node_id);
    create_dirs(rt, &dir).await?;
    let lock_path = dir.join(LOCK_FILE);
    let lock = lock::open_locked(rt, &lock_path, OpenMode::BUFFERED_CREATE)
        .await
        .map_err(|source| StartError::Io {
            path: lock_path,
            source,
        })?;
    let (meta, log, image) = open_metadata(rt, &dir, node).await?;
    let rules = NodeRules::new(node, options.settings.clone(), options.config.clone());
    let mut start = NodeStart {
        cluster_id: meta.cluster_id.into(),
        node,
        shards: options.shards,
        // What is so far is only a guess; placement does not depend on it.
        after_clean_stop: true,
    };
    let placed = decide(&image, &rules, &Change::StartNode(start.clone())).image;
    let recovered = recover_partitions(rt, &dir, &options, &image, &placed).await?;
    start.after_clean_stop = recovered.clean;
    let mut controller = Controller::new(rt, log, Arc::new(image), rules);
    controller.propose(Change::StartNode(start)).await?;
    let image = controller.image().clone();
    let config = Arc::new(options.settings.resolve(&dynamic_configs(&image, node))?);
    let (requests, inbox) = rt.lane(CONTROL_QUEUE);
    let (mut links, mut stops, mut received) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.shards {
        let (link, stop, lanes) = ShardLanes::new(rt);
        links.push(link);
        stops.push(stop);
        received.push(lanes);
    }
    let to_shards = links.iter().map(|link| link.control.clone()).collect();
    controller.set_shards(links);
    let control = ControlPlane::new(requests, to_shards);
    let seed = |((partitions, lanes), index)| ShardSeed {
        place: Placement {
            node,
            shard: ShardIndex(index),
        },
        settings: options.settings.clone(),
        config: config.clone(),
        image: image.clone(),
        run: recovered.run,
        last_times: recovered.last_times,
        recovered: partitions,
        control: control.clone(),
        lanes,
    };
    let shards = recovered.shards.into_iter().zip(received).zip(0..);
    Ok(OpenedNode {
        seeds: shards.map(seed).collect(),
        report: recovered.report,
        clean: recovered.clean,
        stops,
        controller,
        requests: inbox,
        lock,
    })
}

impl<R: Runtime> OpenedNode<R> {
    pub fn cluster_id(&self) -> String {
        self.controller.cluster_id()
    }

    /// Runs the controller until `stop` says so or hangs up, then lets go of the directory.
    pub async fn run_controller(self, stop: LaneReceiver<()>) {
        self.controller.run(self.requests, stop).await;
        drop(self.lock);
    }
}

async fn create_dirs<R: Runtime>(rt: &R, dir: &Path) -> Result<(), StartError> {
    let mut missing = Vec::new();
    let mut at = dir;
    while rt.read_dir(at).await.is_err() {
        missing.push(at);
        let Some(parent) = at.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            break;
        };
        at = parent;
    }
    let metadata = dir.join(METADATA_DIR);
    missing.insert(0, &metadata);
    for path in missing.into_iter().rev() {
        let wrong = |source| StartError::Io {
            path: path.to_owned(),
            source,
        };
        rt.create_dir(path).await.map_err(wrong)?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        rt.sync_dir(parent.unwrap_or(Path::new(".")))
            .await
            .map_err(wrong)?;
    }
    Ok(())
}

/// The metadata, and who the directory belongs to: a fresh one gets an identity.
async fn open_metadata<R: Runtime>(
    rt: &R,
    dir: &Path,
    node: NodeId,
) -> Result<(MetaProperties, MetadataLog<R>, Image), StartError> {
    let meta = read_meta(rt, dir, node).await?;
    let (log, image) = MetadataLog::open(rt, &dir.join(METADATA_DIR)).await?;
    if let Some(found) = image.owner_other_than(node) {
        return Err(StartError::OtherNode {
            path: dir.join(METADATA_DIR),
            found,
            configured: node,
        });
    }
    let meta = match meta {
        Some(meta) => meta,
        None => write_meta(rt, dir, node).await?,
    };
    Ok((meta, log, image))
}

/// Who the directory belongs to, if it says so.
async fn read_meta<R: Runtime>(
    rt: &R,
    dir: &Path,
    node: NodeId,
) -> Result<Option<MetaProperties>, StartError> {
    let path = dir.join(META_PROPERTIES);
    let bytes = read_small(rt, &path).await;
    let bytes = bytes.map_err(|source| StartError::Io {
        path: path.clone(),
        source,
    })?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let meta =
        MetaProperties::decode(&bytes).map_err(|source| StartError::Meta { path, source })?;
    if meta.node_id != node {
        let (found, configured) = (meta.node_id, node);
        return Err(StartError::OtherNode {
            path: dir.to_owned(),
            found,
            configured,
        });
    }
    Ok(Some(meta))
}

/// Gives the directory an identity.
async fn write_meta<R: Runtime>(
    rt: &R,
    dir: &Path,
    node: NodeId,
) -> Result<MetaProperties, StartError> {
    let path = dir.join(META_PROPERTIES);
    let random = || uuid::Builder::from_random_bytes(random_bytes(rt)).into_uuid();
    let meta = MetaProperties {
        cluster_id: TopicId(random()).to_string(),
        node_id: node,
        directory_id: DirectoryId(random()),
    };
    let written = replace_small(rt, &path, meta.encode().into_bytes()).await;
    written.map_err(|source| StartError::Io { path, source })?;
    Ok(meta)
}

fn random_bytes<R: Runtime>(rt: &R) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rt.random_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&rt.random_u64().to_le_bytes());
    bytes
}

async fn recover_partitions<R: Runtime>(
    rt: &R,
    dir: &Path,
    options: &NodeOptions,
    image: &Image,
    placed: &Image,
) -> Result<Recovered, StartError> {
    let node = NodeId(options.config.node_id);
    // With another number of shards the partitions have other owners from now on.
    let known = partitions_on(node, image, placed.topics());
    let leaving = partitions_on(node, image, image.leaving_topics());
    let recovery = RecoveryOptions {
        node,
        shards: options.shards,
        journal_bytes: u64::try_from(options.config.corelane_journal_bytes).unwrap_or(0),
        journal_file_bytes: options.config.journal_file_bytes(),
        memory_bytes: options.memory_bytes,
        syncs_by_file: SYNCS_BY_FILE,
    };
    refuse_unknown_dirs(rt, dir, &known, &leaving).await?;
    put_aside_unmarked(rt, dir, &leaving).await?;
    Ok(recover(rt, dir, recovery, &known).await?)
}

/// Partitions of these topics that have a replica on the node, as they are to be, and who owns them by
/// the metadata that there is.
fn partitions_on<'a>(
    node: NodeId,
    image: &Image,
    topics: impl Iterator<Item = &'a Arc<Topic>>,
) -> Vec<KnownPartition> {
    let mut partitions = Vec::new();
    for topic in topics {
        for (index, state) in topic.indexed() {
            let Some(replica) = state.replica_of(node) else {
                continue;
            };
            let id = PartitionId {
                topic: topic.id,
                index,
            };
            let former = image.partition(id).and_then(|state| state.replica_of(node));
            partitions.push(KnownPartition {
                id,
                topic: topic.name.to_string(),
                shard: replica.placement.shard,
                owner_epoch: OwnerEpoch(former.unwrap_or(replica).owner_epoch),
                next_owner_epoch: OwnerEpoch(replica.owner_epoch),
            });
        }
    }
    partitions
}
