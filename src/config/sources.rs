//! Gathers values from flags, `--set`, the environment and a properties file, and decides which
//! one wins: flag > `--set` > environment > file > default.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::ConfigError;
use super::host::{Host, default_log_dir};
use super::keys::BROKER_KEYS;
use super::keys::{Key, env_name, find, suggest};
use super::keys::{Verdict, verdict};
use super::origin::{Notice, Origin};
use super::properties::parse_properties;
use super::settings::{Setting, Settings};

/// Kafka's own second names. Where both are given, the first name counts.
const ALIASES: &[(&str, &str)] = &[("log.dir", "log.dirs"), ("broker.id", "node.id")];

/// Variables that begin like keys but belong to the command line.
const OTHER_VARIABLES: &[&str] = &["CORELANE_BROKERS", "CORELANE_CONFIG", "CORELANE_LOG"];

/// All values that were given, from wherever, before they are judged.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    given: Vec<Given>,
    notices: Vec<Notice>,
}

#[derive(Clone, Debug)]
struct Given {
    key: String,
    value: String,
    origin: Origin,
}

/// A value for a key of the table; later in this order wins.
struct Candidate {
    key: &'static Key,
    is_alias: bool,
    value: String,
    origin: Origin,
}

impl Sources {
    /// A flag of its own, such as `--shards 2` for `corelane.shards`.
    pub fn flag(&mut self, flag: &'static str, key: &str, value: impl Into<String>) {
        self.push(key, value, Origin::Flag(flag));
    }

    /// `--set KEY=VALUE`.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        match assignment.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.push(key.trim(), value.trim(), Origin::Set);
                Ok(())
            }
            _ => Err(ConfigError::Assignment {
                given: assignment.to_string(),
            }),
        }
    }

    /// The process's environment; only variables that begin with `CORELANE_` count.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            if name.starts_with("CORELANE_") && !OTHER_VARIABLES.contains(&name.as_str()) {
                self.variable(name, value);
            }
        }
    }

    /// The text of a properties file.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let path = path.display().to_string();
        for property in parse_properties(&path, text)? {
            let origin = Origin::File {
                path: path.clone(),
                line: property.line,
            };
            self.push(&property.key, property.value, origin);
        }
        Ok(())
    }

    /// Judges every value and lets the strongest win. Notices are for the user; an error refuses
    /// the start.
    pub fn load(self, host: &Host) -> Result<(Settings, Vec<Notice>), ConfigError> {
        let mut notices = self.notices;
        let mut candidates = Vec::new();
        for given in self.given {
            match judge(given)? {
                Judged::Known(candidate) => candidates.push(candidate),
                Judged::Ignored(notice) => notices.push(notice),
            }
        }
        let mut settings = Settings::new(merge(candidates, &mut notices)?);
        settings.set_default("log.dirs", default_log_dir(host.is_root));
        Ok((settings, notices))
    }

    fn push(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        self.given.push(Given {
            key: key.to_string(),
            value: value.into(),
            origin,
        });
    }

    fn variable(&mut self, name: String, value: String) {
        let names = BROKER_KEYS.iter().map(|key| key.name);
        let known = names.chain(ALIASES.iter().map(|(alias, _)| *alias));
        if let Some(key) = known.into_iter().find(|key| env_name(key) == name) {
            return self.push(key, value, Origin::Environment(name));
        }
        let spelled = name["CORELANE_".len()..].to_lowercase().replace('_', ".");
        if verdict(&spelled, &value).is_some() {
            return self.push(&spelled, value, Origin::Environment(name));
        }
        let ours = format!("corelane.{spelled}");
        let meant = suggest(BROKER_KEYS, &spelled).or_else(|| suggest(BROKER_KEYS, &ours));
        self.notices.push(Notice::UnknownVariable {
            name,
            suggestion: meant.map(env_name),
        });
    }
}

enum Judged {
    Known(Candidate),
    Ignored(Notice),
}

fn judge(given: Given) -> Result<Judged, ConfigError> {
    let Given { key, value, origin } = given;
    let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
    if let Some(row) = find(BROKER_KEYS, alias.map_or(&key, |(_, name)| *name)) {
        let is_alias = alias.is_some();
        return Ok(Judged::Known(Candidate {
            key: row,
            is_alias,
            value,
            origin,
        }));
    }
    match verdict(&key, &value) {
        Some(Verdict::Ignored(why)) => Ok(Judged::Ignored(Notice::Ignored { key, origin, why })),
        Some(Verdict::Refused(why)) => Err(ConfigError::Refused {
            key,
            why,
            origin: Some(origin),
        }),
        None => {
            let suggestion = suggest(BROKER_KEYS, &key);
            Err(ConfigError::Unknown {
                key,
                suggestion,
                origin: Some(origin),
            })
        }
    }
}

/// Within one source, the key's first name and then the later line win.
fn merge(
    mut candidates: Vec<Candidate>,
    notices: &mut Vec<Notice>,
) -> Result<BTreeMap<&'static str, Setting>, ConfigError> {
    candidates.sort_by_key(|candidate| (candidate.origin.rank(), !candidate.is_alias));
    let mut fixed = BTreeMap::new();
    while let Some(Candidate {
        key, value, origin, ..
    }) = candidates.pop()
    {
        match fixed.get(key.name) {
            None => {
                let invalid = |why| ConfigError::invalid(key.name, &value, why).located_at(&origin);
                if let Some(value) = key.check(&value).map_err(invalid)? {
                    fixed.insert(key.name, Setting { value, origin });
                }
            }
            Some(winner) if key.check(&value) != Ok(Some(winner.value.clone())) => {
                notices.push(Notice::Overridden {
                    key: key.name,
                    winner: (winner.value.clone(), winner.origin.clone()),
                    loser: (value, origin),
                });
            }
            Some(_) => {}
        }
    }
    Ok(fixed)
}
