//! Bytes that mean harm: every decoder, cut short at each byte, with evil lengths at each
//! position, with bytes behind, and with noise. None may panic, hang, or take much memory.

use corelane::wire::messages::{self, AnyRequest};
use corelane::wire::{
    ApiKey, DecodeError, Message, RequestHeader, decode_response, encode_request, encode_response,
};

use crate::evil::EVIL;
use crate::sample::{Sample, Source};

/// A repeatable source of bytes (xorshift64).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }
}

/// Hands a decoder everything that can be made of one valid message.
fn attack<T>(valid: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>) {
    assert!(decode(valid).is_ok());
    for end in 0..valid.len() {
        assert!(
            decode(&valid[..end]).is_err(),
            "cut at {end} of {}",
            valid.len()
        );
    }
    let longer = [valid, &[0]].concat();
    assert_eq!(decode(&longer).err(), Some(DecodeError::Trailing(1)));
    for start in 0..valid.len() {
        for evil in EVIL {
            let patched = start..(start + evil.len()).min(valid.len());
            let mut bytes = valid.to_vec();
            bytes[patched.clone()].copy_from_slice(&evil[..patched.len()]);
            let _ = decode(&bytes);
            bytes.truncate(patched.end);
            let _ = decode(&bytes);
        }
    }
}

macro_rules! hostile {
    ($($api:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $name:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {$(
        #[test]
        fn $name() {
            let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
            for version in messages::$request::KEY.versions() {
                for len in [0, 60, 200] {
                    let bytes = noise.bytes(len);
                    let mut out = Vec::new();
                    let request = messages::$request::sample(&mut Source::short(&bytes, version));
                    let _ = encode_request(&mut out, version, 1, "", &request).unwrap();
                    let (_, body) = RequestHeader::decode(&out[4..]).unwrap();
                    attack(body, |bytes| {
                        messages::$request::decode(bytes, version).map(|_| ())
                    });
                    let mut out = Vec::new();
                    let response = messages::$response::sample(&mut Source::short(&bytes, version));
                    let _ = encode_response(&mut out, version, 1, &response).unwrap();
                    attack(&out[4..], |bytes| {
                        decode_response::<messages::$response>(bytes, version).map(|_| ())
                    });
                }
            }
        }
    )*};
}

corelane::for_each_api!(hostile);

/// The kernel's count of this process's memory: (most resident, most mapped) so far, in KiB.
fn peak_kib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmHWM:"), field("VmPeak:"))
}

/// Counts of 2³¹−1 with few bytes behind them must not become memory, touched or not.
#[test]
fn noise_neither_panics_nor_takes_memory() {
    let (resident, mapped) = peak_kib();
    let mut noise = Noise(7);
    for _ in 0..300 {
        for api in ApiKey::ALL {
            for version in api.versions() {
                let header = RequestHeader {
                    api: *api,
                    version,
                    correlation_id: 0,
                    client_id: "",
                };
                let mut body = noise.bytes(90);
                let _ = AnyRequest::decode(&header, &body);
                body[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
                let _ = AnyRequest::decode(&header, &body);
            }
        }
    }
    let (resident_after, mapped_after) = peak_kib();
    assert!(
        resident_after - resident < 64 << 10,
        "{} KiB resident",
        resident_after - resident
    );
    assert!(
        mapped_after - mapped < 1 << 20,
        "{} KiB mapped",
        mapped_after - mapped
    );
}

/// The most memory for the fewest bytes: topics of two bytes on the wire, 56 in memory.
#[test]
fn arrays_of_many_small_elements_meet_the_budget() {
    let topics = 1 << 20;
    let mut body = u32::to_be_bytes(topics).to_vec();
    body.resize(4 + 2 * topics as usize, 0);
    assert_eq!(
        messages::MetadataRequest::decode(&body, 1),
        Err(DecodeError::Budget)
    );
    let few = &[&1_000u32.to_be_bytes()[..], &[0; 2_000]].concat();
    assert!(messages::MetadataRequest::decode(few, 1).is_ok());
}
