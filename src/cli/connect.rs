//! A client for a command, and the client's errors in a user's words.

use std::future::Future;

use super::{CliError, Context, Exit, suggest};
use crate::client::{Client, ClientError, ClientOptions, Metadata, Topic};
use crate::rt::{GlommioRuntime, LaunchError, run_one};
use crate::wire::ErrorCode;

/// The runtime of commands.
pub(super) type Rt = GlommioRuntime;

/// Memory for socket buffers of a command.
pub(super) const MEMORY_BYTES: usize = 1 << 30;

/// Runs a command's work with a client of the brokers that it is about.
pub(super) fn with_client<T, Work, Run>(context: &Context, work: Work) -> Result<T, CliError>
where
    T: 'static,
    Work: FnOnce(Client<Rt>) -> Run,
    Run: Future<Output = Result<T, CliError>> + 'static,
{
    let options = options(context);
    run_one(MEMORY_BYTES, |rt| work(Client::new(rt, options)))?
}

/// How a command's clients behave.
pub(super) fn options(context: &Context) -> ClientOptions {
    ClientOptions {
        brokers: context.brokers(),
        timeout: context.timeout(),
    }
}

/// The topic of this name, or an error that names one that may have been meant.
pub(super) async fn existing_topic(client: &Client<Rt>, name: &str) -> Result<Topic, CliError> {
    let mut metadata = client.refresh(Some(&[name])).await?;
    if let Some(topic) = metadata.topics.remove(name) {
        return Ok(topic);
    }
    match metadata.errors.get(name) {
        None | Some(ErrorCode::UnknownTopicOrPartition) => {
            Err(not_found(name, &client.refresh(None).await?))
        }
        Some(code) => Err(CliError::new(
            Exit::Failure,
            format!("topic '{name}': {code}"),
        )),
    }
}

fn not_found(name: &str, all: &Metadata) -> CliError {
    let names = all.topics.keys().map(String::as_str);
    CliError::new(Exit::NotFound, format!("topic '{name}' not found"))
        .did_you_mean(suggest(name, names))
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Connection { .. } => Exit::Unreachable,
            ClientError::Address { .. } => Exit::Usage,
            ClientError::Refused { code, .. } if is_absence(*code) => Exit::NotFound,
            _ => Exit::Failure,
        };
        let told = Self::new(exit, error.to_string());
        match error {
            ClientError::Unreachable { .. } => {
                told.fix("corelane serve, or name another broker: -b HOST:PORT")
            }
            ClientError::Address { .. } => told.fix(
                "-b HOST:PORT, as in 127.0.0.1:9092; the port may be left out when it is 9092",
            ),
            _ => told,
        }
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> Self {
        let told = Self::new(Exit::Host, error.to_string());
        match error {
            LaunchError::Panicked => Self::new(Exit::Failure, error.to_string()),
            LaunchError::Ring(_) => told.detail("check", "sysctl kernel.io_uring_disabled"),
            LaunchError::Executor(_) => told.detail("check", "ulimit -l"),
            LaunchError::Thread(_) => told,
        }
    }
}

fn is_absence(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
    )
}
