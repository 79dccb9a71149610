//! Ours to bytes, to theirs, to bytes, to ours: whole frames, headers included.

use bytes::{Buf, Bytes};
use corelane::net::{Cut, cut_frame};
use corelane::wire::messages as ours;
use corelane::wire::{
    Message, RequestHeader, correlation_id, decode_response, encode_request, encode_response,
};
use kafka_protocol::messages::{self as theirs, ApiKey as TheirKey};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message as TheirMessage};
use proptest::prelude::*;

use crate::sample::{Sample, Source};

const CORRELATION_ID: i32 = 0x0102_0304;
const CLIENT_ID: &str = "fluß-7";

/// Strips the length prefix, which must be right.
fn message(frame: &[u8]) -> &[u8] {
    let whole = Cut::Whole(4..frame.len());
    assert_eq!(cut_frame(frame, usize::MAX).unwrap(), whole);
    &frame[4..]
}

/// Reads a body with the oracle and writes it again.
fn through_oracle<T: Decodable + Encodable>(body: &[u8], version: i16) -> Vec<u8> {
    let mut input = Bytes::copy_from_slice(body);
    let value = T::decode(&mut input, version).expect("the oracle reads what we wrote");
    assert!(
        !input.has_remaining(),
        "the oracle leaves {} bytes",
        input.remaining()
    );
    let mut output = Vec::new();
    value
        .encode(&mut output, version)
        .expect("the oracle writes what it read");
    output
}

macro_rules! round_trip {
    ($($api:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $name:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {$(
        mod $name {
            use super::*;

            fn request(bytes: &[u8], version: i16) {
                let value = ours::$request::sample(&mut Source::new(bytes, version));
                let mut out = Vec::new();
                let encoded =
                    encode_request(&mut out, version, CORRELATION_ID, CLIENT_ID, &value).unwrap();
                assert_eq!(encoded.frame_bytes(), out.len());
                let (header, body) = RequestHeader::decode(message(&out)).unwrap();
                assert_eq!((header.api, header.version), (ours::$request::KEY, version));
                assert_eq!(header.correlation_id, CORRELATION_ID);
                assert_eq!(header.client_id, CLIENT_ID);
                assert_eq!(ours::$request::decode(body, version).as_ref(), Ok(&value));
                if theirs::$request::VERSIONS.max >= version {
                    let head = &message(&out)[..message(&out).len() - body.len()];
                    let header_version = theirs::$request::header_version(version);
                    assert_eq!(
                        through_oracle::<theirs::RequestHeader>(head, header_version),
                        head
                    );
                    assert_eq!(through_oracle::<theirs::$request>(body, version), body);
                }
            }

            fn response(bytes: &[u8], version: i16) {
                let value = ours::$response::sample(&mut Source::new(bytes, version));
                let mut out = Vec::new();
                let encoded = encode_response(&mut out, version, CORRELATION_ID, &value).unwrap();
                assert_eq!(encoded.frame_bytes(), out.len());
                assert_eq!(correlation_id(message(&out)), Ok(CORRELATION_ID));
                let (correlation_id, decoded) = decode_response(message(&out), version).unwrap();
                assert_eq!(correlation_id, CORRELATION_ID);
                assert_eq!(value, decoded);
                if theirs::$response::VERSIONS.max >= version {
                    let header_version = theirs::$response::header_version(version);
                    let (head, body) =
                        message(&out).split_at(if header_version == 0 { 4 } else { 5 });
                    assert_eq!(
                        through_oracle::<theirs::ResponseHeader>(head, header_version),
                        head
                    );
                    assert_eq!(through_oracle::<theirs::$response>(body, version), body);
                }
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(96))]

                #[test]
                fn requests(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
                    ours::$request::KEY.versions().for_each(|version| request(&bytes, version));
                }

                #[test]
                fn responses(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
                    ours::$response::KEY.versions().for_each(|version| response(&bytes, version));
                }
            }
        }
    )*};
}

corelane::for_each_api!(round_trip);

/// What the tables say against what the oracle says.
#[test]
fn keys_versions_and_flexibility_are_kafkas() {
    macro_rules! list {
        ($($api:ident = $key:literal, $versions:expr, advertised $advertised:expr,
            flexible $flexible:expr, $kind:ident $name:ident:
            $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {$(
            assert_eq!(ours::$request::KEY, ours::$response::KEY);
            let key = ours::$request::KEY;
            let their_key = TheirKey::try_from(key.key()).unwrap();
            assert_eq!(format!("{their_key:?}"), key.name());
            for version in key
                .versions()
                .filter(|v| *v <= theirs::$request::VERSIONS.max)
            {
                let flexible = theirs::$request::header_version(version) == 2;
                assert_eq!(flexible, key.version(version).flexible, "{key} {version}");
            }
            assert_eq!(
                theirs::$request::VERSIONS.min,
                *key.versions().start(),
                "{key}"
            );
        )*};
    }
    corelane::for_each_api!(list);
}

#[test]
fn error_codes_are_kafkas() {
    use corelane::wire::ErrorCode;
    use kafka_protocol::{ResponseError, error::ParseResponseErrorCode};
    for ours in ErrorCode::ALL.iter().filter(|code| !code.is_none()) {
        let theirs: ResponseError = ours.code().err().unwrap();
        let name = ours.name().replace('_', "");
        assert_eq!(format!("{theirs:?}").to_uppercase(), name);
        // The oracle misses that ConcurrentTransactionsException is retriable.
        let retriable = theirs.is_retriable() || *ours == ErrorCode::ConcurrentTransactions;
        assert_eq!(retriable, ours.is_retriable(), "{ours}");
    }
}
