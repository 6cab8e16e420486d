//! Valid and invalid command lines, and the texts of `--help`.

use clap::CommandFactory as _;

use super::*;

fn parsed(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split(' '))
}

#[test]
fn clap_finds_no_contradiction() {
    Arguments::command().debug_assert();
}

#[test]
fn lines_that_are_right() {
    for line in [
        "reuse-ctl run -f reuse.toml",
        "reuse-ctl run -d -f x.toml --env production --name web --json",
        "reuse-ctl check",
        "reuse-ctl check -f x.toml --env production --json",
        "reuse-ctl init",
        "reuse-ctl init --name web -- node server.js -d",
        "reuse-ctl schema",
        "reuse-ctl status",
        "reuse-ctl status --json --watch",
        "reuse-ctl --json --app shop status",
        "reuse-ctl drain 2",
        "reuse-ctl drain 0 1 2 --timeout 30s --no-wait --force --app shop",
        "reuse-ctl undrain 2",
        "reuse-ctl restart 1 2 --stop-first",
        "reuse-ctl restart --all",
        "reuse-ctl reload --stop-first",
        "reuse-ctl scale 4",
        "reuse-ctl scale +2",
        "reuse-ctl policy",
        "reuse-ctl policy sticky",
        "reuse-ctl weight 3 10%",
        "reuse-ctl weight 3 auto --json",
        "reuse-ctl canary --weight 5% -- ./server-v2 --port 1 -d",
        "reuse-ctl canary --json --cwd v2 --weight 0.5% -- x",
        "reuse-ctl promote",
        "reuse-ctl abort --app shop",
        "reuse-ctl get 2 /debug",
        "reuse-ctl get 2 / --addr [::1]:80 --timeout 500ms --json",
        "reuse-ctl send 2 {\"a\":1}",
        "reuse-ctl send all --topic t 1",
        "reuse-ctl send 2 -1",
        "reuse-ctl send 2 - --text",
        "reuse-ctl events --json",
        "reuse-ctl events --bus",
        "reuse-ctl stop --timeout 1m30s",
        "reuse-ctl logs",
        "reuse-ctl logs 2 -f -n 5",
        "reuse-ctl logs --lines 5 --follow",
        "reuse-ctl logs --since 10m --err --timestamps",
        "reuse-ctl logs 1 --since 2026-01-31T12:00:00Z --out -t --json",
        "reuse-ctl ls --json",
        "reuse-ctl doctor",
        "reuse-ctl try -- node server.js",
        "reuse-ctl try --path /up --slow-path /slow -p 80 --user www --stop-signal QUIT --json -- ./server -x",
        "reuse-ctl demo",
        "reuse-ctl demo --seconds 5 --json",
    ] {
        parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn lines_that_are_wrong() {
    for line in [
        "reuse-ctl",
        "reuse-ctl drain",
        "reuse-ctl drain two",
        "reuse-ctl drain 70000",
        "reuse-ctl send 2",
        "reuse-ctl send two 1",
        "reuse-ctl send 1 2 3",
        "reuse-ctl events 2",
        "reuse-ctl drain 2 --timeout soon",
        "reuse-ctl restart",
        "reuse-ctl restart 1 --all",
        "reuse-ctl scale",
        "reuse-ctl scale 1 2",
        "reuse-ctl run --workers 2",
        "reuse-ctl run ./server",
        "reuse-ctl run -f x.toml -- ./server",
        "reuse-ctl run --env production -- ./server",
        "reuse-ctl start",
        "reuse-ctl weight 3",
        "reuse-ctl weight all 5%",
        "reuse-ctl canary --weight 5%",
        "reuse-ctl canary -- ./server-v2",
        "reuse-ctl canary --weight 5% ./server-v2",
        "reuse-ctl promote 3",
        "reuse-ctl try",
        "reuse-ctl try ./server",
        "reuse-ctl try --port 0 -- ./server",
        "reuse-ctl get 2",
        "reuse-ctl get /debug",
        "reuse-ctl get 2 / --addr 8080",
        "reuse-ctl logs -1",
        "reuse-ctl logs --err --out",
        "reuse-ctl logs --since yesterday",
    ] {
        let error = parsed(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn fewer_workers_is_no_option() {
    for line in [
        "reuse-ctl scale -1",
        "reuse-ctl scale --json -1",
        "reuse-ctl --json scale -1",
        "reuse-ctl scale -1 --json",
    ] {
        let Ok(Arguments {
            verb: Verb::Scale(scale),
            global,
        }) = parsed(line)
        else {
            panic!("{line}")
        };
        assert_eq!(
            (scale.workers.as_str(), global.json),
            ("-1", line.contains("json")),
            "{line}"
        );
    }
}

#[test]
fn a_negative_weight_is_judged_where_weights_are() {
    let Ok(Arguments {
        verb: Verb::Weight(weight),
        global,
    }) = parsed("reuse-ctl weight 2 -5% --json")
    else {
        panic!("it is a weight")
    };
    assert_eq!((weight.weight.as_str(), global.json), ("-5%", true));
    let Ok(Arguments {
        verb: Verb::Canary(canary),
        ..
    }) = parsed("reuse-ctl canary --weight -5% -- x")
    else {
        panic!("it is a canary")
    };
    assert_eq!(canary.weight, "-5%");
}

#[test]
fn the_commands_options_stay_its_own() {
    let Ok(Arguments {
        verb: Verb::Run(run),
        global,
    }) = parsed("reuse-ctl run --workers 2 -- node --json -d -- x")
    else {
        panic!("it is a run");
    };
    assert_eq!(run.command, ["node", "--json", "-d", "--", "x"]);
    assert!(!global.json && !run.detach);
}

#[test]
fn help() {
    insta::assert_snapshot!(Arguments::command().term_width(100).render_help(), @r"
    Runs many processes of any server on one port; eBPF decides which of them gets a new connection

    Usage: reuse-ctl [OPTIONS] <COMMAND>

    Commands:
      run      Start a command as a steered group of workers
      apply    Make the apps of a file run as it says: start what is missing, change what differs, leave
               the rest alone
      check    Check a file for `run -f` and `apply`, and print what is in it; every error is shown at
               its place
      init     Write a reuse.toml for the server in this folder
      schema   Print the JSON Schema of reuse.toml
      unit     Print a systemd unit for an app
      status   Show the workers: state, connections, queue, share
      ls       List the apps that run
      drain    Withdraw workers from new connections, and wait until nothing is left on them
      undrain  Give drained workers new connections again
      restart  Replace workers: the new process is ready before the old one ends
      reload   Replace every worker, --surge at a time; stop when one fails
      scale    Change the number of workers
      policy   Show or change the policy by which workers are chosen
      weight   Give a worker a fixed share of new connections
      canary   Start one more worker on another command, with a fixed share of new connections
      promote  Roll the canary's command out to all workers, --surge at a time; if one fails, all go
               back
      abort    Remove the canary, and bring back what a failed promotion has changed
      get      Send one HTTP request to one worker, and print the body of its answer
      import   Turn a PM2 ecosystem file into a reuse.toml, and print what became of each of its options
      send     Send workers a message, as Node's child.send() does
      stop     End the app and everything it made
      logs     Print the output of the workers
      events   Print events as they happen, until Ctrl-C
      doctor   Test the kernel features that reuse-ctl uses, and print what is lost without each
      try      Start a server once, watch how it starts, serves and ends, and print how to run it
      demo     Show reuse-ctl at work: a small built-in server, a load, and all that can happen to
               workers

    Options:
          --app <NAME>  Name of the app, when more than one runs [env: REUSE_APP]
          --json        Print answers and errors as JSON
      -h, --help        Print help
      -V, --version     Print version

    Examples:
      sudo reuse-ctl demo                         see what it does; nothing else is needed
      sudo reuse-ctl run --workers 4 -- ./server  four processes of any server on one port
      reuse-ctl status --watch                    who is active, connections, queue, share
      reuse-ctl drain 2                           returns when nothing is left on worker 2
      reuse-ctl reload                            replace every worker, losing no connection

    Exit codes: 0 done, 1 failed, 2 usage, 3 no such app or worker, 4 a deadline passed
    ");
}

#[test]
fn help_of_run() {
    let mut command = Arguments::command().term_width(100);
    command.build();
    let run = command.find_subcommand_mut("run").expect("a verb");
    insta::assert_snapshot!(run.render_help(), @r#"
    Start a command as a steered group of workers

    Usage: reuse-ctl run [OPTIONS] [-- <CMD>...]

    Arguments:
      [CMD]...  The command and its arguments

    Options:
          --app <NAME>               Name of the app, when more than one runs [env: REUSE_APP]
      -f, --file <FILE>              Read the command and the options of one or more apps from this file
                                     (see `init`, `check`); options given here override those of one app
          --env <NAME>               Add the variables of the file's [env.NAME] (with --file)
          --json                     Print answers and errors as JSON
          --name <APP>               Name of the app [default: the command's file name]; with --file:
                                     start only the app of this name
          --workers <N|max>          Number of workers, 1 to 256, or `max`: one per processor [default:
                                     1]
          --policy <POLICY>          Policy by which workers are chosen: hash, round-robin, least-loaded
                                     or sticky [default: least-loaded]
          --port <P>                 Port that the workers serve; may be given several times [default:
                                     every TCP port that a worker binds]
          --listen <ADDR:PORT>       Open this listener for the workers and hand it over as descriptor 3
                                     (LISTEN_FDS); may be given several times
          --when-empty <WHEN_EMPTY>  Treatment of new connections while no worker is active: they wait
                                     for one, or are refused [default: park] [possible values: park,
                                     refuse]
          --user <USER>              Run the workers as this user [default: the user who called sudo]
          --drain-timeout <TIME>     Time that open connections have to end [default: 30s]
          --control-group <GROUP>    Let the members of this group use the control socket, too
      -d, --detach                   Return when all workers are active; the app goes on running in the
                                     background
      -v, --verbose...               Log more; given twice: also what the kernel program decides
      -h, --help                     Print help

    Starting and ending workers:
          --ready <listener|ipc|notify|started|http:/PATH>
              What makes a worker ready: it listens (listener); it listens and calls
              process.send('ready') (ipc), sends READY=1 (notify) or answers GET of this path; or it has
              run for a second, without a port (started) [default: listener]
          --ready-timeout <TIME>
              Time that a worker has to become ready; its start has failed after that [default: 30s]
          --settle <TIME>
              Time that a new worker must have been ready before it takes the place of the old one,
              which serves meanwhile; 0s: no time [default: 1s]
          --surge <N|PERCENT>
              Number of workers that are replaced at the same time, or a percentage of all, rounded up
              [default: 25%]
          --stop-signal <SIGNAL>
              Signal that asks a worker to end [default: SIGTERM]
          --kill-mode <process|mixed|control-group>
              Send the stop signal to the main process only (process, mixed), or to all processes at
              once (control-group) [default: to the main process, to those that listen, and to those in
              between, each once]
          --stop-message
              Send the message "shutdown" (process.on('message')) instead of the stop signal
          --stop-when <in-flight-done|at-once|closed>
              Moment when a worker that is replaced or stopped gets the stop signal: when no request is
              in flight on its connections (in-flight-done), as soon as its accept queue is empty
              (at-once), or when all of its connections are closed (closed); after --drain-timeout in
              any case [default: in-flight-done; for a server known to finish what it has read: once it
              has read every request]
          --stop-timeout <TIME>
              Time that a worker without connections has to end before it is killed [default: 10s]
          --pm2-compat
              Do what apps made for PM2 expect: SIGINT, 1600ms to end, and PM2's names in the
              environment

    Hung and unhealthy workers:
          --hung-after <TIME>          Time after which a worker is hung, and withdrawn, if it accepts
                                       nothing while connections wait in its queue; 0s: never [default:
                                       50ms]
          --rescue-after <TIME>        Time from when a worker is found hung until the connections in
                                       its queue are moved to other workers [default: 10ms]
          --replace-hung-after <TIME>  Time after which a worker that is still hung is replaced
                                       [default: never]
          --max-hung <PERCENT>         Highest percentage of the workers that is withdrawn at the same
                                       time; the last one never is [default: 50]
          --health <tcp|/PATH>         Check that each worker accepts (tcp), or answers GET /PATH with a
                                       status from 200 to 399 [default: no checks]
          --health-interval <TIME>     Time between two checks of a worker [default: 2s]
          --health-timeout <TIME>      Time that a check may take [default: 1s]
          --health-fails <N>           Number of consecutive failed checks after which a worker is
                                       unhealthy: it is withdrawn and replaced [default: 3]
          --health-passes <N>          Number of consecutive passed checks after which a worker is
                                       healthy again [default: 2]

    Replacing healthy workers:
          --max-memory <SIZE>    Replace a worker that uses more memory than this, like 300M
          --max-age <TIME>       Replace a worker that is older than this (give or take a tenth, so that
                                 they do not all go at once)
          --max-connections <N>  Replace a worker that has accepted more connections than this (give or
                                 take a tenth)
          --cron <EXPRESSION>    Replace all workers, as `reload` does, at these times: minute, hour,
                                 day, month, weekday; six fields begin with seconds
          --watch <PATH>         Replace all workers when this file or folder changes, for development;
                                 may be given several times
          --watch-ignore <GLOB>  Ignore changes of what matches this pattern; may be given several times
                                 [node_modules and names that begin with a dot are always ignored]
          --watch-delay <TIME>   Time without a further change before the workers are replaced [default:
                                 300ms]
          --memory-limit <SIZE>  Memory that a worker may use at most; the kernel ends one that needs
                                 more
          --cpu-limit <CORES>    Number of cores that a worker may use at most, like 0.5

    Output of the workers:
          --log <file|journald>  Write the workers' output to a file for each worker, or to the journal
                                 [default: file]
          --log-size <SIZE>      Rotate a log file that is larger than this [default: 32M]
          --log-keep <N>         Number of rotated files that are kept of each log [default: 1]

    Environment of the workers:
          --cwd <DIR>                     Run the command in this folder [default: the current one]
          --env-file <FILE>               Read variables from this file of NAME=VALUE lines; may be
                                          given several times: the last value of a name counts
          --increment-var <NAME[=FIRST]>  Give each worker the next number in this variable, from FIRST
                                          on [default: from its value, or 0]
          --port-step <N>                 Number that is added to PORT from worker to worker, for apps
                                          whose workers do not share a port [default: 0]

    Policy sticky:
          --sticky-prefix4 <BITS>      Number of leading bits of an IPv4 address that identify a client
                                       [default: 32]
          --sticky-prefix6 <BITS>      Number of leading bits of an IPv6 address that identify a client
                                       [default: 64]
          --sticky-ttl <TIME>          Time after which a client that was not seen again is forgotten
                                       [default: 1h]
          --sticky-capacity <CLIENTS>  Number of clients that are remembered at most [default: 65536]

    Examples:
      sudo reuse-ctl run --workers 4 -- bun server.ts
      sudo reuse-ctl run --workers max --policy sticky --port 8080 -d -- node server.js
      sudo reuse-ctl run --listen 0.0.0.0:443 --user www -- ./server
      sudo reuse-ctl run -f reuse.toml --env production

    TIME is like 300ms, 30s or 1m30s; SIZE is like 300M or 1.5G.
    "#);
}

/// The commands that the program's texts name: the written ones can be given, and none that asks a running app is mere words.
mod commands_in_texts {
    use std::fs;
    use std::path::{Path, PathBuf};

    use proc_macro2::{Delimiter, TokenStream, TokenTree};

    use super::*;
    use crate::base::Verb as Asking;

    /// Texts that speak of verbs in general, not of what to do about a running app.
    const IN_GENERAL: &str = "src/import/";

    /// What the sources hold.
    #[derive(Debug, Default)]
    struct Found {
        /// `Verb::Logs.with(…)`: the verb, and the arguments as far as they are a literal.
        built: Vec<(Asking, Option<String>)>,
        /// Where each string is, and the string.
        strings: Vec<(String, String)>,
    }

    impl Found {
        fn in_folder(&mut self, folder: &Path) {
            let mut entries: Vec<PathBuf> = fs::read_dir(folder)
                .expect("a folder of the crate")
                .map(|entry| entry.expect("it can be read").path())
                .collect();
            entries.sort();
            for path in entries {
                let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
                if name == "tests" || name.ends_with("_tests") {
                    continue;
                }
                if path.is_dir() {
                    self.in_folder(&path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).expect("it can be read");
                    let tokens: TokenStream = text.parse().expect("Rust");
                    self.in_tokens(&path.display().to_string(), tokens);
                }
            }
        }

        fn in_tokens(&mut self, place: &str, tokens: TokenStream) {
            let tokens: Vec<TokenTree> = tokens.into_iter().collect();
            let mut is_for_tests = false;
            for (at, token) in tokens.iter().enumerate() {
                let is_attribute = at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(sign) if sign.as_char() == '#');
                match token {
                    TokenTree::Group(group) if is_attribute && group.delimiter() == Delimiter::Bracket => {
                        is_for_tests |= group.stream().to_string() == "cfg (test)";
                    }
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && is_for_tests => {
                        is_for_tests = false;
                    }
                    TokenTree::Group(group) => self.in_tokens(place, group.stream()),
                    TokenTree::Literal(literal) => self.strings.extend(
                        syn::parse_str::<syn::LitStr>(&literal.to_string())
                            .ok()
                            .map(|literal| (place.to_owned(), literal.value())),
                    ),
                    TokenTree::Punct(sign) if sign.as_char() == ';' => is_for_tests = false,
                    TokenTree::Punct(_) => {}
                    TokenTree::Ident(_) => self.built.extend(built(&tokens[at..])),
                }
            }
        }
    }

    /// `Verb :: Logs . with ( … )`.
    fn built(tokens: &[TokenTree]) -> Option<(Asking, Option<String>)> {
        let [class, _, _, verb, _, method, TokenTree::Group(arguments), ..] = tokens else {
            return None;
        };
        let method = method.to_string();
        if class.to_string() != "Verb" || !["run", "with", "with_command"].contains(&method.as_str()) {
            return None;
        }
        let verb = Asking::ALL
            .into_iter()
            .find(|known| format!("{known:?}") == verb.to_string())?;
        let first = arguments.stream().into_iter().next();
        let literal = first.and_then(|first| syn::parse_str::<syn::LitStr>(&first.to_string()).ok());
        let arguments = literal.map(|literal| literal.value());
        Some((
            verb,
            if method == "run" {
                Some(String::new())
            } else {
                arguments
            },
        ))
    }

    fn found() -> Found {
        let mut found = Found::default();
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        found.in_folder(&crate_folder.join("src"));
        found.in_folder(&crate_folder.join("machine/src"));
        found
    }

    #[test]
    fn each_can_be_given_and_names_the_app() {
        let built = found().built;
        assert!(built.len() > 50, "they were found: {}", built.len());
        for (verb, arguments) in built {
            // A number stands for what is known at run time only: a worker.
            let arguments = arguments.map_or_else(|| "1".to_owned(), |arguments| arguments.replace("ID", "1"));
            let is_bare = arguments.is_empty();
            let text = match verb {
                Asking::Canary => verb.with_command(arguments, "CMD"),
                _ => verb.with(arguments),
            };
            let line = text.for_app("web").replace('`', "");
            match parsed(&line) {
                Ok(arguments) => assert_eq!(arguments.global.app.as_deref(), Some("web"), "{line}"),
                Err(error) => assert!(
                    is_bare && error.kind() == clap::error::ErrorKind::MissingRequiredArgument,
                    "{line}: {error}"
                ),
            }
        }
    }

    #[test]
    fn every_verb_that_asks_is_one_of_the_command_line() {
        let command = Arguments::command();
        for verb in Asking::ALL {
            assert!(command.find_subcommand(verb.name()).is_some(), "{}", verb.name());
        }
    }

    #[test]
    fn words_hold_no_command_that_must_name_its_app() {
        let command = Arguments::command();
        for (place, text) in found().strings {
            for code in text.split('`').skip(1).step_by(2) {
                let own = code.strip_prefix("sudo ").unwrap_or(code);
                let Some(verb) = own.strip_prefix("reuse-ctl ").and_then(|rest| rest.split(' ').next()) else {
                    continue;
                };
                let is_option_or_known_later = verb.starts_with(['-', '{']);
                assert!(
                    is_option_or_known_later || verb == "help" || command.find_subcommand(verb).is_some(),
                    "{place}: there is no verb {verb}: {text}"
                );
                let asks = Asking::ALL.iter().any(|known| known.name() == verb);
                assert!(
                    !asks || code.contains("--app") || place.contains(IN_GENERAL),
                    "{place}: write it as Verb::…, so that it names its app: {text}"
                );
            }
        }
    }
}
