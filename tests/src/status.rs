//! The JSON of `status`, described a second time: a field that the product renames or drops does not parse here.

use serde::Deserialize;

/// `reuse-ctl status --json`.
#[derive(Debug, Clone, Deserialize)]
#[expect(
    missing_docs,
    reason = "the product's own types (`reuse-ctl/src/wire`) describe every field"
)]
pub struct Status {
    pub app: String,
    pub policy: String,
    pub pid: u32,
    pub uptime_s: u64,
    pub groups: Vec<Group>,
    pub fallbacks: u64,
    pub unsteered: u64,
    pub workers: Vec<Worker>,
}

/// The listeners of one address.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "see Status")]
pub struct Group {
    pub addr: String,
    pub protocol: String,
    pub handshakes: u32,
    pub parked: u32,
    pub verdicts: Verdicts,
    #[serde(default)]
    pub strangers: Vec<String>,
}

/// What the program decided.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[expect(missing_docs, reason = "see Status")]
pub struct Verdicts {
    pub chosen: u64,
    pub directed: u64,
    pub parked: u64,
    pub refused: u64,
    pub migrated: u64,
    pub fallback: u64,
}

/// One slot.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "see Status")]
pub struct Worker {
    pub id: u16,
    pub pid: Option<u32>,
    pub state: String,
    pub uptime_s: u64,
    pub restarts: u64,
    pub connections: u32,
    pub queue: u32,
    pub selected_total: u64,
    pub established_total: u64,
    pub accepted_total: u64,
    pub migrated_in_total: u64,
    pub migrated_out_total: u64,
    /// Connections that the ends of its instances have cut; not told by a binary that is compared with.
    #[serde(default)]
    pub cut_total: u64,
    /// Of these, with a request in flight.
    #[serde(default)]
    pub cut_in_flight_total: u64,
    pub cpu_percent: f64,
    pub memory_bytes: u64,
    pub instances: Vec<Instance>,
    pub published: bool,
    pub fault: Option<Fault>,
    pub weight: Option<String>,
    pub canary: bool,
    #[serde(default)]
    pub status_text: Option<String>,
    pub reason: Option<String>,
}

/// What is wrong with an active worker.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "see Status")]
pub struct Fault {
    pub kind: String,
    pub for_ms: u64,
    pub withdrawn: bool,
    pub reason: String,
}

/// One process incarnation.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "see Status")]
pub struct Instance {
    pub pid: u32,
    pub state: String,
    pub connections: u32,
    pub queue: u32,
    /// Not told by a binary that is compared with.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// Listeners of one instance that get no connection.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "see Status")]
pub struct LeftOut {
    pub addr: String,
    pub listeners: u32,
    pub reason: String,
}

impl Status {
    /// The slot `id`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn worker(&self, id: u16) -> &Worker {
        self.workers
            .iter()
            .find(|worker| worker.id == id)
            .unwrap_or_else(|| panic!("no worker {id} in {self:#?}"))
    }

    /// The main process of slot `id`.
    ///
    /// # Panics
    /// When nothing runs there.
    #[track_caller]
    pub fn pid_of(&self, id: u16) -> i32 {
        let pid = self
            .worker(id)
            .pid
            .unwrap_or_else(|| panic!("worker {id} has no process: {self:#?}"));
        i32::try_from(pid).expect("a process id")
    }

    /// The main process of every slot, in slot order.
    pub fn pids(&self) -> Vec<Option<u32>> {
        self.workers.iter().map(|worker| worker.pid).collect()
    }

    /// The state of every slot, in slot order.
    pub fn states(&self) -> Vec<&str> {
        self.workers.iter().map(|worker| worker.state.as_str()).collect()
    }

    /// Whether all of `count` slots are active, with one instance each.
    pub fn all_active(&self, count: usize) -> bool {
        self.workers.len() == count
            && self
                .workers
                .iter()
                .all(|worker| worker.state == "active" && worker.instances.len() == 1)
    }

    /// The slots that new connections may be steered to.
    pub fn published(&self) -> Vec<u16> {
        let published = self.workers.iter().filter(|worker| worker.published);
        published.map(|worker| worker.id).collect()
    }

    /// The fault of every slot, in slot order: `hung`, `unhealthy`.
    pub fn faults(&self) -> Vec<Option<&str>> {
        self.workers
            .iter()
            .map(|worker| worker.fault.as_ref().map(|fault| fault.kind.as_str()))
            .collect()
    }

    /// The slots that have a fault.
    pub fn faulty(&self) -> Vec<u16> {
        let faulty = self.workers.iter().filter(|worker| worker.fault.is_some());
        faulty.map(|worker| worker.id).collect()
    }

    /// Established connections per slot, in slot order.
    pub fn connections(&self) -> Vec<u32> {
        self.workers.iter().map(|worker| worker.connections).collect()
    }

    /// The verdicts of all groups.
    pub fn verdicts(&self) -> Verdicts {
        self.groups.iter().fold(Verdicts::default(), |sum, group| Verdicts {
            chosen: sum.chosen + group.verdicts.chosen,
            directed: sum.directed + group.verdicts.directed,
            parked: sum.parked + group.verdicts.parked,
            refused: sum.refused + group.verdicts.refused,
            migrated: sum.migrated + group.verdicts.migrated,
            fallback: sum.fallback + group.verdicts.fallback,
        })
    }
}
