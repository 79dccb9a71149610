//! Flags that every command takes, and what follows from them.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{ArgAction, Args, ColorChoice, ValueEnum};

use super::error::{CliError, Exit};
use super::output::{Report, print};

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Brokers to ask for the others; without a port it is 9092 [default: $CORELANE_BROKERS, else
    /// 127.0.0.1:9092]
    #[arg(
        short,
        long,
        global = true,
        value_name = "HOST[:PORT],…",
        value_delimiter = ','
    )]
    pub brokers: Option<Vec<String>>,
    /// How results are printed
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub format: Format,
    /// The same as --format json
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice: still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Whether help, errors and logs have colours; results have none
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorWhen,
    /// Show no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Do not ask before doing what cannot be undone
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// How long to wait for a broker, such as 500ms, 10s or 2m
    #[arg(long, global = true, value_parser = parse_duration, default_value = "10s")]
    pub timeout: DurationArg,
}

/// A duration as users write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationArg(pub Duration);

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON document with a schema name; of consume, one per record without
    Json,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What a command gets from the global flags and the environment.
#[derive(Clone, Debug)]
pub struct Context {
    args: GlobalArgs,
    brokers_variable: Option<String>,
    color: bool,
}

impl Context {
    /// From the flags and the environment.
    pub fn new(args: GlobalArgs, variable: impl Fn(&str) -> Option<String>) -> Self {
        let color = args.color.on_standard_error(&variable);
        Self {
            args,
            brokers_variable: variable("CORELANE_BROKERS"),
            color,
        }
    }

    /// Brokers to connect to first, as HOST:PORT.
    pub fn brokers(&self) -> Vec<String> {
        self.given_brokers()
            .unwrap_or_else(|| vec!["127.0.0.1:9092".into()])
    }

    /// Brokers that were named by a flag or by the environment.
    pub fn given_brokers(&self) -> Option<Vec<String>> {
        let from_variable = || {
            let list = self.brokers_variable.as_deref();
            let list = list.filter(|text| !text.trim().is_empty())?;
            let brokers = list.split(',').map(|broker| broker.trim().to_string());
            Some(brokers.collect())
        };
        self.args.brokers.clone().or_else(from_variable)
    }

    /// Brokers that were named on the command line.
    pub fn named_brokers(&self) -> Option<&[String]> {
        self.args.brokers.as_deref()
    }

    /// Whether results and errors are JSON.
    pub fn json(&self) -> bool {
        self.args.json || self.args.format == Format::Json
    }

    /// Whether standard error is coloured.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Whether nothing is said but results and errors.
    pub fn quiet(&self) -> bool {
        self.args.quiet
    }

    /// How often `-v` was given.
    pub fn verbosity(&self) -> u8 {
        self.args.verbose
    }

    /// Whether long work shows how far it is: bars on a terminal, plain lines elsewhere.
    pub fn progress(&self) -> bool {
        !self.args.quiet && !self.args.no_progress
    }

    /// Asks before something that cannot be undone: with `--yes` it goes on, on a terminal the
    /// user decides, and elsewhere it stops.
    pub fn confirm(&self, plan: &str) -> Result<(), CliError> {
        if self.args.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(CliError::usage(format!("{plan}: nobody is there to agree"))
                .fix("say so beforehand with --yes"));
        }
        super::error::say(format_args!("{plan}. Go on? [y/N]"));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CliError::new(Exit::Failure, "stopped: nothing was changed")),
        }
    }

    /// How long a broker may take to answer.
    pub fn timeout(&self) -> Duration {
        self.args.timeout.0
    }

    /// Prints a result.
    pub fn print<R: Report>(&self, report: &R) -> Result<(), CliError> {
        print(report, self.json(), &mut std::io::stdout().lock())
    }

    /// Says something that is no result, unless asked to be quiet.
    pub fn say(&self, words: std::fmt::Arguments<'_>) {
        if !self.args.quiet {
            super::error::say(words);
        }
    }
}

impl ColorWhen {
    /// Whether what is said on standard error is coloured.
    pub(in crate::cli) fn on_standard_error(
        self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> bool {
        self.applies(std::io::stderr().is_terminal(), variable)
    }

    /// Colour on a terminal unless told otherwise (no-color.org, bixense.com/clicolors).
    fn applies(self, is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name| variable(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR") => false,
            Self::Auto if variable("CLICOLOR_FORCE").is_some_and(|v| v != "0") => true,
            Self::Auto => is_terminal && variable("TERM").as_deref() != Some("dumb"),
        }
    }
}

impl From<ColorWhen> for ColorChoice {
    fn from(when: ColorWhen) -> Self {
        match when {
            ColorWhen::Auto => Self::Auto,
            ColorWhen::Always => Self::Always,
            ColorWhen::Never => Self::Never,
        }
    }
}

impl From<ColorChoice> for ColorWhen {
    fn from(choice: ColorChoice) -> Self {
        match choice {
            ColorChoice::Auto => Self::Auto,
            ColorChoice::Always => Self::Always,
            ColorChoice::Never => Self::Never,
        }
    }
}

/// Reads a duration: a whole number with ms, s, m or h.
pub(in crate::cli) fn parse_duration(text: &str) -> Result<DurationArg, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let milliseconds = number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    match milliseconds {
        Some(milliseconds) => Ok(DurationArg(Duration::from_millis(milliseconds))),
        None => Err("a duration is a number with ms, s, m or h, such as 10s".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let of = |text| parse_duration(text).map(|duration| duration.0);
        assert_eq!(of("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(of("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "99999999999999999999s",
            "1é",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn brokers_come_from_the_flag_then_the_environment() {
        let brokers = |flag: Option<&str>, variable: Option<&str>| {
            let brokers = flag.map(|flag| vec![flag.to_string()]);
            let args = GlobalArgs {
                brokers,
                ..GlobalArgs::default()
            };
            let variable = |name: &str| variable.filter(|_| name == "CORELANE_BROKERS");
            Context::new(args, |name| variable(name).map(str::to_string)).brokers()
        };
        assert_eq!(brokers(Some("a:1"), Some("b:1")), ["a:1"]);
        assert_eq!(brokers(None, Some("b:1, c:2")), ["b:1", "c:2"]);
        assert_eq!(brokers(None, Some("")), ["127.0.0.1:9092"]);
        assert_eq!(brokers(None, None), ["127.0.0.1:9092"]);
    }

    #[test]
    fn consent_can_be_given_beforehand() {
        let args = GlobalArgs {
            yes: true,
            ..GlobalArgs::default()
        };
        assert_eq!(
            Context::new(args, |_| None).confirm("topic 'logs' goes"),
            Ok(())
        );
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let auto = |is_terminal, given: &[(&str, &str)]| {
            let value = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            ColorWhen::Auto.applies(is_terminal, |name| value(name).map(str::to_string))
        };
        assert!(auto(true, &[]));
        assert!(!auto(false, &[]));
        assert!(!auto(true, &[("NO_COLOR", "1")]));
        assert!(!auto(true, &[("TERM", "dumb")]));
        assert!(auto(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!auto(false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!auto(false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    }
}
