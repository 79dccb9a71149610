//! The start of a node, on the runtime of shard 0: from a data directory to what every shard recovers, and
//! from what all have recovered to a seed for each of them.
//! Who calls it, and starts the shards from their seeds, is [`run_node`](super::run_node).

use std::path::Path;
use std::sync::Arc;

use super::controller::Controller;
use super::error::StartError;
use super::metadata_log::MetadataLog;
use super::rules::NodeRules;
use crate::cluster::controller::{Change, NodeStart, decide};
use crate::cluster::{Image, Placement, Topic};
use crate::config::{BrokerConfig, Settings};
use crate::log::files::lock;
use crate::log::files::partition_files::{META_PROPERTIES, MetaProperties};
use crate::log::files::run::RunId;
use crate::log::files::small_file::{read_small, replace_small};
use crate::log::{
    FoundDirs, KnownPartition, Recovery, RecoveryOptions, RecoveryReport, SYNCS_BY_FILE, ShardPart,
    ShardReport,
};
use crate::model::{DirectoryId, NodeId, OwnerEpoch, PartitionId, ShardIndex, TopicId};
use crate::rt::{LaneReceiver, LaneSender, OpenMode, Runtime};
use crate::shard::{ChangeRequest, ControlPlane, ShardLanes, ShardSeed, dynamic_configs};

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
    /// Memory that recovery may use on each shard, in bytes.
    pub memory_bytes: usize,
}

/// A node whose data directory is in order.
pub(super) struct OpenedNode<R: Runtime> {
    /// One for each shard, in order.
    pub seeds: Vec<ShardSeed>,
    /// What recovery did.
    pub report: RecoveryReport,
    /// Whether the run before ended cleanly.
    pub clean: bool,
    /// Stops the shard of that index.
    pub stops: Vec<LaneSender<()>>,
    controller: Controller<R>,
    requests: LaneReceiver<ChangeRequest>,
}

/// A node whose partitions are being recovered, by all of its shards.
pub(super) struct OpeningNode<R: Runtime> {
    rt: R,
    options: NodeOptions,
    log: MetadataLog<R>,
    image: Image,
    rules: NodeRules,
    start: NodeStart,
    recovery: Recovery<R>,
}

/// Makes the data directory where it is not there, and takes its lock, waiting for a predecessor. Held for
/// as long as anything of the node is at work.
pub(super) async fn lock_dir<R: Runtime>(
    rt: &R,
    options: &NodeOptions,
) -> Result<R::File, StartError> {
    let dir = options.config.log_dir();
    create_dirs(rt, dir).await?;
    let path = dir.join(LOCK_FILE);
    let locked = lock::open_locked(rt, &path, OpenMode::BUFFERED_CREATE).await;
    locked.map_err(|source| StartError::Io { path, source })
}

impl<R: Runtime> OpeningNode<R> {
    /// Brings the metadata back, and finds out what each shard has to recover.
    pub async fn prepare(
        rt: &R,
        options: NodeOptions,
    ) -> Result<(Self, Vec<ShardPart>), StartError> {
        let dir = options.config.log_dir();
        let node = NodeId(options.config.node_id);
        let (meta, log, image) = open_metadata(rt, dir, node).await?;
        let rules = NodeRules::new(node, options.settings.clone(), options.config.clone());
        let start = NodeStart {
            cluster_id: meta.cluster_id.into(),
            node,
            shards: options.shards,
            // What is so far is only a guess; placement does not depend on it.
            after_clean_stop: true,
        };
        let placed = decide(&image, &rules, &Change::StartNode(start.clone())).image;
        let (recovery, parts) = prepare_partitions(rt, &options, &image, &placed).await?;
        let opening = Self {
            rt: rt.clone(),
            options,
            log,
            image,
            rules,
            start,
            recovery,
        };
        Ok((opening, parts))
    }

    /// Takes in what all shards have recovered; gives the run for which they write their checkpoints.
    pub async fn gather(&mut self, reports: Vec<ShardReport>) -> Result<RunId, StartError> {
        Ok(self.recovery.gather(reports).await?)
    }

    /// Commits the run, for which all shards have written their checkpoints, and has the metadata say that
    /// the node has started.
    pub async fn commit(self) -> Result<OpenedNode<R>, StartError> {
        let Self {
            rt,
            options,
            mut start,
            ..
        } = self;
        let recovered = self.recovery.commit().await?;
        start.after_clean_stop = recovered.clean;
        let mut controller = Controller::new(&rt, self.log, Arc::new(self.image), self.rules);
        let node = start.node;
        controller.propose(Change::StartNode(start)).await?;
        let image = controller.image().clone();
        let config = Arc::new(options.settings.resolve(&dynamic_configs(&image, node))?);
        let (requests, inbox) = rt.lane(CONTROL_QUEUE);
        let (mut links, mut stops, mut received) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.shards {
            let (link, stop, lanes) = ShardLanes::new(&rt);
            links.push(link);
            stops.push(stop);
            received.push(lanes);
        }
        let to_shards = links.iter().map(|link| link.control.clone()).collect();
        controller.set_shards(links);
        let control = ControlPlane::new(requests, to_shards);
        let seed = |(lanes, index)| ShardSeed {
            place: Placement {
                node,
                shard: ShardIndex(index),
            },
            settings: options.settings.clone(),
            config: config.clone(),
            image: image.clone(),
            run: recovered.run,
            last_times: recovered.last_times,
            control: control.clone(),
            lanes,
        };
        Ok(OpenedNode {
            seeds: received.into_iter().zip(0..).map(seed).collect(),
            report: recovered.report,
            clean: recovered.clean,
            stops,
            controller,
            requests: inbox,
        })
    }
}

impl<R: Runtime> OpenedNode<R> {
    pub fn cluster_id(&self) -> String {
        self.controller.cluster_id()
    }

    /// Runs the controller until `stop` says so or hangs up.
    pub async fn run_controller(self, stop: LaneReceiver<()>) {
        self.controller.run(self.requests, stop).await;
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

async fn prepare_partitions<R: Runtime>(
    rt: &R,
    options: &NodeOptions,
    image: &Image,
    placed: &Image,
) -> Result<(Recovery<R>, Vec<ShardPart>), StartError> {
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
    let mut dirs = FoundDirs::read(rt, options.config.log_dir()).await?;
    dirs.refuse_unknown(&known, &leaving).await?;
    dirs.put_aside_unmarked(&leaving).await?;
    Ok(Recovery::prepare(dirs, recovery, &known).await?)
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
            let former = former.unwrap_or(replica);
            partitions.push(KnownPartition {
                id,
                topic: topic.name.to_string(),
                shard: replica.placement.shard,
                former_shard: former.placement.shard,
                owner_epoch: OwnerEpoch(former.owner_epoch),
                next_owner_epoch: OwnerEpoch(replica.owner_epoch),
            });
        }
    }
    partitions
}
