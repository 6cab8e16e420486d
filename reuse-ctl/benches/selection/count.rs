//! How many instructions a selection executes: the same number on every machine, whatever else runs there.
//!
//! The program is the one that the crate embeds, before the kernel has touched it. The kernel's verifier replaces look-ups in arrays by a few
//! instructions and look-ups in hash tables by a direct call, so that the real number is a little higher.

mod machine;
mod memory;

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, bail, ensure};
use aya_obj::{Object, generated::bpf_map_type::BPF_MAP_TYPE_ARRAY};
use reuse_common::{
    app::{App, AppTable},
    choose,
    client::{ClientKey, ClientMask, ClientRecord},
    group::{Group, GroupTable, Published},
    ids::{MemberIndex, Place, Row, SlotId},
    limits::MAX_PORTS,
    load::{InstanceLoad, Moment},
    rendezvous::Buckets,
    seats::{Membership, Seat},
    settings::Settings,
    verdict::Verdict,
};
use serde::Serialize;

use crate::{blind, case::Case};
use machine::{Counts, Instruction};
use memory::{Memory, Stack};

/// `cargo xtask build-ebpf` puts it there.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../src/bpf/reuse.bpf.o");

/// What the program sees of the world: any time, hash and client will do.
const NOW_NS: u64 = 1 << 40;
const HASH: u32 = 0x1234_5677;
const CLIENT: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const IPV4: u32 = (0x0800_u16).to_be() as u32;

/// What one run of a program in this case executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Executed {
    pub(crate) case: &'static str,
    pub(crate) workers: u16,
    /// One with a constant of 64 bits is two, as it is in a program's size.
    pub(crate) instructions: u64,
    /// Additions and exchanges that lock their cache line.
    pub(crate) atomics: u64,
    /// Calls of the kernel's functions.
    pub(crate) helpers: u64,
    /// So many of them are look-ups in arrays, which the kernel replaces by a few instructions.
    pub(crate) inlined: u64,
}

/// Executes every case once in groups of each size.
///
/// # Errors
/// When the object has no program `select`, or that does something which is unknown here, or it chooses nobody.
pub(crate) fn count(sizes: &[u16]) -> anyhow::Result<Vec<Executed>> {
    let select = Program::select()?;
    let mut all = Vec::new();
    for &workers in sizes {
        for case in Case::ALL {
            let program = match case {
                Case::Empty => &Program::of(&blind::EMPTY),
                Case::Blind => &Program::of(&blind::select_blindly(0)),
                _ => &select,
            };
            let executed = World::new(case, workers).run(program, case, workers);
            all.push(executed.with_context(|| format!("{} with {workers} workers", case.name()))?);
        }
    }
    Ok(all)
}

/// A program, and the maps that it names: by their place here.
struct Program {
    instructions: Vec<Instruction>,
    maps: Vec<(String, u32)>,
}

impl Program {
    fn of(words: &[u64]) -> Self {
        Self {
            instructions: words.iter().map(|&word| word.into()).collect(),
            maps: Vec::new(),
        }
    }

    /// Ours, linked as it is for the kernel.
    fn select() -> anyhow::Result<Self> {
        let mut object = Object::parse(OBJECT).context("parse the object")?;
        let sections: HashSet<usize> = object.functions.keys().map(|&(section, _)| section).collect();
        let maps: BTreeMap<_, _> = object.maps.drain().collect();
        let numbered = (0..)
            .zip(&maps)
            .map(|(number, (name, map))| (name.as_str(), number, map));
        object.relocate_maps(numbered, &sections).context("relocate the maps")?;
        object.relocate_calls(&sections).context("relocate the calls")?;
        let program = object.programs.get("select").context("no program `select`")?;
        let function = object.functions.get(&program.function_key()).context("no function")?;
        Ok(Self {
            instructions: function.instructions.iter().map(Instruction::from).collect(),
            maps: maps.into_iter().map(|(name, map)| (name, map.map_type())).collect(),
        })
    }
}

/// The fields of `struct sk_reuseport_md`, `include/uapi/linux/bpf.h`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u64,
    data_end: u64,
    len: u32,
    eth_protocol: u32,
    ip_protocol: u32,
    bind_inany: u32,
    hash: u32,
    _padding: u32,
    sk: u64,
    migrating_sk: u64,
}

/// The maps' values, and a new connection.
struct World {
    app: Box<AppTable>,
    group: Box<GroupTable>,
    /// If the client is recorded.
    record: Option<ClientRecord>,
    context: Context,
}

