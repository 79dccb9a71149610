//! Record formats as in kcat, and rpk's %v.

use std::io::{self, Write};
use std::str::FromStr;

use super::Shown;

/// A format, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct RecordFormat {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field),
}

/// What a letter behind % stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    KeyBytes,
    ValueBytes,
    Timestamp,
    Headers,
}

impl Field {
    fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            't' => Self::Topic,
            'p' => Self::Partition,
            'o' => Self::Offset,
            'k' => Self::Key,
            's' | 'v' => Self::Value,
            'K' => Self::KeyBytes,
            'S' | 'V' => Self::ValueBytes,
            'T' => Self::Timestamp,
            'h' => Self::Headers,
            _ => return None,
        })
    }
}

impl FromStr for RecordFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => plain.push(escaped(&mut letters)?),
                '%' => match letters.next() {
                    Some('%') => plain.push(b'%'),
                    Some(letter) => {
                        let field = Field::from_letter(letter).ok_or_else(|| unknown(letter))?;
                        if !plain.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut plain)));
                        }
                        parts.push(Part::Field(field));
                    }
                    None => return Err("a format cannot end with %; %% stands for it".into()),
                },
                letter => plain.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }
}

impl RecordFormat {
    /// Writes one record.
    pub(in crate::cli) fn write(&self, out: &mut impl Write, shown: Shown<'_>) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Field(field) => write_field(out, *field, shown)?,
            }
        }
        Ok(())
    }
}

fn unknown(letter: char) -> String {
    format!("%{letter} is unknown; there are %t %p %o %k %s %v %K %S %T %h %%")
}

fn escaped(letters: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match letters.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = letters.take(2).collect();
            let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
            byte.ok_or_else(|| format!("\\x{digits} is no byte: two hexadecimal digits"))
        }
        other => {
            let letter = other.map(String::from).unwrap_or_default();
            Err(format!(
                "\\{letter} is unknown; there are \\n \\r \\t \\0 \\\\ \\xNN"
            ))
        }
    }
}

fn write_field(out: &mut impl Write, field: Field, shown: Shown<'_>) -> io::Result<()> {
    let record = shown.record;
    match field {
        Field::Topic => out.write_all(shown.topic.as_bytes()),
        Field::Partition => write!(out, "{}", shown.partition),
        Field::Offset => write!(out, "{}", shown.offset),
        Field::Key => out.write_all(record.key.unwrap_or_default()),
        Field::Value => out.write_all(record.value.unwrap_or_default()),
        Field::KeyBytes => write_length(out, record.key),
        Field::ValueBytes => write_length(out, record.value),
        Field::Timestamp => write!(out, "{}", shown.timestamp_ms),
        Field::Headers => {
            for (position, header) in record.headers.enumerate() {
                if position > 0 {
                    out.write_all(b",")?;
                }
                out.write_all(header.key)?;
                out.write_all(b"=")?;
                out.write_all(header.value.unwrap_or(b"NULL"))?;
            }
            Ok(())
        }
    }
}

/// −1 for null, as kcat has it.
fn write_length(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{BatchBuilder, Header, Records};

    fn shown(format: &str, key: Option<&[u8]>, headers: &[Header<'_>]) -> String {
        let mut batch = BatchBuilder::new();
        batch.append(7, key, Some(b"value"), headers).unwrap();
        let record = Records::new(batch.records(), 1).next().unwrap().unwrap();
        let shown = Shown {
            topic: "logs",
            partition: 3,
            offset: 42,
            timestamp_ms: 7,
            record: &record,
        };
        let mut out = Vec::new();
        let format: RecordFormat = format.parse().unwrap();
        format.write(&mut out, shown).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_letter_shows_its_field() {
        let all = r"%t %p %o %k %s %v %K %S %V %T %%\t\x41\\\n";
        assert_eq!(
            shown(all, Some(b"key"), &[]),
            "logs 3 42 key value value 3 5 5 7 %\tA\\\n"
        );
        assert_eq!(shown("%k|%K", None, &[]), "|-1");
        assert_eq!(shown("é%sé", None, &[]), "évalueé");
    }

    #[test]
    fn headers_stand_in_a_row() {
        let header = |key: &'static str, value| Header {
            key: key.as_bytes(),
            value,
        };
        let headers = [header("a", Some(&b"1"[..])), header("b", None)];
        assert_eq!(shown("[%h]", None, &headers), "[a=1,b=NULL]");
        assert_eq!(shown("[%h]", None, &[]), "[]");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["%", "%y", r"\q", r"\", r"\x4", r"\x+1", r"\xzz", "%é"] {
            assert!(text.parse::<RecordFormat>().is_err(), "{text}");
        }
    }
}
