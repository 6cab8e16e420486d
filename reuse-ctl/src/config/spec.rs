//! What an app is to be, in the form in which it is compared and travels to its controller.

use std::ffi::OsString;

use clap::Parser as _;
use serde::{Deserialize, Serialize};

use crate::cli::args::{Arguments, Verb};
use crate::cli::{Failure, run};
use crate::options::RunOptions;
use crate::process::os_text;

/// An app, as one would type it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// What could stand behind `reuse-ctl run`; the command behind `--`. Paths are absolute.
    #[serde(with = "os_text::list")]
    pub arguments: Vec<OsString>,
    /// Names and values, in turn: for the workers' environment, on top of those of `--env-file`.
    #[serde(with = "os_text::list")]
    pub variables: Vec<OsString>,
}

impl AppSpec {
    /// The same as options.
    ///
    /// # Errors
    /// Usage, in the words of the command line.
    pub fn resolve(&self) -> Result<RunOptions, Failure> {
        let program = ["reuse-ctl", "run"].map(OsString::from);
        let arguments = Arguments::try_parse_from(program.into_iter().chain(self.arguments.iter().cloned()))
            .map_err(|error| Failure::from(&error))?;
        let Verb::Run(arguments) = arguments.verb else {
            unreachable!("the verb is the second word above")
        };
        let mut options = run::resolve(*arguments)?;
        let pairs = self.variables.chunks_exact(2);
        options.environment.variables = pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_judged_like_a_command_line() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let spec = AppSpec {
            arguments: words("--name web --workers 3 -- node server.js"),
            variables: words("A 1 B 2"),
        };
        let options = spec.resolve().expect("right");
        assert_eq!((options.name.as_str(), options.workers), ("web", 3));
        assert_eq!(options.environment.variables[1], ("B".into(), "2".into()));
        let json = serde_json::to_string(&spec).expect("text");
        assert_eq!(serde_json::from_str::<AppSpec>(&json).expect("its own"), spec);
        let wrong = AppSpec {
            arguments: words("--workers 0 -- x"),
            ..AppSpec::default()
        };
        assert!(wrong.resolve().expect_err("none").error.contains("--workers 0"));
    }
}
