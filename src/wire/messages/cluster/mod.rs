//! Who is in the cluster, what leads where, what is spoken.

mod api_versions;
mod describe_cluster;
mod describe_log_dirs;
mod metadata;

pub use api_versions::*;
pub use describe_cluster::*;
pub use describe_log_dirs::*;
pub use metadata::*;
