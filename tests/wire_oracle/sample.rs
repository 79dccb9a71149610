//! Values of every message, made from bytes: a test gives random bytes, shorter ones give
//! simpler values, and none gives the simplest.
//!
//! The definitions in `src/wire/messages` are read a second time here, with a `message!` that
//! makes a [`Sample`] of each, so that no field can be forgotten.

use corelane::model::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId,
};
use corelane::wire::{ErrorCode, List, Records, Str};

/// Where values come from, and the version they are for.
pub struct Source<'a> {
    bytes: &'a [u8],
    pub version: i16,
    /// Long arrays and strings are worth one of each: lengths above 127 take two varint bytes.
    long_left: usize,
}

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8], version: i16) -> Self {
        Self {
            bytes,
            version,
            long_left: 2,
        }
    }

    /// Without long arrays and strings, for tests that try each byte.
    pub fn short(bytes: &'a [u8], version: i16) -> Self {
        Self {
            bytes,
            version,
            long_left: 0,
        }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let head = self.take(N);
        array[..head.len()].copy_from_slice(head);
        array
    }

    fn byte(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    fn len(&mut self) -> usize {
        match self.byte() {
            0xe0.. if self.long_left > 0 => {
                self.long_left -= 1;
                140
            }
            byte => usize::from(byte % 4),
        }
    }
}

/// A type of which values can be made.
pub trait Sample<'a>: Sized {
    fn sample(source: &mut Source<'a>) -> Self;
}

pub fn present<'a, T: Sample<'a>>(source: &mut Source<'a>) -> Option<T> {
    Some(T::sample(source))
}

macro_rules! samples {
    ($($ty:ty: $make:expr;)*) => {$(
        impl<'a> Sample<'a> for $ty {
            fn sample(source: &mut Source<'a>) -> Self {
                let make: fn(&mut Source<'a>) -> Self = $make;
                make(source)
            }
        }
    )*};
}

samples! {
    bool: |source| source.byte() & 1 == 1;
    i8: |source| Self::from_be_bytes(source.array());
    i16: |source| Self::from_be_bytes(source.array());
    i32: |source| Self::from_be_bytes(source.array());
    i64: |source| Self::from_be_bytes(source.array());
    uuid::Uuid: |source| Self::from_bytes(source.array());
    TopicId: |source| Self(Sample::sample(source));
    Offset: |source| Self(Sample::sample(source));
    LeaderEpoch: |source| Self(Sample::sample(source));
    PartitionIndex: |source| Self(Sample::sample(source));
    BrokerId: |source| Self(Sample::sample(source));
    ProducerId: |source| Self(Sample::sample(source));
    ProducerEpoch: |source| Self(Sample::sample(source));
    // UNSUPPORTED_VERSION turns an ApiVersions response into one of version 0.
    ErrorCode: |source| match Self::from_code(Sample::sample(source)) {
        Self::UnsupportedVersion => Self::None,
        code => code,
    };
    Str<'a>: |source| {
        let len = source.len();
        (0..len).map(|_| ['a', 'Z', '-', 'é', '€', '🦀', '\0', '.'][usize::from(source.byte() % 8)]).collect()
    };
    Records<'a>: |source| {
        let len = source.len() * 3;
        Self::Bytes(source.take(len))
    };
}

impl<'a, T: Sample<'a>> Sample<'a> for Option<T> {
    fn sample(source: &mut Source<'a>) -> Self {
        (source.byte() & 1 == 1).then(|| T::sample(source))
    }
}

impl<'a, T: Sample<'a>> Sample<'a> for Vec<T> {
    fn sample(source: &mut Source<'a>) -> Self {
        (0..source.len()).map(|_| T::sample(source)).collect()
    }
}

impl<'a, T: Sample<'a>> Sample<'a> for List<T> {
    fn sample(source: &mut Source<'a>) -> Self {
        (0..source.len()).map(|_| T::sample(source)).collect()
    }
}

macro_rules! message {
    ($(
        $(#[$doc:meta])*
        struct $name:ident $(<$lt:lifetime>)? {
            $(
                $(#[$field_doc:meta])*
                $field:ident: $ty:ty [$versions:expr]
                    $(null [$nulls:expr])? $(tag $tag:literal)? $(= $default:expr)?,
            )*
        }
    )*) => {$(
        use corelane::wire::messages::$name;

        impl<'a> $crate::sample::Sample<'a> for $name $(<$lt>)? {
            fn sample(source: &mut $crate::sample::Source<'a>) -> Self {
                let mut value = Self::default();
                $(
                    if ($versions).contains(&source.version) {
                        value.$field = sample_field!(source, $ty $(, [$nulls])?);
                    }
                )*
                value
            }
        }
    )*};
}

macro_rules! sample_field {
    ($source:ident, $ty:ty) => {
        <$ty as $crate::sample::Sample>::sample($source)
    };
    ($source:ident, $ty:ty, [$nulls:expr]) => {
        if ($nulls).contains(&$source.version) {
            <$ty as $crate::sample::Sample>::sample($source)
        } else {
            $crate::sample::present($source)
        }
    };
}
