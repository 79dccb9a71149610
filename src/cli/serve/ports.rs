//! Whether the broker can listen where it is told to, asked before anything is made on disk.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::cli::{CliError, Exit};
use crate::config::Listeners;
use crate::server::resolve;

/// The ports of a broker that has just ended come free a little after its directory.
const RETRIES: u32 = 10;
const RETRY: Duration = Duration::from_millis(100);

/// Binds every port of every shard and lets go of it again.
pub(super) fn check(
    listeners: &Listeners,
    shards: u16,
    stopped: &Receiver<()>,
) -> Result<(), CliError> {
    let mut left = RETRIES;
    loop {
        match bind_all(listeners, shards) {
            Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => left -= 1,
            Err((address, error)) => return Err(refused(&address, &error)),
            Ok(()) => return Ok(()),
        }
        if stopped.recv_timeout(RETRY).is_ok() {
            return Err(CliError::stopped(Exit::Interrupted));
        }
    }
}

fn bind_all(listeners: &Listeners, shards: u16) -> Result<(), (String, io::Error)> {
    let mut bound = Vec::new();
    for listener in &listeners.0 {
        for shard in 0..shards {
            let (host, port) = (listener.host.as_str(), listener.port_of(shard));
            let one = resolve(host, port).and_then(TcpListener::bind);
            bound.push(one.map_err(|error| (format!("{host}:{port}"), error))?);
        }
    }
    Ok(())
}

/// Why an address cannot be listened on, with what helps.
pub(super) fn refused(address: &str, error: &io::Error) -> CliError {
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop what listens there (ss -ltnp), or choose other ports: --listen HOST:PORT"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address (ip addr shows which it has): --listen HOST:PORT"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023: --listen HOST:PORT",
        _ => "choose an address of this host: --listen HOST:PORT (listeners)",
    };
    let what = format!("cannot listen on {address}: {error}");
    CliError::new(Exit::Host, what).fix(fix)
}

/// A value of `--listen`, or why it is none.
pub(super) fn parse_listen(text: &str) -> Result<String, String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_plain = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        port.parse::<u16>().is_ok() && is_plain
    });
    if is_address {
        Ok(text.to_owned())
    } else {
        Err("an address is HOST:PORT, such as 127.0.0.1:9092, [::1]:9092 or :9092".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_host_and_port() {
        for good in ["127.0.0.1:9092", "[::1]:9092", ":9092", "localhost:0"] {
            assert_eq!(parse_listen(good), Ok(good.to_owned()));
        }
        for bad in [
            "127.0.0.1",
            "",
            "9092",
            "::1",
            "host:99999",
            "a:b",
            "PLAINTEXT://a",
        ] {
            assert!(parse_listen(bad).is_err(), "{bad}");
        }
    }
}
