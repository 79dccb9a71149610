//! Records as JSON: one per line, or spread out for people.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Shown;
use crate::model::batch::Header;

/// Writes one record and a line feed. Bytes that are not UTF-8 stand as base64 under a name that
/// says so (`value_base64`).
pub(in crate::cli) fn write_json(
    out: &mut impl Write,
    shown: Shown<'_>,
    pretty: bool,
) -> io::Result<()> {
    let record = JsonRecord(shown);
    if pretty {
        serde_json::to_writer_pretty(&mut *out, &record)?;
    } else {
        serde_json::to_writer(&mut *out, &record)?;
    }
    out.write_all(b"\n")
}

struct JsonRecord<'a>(Shown<'a>);

impl Serialize for JsonRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = self.0;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("topic", shown.topic)?;
        fields.serialize_entry("partition", &shown.partition)?;
        fields.serialize_entry("offset", &shown.offset)?;
        fields.serialize_entry("timestamp_ms", &shown.timestamp_ms)?;
        serialize_bytes(&mut fields, ["key", "key_base64"], shown.record.key)?;
        serialize_bytes(&mut fields, ["value", "value_base64"], shown.record.value)?;
        let headers: Vec<_> = shown.record.headers.map(JsonHeader).collect();
        if !headers.is_empty() {
            fields.serialize_entry("headers", &headers)?;
        }
        fields.end()
    }
}

struct JsonHeader<'a>(Header<'a>);

impl Serialize for JsonHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        serialize_bytes(&mut fields, ["key", "key_base64"], Some(self.0.key))?;
        serialize_bytes(&mut fields, ["value", "value_base64"], self.0.value)?;
        fields.end()
    }
}

fn serialize_bytes<M: SerializeMap>(
    fields: &mut M,
    [as_text, as_base64]: [&str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => fields.serialize_entry(as_text, &()),
        Some((Ok(text), _)) => fields.serialize_entry(as_text, text),
        Some((Err(_), bytes)) => fields.serialize_entry(as_base64, &base64(bytes)),
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| three.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= three.len() {
                text.push(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    use crate::model::batch::{BatchBuilder, Records};

    #[test]
    fn base64_is_that_of_the_rfc() {
        let known = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        for (length, text) in known.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), text);
        }
    }

    #[test]
    fn a_record_is_one_line() {
        let mut batch = BatchBuilder::new();
        let header = Header {
            key: b"h",
            value: None,
        };
        let value = Some(&b"\xff\n"[..]);
        batch.append(7, Some(b"k\n"), value, &[header]).unwrap();
        let record = Records::new(batch.records(), 1).next().unwrap().unwrap();
        let shown = Shown {
            topic: "logs",
            partition: 3,
            offset: 42,
            timestamp_ms: 7,
            record: &record,
        };
        let mut out = Vec::new();
        write_json(&mut out, shown, false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let fields: Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "topic": "logs", "partition": 3, "offset": 42, "timestamp_ms": 7, "key": "k\n",
            "value_base64": "/wo=", "headers": [{"key": "h", "value": null}],
        });
        assert_eq!(fields, expected);
    }
}