impl World {
    /// As the controller would have it, with all workers published.
    fn new(case: Case, workers: u16) -> Self {
        // SAFETY: tables of integers may be all zeroes.
        let (mut app, mut group) = unsafe {
            (
                Box::<AppTable>::new_zeroed().assume_init(),
                Box::<GroupTable>::new_zeroed().assume_init(),
            )
        };
        let seats: Vec<Seat> = (1..=workers)
            .map(|row| Seat::new(SlotId(row - 1), Row(row), 1))
            .collect();
        // SAFETY: the tables outlive the views.
        let (app_view, group_view) = unsafe { (App::new(&raw mut *app), Group::new(&raw mut *group)) };
        app_view.set_settings(Settings {
            policy: case.policy() as u32,
            directed: 0,
            client_mask: ClientMask::new(32, 64),
            client_ttl_ticks: ClientRecord::ticks(3600),
            cgroup_level: 0,
            port_count: 0,
            ports: [0; MAX_PORTS],
        });
        for seat in &seats {
            app_view.loads().reset(seat.row(), InstanceLoad::new(seat.slot()));
        }
        let slots: Vec<_> = seats.iter().map(|seat| (seat.slot(), seat.share())).collect();
        let mut buckets = Box::new(Buckets::EMPTY);
        buckets.assign(&slots);
        group_view.publish(Membership::new(seats), &buckets);
        Self {
            app,
            group,
            record: (case == Case::StickyHit).then(|| ClientRecord::new(SlotId(0), NOW_NS)),
            context: Context {
                eth_protocol: IPV4,
                hash: HASH,
                ..Context::default()
            },
        }
    }

    fn run(&mut self, program: &Program, case: Case, workers: u16) -> anyhow::Result<Executed> {
        let expected = self.expected(case);
        let mut selected = None;
        let mut stack = Stack::EMPTY;
        let mut memory = Memory::new(&mut stack);
        // SAFETY: all of them are plain integers.
        let (app, group, record, context) = unsafe {
            (
                memory.lend(&mut *self.app),
                memory.lend(&mut *self.group),
                self.record.as_mut().map_or(0, |record| memory.lend(record)),
                memory.lend(&mut self.context),
            )
        };
        let (mut helpers, mut inlined) = (0, 0);
        let call = |helper, [first, _, third, fourth, _]: [u64; 5]| {
            helpers += 1;
            match helper {
                // map_lookup_elem
                1 => {
                    let map = usize::try_from(first).ok().and_then(|number| program.maps.get(number));
                    let (name, kind) = map.context("a look-up in no map")?;
                    inlined += u64::from(*kind == BPF_MAP_TYPE_ARRAY as u32);
                    match name.as_str() {
                        "APP" => Ok(app),
                        "GROUP" => Ok(group),
                        "CLIENTS" => Ok(record),
                        _ => bail!("a look-up in {name}: what is there?"),
                    }
                }
                // get_prandom_u32
                7 => Ok(HASH.into()),
                // skb_load_bytes_relative
                68 => {
                    ensure!(fourth == 4, "{fourth} bytes of a packet: which?");
                    memory.write(third, 4, CLIENT.into())?;
                    Ok(0)
                }
                // sk_select_reuseport
                82 => {
                    selected = Some(memory.read(third, 4)?);
                    Ok(0)
                }
                // ktime_get_coarse_ns
                160 => Ok(NOW_NS),
                _ => bail!("the program calls helper {helper} of include/uapi/linux/bpf.h: what does it return?"),
            }
        };
        let (action, counts) = machine::run(&program.instructions, &memory, context, call)?;
        let Counts { instructions, atomics } = counts;
        drop(memory);
        ensure!(
            action == 1 && selected == expected,
            "the program returned {action} and selected {selected:?}, not {expected:?}"
        );
        self.check(case)?;
        Ok(Executed {
            case: case.name(),
            workers,
            instructions,
            atomics,
            helpers,
            inlined,
        })
    }

    /// Whom the program must select, as the same decisions compiled for this machine have it: this is how a mistake of the machine shows.
    fn expected(&mut self, case: Case) -> Option<u64> {
        // SAFETY: the tables outlive the views.
        let (app, group) = unsafe { (App::new(&raw mut *self.app), Group::new(&raw mut *self.group)) };
        let Published { membership, places } = group.published();
        let (loads, moment) = (app.loads(), Moment::at(NOW_NS));
        let client = ClientKey::from_v4(CLIENT, &app.settings().client_mask);
        let place = match case {
            Case::Empty => return None,
            Case::Blind => return Some(u64::from(HASH & 3)),
            Case::Hash => choose::by_hash(places, HASH),
            // The first turn; and the slot that is recorded.
            Case::RoundRobin | Case::StickyHit => Place(0),
            Case::LeastLoaded => choose::by_load(membership, loads, moment, HASH),
            Case::StickyNew => choose::for_new_client(membership, places, loads, &client, moment),
        };
        Some(MemberIndex::new(membership.seat(place).row(), 0).key().into())
    }

    /// Our program must have taken the path of a new connection, which ends with a count.
    fn check(&mut self, case: Case) -> anyhow::Result<()> {
        // SAFETY: the table outlives the view.
        let chosen = unsafe { Group::new(&raw mut *self.group) }
            .verdicts()
            .get(Verdict::Chosen);
        let is_ours = !matches!(case, Case::Empty | Case::Blind);
        ensure!(chosen == u64::from(is_ours), "the program chose {chosen} times");
        Ok(())
    }
}
