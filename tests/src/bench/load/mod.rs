//! The open-loop load: what is sent when ([`plan`]), the process that sends it ([`generator`]), what became of it ([`sample`]).

mod connection;
pub(crate) mod generator;
pub(crate) mod plan;
pub(crate) mod sample;

use std::env;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow, ensure};

use crate::process;
use plan::Plan;
use sample::Sample;

/// A generator at work.
#[derive(Debug)]
pub(crate) struct Load {
    reader: JoinHandle<anyhow::Result<Vec<u8>>>,
}

impl Load {
    /// Starts this program again, as the generator, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe().context("own path")?);
        command.arg("load").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = process::bound_to_us(&mut command)
            .spawn()
            .context("start the generator")?;
        let mut stdin = child.stdin.take().context("its standard input")?;
        stdin
            .write_all(&serde_json::to_vec(plan).context("the plan")?)
            .context("hand over the plan")?;
        drop(stdin);
        Ok(Self {
            reader: thread::spawn(move || {
                let output = child.wait_with_output().context("the generator")?;
                ensure!(output.status.success(), "the generator failed: {}", output.status);
                Ok(output.stdout)
            }),
        })
    }

    /// Waits until every request is over, which the plan's patience bounds.
    ///
    /// # Errors
    /// When the generator failed.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<Sample>> {
        let output = self
            .reader
            .join()
            .map_err(|_| anyhow!("the generator's reader panicked"))??;
        serde_json::from_slice(&output).context("the generator's samples")
    }

    /// A whole run.
    ///
    /// # Errors
    /// See [`Self::start`] and [`Self::finish`].
    pub(crate) fn run(plan: &Plan) -> anyhow::Result<Vec<Sample>> {
        Self::start(plan)?.finish()
    }
}
