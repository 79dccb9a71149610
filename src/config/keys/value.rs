//! Types that a key can have: text to value and back.

use super::key::{ConfigType, Valid};
use crate::config::error::ConfigError;

/// A type that a field of a configuration can have.
pub(in crate::config) trait ConfigValue: Sized {
    /// The type that DescribeConfigs reports.
    const TYPE: ConfigType;

    /// Reads trimmed text; the error completes the sentence "KEY=TEXT …".
    fn from_text(text: &str) -> Result<Self, String>;

    /// Writes the canonical form; `None` is null.
    fn text(&self) -> Option<String>;

    /// The number in it, for range checks.
    fn integer(&self) -> Option<i64> {
        None
    }

    /// The value of a key that nobody set and that has no default.
    fn null() -> Option<Self> {
        None
    }
}

/// Reads text and checks it against the values that are valid.
pub(super) fn parse<T: ConfigValue>(text: &str, valid: Valid) -> Result<T, String> {
    let text = text.trim();
    let value = match valid {
        Valid::SizeFrom(_) => {
            let bytes = parse_bytes(text).ok_or("must be a size such as 512M, 1G or 1073741824")?;
            T::from_text(&bytes.to_string())?
        }
        _ => T::from_text(text)?,
    };
    let in_range = |low: i64, high: i64| value.integer().is_none_or(|n| (low..=high).contains(&n));
    match valid {
        Valid::Any => Ok(value),
        Valid::AtLeast(low) | Valid::SizeFrom(low) if in_range(low, i64::MAX) => Ok(value),
        Valid::AtLeast(low) | Valid::SizeFrom(low) => Err(format!("must be at least {low}")),
        Valid::Between(low, high) if in_range(low, high) => Ok(value),
        Valid::Between(low, high) => Err(format!("must be from {low} to {high}")),
        Valid::Only(only, _) if value.text().as_deref() == Some(only) => Ok(value),
        Valid::Only(only, why) => Err(format!("must be {only}: {why}")),
    }
}

/// Reads the value of a key that may be unset.
pub(super) fn read<T: ConfigValue>(
    key: &'static str,
    text: Option<String>,
    valid: Valid,
) -> Result<T, ConfigError> {
    match text {
        Some(text) => {
            parse(&text, valid).map_err(|why| ConfigError::invalid(key, text.clone(), why))
        }
        None => T::null().ok_or_else(|| ConfigError::invalid(key, "", "needs a value")),
    }
}

macro_rules! integer {
    ($type:ty, $config_type:ident, $what:literal) => {
        impl ConfigValue for $type {
            const TYPE: ConfigType = ConfigType::$config_type;

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("must be {}", $what))
            }

            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn integer(&self) -> Option<i64> {
                Some(i64::from(*self))
            }
        }
    };
}

integer!(i16, Short, "a whole number of 16 bits");
integer!(i32, Int, "a whole number of 32 bits");
integer!(i64, Long, "a whole number of 64 bits");

impl ConfigValue for bool {
    const TYPE: ConfigType = ConfigType::Boolean;

    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A share from 0 to 1 (the only use that Kafka's topic configs have for fractions).
impl ConfigValue for f64 {
    const TYPE: ConfigType = ConfigType::Double;

    fn from_text(text: &str) -> Result<Self, String> {
        let ratio = text.parse().map_err(|_| "must be a number".to_string())?;
        if (0.0..=1.0).contains(&ratio) {
            Ok(ratio)
        } else {
            Err("must be from 0 to 1".into())
        }
    }

    fn text(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl ConfigValue for String {
    const TYPE: ConfigType = ConfigType::String;

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_string())
    }

    fn text(&self) -> Option<String> {
        Some(self.clone())
    }
}

/// Words separated by commas; blanks around them and empty ones do not count.
impl ConfigValue for Vec<String> {
    const TYPE: ConfigType = ConfigType::List;

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(words(text).map(str::to_string).collect())
    }

    fn text(&self) -> Option<String> {
        Some(self.join(","))
    }
}

/// A key whose default is null: an empty value is the same as none.
impl<T: ConfigValue> ConfigValue for Option<T> {
    const TYPE: ConfigType = T::TYPE;

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::from_text(text).map(Some)
        }
    }

    fn text(&self) -> Option<String> {
        self.as_ref()?.text()
    }

    fn integer(&self) -> Option<i64> {
        self.as_ref()?.integer()
    }

    fn null() -> Option<Self> {
        Some(None)
    }
}

/// A size in bytes with a binary suffix: K, M, G or T, also as Ki, KiB and so on.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "ki" | "kib" => 10,
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The words of a list.
pub(in crate::config) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_bind() {
        assert_eq!(parse::<i32>(" 7 ", Valid::AtLeast(7)), Ok(7));
        assert_eq!(
            parse::<i32>("6", Valid::AtLeast(7)),
            Err("must be at least 7".into())
        );
        assert_eq!(
            parse::<i64>("10", Valid::Between(1, 9)),
            Err("must be from 1 to 9".into())
        );
        assert_eq!(
            parse::<i16>("3", Valid::Only("1", "so")),
            Err("must be 1: so".into())
        );
        assert!(parse::<i32>("2147483648", Valid::Any).is_err());
        assert!(parse::<f64>("NaN", Valid::Any).is_err());
    }

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(parse_bytes("8G"), Some(8 << 30));
        assert_eq!(parse_bytes("512MiB"), Some(512 << 20));
        assert_eq!(parse_bytes("77"), Some(77));
        assert_eq!(parse_bytes("99999999999T"), None);
        assert_eq!(parse_bytes("8X"), None);
        assert_eq!(parse::<i64>("32M", Valid::SizeFrom(1)), Ok(32 << 20));
        assert_eq!(parse::<i64>("33554432", Valid::SizeFrom(1)), Ok(32 << 20));
        assert!(parse::<i64>("1K", Valid::SizeFrom(1025)).is_err());
        assert!(parse::<i64>("-1", Valid::SizeFrom(1)).is_err());
        assert!(
            parse::<i64>("8388608T", Valid::SizeFrom(1)).is_err(),
            "64 bits"
        );
        // Kafka's own keys are as in Kafka.
        assert!(parse::<i64>("32M", Valid::AtLeast(1)).is_err());
    }

    #[test]
    fn null_is_not_a_value_of_every_type() {
        assert_eq!(read::<Option<i64>>("k", None, Valid::Any), Ok(None));
        assert!(read::<i64>("k", None, Valid::Any).is_err());
    }
}
