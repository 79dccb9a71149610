//! The table of the APIs that corelane speaks: numbers, versions, where the flexible encoding
//! begins, messages and handlers.

use std::fmt;
use std::ops::RangeInclusive;

use super::Version;

/// Calls `$each!` with the table of all APIs, by rising key. A row is
///
/// ```text
/// Name = key, versions, advertised versions, flexible from, kind module: Request => Response;
/// ```
///
/// - *versions*: those that can be decoded, encoded and served. *advertised*: those that an
///   ApiVersions response names.
/// - *flexible from*: the first version with compact lengths and tagged fields (KIP-482).
/// - *kind*: how the server's router calls the handler, which is named as the module of the
///   messages is: `message` gets and gives messages, `hot` reads and writes for itself.
///
/// From it follow [`ApiKey`], what ties messages to their API, the router, the answer to
/// ApiVersions, the fuzz targets, and the tests that treat all APIs alike.
#[macro_export]
macro_rules! for_each_api {
    ($each:ident) => {
        $each! {
            Produce = 0, 3..=13, advertised 0..=13, flexible 9,
                hot produce: ProduceRequest<'a> => ProduceResponse<'r>;
            Fetch = 1, 4..=18, advertised 4..=18, flexible 12,
                hot fetch: FetchRequest<'a> => FetchResponse<'r>;
            ListOffsets = 2, 1..=11, advertised 1..=11, flexible 6,
                message list_offsets: ListOffsetsRequest<'a> => ListOffsetsResponse<'r>;
            Metadata = 3, 0..=13, advertised 0..=13, flexible 9,
                message metadata: MetadataRequest<'a> => MetadataResponse<'r>;
            ApiVersions = 18, 0..=4, advertised 0..=4, flexible 3,
                message api_versions: ApiVersionsRequest<'a> => ApiVersionsResponse<'r>;
            CreateTopics = 19, 2..=7, advertised 2..=7, flexible 5,
                message create_topics: CreateTopicsRequest<'a> => CreateTopicsResponse<'r>;
            DeleteTopics = 20, 1..=6, advertised 1..=6, flexible 4,
                message delete_topics: DeleteTopicsRequest<'a> => DeleteTopicsResponse<'r>;
            DeleteRecords = 21, 0..=2, advertised 0..=2, flexible 2,
                message delete_records: DeleteRecordsRequest<'a> => DeleteRecordsResponse<'r>;
            InitProducerId = 22, 0..=5, advertised 0..=5, flexible 2,
                message init_producer_id: InitProducerIdRequest<'a> => InitProducerIdResponse;
            OffsetForLeaderEpoch = 23, 2..=4, advertised 2..=4, flexible 4,
                message offset_for_leader_epoch:
                OffsetForLeaderEpochRequest<'a> => OffsetForLeaderEpochResponse<'r>;
            DescribeConfigs = 32, 1..=4, advertised 1..=4, flexible 4,
                message describe_configs: DescribeConfigsRequest<'a> => DescribeConfigsResponse<'r>;
            AlterConfigs = 33, 0..=2, advertised 0..=2, flexible 2,
                message alter_configs: AlterConfigsRequest<'a> => AlterConfigsResponse<'r>;
            DescribeLogDirs = 35, 1..=5, advertised 1..=5, flexible 2,
                message describe_log_dirs: DescribeLogDirsRequest<'a> => DescribeLogDirsResponse<'r>;
            CreatePartitions = 37, 0..=3, advertised 0..=3, flexible 2,
                message create_partitions: CreatePartitionsRequest<'a> => CreatePartitionsResponse<'r>;
            IncrementalAlterConfigs = 44, 0..=1, advertised 0..=1, flexible 1,
                message incremental_alter_configs:
                IncrementalAlterConfigsRequest<'a> => IncrementalAlterConfigsResponse<'r>;
            DescribeCluster = 60, 0..=2, advertised 0..=2, flexible 0,
                message describe_cluster: DescribeClusterRequest => DescribeClusterResponse<'r>;
            DescribeTopicPartitions = 75, 0..=0, advertised 0..=0, flexible 0,
                message describe_topic_partitions:
                DescribeTopicPartitionsRequest<'a> => DescribeTopicPartitionsResponse<'r>;
        }
    };
}

pub(crate) use for_each_api;

macro_rules! api_keys {
    ($($name:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $module:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {
        /// A request type that both broker and client implement.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are Kafka's; the messages are documented")]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every API, by rising key.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The API of a number from the wire.
            pub fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name, such as `ListOffsets`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Its place in [`ApiKey::ALL`].
            pub fn place(self) -> usize {
                enum Place {
                    $($name,)*
                }
                match self {
                    $(Self::$name => Place::$name as usize,)*
                }
            }

            /// The versions that can be decoded, encoded and served.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }

            /// The versions that an ApiVersions response names.
            ///
            /// Produce is advertised from 0 although 0–2 are refused: librdkafka takes a higher
            /// start for a broker without compression (KAFKA-18659).
            pub fn advertised_versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $advertised,)*
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482).
            pub fn first_flexible_version(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }
    };
}

