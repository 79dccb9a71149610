//! Command lines that make no sense: clap's findings in our words, with what was probably meant.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, Command, Error};

use super::context::ColorWhen;
use super::error::{CliError, Exit, suggest};

/// Prints clap's outcome, help and version included, and gives the exit code.
pub(in crate::cli) fn report(
    error: &Error,
    root: &Command,
    words: &[OsString],
    json: bool,
    color: ColorChoice,
) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Help that nobody reads to its end is no error.
            let _ = error.print();
            Exit::OK
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage as u8
        }
        _ => {
            let variable = |name: &str| std::env::var(name).ok();
            let color = ColorWhen::from(color).on_standard_error(variable);
            explain(error, root, words).report(json, color)
        }
    }
}

/// Whether errors are to be JSON, of a command line that may not parse.
pub(in crate::cli) fn asks_for_json(words: &[OsString]) -> bool {
    words
        .iter()
        .any(|word| word == "--json" || word == "--format=json")
        || words
            .windows(2)
            .any(|pair| pair[0] == "--format" && pair[1] == "json")
}

/// `--color` of a command line that may not parse.
pub(in crate::cli) fn color_choice(words: &[OsString]) -> ColorChoice {
    let given = |value: &str| {
        words
            .iter()
            .any(|word| *word == *format!("--color={value}"))
            || words
                .windows(2)
                .any(|pair| pair[0] == "--color" && pair[1] == value)
    };
    match (given("always"), given("never")) {
        (_, true) => ColorChoice::Never,
        (true, _) => ColorChoice::Always,
        _ => ColorChoice::Auto,
    }
}

fn explain(error: &Error, root: &Command, words: &[OsString]) -> CliError {
    let (command, path) = innermost(root, words);
    let context = |kind| error.get(kind).and_then(first_word);
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let told = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let given = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
            CliError::usage(format!("no command '{path}{given}'"))
                .did_you_mean(suggest(&given, names))
        }
        ErrorKind::UnknownArgument => {
            let flags: Vec<_> = command
                .get_arguments()
                .chain(root.get_arguments())
                .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
                .collect();
            CliError::usage(format!(
                "no argument '{argument}' for '{}'",
                command_line(&path)
            ))
            .did_you_mean(suggest(&argument, flags.iter().map(String::as_str)))
        }
        ErrorKind::InvalidValue => invalid_value(error, &argument),
        ErrorKind::MissingRequiredArgument => {
            CliError::usage(format!("'{}' needs {argument}", command_line(&path)))
        }
        _ => CliError::usage(first_line(error)),
    };
    told.detail("more", format!("{} --help", command_line(&path)))
}

fn invalid_value(error: &Error, argument: &str) -> CliError {
    let valid: Vec<String> = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.clone(),
        _ => Vec::new(),
    };
    let given = error
        .get(ContextKind::InvalidValue)
        .and_then(first_word)
        .unwrap_or_default();
    if given.is_empty() {
        return CliError::usage(format!("{argument} needs a value"));
    }
    let told = CliError::usage(format!("{argument} cannot be '{given}'"))
        .did_you_mean(suggest(&given, valid.iter().map(String::as_str)));
    if valid.is_empty() {
        told
    } else {
        told.detail("one of", valid.join(", "))
    }
}

/// The command that the words lead to, and the way there with a blank behind each word.
fn innermost<'c>(root: &'c Command, words: &[OsString]) -> (&'c Command, String) {
    let mut command = root;
    let mut path = String::new();
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
            path.push_str(word);
            path.push(' ');
        }
    }
    (command, path)
}

fn command_line(path: &str) -> String {
    format!("corelane {path}").trim_end().to_string()
}

fn first_word(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(word) => Some(word.clone()),
        ContextValue::Strings(words) => words.first().cloned(),
        _ => None,
    }
}

fn first_line(error: &Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_string()
}
