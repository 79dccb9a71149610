//! Records and their offsets: written, read, looked for, deleted; ids of who writes them.

mod delete_records;
mod fetch;
mod init_producer_id;
mod list_offsets;
mod offset_for_leader_epoch;
mod produce;

pub use delete_records::*;
pub use fetch::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use offset_for_leader_epoch::*;
pub use produce::*;
