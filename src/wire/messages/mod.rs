//! The messages, one file per API, under one flat namespace.
//!
//! The files hold nothing but definitions, so that tests can read them a second time with
//! macros of their own: that is how the values for the round trips are made.

use super::{ApiKey, DecodeError, Message, Request, RequestHeader, Response, for_each_api};

mod alter_configs;
mod api_versions;
mod common;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_topic_partitions;
mod fetch;
mod incremental_alter_configs;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

pub use alter_configs::*;
pub use api_versions::*;
pub use common::{LeaderIdAndEpoch, NodeEndpoint};
pub use create_partitions::*;
pub use create_topics::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_cluster::*;
pub use describe_configs::*;
pub use describe_log_dirs::*;
pub use describe_topic_partitions::*;
pub use fetch::*;
pub use incremental_alter_configs::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_for_leader_epoch::*;
pub use produce::*;

/// Ties the messages of each row of the API table to their API, and to each other.
macro_rules! tie {
    ($($name:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $module:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {
        $(
            impl<'a> Message<'a> for $request $(<$a>)? {
                const KEY: ApiKey = ApiKey::$name;
            }

            impl<'a> Request<'a> for $request $(<$a>)? {
                type Response<'r> = $response $(<$r>)?;
            }

            impl<'r> Message<'r> for $response $(<$r>)? {
                const KEY: ApiKey = ApiKey::$name;
            }

            impl<'r> Response<'r> for $response $(<$r>)? {}
        )*

        /// A request of any API.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the messages themselves are documented")]
        pub enum AnyRequest<'a> {
            $($name($request $(<$a>)?),)*
        }

        impl<'a> AnyRequest<'a> {
            /// Reads the body behind a request header.
            pub fn decode(
                header: &RequestHeader<'_>,
                body: &'a [u8],
            ) -> Result<Self, DecodeError> {
                match header.api {
                    $(ApiKey::$name => Message::decode(body, header.version).map(Self::$name),)*
                }
            }
        }
    };
}

for_each_api!(tie);
