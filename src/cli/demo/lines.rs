//! Log lines that look like a web server's: JSON access logs, every fifth line in the common log
//! format. The same seed gives the same bytes.

use std::io::{self, Write};

const SEED: u64 = 0x636f_7265_6c61_6e65;
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const STATUSES: [u16; 8] = [200, 200, 200, 200, 304, 404, 302, 500];
const PATHS: [&str; 12] = [
    "/",
    "/index.html",
    "/api/v1/items",
    "/api/v1/users",
    "/api/v1/search",
    "/static/app.js",
    "/static/style.css",
    "/favicon.ico",
    "/login",
    "/cart",
    "/checkout",
    "/images/logo.png",
];
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
     Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "curl/8.9.1",
    "Go-http-client/2.0",
    "python-requests/2.32.3",
];

/// Writes whole lines, of `bytes` in all or a line more.
pub(super) fn write_lines(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    let mut random = Random(SEED);
    let mut line = Vec::new();
    let (mut written, mut number) = (0, 0);
    while written < bytes {
        line.clear();
        if number % 5 == 4 {
            common_line(&mut line, number, &mut random)?;
        } else {
            json_line(&mut line, number, &mut random)?;
        }
        out.write_all(&line)?;
        written += line.len() as u64;
        number += 1;
    }
    out.flush()
}

/// xorshift64* (Vigna, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    /// One of `items`, the first ones far more often.
    fn skewed<T: Copy>(&mut self, items: &[T]) -> T {
        let count = items.len() as u64;
        let at = self.below(count) * self.below(count) / count;
        items[at as usize]
    }
}

struct Request {
    address: [u64; 2],
    method: &'static str,
    path: &'static str,
    item: u64,
    status: u16,
    bytes: u64,
    agent: &'static str,
}

impl Request {
    fn any(random: &mut Random) -> Self {
        Self {
            address: [random.below(16), random.below(250) + 1],
            method: random.skewed(&METHODS),
            path: random.skewed(&PATHS),
            item: random.below(20_000),
            status: random.skewed(&STATUSES),
            bytes: random.below(60_000),
            agent: random.skewed(&AGENTS),
        }
    }
}

fn json_line(line: &mut Vec<u8>, number: u64, random: &mut Random) -> io::Result<()> {
    let request = Request::any(random);
    let [net, host] = request.address;
    let (seconds, milliseconds) = (number / 900 % 86_400, number % 900);
    writeln!(
        line,
        "{{\"host\":\"web-{:02}\",\"time\":\"2026-01-15T{:02}:{:02}:{:02}.{milliseconds:03}Z\",\
         \"remote_addr\":\"10.20.{net}.{host}\",\"method\":\"{}\",\"uri\":\"{}?id={}\",\
         \"status\":{},\"bytes_sent\":{},\"request_time\":0.{:03},\"upstream\":\"app-{}:8080\",\
         \"user_agent\":\"{}\",\"request_id\":\"{:016x}\"}}",
        random.below(24),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        request.method,
        request.path,
        request.item,
        request.status,
        request.bytes,
        random.below(400),
        random.below(6),
        request.agent,
        random.next(),
    )
}

fn common_line(line: &mut Vec<u8>, number: u64, random: &mut Random) -> io::Result<()> {
    let request = Request::any(random);
    let [net, host] = request.address;
    let seconds = number / 900 % 86_400;
    writeln!(
        line,
        "10.20.{net}.{host} - - [15/Jan/2026:{:02}:{:02}:{:02} +0000] \"{} {}?id={} HTTP/1.1\" {} \
         {} \"-\" \"{}\"",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        request.method,
        request.path,
        request.item,
        request.status,
        request.bytes,
        request.agent,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_lines() {
        let [first, second] = [(); 2].map(|()| {
            let mut out = Vec::new();
            write_lines(&mut out, 100_000).unwrap();
            out
        });
        assert_eq!(first, second);
        assert!(first.len() >= 100_000 && first.len() < 101_000 && first.ends_with(b"\n"));
        let first_line = first.split(|byte| *byte == b'\n').next().unwrap();
        serde_json::from_slice::<serde_json::Value>(first_line).unwrap();
    }
}
