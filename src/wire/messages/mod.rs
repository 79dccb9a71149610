//! The messages, one file per API in rooms by what they are about, under one flat namespace.
//!
//! The files of the APIs hold nothing but definitions, so that tests can read them a second time with
//! macros of their own: that is how the values for the round trips are made.

use super::{ApiKey, DecodeError, Message, Request, RequestHeader, Response, for_each_api};

mod cluster;
mod common;
mod configs;
mod records;
mod topics;

pub use cluster::*;
pub use common::{LeaderIdAndEpoch, NodeEndpoint};
pub use configs::*;
pub use records::*;
pub use topics::*;

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
