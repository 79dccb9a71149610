//! The start of a node, on the runtime of shard 0: from a data directory to a seed for every shard.
//! Who calls it, and starts the shards from their seeds, is `run_node` (`server/run.rs`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config_check::dynamic_configs;
use super::control::{ControlRequest, Controller};
use super::mailbox::{ControlPlane, ShardMessage};
use super::metadata::{MetadataError, MetadataLog};
use crate::cluster::controller::{purge_topic, start_run};
use crate::cluster::{Image, Placement, Record};
use crate::config::{BrokerConfig, Settings};
use crate::log::files::lock;
use crate::log::files::partition_files::{META_PROPERTIES, MetaProperties, SmallFileError};
use crate::log::files::run::RunId;
use crate::log::files::small_file::{read_small, replace_small};
use crate::log::{
    KnownPartition, Recovered, RecoveredPartition, RecoveryError, RecoveryOptions, RecoveryReport,
    recover, refuse_strangers,
};
use crate::model::{DirectoryId, NodeId, PartitionId, ShardIndex, TopicId};
use crate::rt::{OpenMode, Runtime};

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

/// Everything that one shard is opened with; sent to its thread.
pub struct ShardSeed {
    /// Which shard of which node.
    pub place: Placement,
    /// The settings of this start.
    pub settings: Arc<Settings>,
    /// The configuration, with what was set at run time.
    pub config: Arc<BrokerConfig>,
    /// The metadata.
    pub image: Arc<Image>,
    /// The committed run.
    pub run: RunId,
    /// The partitions that it owns and that have files.
    pub recovered: Vec<RecoveredPartition>,
    /// The way to the controller and to the others.
    pub control: ControlPlane,
    /// Its own mailbox.
    pub inbox: flume::Receiver<ShardMessage>,
}

/// A node whose data directory is in order and that nobody else uses.
pub struct OpenedNode<R: Runtime> {
    /// One for each shard, in order.
    pub seeds: Vec<ShardSeed>,
    /// What recovery did.
    pub report: RecoveryReport,
    /// Whether the run before ended cleanly.
    pub clean: bool,
    controller: Controller<R>,
    requests: flume::Receiver<ControlRequest>,
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
    let meta = meta_properties(rt, &dir, node).await?;
    let (mut log, mut image) = MetadataLog::open(rt, &dir.join(METADATA_DIR)).await?;
    let recovered = recover_partitions(rt, &dir, &options, node, &image).await?;
    let changes = changes_of_start(
        &mut image,
        meta.cluster_id,
        node,
        options.shards,
        recovered.clean,
    )?;
    log.append(&changes).await.map_err(MetadataError::from)?;
    let config = Arc::new(options.settings.resolve(&dynamic_configs(&image, node))?);
    let image = Arc::new(image);
    let (requests, inbox) = flume::bounded(CONTROL_QUEUE);
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) =
        (0..options.shards).map(|_| flume::unbounded()).unzip();
    let control = ControlPlane {
        requests,
        shards: mailboxes.clone(),
    };
    let seed = |((partitions, inbox), index)| ShardSeed {
        place: Placement {
            node,
            shard: ShardIndex(index),
        },
        settings: options.settings.clone(),
        config: config.clone(),
        image: image.clone(),
        run: recovered.run,
        recovered: partitions,
        control: control.clone(),
        inbox,
    };
    let seeds = recovered
        .shards
        .into_iter()
        .zip(inboxes)
        .zip(0..)
        .map(seed)
        .collect();
    Ok(OpenedNode {
        seeds,
        report: recovered.report,
        clean: recovered.clean,
        controller: Controller::new(log, image, mailboxes),
        requests: inbox,
        lock,
    })
}

