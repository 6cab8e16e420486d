//! The output of workers on the bus, read from their logs while the bus has a reader.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::packets::Process;
use crate::{
    base::SlotId,
    process::logs::{self, Follower},
    supervisor::bus::Bus,
};

/// Number of reads (64 KiB each) of one log before the next log's turn.
const READS_IN_A_ROW: usize = 16;

/// The logs of all slots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outputs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    paths: BTreeMap<OutputKey, PathBuf>,
    /// Logs that are not followed yet.
    fresh: Vec<(OutputKey, Follower)>,
    is_following: bool,
}

/// The writer, and the name of its packets: `log:out`, `log:err`.
type OutputKey = (SlotId, &'static str);

impl Outputs {
    /// Adds a log to which a worker will write.
    pub(crate) fn add(&self, key: OutputKey, log: &Path) {
        let mut state = self.state();
        if state.paths.insert(key, log.to_owned()).is_none() && state.is_following {
            state.fresh.push((key, from_here(log)));
        }
    }

    /// Publishes what is written from now on, until the bus has no reader.
    pub(crate) fn follow(&self, bus: &Bus, app: &Arc<str>) {
        let mut state = self.state();
        if state.is_following {
            return;
        }
        state.is_following = true;
        state.fresh = state.paths.iter().map(|(&key, log)| (key, from_here(log))).collect();
        drop(state);
        tokio::spawn(publish(self.clone(), bus.clone(), Arc::clone(app)));
    }

    /// The logs to follow in addition; `None` when the bus has no reader.
    fn fresh(&self, bus: &Bus) -> Option<Vec<(OutputKey, Follower)>> {
        let mut state = self.state();
        state.is_following = bus.is_heard();
        let fresh = std::mem::take(&mut state.fresh);
        state.is_following.then_some(fresh)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn from_here(log: &Path) -> Follower {
    Follower::new(log, logs::len(log))
}

async fn publish(outputs: Outputs, bus: Bus, app: Arc<str>) {
    let mut followed: Vec<Followed> = Vec::new();
    while let Some(fresh) = outputs.fresh(&bus) {
        followed.extend(fresh.into_iter().map(|(key, log)| Followed {
            key,
            log,
            is_readable: true,
        }));
        let (to, app) = (bus.clone(), Arc::clone(&app));
        // Reading can be slow, and up to 1 MiB of each log is read, so it is done in a blocking thread.
        let read = tokio::task::spawn_blocking(move || {
            followed.iter_mut().for_each(|one| one.publish_new(&to, &app));
            followed
        });
        followed = match read.await {
            Ok(followed) => followed,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The controller is ending.
            Err(_) => return,
        };
        tokio::time::sleep(logs::POLL).await;
    }
}

/// A log that is being published.
#[derive(Debug)]
struct Followed {
    key: OutputKey,
    log: Follower,
    is_readable: bool,
}

impl Followed {
    /// Publishes new lines. If the log can't be read now, the next call continues from the same offset.
    fn publish_new(&mut self, bus: &Bus, app: &str) {
        let (slot, name) = self.key;
        let process = Process::new(slot, app);
        for _ in 0..READS_IN_A_ROW {
            let lines = match self.log.poll() {
                Ok(lines) => lines,
                Err(error) => {
                    if std::mem::replace(&mut self.is_readable, false) {
                        tracing::warn!(
                            "not on the bus: read {}: {error}; tried again",
                            self.log.path().display()
                        );
                    }
                    return;
                }
            };
            self.is_readable = true;
            if lines.is_empty() {
                return;
            }
            for line in lines {
                bus.publish(process.wrote(name, &line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
        time::Duration,
    };

    use super::*;
    use crate::{server::fake::Folder, supervisor::bus::Heard};

    #[tokio::test]
    async fn a_log_that_could_not_be_read_for_a_while_is_on_the_bus_again() {
        let folder = Folder::new("bus-output");
        let (bad, good) = (folder.0.join("worker-0.log"), folder.0.join("worker-1.log"));
        let (outputs, bus) = (Outputs::default(), Bus::default());
        outputs.add((SlotId(0), "log:out"), &bad);
        outputs.add((SlotId(1), "log:out"), &good);
        let mut reader = bus.subscribe();
        outputs.follow(&bus, &Arc::from("web"));
        let mut heard = async |what: &str| {
            let next = tokio::time::timeout(Duration::from_secs(10), reader.next()).await;
            match next {
                Ok(Some(Heard::Packet(packet))) => assert!(packet.data.contains(what), "{packet:?}"),
                other => panic!("{other:?} instead of {what}"),
            }
        };
        // open(2) works, and read(2) says EISDIR.
        fs::create_dir(&bad).expect("ours");
        assert!(Follower::new(&bad, 0).poll().is_err(), "or this tests nothing");
        let mut file = File::create(&good).expect("ours");
        for line in ["one", "two"] {
            // Two rounds: both were looked at in each.
            writeln!(file, "{line}").expect("ours");
            heard(line).await;
        }
        fs::remove_dir(&bad).expect("ours");
        fs::write(&bad, "three\n").expect("ours");
        heard("three").await;
    }
}
