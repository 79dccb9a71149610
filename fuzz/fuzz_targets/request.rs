//! Bodies of every API, version and direction; what is read must be written and read alike.
//!
//! The first byte picks the API, the second the version and (top bit) the direction.

#![no_main]

use corelane::wire::{ApiKey, Message, Wire, Writer, messages};
use libfuzzer_sys::fuzz_target;

macro_rules! round_trip {
    ($message:ident, $body:ident, $version:ident) => {
        if let Ok(value) = messages::$message::decode($body, $version) {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, messages::$message::KEY.version($version));
            value.write(&mut writer);
            let encoded = writer.finish().expect("what fitted a frame fits one again");
            assert_eq!(encoded.frame_bytes(), out.len());
            assert_eq!(
                messages::$message::decode(&out[4..], $version).as_ref(),
                Ok(&value)
            );
        }
    };
}

macro_rules! read_any {
    ($($api:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $name:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {
        fn read(api: ApiKey, version: i16, is_response: bool, body: &[u8]) {
            match (api, is_response) {
                $(
                    (ApiKey::$api, false) => round_trip!($request, body, version),
                    (ApiKey::$api, true) => round_trip!($response, body, version),
                )*
            }
        }
    };
}

corelane::for_each_api!(read_any);

fuzz_target!(|bytes: &[u8]| {
    let [api, version, body @ ..] = bytes else {
        return;
    };
    let api = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let is_response = *version >= 0x80;
    let (first, last) = api.versions().into_inner();
    let version = first + i16::from(*version & 0x7f) % (last - first + 1);
    read(api, version, is_response, body);
});