/// What this start changes in the metadata: the cluster itself at the first one, the run, new owners
/// where the number of shards has changed, and the names of topics whose deletion was cut short.
fn changes_of_start(
    image: &mut Image,
    cluster_id: String,
    node: NodeId,
    shards: u16,
    after_clean_stop: bool,
) -> Result<Vec<Record>, MetadataError> {
    let mut changes = Vec::new();
    if image.cluster_id().is_none() {
        let cluster_id = cluster_id.into();
        decide(
            image,
            &mut changes,
            vec![Record::ClusterCreated { cluster_id }],
        )?;
    }
    let started = start_run(image, node, shards, after_clean_stop)?;
    decide(image, &mut changes, started)?;
    // Recovery has renamed the directories of every topic that it was not told of.
    let leaving: Vec<_> = image.leaving_topics().map(|topic| topic.id).collect();
    for id in leaving {
        let purged = purge_topic(image, id).unwrap_or_default();
        decide(image, &mut changes, purged)?;
    }
    Ok(changes)
}

impl<R: Runtime> OpenedNode<R> {
    /// The cluster's id.
    pub fn cluster_id(&self) -> String {
        self.controller.cluster_id()
    }

    /// Runs the controller until `stop` says so or hangs up, then lets go of the directory.
    pub async fn run_controller(self, stop: flume::Receiver<()>) {
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

/// Who the directory belongs to; a fresh one gets an identity.
async fn meta_properties<R: Runtime>(
    rt: &R,
    dir: &Path,
    node: NodeId,
) -> Result<MetaProperties, StartError> {
    let path = dir.join(META_PROPERTIES);
    let io = |source| StartError::Io {
        path: path.clone(),
        source,
    };
    if let Some(bytes) = read_small(rt, &path).await.map_err(io)? {
        let meta = MetaProperties::decode(&bytes).map_err(|source| StartError::Meta {
            path: path.clone(),
            source,
        })?;
        if meta.node_id != node {
            let (found, configured) = (meta.node_id, node);
            return Err(StartError::OtherNode {
                path: dir.to_owned(),
                found,
                configured,
            });
        }
        return Ok(meta);
    }
    let random = || uuid::Builder::from_random_bytes(random_bytes(rt)).into_uuid();
    let meta = MetaProperties {
        cluster_id: TopicId(random()).to_string(),
        node_id: node,
        directory_id: DirectoryId(random()),
    };
    replace_small(rt, &path, meta.encode().into_bytes())
        .await
        .map_err(io)?;
    Ok(meta)
}

fn random_bytes<R: Runtime>(rt: &R) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rt.random_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&rt.random_u64().to_le_bytes());
    bytes
}

/// Applies records to the image of the start and keeps them for the log.
fn decide(
    image: &mut Image,
    changes: &mut Vec<Record>,
    records: Vec<Record>,
) -> Result<(), MetadataError> {
    *image = image.apply_all(&records)?;
    changes.extend(records);
    Ok(())
}

async fn recover_partitions<R: Runtime>(
    rt: &R,
    dir: &Path,
    options: &NodeOptions,
    node: NodeId,
    image: &Image,
) -> Result<Recovered, StartError> {
    // With another number of shards the partitions have other owners from now on. Whether the stop
    // was clean only recovery can tell, and placement does not depend on it.
    let leaving = image.leaving_topics().map(|topic| topic.id).collect();
    let start = start_run(image, node, options.shards, true).map_err(MetadataError::from)?;
    let placed = image.apply_all(&start).map_err(MetadataError::from)?;
    let known: Vec<_> = placed
        .topics()
        .flat_map(|topic| {
            topic
                .indexed()
                .map(move |(index, state)| (topic, index, state))
        })
        .map(|(topic, index, state)| KnownPartition {
            id: PartitionId {
                topic: topic.id,
                index,
            },
            topic: topic.name.to_string(),
            shard: state.placement.shard,
        })
        .collect();
    let recovery = RecoveryOptions {
        node,
        shards: options.shards,
        journal_bytes: u64::try_from(options.config.corelane_journal_bytes).unwrap_or(0),
        journal_file_bytes: options.config.journal_file_bytes(),
        memory_bytes: options.memory_bytes,
    };
    refuse_strangers(rt, dir, &known, &leaving).await?;
    Ok(recover(rt, dir, recovery, &known).await?)
}
