//! `listeners` and `advertised.listeners`: one address stands for one per shard.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::keys::ConfigType;
use super::keys::{ConfigValue, words};

/// One entry of a list of addresses: `NAME://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, in capitals.
    pub name: String,
    /// Host name or address without brackets; empty for all interfaces.
    pub host: String,
    /// The port of shard 0; 0 for a free one per shard.
    pub port: u16,
}

/// `listeners`: what the node binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners(pub Vec<Listener>);

/// `advertised.listeners`: what clients are told. Empty: the address they connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdvertisedListeners(pub Vec<Listener>);

/// `listener.security.protocol.map`: listener name to security protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolMap(BTreeMap<String, String>);

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Host name or address.
    pub host: String,
    pub port: u16,
}

impl Listener {
    /// The port of a shard: the listener's plus the shard's index; 0 stays 0.
    pub fn port_of(&self, shard: u16) -> u16 {
        if self.port == 0 {
            0
        } else {
            self.port.saturating_add(shard)
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("has '{text}', which is not NAME://HOST:PORT");
        let (name, address) = text.split_once("://").ok_or_else(malformed)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let plausible = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if name.is_empty() || !host.chars().all(plausible) || (bare.is_none() && host.contains(':'))
        {
            return Err(malformed());
        }
        let port = port.parse().map_err(|_| malformed())?;
        Ok(Self {
            name: name.to_ascii_uppercase(),
            host: host.to_string(),
            port,
        })
    }

    fn overlaps(&self, other: &Self, shards: u16) -> bool {
        if self.port == 0 || other.port == 0 || self.of_other_family(other) {
            return false;
        }
        self.port.abs_diff(other.port) < shards
    }

    /// An IPv4 and an IPv6 address can share a port.
    fn of_other_family(&self, other: &Self) -> bool {
        let is_v4 = |listener: &Self| listener.host.parse::<Ipv4Addr>().is_ok();
        let is_v6 = |listener: &Self| listener.host.parse::<Ipv6Addr>().is_ok();
        (is_v4(self) && is_v6(other)) || (is_v6(self) && is_v4(other))
    }
}

impl Listeners {
    /// Checks that this many shards have a port each, on every listener. The error names the
    /// listeners that stand in each other's way.
    pub fn check_ports(&self, shards: u16) -> Result<(), String> {
        for (index, one) in self.0.iter().enumerate() {
            if one.port.checked_add(shards.saturating_sub(1)).is_none() {
                return Err(format!("{one} leaves no ports for {shards} shards"));
            }
            if let Some(other) = self.0[index + 1..].iter().find(|l| one.overlaps(l, shards)) {
                return Err(format!(
                    "{one} and {other} overlap: with {shards} shards each takes {shards} ports"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn without(&self, names: &[String]) -> Self {
        let kept = |l: &&Listener| !names.iter().any(|name| name.eq_ignore_ascii_case(&l.name));
        Self(self.0.iter().filter(kept).cloned().collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|listener| listener.name == name)
    }
}

impl AdvertisedListeners {
    /// The address of a shard as clients of the named listener are told; `None` when it is the
    /// address that they connected to. An address given once stands for port + shard.
    pub fn address(&self, name: &str, shard: u16) -> Option<HostPort> {
        let given: Vec<_> = self
            .0
            .iter()
            .filter(|listener| listener.name == name)
            .collect();
        let (listener, port) = match given.as_slice() {
            [] => return None,
            [one] => (*one, one.port_of(shard)),
            each => each
                .get(usize::from(shard))
                .map(|listener| (*listener, listener.port))?,
        };
        Some(HostPort {
            host: listener.host.clone(),
            port,
        })
    }

    /// Checks that each name stands for one address or for one per shard.
    pub fn check_shards(&self, shards: u16) -> Result<(), String> {
        for listener in &self.0 {
            let count = self
                .0
                .iter()
                .filter(|other| other.name == listener.name)
                .count();
            let name = &listener.name;
            if count != 1 && count != usize::from(shards) {
                return Err(format!(
                    "has {count} addresses for {name}, not 1 or {shards}"
                ));
            }
            if count == 1
                && listener
                    .port
                    .checked_add(shards.saturating_sub(1))
                    .is_none()
            {
                return Err(format!("{listener} leaves no ports for {shards} shards"));
            }
        }
        Ok(())
    }

    pub(super) fn check_names(&self, open: &Listeners, left_out: &[String]) -> Result<(), String> {
        for listener in &self.0 {
            let name = &listener.name;
            if !open.has(name)
                && !left_out
                    .iter()
                    .any(|other| other.eq_ignore_ascii_case(name))
            {
                return Err(format!("has '{name}', which is not among listeners"));
            }
        }
        Ok(())
    }
}

impl ProtocolMap {
    /// Checks that every listener speaks a protocol that exists.
    pub(super) fn check(&self, listeners: &Listeners) -> Result<(), String> {
        for Listener { name, .. } in &listeners.0 {
            match self.0.get(name).map(String::as_str) {
                Some("PLAINTEXT") => {}
                None if name == "PLAINTEXT" => {}
                None if !["SSL", "SASL_SSL", "SASL_PLAINTEXT"].contains(&name.as_str()) => {
                    return Err(format!(
                        "has '{name}', which listener.security.protocol.map lacks"
                    ));
                }
                protocol => {
                    let protocol = protocol.unwrap_or(name);
                    return Err(format!(
                        "has '{name}' with {protocol}: only PLAINTEXT exists yet"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, host, port } = self;
        if host.contains(':') {
            write!(f, "{name}://[{host}]:{port}")
        } else {
            write!(f, "{name}://{host}:{port}")
        }
    }
}

impl ConfigValue for Listeners {
    const TYPE: ConfigType = ConfigType::List;

    fn from_text(text: &str) -> Result<Self, String> {
        let listeners = parse_all(text)?;
        for (index, listener) in listeners.iter().enumerate() {
            if listeners[..index]
                .iter()
                .any(|earlier| earlier.name == listener.name)
            {
                return Err(format!("has two listeners of the name {}", listener.name));
            }
        }
        Ok(Self(listeners))
    }

    fn text(&self) -> Option<String> {
        Some(join(&self.0))
    }
}

impl ConfigValue for AdvertisedListeners {
    const TYPE: ConfigType = ConfigType::List;

    fn from_text(text: &str) -> Result<Self, String> {
        let listeners = parse_all(text)?;
        for listener in &listeners {
            if ["", "0.0.0.0", "::"].contains(&listener.host.as_str()) {
                return Err(format!("has {listener}, which no client can connect to"));
            }
            if listener.port == 0 {
                return Err(format!("has {listener} without a port"));
            }
        }
        Ok(Self(listeners))
    }

    fn text(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| join(&self.0))
    }

    fn null() -> Option<Self> {
        Some(Self::default())
    }
}

impl ConfigValue for ProtocolMap {
    const TYPE: ConfigType = ConfigType::String;

    fn from_text(text: &str) -> Result<Self, String> {
        let entry = |word: &str| match word.split_once(':') {
            Some((name, protocol)) => Ok((
                name.trim().to_ascii_uppercase(),
                protocol.trim().to_ascii_uppercase(),
            )),
            None => Err(format!("has '{word}', which is not NAME:PROTOCOL")),
        };
        words(text).map(entry).collect::<Result<_, _>>().map(Self)
    }

    fn text(&self) -> Option<String> {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|(name, how)| format!("{name}:{how}"))
            .collect();
        Some(entries.join(","))
    }
}

fn parse_all(text: &str) -> Result<Vec<Listener>, String> {
    words(text).map(Listener::parse).collect()
}

fn join(listeners: &[Listener]) -> String {
    let all: Vec<_> = listeners.iter().map(Listener::to_string).collect();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(text: &str) -> Listeners {
        Listeners::from_text(text).expect("parses")
    }

    #[test]
    fn addresses_parse_and_print() {
        let text = "PLAINTEXT://:9092,V6://[::1]:9192,A.B://host-1.example:0";
        assert_eq!(listeners(text).text().as_deref(), Some(text));
        for bad in [
            "9092",
            "PLAINTEXT://:99999",
            "PLAINTEXT://::1:9092",
            "://h:1",
            "P://h h:1",
        ] {
            assert!(Listeners::from_text(bad).is_err(), "{bad}");
        }
        assert!(Listeners::from_text("A://:1,a://:2").is_err());
    }

    #[test]
    fn shards_take_consecutive_ports() {
        let one = &listeners("PLAINTEXT://:9092").0[0];
        assert_eq!((one.port_of(0), one.port_of(3)), (9092, 9095));
        assert_eq!(listeners("PLAINTEXT://:0").0[0].port_of(3), 0);
    }

    #[test]
    fn overlapping_ranges_name_both() {
        let two = listeners("A://:9092,B://:9094");
        assert_eq!(two.check_ports(2), Ok(()));
        let why = two.check_ports(3).expect_err("overlaps");
        assert!(
            why.contains("A://:9092") && why.contains("B://:9094"),
            "{why}"
        );
        assert_eq!(
            listeners("A://127.0.0.1:9092,B://[::1]:9092").check_ports(4),
            Ok(())
        );
        assert_eq!(listeners("A://:0,B://:0").check_ports(4), Ok(()));
        assert!(listeners("A://:65534").check_ports(3).is_err());
    }

    #[test]
    fn one_advertised_address_or_one_per_shard() {
        let parse = |text| AdvertisedListeners::from_text(text).expect("parses");
        let at = |host: &str, port| {
            Some(HostPort {
                host: host.into(),
                port,
            })
        };
        let one = parse("PLAINTEXT://logs:9092");
        assert_eq!(one.address("PLAINTEXT", 2), at("logs", 9094));
        assert_eq!(one.address("OTHER", 2), None);
        let each = parse("P://a:1,P://b:1");
        assert_eq!(each.address("P", 1), at("b", 1));
        assert_eq!(each.check_shards(2), Ok(()));
        assert!(each.check_shards(3).is_err());
        assert!(AdvertisedListeners::from_text("P://0.0.0.0:9092").is_err());
    }

    #[test]
    fn only_plaintext_is_spoken() {
        let map = ProtocolMap::from_text("SSL:SSL,IN:PLAINTEXT,OUT:SSL").expect("parses");
        assert_eq!(map.check(&listeners("PLAINTEXT://:1,IN://:2")), Ok(()));
        for bad in ["SSL://:1", "OUT://:1", "SASL_PLAINTEXT://:1", "NEW://:1"] {
            assert!(map.check(&listeners(bad)).is_err(), "{bad}");
        }
    }
}
