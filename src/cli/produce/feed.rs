//! Lines on their way: until the input ends, a batch fails, or the user has seen enough.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::{Acks, Command};
use crate::cli::connect::Rt;
use crate::cli::input::{Input, Lines, lines_of};
use crate::cli::progress::Progress;
use crate::cli::signals::stopped;
use crate::cli::{CliError, Context, Exit, count};
use crate::client::{Batcher, ClientError, Deliveries, NewRecord, Span};
use crate::model::batch::Header;
use crate::rt::Runtime;
use crate::wire::ErrorCode;

/// After a batch has failed, answers to others are waited for so long: what was written is to be
/// told, but a broker that is gone has been waited for already.
const SETTLE: Duration = Duration::from_secs(1);
/// Pieces that the input has read when it is stopped come within this time.
const LAST_PIECE: Duration = Duration::from_millis(20);

/// What lines pass through.
pub(super) struct Feed<'c> {
    pub(super) rt: Rt,
    pub(super) command: &'c Command,
    pub(super) context: &'c Context,
    pub(super) batcher: Batcher<Rt>,
    pub(super) progress: &'c mut Progress,
}

/// Why no more lines are taken.
enum Ending {
    End,
    Stopped(Exit),
    Broken(CliError),
}

enum Next {
    Piece(Vec<u8>),
    /// A batch has waited long enough.
    Due,
    Ending(Ending),
}

impl Feed<'_> {
    /// Takes lines until there is a reason not to, and waits until they are written. Gives the code
    /// to end with where the user stopped it.
    pub(super) async fn run(
        mut self,
        input: &Input,
        asked: &flume::Receiver<Exit>,
    ) -> Result<(Rc<Deliveries>, Option<Exit>), CliError> {
        let deliveries = self.batcher.deliveries().clone();
        let (rt, command) = (self.rt.clone(), self.command);
        let taken = self.take_all(input, asked).await;
        let written = match taken {
            Ok(ending) => self.batcher.finish().await.map(|_| ending),
            Err(error) => Err(error),
        };
        match written {
            Ok(Ending::End) => Ok((deliveries, None)),
            Ok(Ending::Stopped(exit)) => Ok((deliveries, Some(exit))),
            Ok(Ending::Broken(error)) => Err(with_written(error, &deliveries, command)),
            Err(error) => {
                deliveries.settle(&rt, SETTLE).await;
                let error = with_line(error, deliveries.failed());
                Err(with_written(error, &deliveries, command))
            }
        }
    }

    async fn take_all(
        &mut self,
        input: &Input,
        asked: &flume::Receiver<Exit>,
    ) -> Result<Ending, ClientError> {
        let mut lines = Lines::default();
        let mut taken_bytes = 0;
        let ending = loop {
            match next(&self.rt, input, asked, self.batcher.next_due()).await {
                Next::Piece(piece) => {
                    taken_bytes += piece.len() as u64;
                    self.append(&lines.take(&piece)).await?;
                }
                Next::Due => self.batcher.send_due().await?,
                Next::Ending(ending) => break ending,
            }
            self.progress.show(taken_bytes, self.rt.now());
            // Input that is always ready must not keep the network waiting.
            self.rt.yield_now().await;
        };
        if let Ending::Stopped(_) = ending {
            input.stop();
            while let Some(piece) = last_piece(&self.rt, input).await {
                self.append(&lines.take(&piece)).await?;
            }
            if lines.unfinished_bytes() > 0 {
                self.context.say(format_args!(
                    "an unfinished line of {} bytes is left out",
                    count(lines.unfinished_bytes() as u64)
                ));
            }
        }
        Ok(ending)
    }

    async fn append(&mut self, whole: &[u8]) -> Result<(), ClientError> {
        let headers = self.command.headers.iter().map(|(key, value)| Header {
            key: key.as_bytes(),
            value: Some(value.as_bytes()),
        });
        let headers: Vec<_> = headers.collect();
        let timestamp_ms = self.rt.wall_clock_ms();
        for line in lines_of(whole) {
            let (key, value) = self.command.cut(line);
            let record = NewRecord {
                timestamp_ms,
                key,
                value,
                headers: &headers,
            };
            self.batcher.append(self.command.partition, record).await?;
        }
        Ok(())
    }
}

async fn next(
    rt: &Rt,
    input: &Input,
    asked: &flume::Receiver<Exit>,
    due: Option<Duration>,
) -> Next {
    let wait = async {
        match due {
            Some(due) => rt.sleep(due.saturating_sub(rt.now())).await,
            None => std::future::pending().await,
        }
    };
    let (piece, wait) = (pin!(input.next()), pin!(wait));
    let piece_or_due = select(piece, wait);
    // Input that is always ready must not hide that the user wants to stop.
    match select(pin!(stopped(asked)), piece_or_due).await {
        Either::Left((exit, _)) => Next::Ending(Ending::Stopped(exit)),
        Either::Right((Either::Left((Some(Ok(piece)), _)), _)) => Next::Piece(piece),
        Either::Right((Either::Left((Some(Err(error)), _)), _)) => {
            Next::Ending(Ending::Broken(error))
        }
        Either::Right((Either::Left((None, _)), _)) => Next::Ending(Ending::End),
        Either::Right((Either::Right(_), _)) => Next::Due,
    }
}

/// A piece that the input had read before it was stopped.
async fn last_piece(rt: &Rt, input: &Input) -> Option<Vec<u8>> {
    match select(pin!(input.next()), pin!(rt.sleep(LAST_PIECE))).await {
        Either::Left((piece, _)) => piece?.ok(),
        Either::Right(_) => None,
    }
}

/// Names the line that is too large.
fn with_line(error: ClientError, failed: Option<Span>) -> CliError {
    let fix = match &error {
        ClientError::TooLarge { .. } => "leave it out, or compress it: -z zstd",
        ClientError::Refused {
            code: ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge,
            ..
        } => "leave it out, compress it (-z zstd), or raise the topic's max.message.bytes",
        _ => return error.into(),
    };
    let told = CliError::from(error);
    let Some(Span { first, last, count }) = failed else {
        return told;
    };
    if count == 1 {
        told.detail("line", first.to_string()).fix(fix)
    } else {
        told.detail("lines", format!("{count} of {first} to {last}"))
            .fix("make smaller batches: --batch-bytes")
    }
}

/// Says how far it went, so that the rest can be sent again.
fn with_written(error: CliError, deliveries: &Deliveries, command: &Command) -> CliError {
    let label = match command.acks {
        Acks::None => "sent",
        Acks::Leader | Acks::All => "written",
    };
    error.detail(
        label,
        format!(
            "{} of the {} lines read, all up to line {} among them",
            deliveries.records(),
            deliveries.taken(),
            deliveries.all_up_to()
        ),
    )
}
