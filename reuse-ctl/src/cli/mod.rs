//! The command line. [`args`] defines the grammar, and each verb has its own file. Most verbs send requests to `control.sock`.
//!
//! Parsing is pure; the app is resolved afterwards ([`apps`]). Errors are passed up to `main` as a [`Failure`].

mod abort;
pub mod apply;
pub mod apps;
pub mod args;
mod canary;
mod check;
pub(crate) mod context;
mod demo;
mod detach;
mod doctor;
mod drain;
mod events;
mod get;
mod handover;
mod import;
mod init;
mod logs;
mod ls;
mod many;
pub(crate) mod output;
mod policy;
mod progress;
mod promote;
mod reload;
mod restart;
pub mod run;
mod say_which;
mod scale;
mod schema;
mod send;
pub(crate) mod status;
mod stop;
pub(crate) mod table;
pub(crate) mod terminal;
mod try_server;
mod tryout;
mod undrain;
mod unit;
mod weight;

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind as ClapErrorKind;

use crate::base::{Failure, failure::SEE_HELP};
use args::{Arguments, Verb};
use context::Context;
use terminal::Terminal;

/// The result of a verb, and how an error is to be shown.
#[derive(Debug)]
pub struct Outcome {
    /// Done, or why not.
    pub result: Result<(), Failure>,
    /// Whether an error is printed as JSON on standard output rather than as text on standard error.
    pub json: bool,
    /// How long printing the error may take, if the exit code must not wait for a blocked terminal.
    pub patience: Option<Duration>,
}

/// How long a controller's last output may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs the verb that the arguments name. The first argument is the program's name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let arguments: Vec<OsString> = arguments.collect();
    if arguments.get(1).is_some_and(|verb| verb == demo::SERVER_VERB) {
        return Outcome {
            result: demo::serve(&arguments[2..]),
            json: false,
            patience: None,
        };
    }
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return not_parsed(&error, &arguments),
    };
    let json = parsed.global.json;
    let patience = matches!(parsed.verb, Verb::Run(_)).then_some(LAST_WORDS);
    Outcome {
        result: dispatch(parsed, &arguments),
        json,
        patience,
    }
}

fn dispatch(Arguments { global, verb }: Arguments, raw: &[OsString]) -> Result<(), Failure> {
    let app = global.app.filter(|name| !name.is_empty());
    let context = Context {
        app,
        json: global.json,
        terminal: Terminal::current(),
    };
    let context = &context;
    match verb {
        Verb::Run(arguments) => run::run(context, *arguments, raw),
        Verb::Unit(arguments) => unit::run(context, &arguments),
        Verb::Check(arguments) => check::run(context, &arguments),
        Verb::Init(arguments) => init::run(context, &arguments),
        Verb::Schema => schema::run(),
        Verb::Apply(arguments) => ask(context, apply::run(context, &arguments)),
        Verb::Status(arguments) => ask(context, status::run(context, &arguments)),
        Verb::Ls => ask(context, ls::run(context)),
        Verb::Drain(arguments) => ask(context, drain::run(context, &arguments)),
        Verb::Undrain(arguments) => ask(context, undrain::run(context, &arguments)),
        Verb::Restart(arguments) => ask(context, restart::run(context, &arguments)),
        Verb::Reload(arguments) => ask(context, reload::run(context, &arguments)),
        Verb::Scale(arguments) => ask(context, scale::run(context, &arguments)),
        Verb::Policy(arguments) => ask(context, policy::run(context, &arguments)),
        Verb::Weight(arguments) => ask(context, weight::run(context, &arguments)),
        Verb::Canary(arguments) => ask(context, canary::run(context, &arguments)),
        Verb::Promote => ask(context, promote::run(context)),
        Verb::Abort => ask(context, abort::run(context)),
        Verb::Get(arguments) => ask(context, get::run(context, &arguments)),
        Verb::Import(arguments) => ask(context, import::run(context, &arguments)),
        Verb::Send(arguments) => ask(context, send::run(context, &arguments)),
        Verb::Stop(arguments) => ask(context, stop::run(context, &arguments)),
        Verb::Logs(arguments) => ask(context, logs::run(context, &arguments)),
        Verb::Events(arguments) => ask(context, events::run(context, &arguments)),
        Verb::Doctor(arguments) => ask(context, doctor::run(context, &arguments)),
        Verb::Try(arguments) => ask(context, try_server::run(context, &arguments)),
        Verb::Demo(arguments) => ask(context, demo::run(context, &arguments)),
    }
}

/// What a controller is asked; a refusal names the app where its hint has a command.
fn ask(context: &Context, asking: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    block_on(asking)?.map_err(|failure| match &context.app {
        Some(app) => say_which::say_which(app, failure),
        None => failure,
    })
}

/// Runs a future on a single-threaded runtime.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|error| Failure::failed(format!("epoll_create: {error}"), "see `ulimit -n`"))
}

/// Help and version go to standard output. Everything else is a usage error, with an error and a hint.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> Outcome {
    let json = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--json");
    let result = match error.kind() {
        ClapErrorKind::DisplayHelp | ClapErrorKind::DisplayVersion => output::print(&error.render().to_string()),
        ClapErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Failure::usage(
            "no verb is given",
            "`reuse-ctl --help` lists them; `sudo reuse-ctl demo` shows what it does",
        )),
        _ => Err(of_verb(Failure::from(error), arguments)),
    };
    Outcome {
        result,
        json,
        patience: None,
    }
}

/// Points to the verb's own help, if there is a verb and no better hint.
fn of_verb(mut failure: Failure, arguments: &[OsString]) -> Failure {
    let command = <Arguments as clap::CommandFactory>::command();
    let given = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    // The value of `--app` is not the verb.
    let mut previous = None;
    let verb = given
        .filter(|argument| previous.replace(*argument).is_none_or(|before| before != "--app"))
        .find_map(|argument| command.find_subcommand(argument));
    if let Some(verb) = verb
        && failure.hint == SEE_HELP
    {
        failure.hint = format!("see `reuse-ctl {} --help`", verb.get_name()).into();
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_told_in_words_and_points_to_the_verbs_own_help() {
        for (line, error, hint) in [
            (
                "logs -n x",
                "invalid value 'x' for '--lines <N>': it is not a whole number",
                "see `reuse-ctl logs --help`",
            ),
            (
                "--app logs drain 1 --timeout soon",
                "invalid value 'soon' for '--timeout <TIME>'",
                "see `reuse-ctl drain --help`",
            ),
            (
                "logs no-such-app",
                "no-such-app is not a worker",
                "`reuse-ctl logs` shows all",
            ),
        ] {
            let words = std::iter::once("reuse-ctl").chain(line.split(' '));
            let failure = run(words.map(OsString::from)).result.expect_err(line);
            assert_eq!(failure.kind, crate::base::ErrorKind::Usage, "{line}");
            assert!(failure.error.starts_with(error), "{failure:?}");
            assert!(failure.hint.starts_with(hint), "{failure:?}");
        }
    }
}
