//! The macros in which the messages are written down; [`super`] explains them.

/// Structs of the protocol: from their fields follow the type, its default, decode and encode.
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
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$lt>)? {
            $(
                $(#[$field_doc])*
                #[doc = concat!("Versions `", stringify!($versions), "`.")]
                pub $field: $ty,
            )*
        }

        impl $(<$lt>)? Default for $name $(<$lt>)? {
            fn default() -> Self {
                Self { $($field: field!(default $($default)?),)* }
            }
        }

        impl<'a> $crate::wire::Wire<'a> for $name $(<$lt>)? {
            #[inline]
            fn min_bytes(version: $crate::wire::Version) -> usize {
                usize::from(version.flexible)
                    $(+ field!(min_bytes version, $ty, [$versions] $(tag $tag)?))*
            }

            #[inline]
            fn read(
                &mut self,
                reader: &mut $crate::wire::Reader<'a>,
            ) -> Result<(), $crate::wire::DecodeError> {
                $(field!(read reader, self.$field, [$versions] $(null [$nulls])? $(tag $tag)?);)*
                reader.tagged(self, |_message, _tag, _reader| {
                    $($(
                        if _tag == $tag && ($versions).contains(&_reader.version().number) {
                            $crate::wire::Wire::read(&mut _message.$field, _reader)?;
                            return Ok(true);
                        }
                    )?)*
                    Ok(false)
                })
            }

            fn write(&self, writer: &mut $crate::wire::Writer<'_>) {
                $(field!(
                    write writer, self.$field, [$versions] $(null [$nulls])? $(tag $tag)?
                );)*
                writer.tagged(|_tags| {
                    $($(
                        let exists = ($versions).contains(&_tags.version().number);
                        if exists && self.$field != Self::default().$field {
                            _tags.field($tag, |writer| {
                                $crate::wire::Wire::write(&self.$field, writer);
                            });
                        }
                    )?)*
                });
            }

            fn set_throttle_time_ms(&mut self, _throttle_time_ms: i32) {
                $(field!(throttle self, $field, _throttle_time_ms);)*
            }
        }

        impl<'a> $crate::wire::Nullable<'a> for $name $(<$lt>)? {
            fn min_null_bytes(_: $crate::wire::Version) -> usize {
                1
            }

            fn read_nullable(
                slot: &mut Option<Self>,
                reader: &mut $crate::wire::Reader<'a>,
            ) -> Result<(), $crate::wire::DecodeError> {
                if reader.presence()? {
                    return $crate::wire::read_present(slot, reader);
                }
                *slot = None;
                Ok(())
            }

            fn write_nullable(value: Option<&Self>, writer: &mut $crate::wire::Writer<'_>) {
                writer.presence(value.is_some());
                if let Some(value) = value {
                    $crate::wire::Wire::write(value, writer);
                }
            }
        }
    )*};
}

/// One field of [`message!`], by what is done with it. Tagged fields have a section of their own.
macro_rules! field {
    (throttle $message:ident, throttle_time_ms, $delay_ms:ident) => {
        $message.throttle_time_ms = $delay_ms;
    };
    (throttle $message:ident, $field:ident, $delay_ms:ident) => {};
    (default) => {
        Default::default()
    };
    (default $default:expr) => {
        $default
    };
    (min_bytes $version:ident, $ty:ty, [$versions:expr]) => {
        if ($versions).contains(&$version.number) {
            <$ty as $crate::wire::Wire>::min_bytes($version)
        } else {
            0
        }
    };
    (min_bytes $version:ident, $ty:ty, [$versions:expr] tag $tag:literal) => {
        0
    };
    (read $reader:ident, $slot:expr, [$versions:expr]) => {
        if ($versions).contains(&$reader.version().number) {
            $crate::wire::Wire::read(&mut $slot, $reader)?;
        }
    };
    (read $reader:ident, $slot:expr, [$versions:expr] null [$nulls:expr]) => {
        if ($nulls).contains(&$reader.version().number) {
            $crate::wire::Wire::read(&mut $slot, $reader)?;
        } else if ($versions).contains(&$reader.version().number) {
            $crate::wire::read_present(&mut $slot, $reader)?;
        }
    };
    (read $reader:ident, $slot:expr, [$versions:expr] tag $tag:literal) => {};
    (write $writer:ident, $value:expr, [$versions:expr]) => {
        if ($versions).contains(&$writer.version().number) {
            $crate::wire::Wire::write(&$value, $writer);
        }
    };
    (write $writer:ident, $value:expr, [$versions:expr] null [$nulls:expr]) => {
        if ($nulls).contains(&$writer.version().number) {
            $crate::wire::Wire::write(&$value, $writer);
        } else if ($versions).contains(&$writer.version().number) {
            $crate::wire::write_present(&$value, $writer);
        }
    };
    (write $writer:ident, $value:expr, [$versions:expr] tag $tag:literal) => {};
}
