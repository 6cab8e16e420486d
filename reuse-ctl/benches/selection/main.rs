//! Nanoseconds per selection, by the kernel's own run-time statistics, against a program that does nothing in the same run.
//!
//! Prints its samples as one JSON object; `cargo xtask bench` makes the report of it. The connections are real ones, over the loopback
//! device of a network namespace: between two selections the processor does everything that a connection costs, so the program finds
//! its data as cold as it would in service. The same with UDP datagrams, between which lies little, shows how much of the time is
//! waiting for memory. How many instructions a selection executes is counted: no noise is in that.

mod bed;
mod blind;
mod case;
mod clients;
mod count;
mod group;
mod ladder;
mod runtime;

use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use bed::Bed;
use case::Case;
use clap::Parser;
use clients::Clients;
use group::{Chooser, Traffic};
use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare},
    unistd::Pid,
};
use reuse_common::{Policy, verdict::Verdict};
use serde_json::json;

/// Sizes of the groups: a small app, the most that least-loaded scans, and far more.
const WORKERS: [u16; 3] = [4, 16, 64];

/// Connections before those that are measured, so that no case pays for the one before it.
const WARM_UP: usize = 50;

/// The ladder's rounds, for each of the others: its differences are small against what they are differences of.
const LADDER_ROUNDS: usize = 20;

#[derive(Debug, Parser)]
struct Options {
    /// How often each case is measured
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// Connections per case and round
    #[arg(long, default_value_t = 700)]
    connections: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured where, and nanoseconds per run in each round.
struct Cell {
    workers: u16,
    traffic: Traffic,
    case: Case,
    ns: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let executed = count::count(&WORKERS)?;
    unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET): this needs root")?;
    bed::loopback_up()?;
    pin()?;
    // The ring buffer of notices registers itself with a runtime, although nobody reads it here.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("a runtime")?;
    let _context = runtime.enter();

    let mut bed = Bed::new(&WORKERS)?;
    let mut clients = Clients::default();
    record_clients(&mut bed)?;
    let steps = ladder::measure(&mut bed, LADDER_ROUNDS * options.rounds)?;
    let _enabled = aya::sys::enable_stats(aya::sys::Stats::RunTime).context("BPF_ENABLE_STATS")?;

    let mut cells = Vec::new();
    for traffic in Traffic::ALL {
        for workers in WORKERS {
            cells.extend(Case::ALL.map(|case| Cell {
                workers,
                traffic,
                case,
                ns: Vec::new(),
            }));
        }
    }
    for round in 0..options.rounds {
        // Every round starts elsewhere, so that what a cell finds does not always come from the same round's beginning.
        for step in 0..cells.len() {
            let nth = (step + round * 7) % cells.len();
            let ns = measure(&mut bed, &cells[nth], &mut clients, options.connections)?;
            cells[nth].ns.push(ns);
        }
    }
    let cells: Vec<_> = cells
        .iter()
        .map(|cell| {
            json!({"traffic": cell.traffic.name(), "workers": cell.workers, "case": cell.case.name(), "ns": cell.ns})
        })
        .collect();
    let steps: Vec<_> = steps
        .iter()
        .map(|step| json!({"adds": step.adds, "ns": step.ns}))
        .collect();
    let samples = json!({
        "rounds": options.rounds,
        "connections": options.connections,
        "steps": steps,
        "programs": runtime::sizes(&["select", "track"])?,
        "cells": cells,
        "executed": executed,
    });
    println!("{samples}");
    bed.end()
}

/// Stays on one core: a program that moves finds its data on the other.
fn pin() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|&core| allowed.is_set(core) == Ok(true));
    let mut one = CpuSet::new();
    one.set(last.context("no core is allowed")?)
        .context("a core's number")?;
    sched_setaffinity(Pid::from_raw(0), &one).context("sched_setaffinity")
}

/// Makes every client of [`Clients::known`] one that `sticky` remembers.
fn record_clients(bed: &mut Bed) -> anyhow::Result<()> {
    bed.app.set_policy(Policy::Sticky)?;
    for workers in WORKERS {
        bed.group(workers, Traffic::Connections, Chooser::Ours)
            .send(&Clients::known(workers))?;
    }
    let (recorded, expected) = (bed.app.client_count(), WORKERS.len() * clients::KNOWN);
    ensure!(
        recorded == expected,
        "{recorded} clients are recorded, {expected} connected"
    );
    Ok(())
}

fn chooser(case: Case) -> Chooser {
    match case {
        Case::Empty => Chooser::Empty,
        Case::Blind => Chooser::Blind,
        Case::Hash | Case::RoundRobin | Case::LeastLoaded | Case::StickyHit | Case::StickyNew => Chooser::Ours,
    }
}

/// Nanoseconds per run of the group's program, averaged over `connections`.
fn measure(bed: &mut Bed, cell: &Cell, clients: &mut Clients, connections: usize) -> anyhow::Result<f64> {
    bed.app.set_policy(cell.case.policy())?;
    let group = bed.group(cell.workers, cell.traffic, chooser(cell.case));
    let addresses = |clients: &mut Clients, count| -> Vec<Ipv4Addr> {
        match cell.case {
            Case::StickyNew => clients.unknown(count),
            _ => Clients::known(cell.workers).into_iter().cycle().take(count).collect(),
        }
    };
    group.send(&addresses(clients, WARM_UP))?;
    let addresses = addresses(clients, connections);
    let chosen_before = group.chosen()?;
    let before = group.used()?;
    group.send(&addresses)?;
    let after = group.used()?;
    let runs = after.count - before.count;
    ensure!(
        runs == connections as u64,
        "{runs} runs for {connections} {} under {}",
        cell.traffic.name(),
        cell.case.name()
    );
    if let (Some(before), Some(after)) = (chosen_before, group.chosen()?) {
        ensure!(
            after - before == runs,
            "the program chose {} times in {runs} runs: {:?} is not the only verdict",
            after - before,
            Verdict::Chosen
        );
    }
    Ok((after.total_ns - before.total_ns) as f64 / runs as f64)
}
