//! What the controller must know of settings.

use std::collections::BTreeMap;

use super::change::ConfigTarget;
use crate::cluster::image::Image;
use crate::cluster::records::ConfigChanges;
use crate::model::NodeId;

/// The controller's own rules and defaults, for the settings that an image has. Errors are sentences
/// for the user.
pub trait Rules {
    /// Partitions of a topic that does not say how many (`num.partitions`).
    fn default_partition_count(&self, image: &Image) -> i32;

    /// Whether topics can be deleted (`delete.topic.enable`).
    fn can_delete_topics(&self, image: &Image) -> bool;

    /// Whether a topic can have these settings of its own, and no others.
    fn check_topic(&self, image: &Image, configs: &BTreeMap<String, String>) -> Result<(), String>;

    /// Whether these settings of a node (`None`: of the cluster) can change so at run time.
    fn check_broker(
        &self,
        image: &Image,
        node: Option<NodeId>,
        changes: &ConfigChanges,
    ) -> Result<(), String>;

    /// The value that a list has where the target does not set it; `None` when it is no list.
    fn inherited_list(&self, image: &Image, target: &ConfigTarget, key: &str) -> Option<String>;
}
