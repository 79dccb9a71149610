//! Settings of topics and brokers.

mod alter_configs;
mod describe_configs;
mod incremental_alter_configs;

pub use alter_configs::*;
pub use describe_configs::*;
pub use incremental_alter_configs::*;
