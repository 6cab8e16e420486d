//! Commands within texts for people, as they can be pasted when several apps run.

/// Verbs that ask no running app, or name it in another way.
const WITHOUT_APP: [&str; 13] = [
    "apply", "check", "demo", "doctor", "import", "init", "ls", "run", "schema", "try", "unit", "help", "--help",
];

/// Puts `--app NAME` into each `` `reuse-ctl VERB …` `` of a text that means an app and does not name one.
pub(crate) fn for_app(text: &str, app: &str) -> String {
    let spans = text.split('`').enumerate().map(|(number, span)| {
        let is_code = number % 2 == 1;
        if is_code { named(span, app) } else { span.to_owned() }
    });
    spans.collect::<Vec<_>>().join("`")
}

fn named(command: &str, app: &str) -> String {
    let own = command.strip_prefix("sudo ").unwrap_or(command);
    let verb = own
        .strip_prefix("reuse-ctl ")
        .and_then(|rest| rest.split_whitespace().next());
    let means_an_app = verb.is_some_and(|verb| !WITHOUT_APP.contains(&verb)) && !command.contains("--app");
    match command.split_once(" -- ") {
        _ if !means_an_app => command.to_owned(),
        Some((ours, theirs)) => format!("{ours} --app {app} -- {theirs}"),
        None => format!("{command} --app {app}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_means_an_app_names_it_once() {
        for (text, expected) in [
            (
                "it goes on; `reuse-ctl logs 0` shows it, `sudo reuse-ctl restart 0` ends it",
                "it goes on; `reuse-ctl logs 0 --app web` shows it, `sudo reuse-ctl restart 0 --app web` ends it",
            ),
            (
                "`reuse-ctl canary --weight 5% -- CMD` starts one",
                "`reuse-ctl canary --weight 5% --app web -- CMD` starts one",
            ),
            ("`reuse-ctl --app web logs 1`", "`reuse-ctl --app web logs 1`"),
            (
                "see `reuse-ctl doctor` and `kill 7`",
                "see `reuse-ctl doctor` and `kill 7`",
            ),
            ("`reuse-ctl apply` again", "`reuse-ctl apply` again"),
            ("without any", "without any"),
            ("half a `reuse-ctl logs", "half a `reuse-ctl logs --app web"),
        ] {
            assert_eq!(for_app(text, "web"), expected);
        }
    }
}
