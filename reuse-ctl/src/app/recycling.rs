//! Checks the options by which healthy workers are replaced, before anything is started.

use std::path::Path;

use super::{options::RecycleOptions, recycle_changes::Ignored, recycle_cron};

/// An invalid option, found before anything is started.
#[derive(Debug, thiserror::Error)]
#[error("--{option} {value}: {problem}")]
pub struct BadRule {
    /// The option's name.
    pub option: &'static str,
    /// The given value.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

impl BadRule {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> &'static str {
        match self.option {
            "cron" => "give one like '0 4 * * *' (every day at four), or '*/10 * * * * *' with seconds before",
            _ => "give one like 'dist' or '*.log'",
        }
    }
}

/// Checks everything that doesn't depend on the machine.
///
/// # Errors
/// The first invalid option.
pub fn check(options: &RecycleOptions) -> Result<(), BadRule> {
    if let Some(pattern) = &options.cron {
        recycle_cron::parse(pattern).map_err(|problem| BadRule {
            option: "cron",
            value: pattern.clone(),
            problem,
        })?;
    }
    if let Some(watch) = &options.watch {
        Ignored::new(&watch.ignore, Path::new("/"), Vec::new()).map_err(bad_glob)?;
    }
    Ok(())
}

fn bad_glob((value, problem): (String, String)) -> BadRule {
    BadRule {
        option: "watch-ignore",
        value,
        problem,
    }
}
