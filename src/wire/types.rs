//! How each field type looks on the wire.

use std::borrow::Cow;

use super::limits::Version;
use super::reader::Reader;
use super::writer::Writer;
use super::{DecodeError, ErrorCode, List};
use crate::model::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId,
};

/// A string: borrowed from the frame when decoded, owned where a handler makes one.
pub type Str<'a> = Cow<'a, str>;

/// Room that an array gets before its elements prove to be there.
const MAX_INITIAL_CAPACITY: usize = 1_024;

/// The record batches of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records<'a> {
    /// In memory, or in the frame when decoded.
    Bytes(&'a [u8]),
    /// So many bytes that the sender holds and splices in ([`super::Encoded::pieces`]); never
    /// the result of decoding.
    Elsewhere(u32),
}

impl<'a> Records<'a> {
    /// The bytes at hand: all of them when decoded, none when held elsewhere.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Elsewhere(_) => &[],
        }
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Self::Bytes(&[])
    }
}

/// A field type: bytes to value and back.
pub trait Wire<'a>: Default {
    /// The least that a value takes on the wire.
    fn min_bytes(version: Version) -> usize;
    /// Reads one value into a default one. Values are made where they stay: to return them costs
    /// more in moves than all else that decoding does (55 against 24 ns for a Produce request of one partition).
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError>;
    /// Writes one value. What the protocol cannot express shows at [`Writer::finish`].
    fn write(&self, writer: &mut Writer<'_>);
    /// Sets the field of this name, where the message has one: how long the client is muted.
    fn set_throttle_time_ms(&mut self, _throttle_time_ms: i32) {}
}

impl<'a> Reader<'a> {
    /// The next value; for small ones, as large ones are better read in place.
    #[inline]
    pub fn value<T: Wire<'a>>(&mut self) -> Result<T, DecodeError> {
        let mut value = T::default();
        value.read(self)?;
        Ok(value)
    }
}

/// A type that has a null.
pub trait Nullable<'a>: Wire<'a> {
    /// The least that null takes on the wire.
    fn min_null_bytes(version: Version) -> usize {
        Self::min_bytes(version)
    }
    /// Reads a value or null.
    fn read_nullable(slot: &mut Option<Self>, reader: &mut Reader<'a>) -> Result<(), DecodeError>;
    /// Writes a value or null.
    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>);
}

impl<'a, T: Nullable<'a>> Wire<'a> for Option<T> {
    fn min_bytes(version: Version) -> usize {
        T::min_null_bytes(version)
    }

    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        T::read_nullable(self, reader)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        T::write_nullable(self.as_ref(), writer);
    }
}

/// Reads an optional field in a version in which it is not nullable.
pub fn read_present<'a, T: Nullable<'a>>(
    slot: &mut Option<T>,
    reader: &mut Reader<'a>,
) -> Result<(), DecodeError> {
    slot.insert(T::default()).read(reader)
}

/// Writes an optional field in a version that has no null: the empty value stands for it.
pub fn write_present<'a, T: Nullable<'a>>(value: &Option<T>, writer: &mut Writer<'_>) {
    match value {
        Some(value) => value.write(writer),
        None => T::default().write(writer),
    }
}

macro_rules! integers {
    ($($int:ident)*) => {$(
        impl<'a> Wire<'a> for $int {
            fn min_bytes(_: Version) -> usize {
                size_of::<Self>()
            }

            #[inline]
            fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
                *self = Self::from_be_bytes(reader.array()?);
                Ok(())
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                writer.bytes(&self.to_be_bytes());
            }
        }
    )*};
}

integers!(i8 i16 i32 i64);

/// Types that travel as another: how to make it, how to unmake it.
macro_rules! carried {
    ($($outer:ty as $inner:ty: $wrap:expr, $unwrap:expr;)*) => {$(
        impl<'a> Wire<'a> for $outer {
            fn min_bytes(version: Version) -> usize {
                <$inner as Wire>::min_bytes(version)
            }

            #[inline]
            fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
                *self = reader.value::<$inner>().map($wrap)?;
                Ok(())
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                let unwrap: fn(&Self) -> $inner = $unwrap;
                unwrap(self).write(writer);
            }
        }
    )*};
}