for_each_api!(api_keys);

impl ApiKey {
    /// The number on the wire.
    pub fn key(self) -> i16 {
        self as i16
    }

    /// Whether a version can be decoded and served.
    pub fn supports(self, version: i16) -> bool {
        self.versions().contains(&version)
    }

    /// The encoding of message bodies of a version.
    pub fn version(self, number: i16) -> Version {
        Version {
            number,
            flexible: number >= self.first_flexible_version(),
        }
    }

    /// The highest version that both we and a peer with this range speak.
    pub fn negotiate(self, peer: RangeInclusive<i16>) -> Option<i16> {
        let ours = self.versions();
        let highest = *ours.end().min(peer.end());
        (highest >= *ours.start().max(peer.start())).then_some(highest)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kafka's name of any API, also of those that corelane does not speak.
pub fn api_name(key: i16) -> Option<&'static str> {
    usize::try_from(key)
        .ok()
        .and_then(|key| NAMES.get(key))
        .copied()
}

/// By key, as of Apache Kafka 4.3.
const NAMES: [&str; 93] = [
    "Produce",
    "Fetch",
    "ListOffsets",
    "Metadata",
    "LeaderAndIsr",
    "StopReplica",
    "UpdateMetadata",
    "ControlledShutdown",
    "OffsetCommit",
    "OffsetFetch",
    "FindCoordinator",
    "JoinGroup",
    "Heartbeat",
    "LeaveGroup",
    "SyncGroup",
    "DescribeGroups",
    "ListGroups",
    "SaslHandshake",
    "ApiVersions",
    "CreateTopics",
    "DeleteTopics",
    "DeleteRecords",
    "InitProducerId",
    "OffsetForLeaderEpoch",
    "AddPartitionsToTxn",
    "AddOffsetsToTxn",
    "EndTxn",
    "WriteTxnMarkers",
    "TxnOffsetCommit",
    "DescribeAcls",
    "CreateAcls",
    "DeleteAcls",
    "DescribeConfigs",
    "AlterConfigs",
    "AlterReplicaLogDirs",
    "DescribeLogDirs",
    "SaslAuthenticate",
    "CreatePartitions",
    "CreateDelegationToken",
    "RenewDelegationToken",
    "ExpireDelegationToken",
    "DescribeDelegationToken",
    "DeleteGroups",
    "ElectLeaders",
    "IncrementalAlterConfigs",
    "AlterPartitionReassignments",
    "ListPartitionReassignments",
    "OffsetDelete",
    "DescribeClientQuotas",
    "AlterClientQuotas",
    "DescribeUserScramCredentials",
    "AlterUserScramCredentials",
    "Vote",
    "BeginQuorumEpoch",
    "EndQuorumEpoch",
    "DescribeQuorum",
    "AlterPartition",
    "UpdateFeatures",
    "Envelope",
    "FetchSnapshot",
    "DescribeCluster",
    "DescribeProducers",
    "BrokerRegistration",
    "BrokerHeartbeat",
    "UnregisterBroker",
    "DescribeTransactions",
    "ListTransactions",
    "AllocateProducerIds",
    "ConsumerGroupHeartbeat",
    "ConsumerGroupDescribe",
    "ControllerRegistration",
    "GetTelemetrySubscriptions",
    "PushTelemetry",
    "AssignReplicasToDirs",
    "ListConfigResources",
    "DescribeTopicPartitions",
    "ShareGroupHeartbeat",
    "ShareGroupDescribe",
    "ShareFetch",
    "ShareAcknowledge",
    "AddRaftVoter",
    "RemoveRaftVoter",
    "UpdateRaftVoter",
    "InitializeShareGroupState",
    "ReadShareGroupState",
    "WriteShareGroupState",
    "DeleteShareGroupState",
    "ReadShareGroupStateSummary",
    "StreamsGroupHeartbeat",
    "StreamsGroupDescribe",
    "DescribeShareGroupOffsets",
    "AlterShareGroupOffsets",
    "DeleteShareGroupOffsets",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_itself() {
        assert!(ApiKey::ALL.is_sorted());
        for api in ApiKey::ALL {
            assert_eq!(ApiKey::from_key(api.key()), Some(*api));
            assert_eq!(api_name(api.key()), Some(api.name()));
            assert_eq!(ApiKey::ALL.get(api.place()), Some(api));
            assert_eq!(api.advertised_versions().end(), api.versions().end());
        }
        assert_eq!(api_name(-1), None);
        assert_eq!(api_name(93), None);
    }

    #[test]
    fn negotiation_takes_the_highest_common_version() {
        assert_eq!(ApiKey::Fetch.negotiate(0..=11), Some(11));
        assert_eq!(ApiKey::Fetch.negotiate(4..=99), Some(18));
        assert_eq!(ApiKey::Fetch.negotiate(0..=3), None);
        assert_eq!(ApiKey::Fetch.negotiate(19..=20), None);
    }
}
