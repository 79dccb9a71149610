//! Malformed requests of every type and version, and noise.

use corelane::wire::{ApiKey, Message as _, encode_request, messages};

use crate::common::{Noise, Options, scale};
use crate::evil::EVIL;
use crate::sample::{Sample as _, Source};
use crate::target::Target;

/// A whole frame with its length.
struct Valid {
    api: ApiKey,
    version: i16,
    frame: Vec<u8>,
}

macro_rules! collect {
    ($($api:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $name:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {
        fn every_request(noise: &mut Noise) -> Vec<Valid> {
            let mut out = Vec::new();
            $(
                let api = messages::$request::KEY;
                for version in api.versions() {
                    for len in [0, 60] {
                        let bytes = noise.bytes(len);
                        let request = messages::$request::sample(&mut Source::short(&bytes, version));
                        let mut frame = Vec::new();
                        let _ = encode_request(&mut frame, version, 1, "evil", &request).unwrap();
                        out.push(Valid {
                            api,
                            version,
                            frame,
                        });
                    }
                }
            )*
            out
        }
    };
}

corelane::for_each_api!(collect);

/// A frame around bytes.
fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

#[test]
fn every_request_with_evil_lengths_cuts_and_trailing_bytes() {
    let mut target = Target::start(Options::new(1));
    let mut noise = Noise::from_environment();
    let valid = every_request(&mut noise);
    // In the gate each frame gets a random part of its mutations.
    let per_frame = scale("CORELANE_HOSTILE_MUTATIONS", 60, usize::MAX);
    let mut sent = 0;
    for Valid {
        api,
        version,
        frame,
    } in &valid
    {
        let mut mutations = mutations_of(&frame[4..]);
        while mutations.len() > per_frame {
            mutations.swap_remove(noise.below(mutations.len()));
        }
        for mutation in &mutations {
            target.send(mutation);
        }
        sent += mutations.len();
        assert!(
            target.broker.is_alive(),
            "{api} version {version}\n{}",
            target.broker.log()
        );
    }
    target.survived("malformed requests of every type and version", sent);
}

fn mutations_of(message: &[u8]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = (0..message.len())
        .map(|end| framed(&message[..end]))
        .collect();
    out.push(framed(&[message, &[0]].concat()));
    out.push(framed(&[message, &[0xff; 100]].concat()));
    for start in 0..message.len() {
        for evil in EVIL {
            let patched = start..(start + evil.len()).min(message.len());
            let mut bytes = message.to_vec();
            bytes[patched.clone()].copy_from_slice(&evil[..patched.len()]);
            out.push(framed(&bytes));
        }
    }
    // Versions and keys that do not exist.
    for number in [-1, i16::MIN, 14, 100, i16::MAX] {
        for at in [0, 2] {
            let mut bytes = message.to_vec();
            bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
            out.push(framed(&bytes));
        }
    }
    // Frames whose own length lies.
    for length in [-1, 0, 1, 7, i32::MAX, i32::MIN, 104_857_601] {
        out.push([&length.to_be_bytes()[..], message].concat());
    }
    out
}

#[test]
fn random_frames() {
    let mut target = Target::start(Options::new(1));
    let mut noise = Noise::from_environment();
    let count = scale("CORELANE_HOSTILE_FRAMES", 20_000, 1_000_000);
    for nth in 0..count {
        let len = noise.below(200);
        let mut bytes = noise.bytes(len);
        // Most have a header that leads to a decoder.
        if nth % 8 != 0 {
            let api = ApiKey::ALL[noise.below(ApiKey::ALL.len())];
            let versions = api.versions();
            let span = (versions.end() - versions.start() + 1) as usize;
            let version = versions.start() + noise.below(span) as i16;
            let mut header = api.key().to_be_bytes().to_vec();
            header.extend(version.to_be_bytes());
            header.extend([0, 0, 0, 1, 0xff, 0xff]);
            if version >= api.first_flexible_version() {
                header.push(0);
            }
            bytes.splice(0..0, header);
        }
        target.send(&framed(&bytes));
        if nth % 1_000 == 0 {
            target.serves();
        }
    }
    target.survived("random frames", count);
}
