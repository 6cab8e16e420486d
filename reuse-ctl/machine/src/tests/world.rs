//! A world for the machine: tests say what happens, the world spawns requested processes and records the other effects.

use std::collections::BTreeMap;

use reuse_common::Policy;

use super::referee::Referee;
use super::shares::percent;
use super::traffic::Traffic;
use crate::Machine;
use crate::ids::{InstanceId, Millis, RequestId, SlotId, VersionId};
use crate::interface::{
    ApplyPlan, Command, Config, Cut, Done, Effect, Exit, HungRules, Input, Load, PlannedRollout, Refusal, Rules,
    ScaleTarget, Signal, Surge, WhenAllFailed,
};
use crate::states::WorkerState;

/// The load of a server with nothing to do.
pub(crate) const IDLE: Load = Load {
    connections: 0,
    queue: 0,
    handshakes: 0,
    in_flight: 0,
};

pub(crate) const KILLED: Exit = Exit::Signal(Signal {
    number: 9,
    name: Some("SIGKILL"),
});

pub(crate) const TERMINATED: Exit = Exit::Signal(Signal {
    number: 15,
    name: Some("SIGTERM"),
});

pub(crate) fn config() -> Config {
    Config {
        workers: 4,
        ready_timeout_ms: 30_000,
        drain_timeout_ms: 30_000,
        stop_timeout_ms: 10_000,
        rest_gets_signal: true,
        settle_ms: 0,
        surge: Surge::Workers(1),
        backoff_min_ms: 500,
        backoff_max_ms: 30_000,
        crash_limit: 5,
        stable_ms: 10_000,
        seed: 1,
        hung: HungRules {
            hung_after_ms: 50,
            rescue_after_ms: 20,
            replace_after_ms: None,
            at_most_percent: 50,
        },
        health: None,
        when_all_failed: WhenAllFailed::Finish,
    }
}

/// The answer to a request, once it is there.
pub(super) type Answer = Result<Done, Refusal>;

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Millis,
    pub(super) referee: Referee,
    /// Every effect since the last [`World::forget`].
    pub(super) said: Vec<Effect>,
    /// Whether a `Spawn` is answered at once.
    pub(super) spawns: bool,
    /// Whether a closer look finds instances idle that the machine takes for idle.
    pub(super) is_idle: bool,
    /// The connections that are cut by the end of an instance.
    pub(super) cut: Cut,
    pub(super) replies: BTreeMap<RequestId, Answer>,
    pub(super) traffic: Traffic,
    pub(super) started_from: BTreeMap<InstanceId, VersionId>,
    next_request: u64,
}

impl World {
    /// A machine that has not been started.
    pub(super) fn asleep(config: Config) -> Self {
        Self {
            referee: Referee::of(&config),
            machine: Machine::new(config, Policy::LeastLoaded),
            now: Millis(1_000_000),
            said: Vec::new(),
            spawns: true,
            is_idle: true,
            cut: Cut::default(),
            replies: BTreeMap::new(),
            traffic: Traffic::default(),
            started_from: BTreeMap::new(),
            next_request: 0,
        }
    }

    /// Every worker is spawned, and none is ready.
    pub(super) fn starting(workers: u16) -> Self {
        let mut world = Self::asleep(Config { workers, ..config() });
        world.send(Input::Start);
        world
    }

    /// Every worker is active.
    pub(super) fn active(workers: u16) -> Self {
        let mut world = Self::starting(workers);
        (0..workers).for_each(|slot| world.ready(slot));
        world.forget();
        world
    }

    /// Every worker is active.
    pub(super) fn active_with(config: Config) -> Self {
        let workers = config.workers;
        let mut world = Self::asleep(config);
        world.send(Input::Start);
        (0..workers).for_each(|slot| world.ready(slot));
        world.forget();
        world
    }

    pub(super) fn send(&mut self, input: Input) {
        self.referee.hear(&input, self.now);
        let effects = self.machine.handle(input, self.now);
        self.referee.see(&effects, &self.machine, self.now);
        self.said.extend_from_slice(&effects);
        for effect in effects {
            self.traffic.see(&effect);
            if let Effect::Spawn { instance, version, .. } = effect {
                self.started_from.insert(instance, version);
            }
            match effect {
                Effect::Reply { id, outcome } => assert!(self.replies.insert(id, outcome).is_none()),
                Effect::Spawn { instance, .. } if self.spawns => {
                    self.send(Input::Spawned {
                        instance,
                        pid: pid_of(instance),
                    });
                }
                Effect::TerminateIfIdle { instance } if self.is_idle => self.send(Input::Terminated { instance }),
                _ => {}
            }
        }
    }

