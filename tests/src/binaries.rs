//! Where the programs are that the tests run.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

/// `$REUSE_CTL_BIN`, else the release build, else the debug build.
///
/// # Panics
/// When there is none.
pub fn reuse_ctl() -> PathBuf {
    if let Some(path) = env::var_os("REUSE_CTL_BIN") {
        return path.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("reuse-ctl"))
        .find(|path| path.exists())
        .expect("reuse-ctl is built (cargo build --release), or REUSE_CTL_BIN names it")
}

/// The Rust server of this package, built by cargo together with the tests.
pub fn test_server() -> String {
    let own = env::current_exe().expect("the test's own path");
    let path = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("reuse-test-server"))
        .find(|path| path.exists());
    text(&path.expect("cargo builds reuse-test-server beside the tests"))
}

/// The tokio server of this package, built by cargo together with the tests.
pub fn tokio_server() -> String {
    test_server().replace("reuse-test-server", "reuse-tokio-server")
}

/// nginx, from the system's packages.
pub fn nginx() -> String {
    on_path("nginx")
}

/// gunicorn, from the system's packages.
pub fn gunicorn() -> String {
    on_path("gunicorn")
}

/// A Go program of `tests/servers`, built; what it was built from and Go's cache are beside it.
pub fn go_program(source: &str) -> String {
    let folder = built();
    let program = folder.join(source.replace(['/', '.'], "-"));
    let _guard = locked(&folder);
    if modified(&program) < modified(Path::new(&script(source))) {
        let mut go = Command::new(on_path("go"));
        go.args(["build", "-o", &text(&program), &script(source)])
            .env("GOCACHE", folder.join("go-cache"));
        succeed(&mut go);
    }
    text(&program)
}

/// The folder with the classes of a Java source of `tests/servers`.
pub fn java_classes(source: &str) -> String {
    let folder = built();
    let classes = folder.join(source.replace(['/', '.'], "-"));
    let _guard = locked(&folder);
    let class = Path::new(source).with_extension("class");
    let class = classes.join(class.file_name().expect("a source has a name"));
    if modified(&class) < modified(Path::new(&script(source))) {
        succeed(Command::new(on_path("javac")).args(["-d", &text(&classes), &script(source)]));
    }
    text(&classes)
}

/// A program of the packages in `tests/servers/requirements.txt`.
pub fn python_server(name: &str) -> String {
    let program = python_environment().join("bin").join(name);
    assert!(program.exists(), "{} is missing", program.display());
    text(&program)
}

/// The system's Node (20 or later), the most plain server that there is.
pub fn node() -> String {
    on_path("node")
}

/// Node 24 from npm.
pub fn node24() -> String {
    text(&runtimes().join(format!("node-linux-{}/bin/node", npm_architecture())))
}

/// Bun from npm: the real binary, not npm's JavaScript wrapper.
pub fn bun() -> String {
    let architecture = if npm_architecture() == "arm64" {
        "aarch64"
    } else {
        "x64"
    };
    text(&runtimes().join(format!("@oven/bun-linux-{architecture}/bin/bun")))
}

/// Deno from npm where its package is in the lock file (x86-64), else the system's.
pub fn deno() -> String {
    let own = runtimes().join(format!("@deno/linux-{}-glibc/deno", npm_architecture()));
    if own.exists() { text(&own) } else { on_path("deno") }
}

/// Where Deno keeps what it has compiled: in nobody's home, and gone with the next installation.
pub fn deno_cache() -> String {
    text(&runtimes().join(".deno"))
}

/// The real Python interpreter, not a version manager's shell script.
pub fn python() -> String {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("run python3");
        String::from_utf8(output.stdout)
            .expect("a plain path")
            .trim()
            .to_owned()
    })
    .clone()
}

/// A server script of `tests/servers`.
pub fn script(name: &str) -> String {
    let path = servers().join(name);
    assert!(path.exists(), "{} is missing", path.display());
    text(&path)
}

/// A file of the real PM2 from npm.
pub fn pm2(name: &str) -> String {
    let path = installed(&servers().join("bench-peers")).join("pm2").join(name);
    assert!(path.exists(), "{} is missing", path.display());
    text(&path)
}

/// `tests/servers/node_modules`.
fn runtimes() -> PathBuf {
    installed(&servers())
}

/// Installs what the scenarios need from npm, if it is not there yet. Before a test leaves the machine's network.
pub(crate) fn install() {
    for folder in [servers(), servers().join("bench-peers")] {
        // In a virtual machine there is no source, and what it needs it has.
        if folder.exists() {
            installed(&folder);
        }
    }
    if servers().exists() {
        python_environment();
    }
}

/// Python's packages of `tests/servers/requirements.txt` in an environment of their own, made when it is not there or of other versions.
fn python_environment() -> PathBuf {
    let environment = built().join("python");
    let wanted = servers().join("requirements.txt");
    let _guard = locked(&built());
    // Written last.
    let current = environment.join("requirements.txt");
    let read = |path: &Path| fs::read(path).ok();
    if read(&current) != read(&wanted) {
        succeed(Command::new(python()).args(["-m", "venv", "--clear", &text(&environment)]));
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args(["--requirement", &text(&wanted)]);
        succeed(&mut pip);
        fs::copy(&wanted, &current).expect("note what is installed");
    }
    environment
}

/// Where servers that must be built, and packages that are not npm's, are.
fn built() -> PathBuf {
    let folder = workspace().join("target/test-servers");
    fs::create_dir_all(&folder).expect("make a folder in target");
    folder
}

/// Held while something in `folder` is made: tests of several processes want the same.
fn locked(folder: &Path) -> Flock<fs::File> {
    let file = fs::File::create(folder.join("lock")).expect("create a lock file in target");
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .expect("flock")
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The folder's `node_modules`, installed from the lock file when it is not there or older than the lock file.
fn installed(folder: &Path) -> PathBuf {
    let modules = folder.join("node_modules");
    let lock_file = folder.join("package-lock.json");
    let lock = fs::File::open(&lock_file).unwrap_or_else(|error| panic!("{}: {error}", lock_file.display()));
    let _guard = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .expect("flock");
    if modified(&modules.join(".package-lock.json")) < modified(&lock_file) {
        let output = Command::new("npm")
            .arg("ci")
            .current_dir(folder)
            .output()
            .expect("run npm");
        assert!(
            output.status.success(),
            "npm ci in {}: {}",
            folder.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    modules
}

fn npm_architecture() -> &'static str {
    match env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    }
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is a folder of the workspace")
        .to_owned()
}

/// A program of this machine.
pub fn on_path(name: &str) -> String {
    let path = env::var_os("PATH").expect("PATH is set");
    text(
        &searched(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.exists())
            .unwrap_or_else(|| panic!("{name} is not installed: `cargo xtask test` installs what the tests run")),
    )
}

/// The folders of this PATH, and behind them those in which Debian has sshd and nginx: an ordinary user's PATH lacks them.
fn searched(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    let roots = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(path).chain(roots)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_folders_are_searched_last() {
        let folders: Vec<PathBuf> = searched(OsStr::new("/home/me/bin:/usr/bin")).collect();
        let expected = ["/home/me/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
        assert_eq!(folders, expected.map(PathBuf::from));
    }
}
