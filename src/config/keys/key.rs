//! What a row of a key table says, and the macro that makes rows into typed fields.

use strsim::levenshtein;

/// A row: everything that is known about one key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key as users write it.
    pub name: &'static str,
    /// Its type, as DescribeConfigs reports it.
    pub config_type: ConfigType,
    /// The default as text; `None` where Kafka reports null.
    pub default: Option<&'static str>,
    /// How it can be changed.
    pub update: UpdateMode,
    /// Broker keys that set a topic key's default, the first that has a value wins.
    pub synonyms: &'static [Synonym],
    raw_doc: &'static str,
    check: fn(&str) -> Result<Option<String>, String>,
}

/// Kafka's `ConfigDef.Type`, with the numbers that DescribeConfigs uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Free text or one of a set of words.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Words separated by commas.
    List = 7,
}

/// When a changed value takes effect: Kafka's dynamic update mode (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateMode {
    /// At the next start.
    ReadOnly,
    /// At once, for one broker or as the cluster's default.
    ClusterWide,
    /// At once, for one topic.
    Topic,
}

/// A broker key that gives a topic key its default.
#[derive(Clone, Copy, Debug)]
pub struct Synonym {
    /// The broker key.
    pub name: &'static str,
    /// Milliseconds per unit of the broker key, 1 where both have the same unit.
    pub scale: i64,
}

/// Values that a key takes beyond what its type allows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Valid {
    /// Everything of its type.
    Any,
    /// Integers from here on.
    AtLeast(i64),
    /// Sizes in bytes from here on, also with a suffix as in 512M: for keys of our own.
    SizeFrom(i64),
    /// Integers from the first to the second, both included.
    Between(i64, i64),
    /// One value, because other ones promise what does not exist yet.
    Only(&'static str, &'static str),
}

impl Key {
    /// What the key does, in one paragraph.
    pub fn doc(&self) -> &'static str {
        self.raw_doc.trim_start()
    }

    /// The value in its canonical form (`None`: null), or why it cannot be.
    pub fn check(&self, text: &str) -> Result<Option<String>, String> {
        (self.check)(text)
    }

    /// Whether it can change only with a restart.
    pub fn is_read_only(&self) -> bool {
        self.update == UpdateMode::ReadOnly
    }

    pub(super) const fn row(
        name: &'static str,
        config_type: ConfigType,
        default: Option<&'static str>,
        update: UpdateMode,
        raw_doc: &'static str,
        check: fn(&str) -> Result<Option<String>, String>,
    ) -> Self {
        Self {
            name,
            config_type,
            default,
            update,
            synonyms: &[],
            raw_doc,
            check,
        }
    }

    pub(super) const fn defaults_from(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }
}

/// A broker key in the unit of the topic key.
pub(super) const fn same(name: &'static str) -> Synonym {
    Synonym { name, scale: 1 }
}

/// A broker key in minutes for a topic key in milliseconds.
pub(super) const fn minutes(name: &'static str) -> Synonym {
    Synonym {
        name,
        scale: 60_000,
    }
}

/// A broker key in hours for a topic key in milliseconds.
pub(super) const fn hours(name: &'static str) -> Synonym {
    Synonym {
        name,
        scale: 3_600_000,
    }
}

/// The row of that name.
pub(in crate::config) fn find(table: &'static [Key], name: &str) -> Option<&'static Key> {
    table.iter().find(|key| key.name == name)
}

/// The closest name, if it is close enough to be what was meant.
pub(in crate::config) fn suggest(table: &'static [Key], name: &str) -> Option<&'static str> {
    const FARTHEST: usize = 3;
    let distance = |key: &&Key| levenshtein(key.name, name);
    let nearest = table.iter().min_by_key(distance)?;
    (distance(&nearest) <= FARTHEST).then_some(nearest.name)
}

/// The environment variable of a key: `num.partitions` is `CORELANE_NUM_PARTITIONS`,
/// `corelane.durability` is `CORELANE_DURABILITY`.
pub fn env_name(key: &str) -> String {
    let bare = key.strip_prefix("corelane.").unwrap_or(key);
    format!("CORELANE_{}", bare.replace(['.', '-'], "_").to_uppercase())
}

/// Makes a table and the struct that holds its values. A row reads
///
/// ```text
/// /// What it does.
/// field: Type = "key.name", default, valid values, update mode [, from synonyms];
/// ```
macro_rules! key_table {
    (
        $(#[$meta:meta])*
        $struct:ident in $table:ident;
        $(
            $(#[doc = $doc:literal])+
            $field:ident: $type:ty = $name:literal, $default:expr, $valid:expr, $update:expr
            $(, from $synonyms:expr)?;
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        #[doc = concat!("The keys of [`", stringify!($struct), "`], in the order of its fields.")]
        pub static $table: &[Key] = &[
            $(
                Key::row(
                    $name,
                    <$type as ConfigValue>::TYPE,
                    $default,
                    $update,
                    concat!($($doc),+),
                    |text| value::parse::<$type>(text, $valid).map(|value| value.text()),
                )
                $( .defaults_from($synonyms) )?,
            )*
        ];

        impl $struct {
            /// The value of a key as text; `None` when it is null or no key of this table.
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $( $name => self.$field.text(), )*
                    _ => None,
                }
            }

            /// Reads every field from the text that `lookup` has for its key.
            fn read(
                lookup: impl Fn(&'static str) -> Option<String>,
            ) -> Result<Self, ConfigError> {
                Ok(Self {
                    $( $field: value::read::<$type>($name, lookup($name), $valid)?, )*
                })
            }
        }
    };
}
pub(super) use key_table;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BROKER_KEYS, TOPIC_KEYS};
    use std::collections::BTreeSet;

    #[test]
    fn environment_names_are_distinct() {
        let names: BTreeSet<_> = BROKER_KEYS.iter().map(|key| env_name(key.name)).collect();
        assert_eq!(names.len(), BROKER_KEYS.len());
        assert_eq!(env_name("num.partitions"), "CORELANE_NUM_PARTITIONS");
        assert_eq!(env_name("corelane.flush.ms"), "CORELANE_FLUSH_MS");
    }

    #[test]
    fn every_default_is_valid_and_canonical() {
        for key in BROKER_KEYS.iter().chain(TOPIC_KEYS) {
            assert!(!key.doc().is_empty(), "{}", key.name);
            if let Some(default) = key.default {
                let canonical = key
                    .check(default)
                    .unwrap_or_else(|why| panic!("{}: {why}", key.name));
                assert_eq!(canonical.as_deref(), Some(default), "{}", key.name);
            }
        }
    }

    #[test]
    fn synonyms_are_broker_keys() {
        for key in TOPIC_KEYS {
            for synonym in key.synonyms {
                assert!(
                    find(BROKER_KEYS, synonym.name).is_some(),
                    "{}",
                    synonym.name
                );
            }
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(
            suggest(BROKER_KEYS, "num.partition"),
            Some("num.partitions")
        );
        assert_eq!(suggest(TOPIC_KEYS, "retention.msec"), Some("retention.ms"));
        assert_eq!(suggest(BROKER_KEYS, "something.else.entirely"), None);
    }
}