    /// Time passes, with a tick whenever the machine has asked for one.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline;
            self.send(Input::Tick);
        }
        self.now = end;
    }

    /// The newest instance of the slot becomes ready.
    pub(super) fn ready(&mut self, slot: u16) {
        let instance = self.newest(slot);
        self.send(Input::Ready { instance });
    }

    pub(super) fn unready(&mut self, slot: u16) {
        let instance = self.current(slot);
        self.send(Input::Unready {
            instance,
            reason: "its listener was closed".into(),
        });
    }

    /// The current instance of the slot exits.
    pub(super) fn exit(&mut self, slot: u16, code: i32) {
        let instance = self.current(slot);
        self.gone(instance, Exit::Code(code));
    }

    /// The newest instance of the slot exits.
    pub(super) fn exit_newest(&mut self, slot: u16, code: i32) {
        let instance = self.newest(slot);
        self.gone(instance, Exit::Code(code));
    }

    pub(super) fn gone(&mut self, instance: InstanceId, exit: Exit) {
        self.send(Input::Exited {
            instance,
            exit,
            cut: self.cut,
        });
    }

    pub(super) fn observe(&mut self, instance: InstanceId, load: Load) {
        self.send(Input::Observed(vec![(instance, load)]));
    }

    /// The current instance of the slot has `connections`, of which `queue` are not accepted yet.
    pub(super) fn observe_slot(&mut self, slot: u16, connections: u32, queue: u32) {
        let instance = self.current(slot);
        self.observe(
            instance,
            Load {
                connections,
                queue,
                ..IDLE
            },
        );
    }

    pub(super) fn ask(&mut self, command: Command) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.send(Input::Request { id, command });
        id
    }

    pub(super) fn drain(&mut self, slot: u16) -> RequestId {
        self.ask(Command::Drain {
            slot: SlotId(slot),
            timeout_ms: None,
            no_wait: false,
            force: false,
        })
    }

    pub(super) fn undrain(&mut self, slot: u16) -> RequestId {
        self.ask(Command::Undrain { slot: SlotId(slot) })
    }

    pub(super) fn restart(&mut self, slot: u16) -> RequestId {
        self.ask(Command::Restart {
            slot: SlotId(slot),
            stop_first: false,
        })
    }

    pub(super) fn restart_stop_first(&mut self, slot: u16) -> RequestId {
        self.ask(Command::Restart {
            slot: SlotId(slot),
            stop_first: true,
        })
    }

    pub(super) fn reload(&mut self) -> RequestId {
        self.ask(Command::Reload { stop_first: false })
    }

    pub(super) fn scale(&mut self, workers: u16) -> RequestId {
        self.ask(Command::Scale(ScaleTarget::To(workers)))
    }

    pub(super) fn rules(&self) -> Rules {
        self.machine.cx.config().rules()
    }

    /// A new version, and nothing else.
    pub(super) fn adopt(&mut self, version: u32) -> RequestId {
        let command = self.adoption(VersionId(version));
        self.ask(command)
    }

    pub(super) fn adoption(&self, version: VersionId) -> Command {
        let rules = self.rules();
        let version = Some(version);
        Command::Apply(ApplyPlan {
            rollout: Some(PlannedRollout { version, rules }),
            ..only(rules)
        })
    }

    /// From now on these rules hold.
    pub(super) fn rule(&mut self, rules: Rules) {
        let apply = self.ask(Command::Apply(only(rules)));
        self.done(apply);
    }

    pub(super) fn stop(&mut self) -> RequestId {
        self.ask(Command::Stop { timeout_ms: None })
    }

    /// With 5% of new connections.
    pub(super) fn canary(&mut self, version: u32) -> RequestId {
        self.ask(Command::Canary {
            share: percent(5),
            version: VersionId(version),
        })
    }

    /// Whoever is on its way out ends.
    pub(super) fn old_ones_go(&mut self) {
        let slots = self.machine.view().slots;
        for instance in slots.into_iter().flat_map(|slot| slot.instances) {
            if instance.state == WorkerState::Stopping {
                self.gone(instance.id, Exit::Code(0));
            }
        }
    }

    pub(super) fn forget(&mut self) {
        self.said.clear();
    }
}

/// No step but that these rules hold.
pub(super) fn only(rules: Rules) -> ApplyPlan {
    ApplyPlan {
        rollout: None,
        rules,
        policy: None,
        workers: None,
    }
}

pub(super) fn pid_of(instance: InstanceId) -> u32 {
    400 + instance.0
}
