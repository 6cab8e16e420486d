//! Texts for people that name commands, such as hints.
//!
//! A [`Text`] is one line, and beside it the places where `--app NAME` belongs if several apps run. Only [`Verb::run`] and its like make such places:
//! whoever writes a command says which verb it is, and nobody looks for commands in what is written. Read as a `str` it names no app; [`Text::for_app`] names it
//! once in each command that needs it. Texts are put together with `+`.

use std::fmt;
use std::ops::{Add, Deref};

/// A line for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(Box<Words>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words {
    words: String,
    /// In bytes from the start of `words`, ascending.
    app_at: Vec<usize>,
}

impl Text {
    fn new(words: String, app_at: Vec<usize>) -> Self {
        Self(Box::new(Words { words, app_at }))
    }

    /// The text from its two halves, as [`Self::into_halves`] gives them. Places that are not in the words are left out.
    pub fn from_halves(words: String, mut app_at: Vec<usize>) -> Self {
        app_at.retain(|at| words.is_char_boundary(*at));
        app_at.sort_unstable();
        app_at.dedup();
        Self::new(words, app_at)
    }

    /// The words, and where in them ` --app NAME` belongs: in bytes from their start.
    pub fn into_halves(self) -> (String, Vec<usize>) {
        (self.0.words, self.0.app_at)
    }

    /// The words alone.
    pub fn as_str(&self) -> &str {
        &self.0.words
    }

    /// The words where several apps run: each command names this one.
    pub fn for_app(&self, app: &str) -> String {
        let mut named = String::with_capacity(self.len());
        let mut from = 0;
        for &at in &self.0.app_at {
            named.push_str(&self[from..at]);
            named.push_str(" --app ");
            named.push_str(app);
            from = at;
        }
        named.push_str(&self[from..]);
        named
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for Text {
    fn from(words: String) -> Self {
        Self::new(words, Vec::new())
    }
}

impl From<&str> for Text {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, words: &str) -> bool {
        self.as_str() == words
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, words: &&str) -> bool {
        self.as_str() == *words
    }
}

impl<T: Into<Text>> Add<T> for Text {
    type Output = Self;

    fn add(mut self, after: T) -> Self {
        let (words, app_at) = after.into().into_halves();
        let shift = self.len();
        self.0.app_at.extend(app_at.into_iter().map(|at| at + shift));
        self.0.words.push_str(&words);
        self
    }
}

impl Add<Text> for &str {
    type Output = Text;

    fn add(self, after: Text) -> Text {
        Text::from(self) + after
    }
}

/// A verb that asks a running app; the others need no `--app`, or name their apps in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the verb of that name")]
pub enum Verb {
    Abort,
    Canary,
    Drain,
    Logs,
    Promote,
    Reload,
    Restart,
    Scale,
    Send,
    Status,
    Stop,
    Undrain,
    Weight,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Abort,
        Self::Canary,
        Self::Drain,
        Self::Logs,
        Self::Promote,
        Self::Reload,
        Self::Restart,
        Self::Scale,
        Self::Send,
        Self::Status,
        Self::Stop,
        Self::Undrain,
        Self::Weight,
    ];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Canary => "canary",
            Self::Drain => "drain",
            Self::Logs => "logs",
            Self::Promote => "promote",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Scale => "scale",
            Self::Send => "send",
            Self::Status => "status",
            Self::Stop => "stop",
            Self::Undrain => "undrain",
            Self::Weight => "weight",
        }
    }

    /// `` `reuse-ctl VERB` ``.
    pub fn run(self) -> Text {
        self.with("")
    }

    /// `` `reuse-ctl VERB ARGUMENTS` ``.
    pub fn with(self, arguments: impl fmt::Display) -> Text {
        self.called(arguments, "")
    }

    /// `` `reuse-ctl VERB ARGUMENTS -- COMMAND` ``.
    pub fn with_command(self, arguments: impl fmt::Display, command: impl fmt::Display) -> Text {
        self.called(arguments, format_args!(" -- {command}"))
    }

    fn called(self, arguments: impl fmt::Display, after_app: impl fmt::Display) -> Text {
        let called = format!("`reuse-ctl {} {arguments}", self.name());
        let called = called.trim_end();
        Text::new(format!("{called}{after_app}`"), vec![called.len()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_that_means_an_app_names_it_once() {
        let goes_on = "it goes on; " + Verb::Logs.with(0) + " shows it, " + Verb::Stop.run() + " ends it";
        assert_eq!(
            goes_on,
            "it goes on; `reuse-ctl logs 0` shows it, `reuse-ctl stop` ends it"
        );
        assert_eq!(
            goes_on.for_app("web"),
            "it goes on; `reuse-ctl logs 0 --app web` shows it, `reuse-ctl stop --app web` ends it"
        );
        let canary = Verb::Canary.with_command("--weight 5%", "CMD") + " starts one";
        assert_eq!(canary, "`reuse-ctl canary --weight 5% -- CMD` starts one");
        assert_eq!(
            canary.for_app("web"),
            "`reuse-ctl canary --weight 5% --app web -- CMD` starts one"
        );
    }

    #[test]
    fn nobody_looks_for_commands_in_words() {
        for words in [
            "see `reuse-ctl doctor`",
            "`reuse-ctl stop --app old`",
            "`kill 7`",
            "half a `",
            "",
        ] {
            assert_eq!(Text::from(words).for_app("web"), words);
        }
    }

    /// Some words, or a command with its verb and argument.
    fn part() -> impl Strategy<Value = Text> {
        let words = "[a-zä`→ -]{0,8}".prop_map(Text::from);
        let verbs = prop::sample::select(Verb::ALL.to_vec());
        let command = (verbs, "[0-9]{0,2}").prop_map(|(verb, argument)| verb.with(argument));
        prop_oneof![words, command]
    }

    proptest! {
        #[test]
        fn each_command_names_the_app_once_wherever_it_stands(parts in prop::collection::vec(part(), 0..6)) {
            let alone: String = parts.iter().map(|part| part.to_string()).collect();
            let named: String = parts.iter().map(|part| part.for_app("web")).collect();
            let commands = parts.iter().filter(|part| part.contains("reuse-ctl")).count();
            let text = parts.into_iter().fold(Text::default(), |before, part| before + part);
            prop_assert_eq!(&*text, &*alone);
            prop_assert_eq!(text.for_app("web").matches(" --app web`").count(), commands);
            prop_assert_eq!(text.for_app("web"), named);
            let (words, app_at) = text.clone().into_halves();
            prop_assert_eq!(Text::from_halves(words, app_at), text);
        }

        #[test]
        fn places_from_elsewhere_do_no_harm(words in ".{0,12}", app_at in prop::collection::vec(0_usize..40, 0..5)) {
            let text = Text::from_halves(words.clone(), app_at);
            prop_assert_eq!(text.for_app("web").replace(" --app web", ""), words);
        }
    }
}
