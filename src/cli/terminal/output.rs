//! Results: on standard output, as a table for people or as JSON for programs.

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;

use super::error::{CliError, Exit};

/// A result that can be printed. In JSON it is its own fields (snake_case, base units in their
/// names) behind a field `schema`.
pub trait Report: Serialize {
    /// Name and version of the JSON's shape, such as `corelane.topic.list/1`. The version rises
    /// when a field goes or changes its meaning, not when one is added.
    const SCHEMA: &'static str;

    /// The same for people; lines end with a line feed.
    fn text(&self) -> String;
}

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table without lines: columns under headings, in capitals.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

#[derive(Serialize)]
struct WithSchema<'a, R> {
    schema: &'static str,
    #[serde(flatten)]
    report: &'a R,
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(columns: [(&str, Align); N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.map(|(heading, _)| heading));
        for (column, (_, align)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        Self(table)
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    /// The table as lines, without blanks at their ends.
    pub fn text(&self) -> String {
        self.0
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }
}

/// Prints a result.
pub(in crate::cli) fn print<R: Report>(
    report: &R,
    json: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    if json {
        let document = serde_json::to_string(&WithSchema {
            schema: R::SCHEMA,
            report,
        });
        let document = document.map_err(|error| CliError::new(Exit::Failure, error.to_string()))?;
        writeln!(out, "{document}")?;
    } else {
        out.write_all(report.text().as_bytes())?;
    }
    Ok(out.flush()?)
}

/// A number with thousands separators, for tables.
pub fn count(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::from(if number < 0 { "-" } else { "" });
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of something whose plural ends with an s: 1 record, 2,000 records.
pub fn counted(number: impl Into<i128>, one: &str) -> String {
    let number = number.into();
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// A size with three digits and a decimal unit: 1.53 GB.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if size < 1000 {
        return format!("{size} B");
    }
    let mut scaled = size as f64;
    let mut unit = "B";
    for larger in UNITS {
        // 999.5 would print as 1000 with three digits.
        if scaled < 999.5 {
            break;
        }
        (scaled, unit) = (scaled / 1000.0, larger);
    }
    let decimals = if scaled < 9.995 {
        2
    } else {
        usize::from(scaled < 99.95)
    };
    format!("{scaled:.decimals$} {unit}")
}

/// A rate in MB/s (10⁶ bytes).
pub fn megabytes_per_second(bytes_per_second: f64) -> String {
    let rate = bytes_per_second / 1e6;
    let decimals = usize::from(rate < 99.95);
    format!("{rate:.decimals$} MB/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 7, 999, 1000, -1_234_567].map(|n: i64| count(n));
        assert_eq!(shown, ["0", "7", "999", "1,000", "-1,234,567"]);
        let shown = [0, 1, 2000].map(|n: i64| counted(n, "record"));
        assert_eq!(shown, ["0 records", "1 record", "2,000 records"]);
    }

    #[test]
    fn sizes_have_three_digits() {
        let shown = [
            0,
            999,
            1000,
            9_994,
            9_996,
            99_949,
            99_951,
            999_499,
            999_600,
            1_530_000_000,
        ];
        let expected = [
            "0 B", "999 B", "1.00 kB", "9.99 kB", "10.0 kB", "99.9 kB", "100 kB", "999 kB",
            "1.00 MB", "1.53 GB",
        ];
        assert_eq!(shown.map(bytes), expected);
        assert_eq!(megabytes_per_second(1_234_567_890.0), "1235 MB/s");
        assert_eq!(megabytes_per_second(12_340_000.0), "12.3 MB/s");
    }

    #[test]
    fn columns_align() {
        let mut table = Table::new([("NAME", Align::Left), ("COUNT", Align::Right)]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "1,000".into()]);
        assert_eq!(
            table.text(),
            "NAME    COUNT\na           1\nlonger  1,000\n"
        );
    }
}
