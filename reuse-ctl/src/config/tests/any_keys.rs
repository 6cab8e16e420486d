//! A key means the same as its option, for any values.

use std::ffi::OsString;

use clap::ArgAction;
use proptest::prelude::*;

use super::{Folder, words};
use crate::app::{
    AppSpec,
    keys::{self, Keys, Kind},
};
use crate::base::toml_text;

/// Valid values of each option.
fn value_of(name: &str) -> BoxedStrategy<String> {
    match name {
        "name" => "[a-z][a-z0-9._-]{0,10}".boxed(),
        "workers" => (1..=256_u16).prop_map(|count| count.to_string()).boxed(),
        "policy" => prop::sample::select(vec!["hash", "round-robin", "least-loaded", "sticky"])
            .prop_map(str::to_owned)
            .boxed(),
        "port" => (1..=65535_u16).prop_map(|port| port.to_string()).boxed(),
        "listen" => (1..=65535_u16).prop_map(|port| format!("127.0.0.1:{port}")).boxed(),
        "when_empty" => prop::sample::select(vec!["park", "refuse"])
            .prop_map(str::to_owned)
            .boxed(),
        "log" => prop::sample::select(vec!["file", "journald"])
            .prop_map(str::to_owned)
            .boxed(),
        "ready" => prop::sample::select(vec!["listener", "ipc", "notify", "started", "http:/up"])
            .prop_map(str::to_owned)
            .boxed(),
        "health" => prop::sample::select(vec!["tcp", "/up?deep=1"])
            .prop_map(str::to_owned)
            .boxed(),
        "stop_signal" => prop::sample::select(vec!["SIGTERM", "int", "3"])
            .prop_map(str::to_owned)
            .boxed(),
        "stop_when" => prop::sample::select(vec!["in-flight-done", "at-once", "closed"])
            .prop_map(str::to_owned)
            .boxed(),
        "kill_mode" => prop::sample::select(vec!["process", "mixed", "control-group"])
            .prop_map(str::to_owned)
            .boxed(),
        "cpu_limit" => (1..=400_u32)
            .prop_map(|part| format!("{}", f64::from(part) / 100.0))
            .boxed(),
        "max_memory" | "memory_limit" | "log_size" => (1..=999_u32).prop_map(|size| format!("{size}M")).boxed(),
        "surge" => prop::sample::select(vec!["3", "1%", "100%"])
            .prop_map(str::to_owned)
            .boxed(),
        "increment_var" => "[A-Z]{1,5}=[0-9]{1,4}".boxed(),
        "max_hung" => (0..=100_u8).prop_map(|percent| percent.to_string()).boxed(),
        "sticky_prefix4" | "sticky_prefix6" => (1..=32_u8).prop_map(|bits| bits.to_string()).boxed(),
        // Options that name existing files or folders.
        "cwd" | "env_file" => Just("/".to_owned()).boxed(),
        "watch" => "/[a-z]{1,8}".boxed(),
        "max_age" | "sticky_ttl" => (1..=99_999_u32).prop_map(|seconds| format!("{seconds}s")).boxed(),
        // With `ready = "started"` it is a second at least.
        "ready_timeout" => (1000..=99_999_u32).prop_map(|ms| format!("{ms}ms")).boxed(),
        name if name.ends_with("_timeout")
            || name.ends_with("_after")
            || name.ends_with("_interval")
            || ["watch_delay", "settle"].contains(&name) =>
        {
            (10..=99_999_u32).prop_map(|ms| format!("{ms}ms")).boxed()
        }
        "cron" => prop::sample::select(vec!["0 4 * * *", "*/10 * * * * *"])
            .prop_map(str::to_owned)
            .boxed(),
        "watch_ignore" => prop::sample::select(vec!["*.log", "build/**"])
            .prop_map(str::to_owned)
            .boxed(),
        name if ["user", "control_group"].contains(&name) => "[ -~äß日]{1,12}".boxed(),
        _ => (1..=100_u32).prop_map(|number| number.to_string()).boxed(),
    }
}

/// Any set of keys with valid values.
fn any_values() -> impl Strategy<Value = Vec<(usize, Vec<String>)>> {
    let keys = Keys::new();
    let one = |(at, key): (usize, &keys::Key)| {
        let count = match key.kind {
            Kind::Flag => 0..=0,
            Kind::One => 1..=1,
            Kind::Many => 1..=3,
        };
        let values = prop::collection::vec(value_of(&key.name), count);
        let is_file = key.name == "env_file";
        prop::option::of(values.prop_map(move |values| (at, values)))
            .prop_map(move |chosen| chosen.filter(|_| !is_file))
    };
    let all: Vec<_> = keys.all().iter().enumerate().map(one).collect();
    all.prop_map(|chosen| chosen.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_key_is_its_option(mut chosen in any_values(), reversed in any::<bool>(), as_number in any::<bool>()) {
        let keys = Keys::new();
        let is = |at: usize, name: &str| keys.all()[at].name == name;
        // Ignored globs require watched paths.
        if !chosen.iter().any(|(at, _)| is(*at, "watch")) {
            chosen.retain(|(at, _)| !is(*at, "watch_ignore"));
        }
        let mut line = words("reuse-ctl run");
        let mut text = Vec::new();
        for (at, values) in &chosen {
            let key = &keys.all()[*at];
            prop_assert_eq!(matches!(key.argument.get_action(), ArgAction::SetTrue), key.kind == Kind::Flag);
            if key.kind == Kind::Flag {
                line.push(format!("--{}", key.long).into());
                text.push(format!("{} = true", key.name));
                continue;
            }
            for value in values {
                line.push(format!("--{}={value}", key.long).into());
            }
            let toml = |value: &String| if as_number && value.parse::<u32>().is_ok() { value.clone() } else { toml_text::quoted(value) };
            let values: Vec<String> = values.iter().map(toml).collect();
            text.push(if let [one] = &values[..] { format!("{} = {one}", key.name) } else { format!("{} = [{}]", key.name, values.join(", ")) });
        }
        text.push("command = 'node server.js'".into());
        if reversed {
            text.reverse();
        }
        line.extend(words("-- node server.js"));

        let folder = Folder::new();
        let apps = folder.load(&text.join("\n")).map_err(|failure| TestCaseError::fail(failure.to_text()))?;
        let mut typed = AppSpec::typed(&line, Some(&folder.0));
        let from_file = apps[0].spec.resolve().expect("it was checked");
        prop_assert_eq!(&from_file, &typed.resolve().expect("right"));
        // Passing the specification to a controller changes nothing.
        if !chosen.iter().any(|(at, _)| is(*at, "name")) {
            let name = typed.resolve().expect("right").name;
            typed.arguments.insert(0, format!("--name={name}").into());
        }
        prop_assert_eq!(&apps[0].spec, &typed);
        let again: Vec<OsString> = words("reuse-ctl run").into_iter().chain(typed.arguments.iter().cloned()).collect();
        prop_assert_eq!(AppSpec::typed(&again, None), typed);
    }
}
