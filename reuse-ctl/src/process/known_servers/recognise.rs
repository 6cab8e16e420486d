//! Finds out which program a command line finally runs, and tells it apart from others with the same name.

/// Commands that become another program, so that a signal reaches that program; with their options that take a value.
const BECOMES: [(&str, &[&str]); 5] = [
    ("env", &["-u", "--unset", "-C", "--chdir"]),
    ("nice", &["-n"]),
    ("ionice", &["-c", "-n"]),
    ("taskset", &[]),
    ("stdbuf", &["-i", "-o", "-e"]),
];

/// Interpreters, which run a script whose name identifies it; with their options that take a value.
const INTERPRETERS: [(&str, &[&str]); 3] = [
    ("python", &["-W", "-X"]),
    ("pypy", &["-W", "-X"]),
    ("ruby", &["-I", "-r"]),
];

const SHELLS: [&str; 5] = ["sh", "bash", "dash", "ash", "zsh"];

/// How a server is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recognised {
    /// File names of the program, without a version at the end (`php-fpm8.2`).
    pub(super) programs: &'static [&'static str],
    /// Conditions, all of which must hold.
    pub(super) needs: &'static [Needs],
}

/// A condition on the command line. An option may be given by any of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// The first argument is this word.
    First(&'static str),
    /// This option is present.
    Option(&'static [&'static str]),
    /// This option is present, and its value contains the text.
    Contains(&'static [&'static str], &'static str),
    /// This option is present, and its value is one of these.
    OneOf(&'static [&'static str], &'static [&'static str]),
    /// This option is absent.
    Without(&'static [&'static str]),
    /// This option is present, with a number above 1.
    Several(&'static [&'static str]),
}

impl Recognised {
    pub(super) fn matches(&self, program: &str, arguments: &[String]) -> bool {
        self.programs.contains(&program) && self.needs.iter().all(|needs| needs.hold(arguments))
    }

    /// In words for the manual: "`hypercorn` with `-w` above 1".
    #[cfg(test)]
    pub(super) fn words(&self) -> String {
        let programs: Vec<String> = self.programs.iter().map(|program| format!("`{program}`")).collect();
        let needs: Vec<String> = self.needs.iter().map(|needs| format!(" {}", needs.words())).collect();
        format!("{}{}", programs.join(", "), needs.join(","))
    }
}

impl Needs {
    fn hold(&self, arguments: &[String]) -> bool {
        match self {
            Self::First(word) => arguments.first().is_some_and(|first| first == word),
            Self::Option(names) => value_of(arguments, names).is_some(),
            Self::Contains(names, text) => value_of(arguments, names).is_some_and(|value| value.contains(text)),
            Self::OneOf(names, values) => value_of(arguments, names).is_some_and(|value| values.contains(&value)),
            Self::Without(names) => value_of(arguments, names).is_none(),
            Self::Several(names) => value_of(arguments, names)
                .and_then(|value| value.parse::<u32>().ok())
                .is_some_and(|number| number > 1),
        }
    }

    #[cfg(test)]
    fn words(&self) -> String {
        match self {
            Self::First(word) => format!("`{word}`"),
            Self::Option(names) => format!("`{}`", names[0]),
            Self::Contains(names, text) => format!("`{} …{text}…`", names[0]),
            Self::OneOf(names, values) => format!("`{} {}`", names[0], values.join("|")),
            Self::Without(names) => format!("without `{}`", names[0]),
            Self::Several(names) => format!("with `{}` above 1", names[0]),
        }
    }
}

/// The last value of an option: `-w 2`, `-w2`, `--workers=2`; empty if nothing follows. Anything after `--` is ignored.
fn value_of<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    let own = || {
        arguments
            .iter()
            .map(String::as_str)
            .take_while(|argument| *argument != "--")
    };
    own()
        .zip(own().skip(1).map(Some).chain([None]))
        .filter_map(|(argument, next)| {
            names.iter().find_map(|name| {
                let rest = argument.strip_prefix(name)?;
                match rest.strip_prefix('=') {
                    _ if rest.is_empty() => Some(next.unwrap_or("")),
                    Some(value) => Some(value),
                    None if name.starts_with("--") => None,
                    None => Some(rest),
                }
            })
        })
        .last()
}

/// The file name of the program, without a version at the end, and its arguments.
pub(super) fn program_of(words: &[String]) -> Option<(String, Vec<String>)> {
    let (first, rest) = words.split_first()?;
    let name = without_version(file_name(first));
    if SHELLS.contains(&name) {
        return program_of(&last_exec(rest)?);
    }
    if name == "bundle" {
        let (exec, rest) = rest.split_first()?;
        return if exec == "exec" { program_of(rest) } else { None };
    }
    if let Some((_, with_value)) = BECOMES.iter().find(|(known, _)| *known == name) {
        let rest = behind_options(rest, with_value);
        let is_ours = |word: &&String| word.contains('=') || (name == "taskset" && is_mask(word));
        let skipped = rest.iter().take_while(is_ours).count();
        return program_of(&rest[skipped..]);
    }
    if let Some((_, with_value)) = INTERPRETERS.iter().find(|(known, _)| *known == name) {
        return script_of(rest, with_value);
    }
    Some((name.to_owned(), rest.to_vec()))
}

/// What an interpreter runs: a script, or a module (`-m`).
fn script_of(words: &[String], with_value: &[&str]) -> Option<(String, Vec<String>)> {
    let rest = behind_options(words, with_value);
    let (script, arguments) = rest.split_first()?;
    match script.as_str() {
        "-m" => {
            let (module, arguments) = arguments.split_first()?;
            Some((module.clone(), arguments.to_vec()))
        }
        option if option.starts_with('-') => None,
        path => Some((without_version(file_name(path)).to_owned(), arguments.to_vec())),
    }
}

/// The words from the first one on that is no option. `-m` and `-c` are not skipped, because what follows them is the program.
fn behind_options<'a>(words: &'a [String], with_value: &[&str]) -> &'a [String] {
    let mut rest = words;
    while let Some((option, after)) = rest.split_first() {
        let takes_value = with_value.contains(&option.as_str());
        let is_last = option == "-m" || (option == "-c" && !takes_value) || !option.starts_with('-');
        rest = match after {
            _ if is_last => return rest,
            [_, after @ ..] if takes_value => after,
            _ => after,
        };
    }
    rest
}

/// The words after the last `exec` of a shell's `-c`: the simple command that the shell finally becomes.
fn last_exec(arguments: &[String]) -> Option<Vec<String>> {
    let at = arguments.iter().position(|argument| is_command_option(argument))?;
    let script = arguments.get(at + 1)?;
    let begins = |at: usize| {
        let before = script[..at].trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with(['&', ';', '\n', '|'])
    };
    let (at, _) = script.rmatch_indices("exec ").find(|(at, _)| begins(*at))?;
    let command = script[at + "exec ".len()..].trim();
    if command.contains([';', '&', '|', '<', '(', '`', '\n']) {
        return None;
    }
    shell_words::split(command).ok()
}

/// `-c`, `-ec`, `-lc`.
fn is_command_option(argument: &str) -> bool {
    argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c')
}

fn is_mask(word: &str) -> bool {
    word.chars()
        .all(|letter| letter.is_ascii_hexdigit() || matches!(letter, ',' | '-' | 'x'))
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// Removes the version: `php-fpm8.2` becomes `php-fpm`, `python3.11` becomes `python`; `apache2` is left unchanged.
fn without_version(name: &str) -> &str {
    let bare = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    if bare.is_empty() || name == "apache2" {
        name
    } else {
        bare.trim_end_matches('-')
    }
}
