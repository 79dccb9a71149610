//! Java's `.properties` format, as `java.util.Properties.load` reads it.

use super::error::ConfigError;

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped; blanks at its end belong to it.
    pub value: String,
    /// The line that it starts on, from 1.
    pub line: usize,
}

/// Reads a properties text; `path` is for error messages.
pub fn parse_properties(path: &str, text: &str) -> Result<Vec<Property>, ConfigError> {
    logical_lines(text)
        .into_iter()
        .map(|(line, content)| {
            property(&content, line).map_err(|why| ConfigError::Properties {
                path: path.to_string(),
                line,
                why,
            })
        })
        .collect()
}

/// Joins continued lines and drops comments and blank lines.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in text.lines().enumerate() {
        let natural = natural.trim_start_matches(is_blank);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let (content, continues) = cut_continuation(natural);
        let (_, joined) = open.get_or_insert_with(|| (index + 1, String::new()));
        joined.push_str(content);
        if !continues {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines
}

/// An odd number of backslashes at the end continues the line; the last one is the mark.
fn cut_continuation(natural: &str) -> (&str, bool) {
    let backslashes = natural.len() - natural.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        (&natural[..natural.len() - 1], true)
    } else {
        (natural, false)
    }
}

/// The key ends at the first unescaped `=`, `:` or blank.
fn property(content: &str, line: usize) -> Result<Property, &'static str> {
    let mut escaped = false;
    let end = content.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || is_blank(c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = content.split_at(end.unwrap_or(content.len()));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest
        .strip_prefix(['=', ':'])
        .unwrap_or(rest)
        .trim_start_matches(is_blank);
    Ok(Property {
        key: unescape(key)?,
        value: unescape(value)?,
        line,
    })
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => plain.push(unicode(chars.by_ref().take(4))?),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

/// The character of a `\uXXXX` escape.
fn unicode(digits: impl Iterator<Item = char>) -> Result<char, &'static str> {
    const MALFORMED: &str = "malformed \\uXXXX escape";
    let mut code = 0;
    let mut count = 0;
    for digit in digits {
        code = code * 16 + digit.to_digit(16).ok_or(MALFORMED)?;
        count += 1;
    }
    if count == 4 {
        char::from_u32(code).ok_or(MALFORMED)
    } else {
        Err(MALFORMED)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, usize)> {
        let parsed = parse_properties("f", text).expect("parses");
        parsed
            .into_iter()
            .map(|p| (p.key, p.value, p.line))
            .collect()
    }

    #[track_caller]
    fn is(text: &str, key: &str, value: &str) {
        assert_eq!(pairs(text), vec![(key.to_string(), value.to_string(), 1)]);
    }

    #[test]
    fn separators() {
        is("a=b", "a", "b");
        is("  a : b c ", "a", "b c ");
        is("a b", "a", "b");
        is("a\t=\tb=c", "a", "b=c");
        is("a", "a", "");
        is("a\\=b\\:c=d", "a=b:c", "d");
    }

    #[test]
    fn comments_and_blank_lines() {
        let text = "# one\n\n  ! two\na=1\r\nb=2#no comment\n";
        let expected = [("a", "1", 4), ("b", "2#no comment", 5)];
        assert_eq!(
            pairs(text),
            expected.map(|(k, v, l)| (k.to_string(), v.to_string(), l))
        );
    }

    #[test]
    fn continuation_and_escapes() {
        is("a=1,\\\n   2,\\\n   #3", "a", "1,2,#3");
        is("a=c:\\\\dir\\\\", "a", "c:\\dir\\");
        is("a=\\u00e9\\t\\x", "a", "é\tx");
        is("a=1\\", "a", "1");
    }

    #[test]
    fn a_malformed_escape_names_its_line() {
        for text in ["a=1\nb=\\u00g0", "a=1\nb=\\u00", "a=1\nb=\\ud800"] {
            let error = parse_properties("server.properties", text).expect_err("malformed");
            assert_eq!(
                error.to_string(),
                "server.properties:2: malformed \\uXXXX escape"
            );
        }
    }
}