carried! {
    bool as i8: |byte| byte != 0, |flag| i8::from(*flag);
    Offset as i64: Offset, |offset| offset.0;
    LeaderEpoch as i32: LeaderEpoch, |epoch| epoch.0;
    PartitionIndex as i32: PartitionIndex, |index| index.0;
    BrokerId as i32: BrokerId, |id| id.0;
    ProducerId as i64: ProducerId, |id| id.0;
    ProducerEpoch as i16: ProducerEpoch, |epoch| epoch.0;
    TopicId as uuid::Uuid: TopicId, |id| id.0;
}

impl<'a> Wire<'a> for ErrorCode {
    fn min_bytes(version: Version) -> usize {
        i16::min_bytes(version)
    }

    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        *self = reader.value().map(Self::from_code)?;
        Ok(())
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        writer.error_code(*self);
    }
}

impl<'a> Wire<'a> for uuid::Uuid {
    fn min_bytes(_: Version) -> usize {
        size_of::<Self>()
    }

    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        *self = Self::from_bytes(reader.array()?);
        Ok(())
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.as_bytes());
    }
}

impl<'a> Wire<'a> for Str<'a> {
    fn min_bytes(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        *self = Cow::Borrowed(reader.string()?.ok_or(DecodeError::Null)?);
        Ok(())
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        writer.string(Some(self));
    }
}

impl<'a> Nullable<'a> for Str<'a> {
    #[inline]
    fn read_nullable(slot: &mut Option<Self>, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        *slot = reader.string()?.map(Cow::Borrowed);
        Ok(())
    }

    #[inline]
    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>) {
        writer.string(value.map(Cow::as_ref));
    }
}

impl<'a> Wire<'a> for Records<'a> {
    fn min_bytes(version: Version) -> usize {
        min_len_bytes(version)
    }

    #[inline]
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        *self = Self::Bytes(reader.byte_string()?.ok_or(DecodeError::Null)?);
        Ok(())
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        match *self {
            Self::Bytes(bytes) => {
                writer.len(Some(bytes.len()));
                writer.bytes(bytes);
            }
            Self::Elsewhere(bytes) => {
                writer.len(Some(bytes as usize));
                writer.splice(bytes as usize);
            }
        }
    }
}

impl<'a> Nullable<'a> for Records<'a> {
    #[inline]
    fn read_nullable(slot: &mut Option<Self>, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        *slot = reader.byte_string()?.map(Self::Bytes);
        Ok(())
    }

    #[inline]
    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>) {
        match value {
            Some(records) => records.write(writer),
            None => writer.len(None),
        }
    }
}

macro_rules! arrays {
    ($($array:ident)*) => {$(
        impl<'a, T: Wire<'a>> Wire<'a> for $array<T> {
            fn min_bytes(version: Version) -> usize {
                min_len_bytes(version)
            }

            #[inline]
            fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
                let count = read_count::<T>(reader)?.ok_or(DecodeError::Null)?;
                *self = Self::with_capacity(count.min(MAX_INITIAL_CAPACITY));
                for _ in 0..count {
                    self.push_mut(T::default()).read(reader)?;
                }
                Ok(())
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                writer.len(Some(self.len()));
                for item in self {
                    item.write(writer);
                }
            }
        }

        impl<'a, T: Wire<'a>> Nullable<'a> for $array<T> {
            fn read_nullable(
                slot: &mut Option<Self>,
                reader: &mut Reader<'a>,
            ) -> Result<(), DecodeError> {
                *slot = None;
                let Some(count) = read_count::<T>(reader)? else { return Ok(()) };
                let items = slot.insert(Self::with_capacity(count.min(MAX_INITIAL_CAPACITY)));
                for _ in 0..count {
                    items.push_mut(T::default()).read(reader)?;
                }
                Ok(())
            }

            fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>) {
                match value {
                    Some(items) => items.write(writer),
                    None => writer.len(None),
                }
            }
        }
    )*};
}

arrays!(Vec List);

fn min_len_bytes(version: Version) -> usize {
    if version.flexible { 1 } else { 4 }
}

fn read_count<'a, T: Wire<'a>>(reader: &mut Reader<'a>) -> Result<Option<usize>, DecodeError> {
    reader.count(T::min_bytes(reader.version()), size_of::<T>())
}
