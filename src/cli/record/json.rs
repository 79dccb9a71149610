//! Records as JSON: one per line, or spread out for people.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::Shown;

/// Writes one record and a line feed. Bytes that are not UTF-8 stand as base64 under a name that
/// says so (`value_base64`).
pub(in crate::cli) fn write_json(
    out: &mut impl Write,
    shown: Shown<'_>,
    pretty: bool,
) -> io::Result<()> {
    let mut fields = Map::new();
    fields.insert("topic".into(), shown.topic.into());
    fields.insert("partition".into(), shown.partition.into());
    fields.insert("offset".into(), shown.offset.into());
    fields.insert("timestamp_ms".into(), shown.timestamp_ms.into());
    insert(&mut fields, "key", shown.record.key);
    insert(&mut fields, "value", shown.record.value);
    let headers: Vec<Value> = shown
        .record
        .headers
        .map(|header| {
            let mut fields = Map::new();
            insert(&mut fields, "key", Some(header.key));
            insert(&mut fields, "value", header.value);
            Value::Object(fields)
        })
        .collect();
    if !headers.is_empty() {
        fields.insert("headers".into(), headers.into());
    }
    if pretty {
        serde_json::to_writer_pretty(&mut *out, &fields)?;
    } else {
        serde_json::to_writer(&mut *out, &fields)?;
    }
    out.write_all(b"\n")
}

fn insert(fields: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        fields.insert(name.into(), Value::Null);
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => fields.insert(name.into(), text.into()),
        Err(_) => fields.insert(format!("{name}_base64"), base64(bytes).into()),
    };
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
    use crate::model::batch::{BatchBuilder, Header, Records};

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
