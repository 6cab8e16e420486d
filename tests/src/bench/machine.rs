//! The machine that was measured on, and how busy it was.

use std::fmt;
use std::fs;

use anyhow::Context as _;

/// How busy the machine was at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Mean number of tasks that want to run, over the last minute.
    load: f64,
    /// Ticks of all cores that the hypervisor gave to others, and ticks in all.
    stolen: u64,
    ticks: u64,
}

impl Moment {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let load = read("/proc/loadavg")?;
        let load = load.split(' ').next().and_then(|word| word.parse().ok());
        let stat = read("/proc/stat")?;
        // user nice system idle iowait irq softirq steal …; guest times are part of user already.
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|word| word.parse().ok())
            .collect();
        Ok(Self {
            load: load.context("/proc/loadavg starts with a number")?,
            stolen: ticks.get(7).copied().unwrap_or(0),
            ticks: ticks.iter().sum(),
        })
    }
}

/// What a reader needs to know to compare.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    virtual_machine: bool,
    mitigation: String,
    jit: bool,
    before: Moment,
    after: Moment,
}

impl Machine {
    /// Of this machine, before the measurement, and in its own network namespace: another one does not show the JIT compiler's switch.
    pub(crate) fn describe() -> anyhow::Result<Self> {
        let before = Moment::now()?;
        let processors = read("/proc/cpuinfo")?;
        let field = |name: &str| {
            processors.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .trim_start()
                    .strip_prefix(": ")
                    .map(str::to_owned)
            })
        };
        let flags = field("flags").unwrap_or_default();
        Ok(Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease")?,
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor"),
            mitigation: read("/sys/devices/system/cpu/vulnerabilities/spectre_v2")
                .unwrap_or_else(|_| "unknown".to_owned()),
            jit: read("/proc/sys/net/core/bpf_jit_enable").is_ok_and(|value| value != "0"),
            before,
            after: before,
        })
    }

    /// The measurement is over.
    pub(crate) fn measured(mut self) -> anyhow::Result<Self> {
        self.after = Moment::now()?;
        Ok(self)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.virtual_machine {
            "virtual machine"
        } else {
            "bare metal"
        };
        writeln!(
            f,
            "- {} × {} ({place}), Linux {}",
            self.cores, self.processor, self.kernel
        )?;
        writeln!(f, "- BPF JIT compiler: {}", if self.jit { "on" } else { "off" })?;
        writeln!(f, "- Spectre v2: {}", self.mitigation)?;
        let ticks = (self.after.ticks - self.before.ticks).max(1) as f64;
        let stolen = (self.after.stolen - self.before.stolen) as f64;
        writeln!(
            f,
            "- load average {:.1} before the measurement, {:.1} after; {:.1} % of the time stolen by the hypervisor",
            self.before.load,
            self.after.load,
            100.0 * stolen / ticks
        )
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(text.trim_end().to_owned())
}
