//! `corelane version`

use clap::Args;
use serde::Serialize;

use super::{CliError, Context, Report};

/// Show the version of this program and what it was built for
#[derive(Args)]
pub(super) struct VersionArgs {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    target: String,
    debug_assertions: bool,
}

impl VersionArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        context.print(&Version {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            debug_assertions: cfg!(debug_assertions),
        })
    }
}

impl Report for Version {
    const SCHEMA: &'static str = "corelane.version/1";

    fn text(&self) -> String {
        let build = if self.debug_assertions {
            ", debug build"
        } else {
            ""
        };
        format!("corelane {} ({}{build})\n", self.version, self.target)
    }
}
