//! Executes BPF instructions one after the other and counts them: those of `-Ctarget-cpu=v3`, which the object is compiled for.

use anyhow::{Context as _, bail, ensure};
use aya_obj::generated::bpf_insn;

use super::memory::Memory;

/// A program that takes longer goes round in circles.
const MOST: u64 = 1_000_000;

/// One instruction, or the second half of one with a constant of 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction {
    code: u8,
    destination: usize,
    source: usize,
    offset: i16,
    immediate: i32,
}

impl From<u64> for Instruction {
    fn from(word: u64) -> Self {
        let [code, registers, offset @ .., a, b, c, d] = word.to_le_bytes();
        Self {
            code,
            destination: usize::from(registers & 15),
            source: usize::from(registers >> 4),
            offset: i16::from_le_bytes(offset),
            immediate: i32::from_le_bytes([a, b, c, d]),
        }
    }
}

impl From<&bpf_insn> for Instruction {
    fn from(instruction: &bpf_insn) -> Self {
        Self {
            code: instruction.code,
            destination: instruction.dst_reg().into(),
            source: instruction.src_reg().into(),
            offset: instruction.off,
            immediate: instruction.imm,
        }
    }
}

/// What was executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// One with a constant of 64 bits is two, as it is in a program's size.
    pub(super) instructions: u64,
    pub(super) atomics: u64,
}

/// Where a function goes on after a call.
struct Return {
    to: usize,
    /// r6 to r9, which are the caller's.
    saved: [u64; 4],
}

/// Executes a program, from the first instruction to the exit: what it returns, and the counts.
///
/// # Errors
/// At an access to memory that is not the program's, an unknown instruction, or when `helper` fails.
pub(super) fn run(
    program: &[Instruction],
    memory: &Memory<'_>,
    context: u64,
    mut helper: impl FnMut(i32, [u64; 5]) -> anyhow::Result<u64>,
) -> anyhow::Result<(u64, Counts)> {
    let mut machine = Machine {
        program,
        memory,
        registers: [0; 11],
        next: 0,
        returns: Vec::new(),
        counts: Counts::default(),
    };
    machine.registers[1] = context;
    machine.registers[10] = memory.frame(0)?;
    loop {
        let at = machine.next;
        let is_over = machine.step(&mut helper);
        if is_over.with_context(|| format!("instruction {at}"))? {
            return Ok((machine.registers[0], machine.counts));
        }
    }
}

struct Machine<'a> {
    program: &'a [Instruction],
    memory: &'a Memory<'a>,
    registers: [u64; 11],
    next: usize,
    returns: Vec<Return>,
    counts: Counts,
}

impl Machine<'_> {
    /// One instruction; whether it was the program's last.
    fn step(&mut self, helper: &mut impl FnMut(i32, [u64; 5]) -> anyhow::Result<u64>) -> anyhow::Result<bool> {
        let instruction = self.fetch()?;
        let Instruction {
            code,
            destination,
            source,
            offset,
            immediate,
        } = instruction;
        let size = [4, 2, 1, 8][usize::from(code >> 3 & 3)];
        let near = |register: u64| register.wrapping_add_signed(offset.into());
        match code {
            // A constant of 64 bits.
            0x18 => {
                let high = self.fetch()?.immediate;
                self.registers[destination] =
                    u64::from(high.cast_unsigned()) << 32 | u64::from(immediate.cast_unsigned());
            }
            0x61 | 0x69 | 0x71 | 0x79 => {
                self.registers[destination] = self.memory.read(near(self.registers[source]), size)?;
            }
            0x62 | 0x6a | 0x72 | 0x7a => {
                let address = near(self.registers[destination]);
                self.memory.write(address, size, extended(immediate))?;
            }
            0x63 | 0x6b | 0x73 | 0x7b => {
                let address = near(self.registers[destination]);
                self.memory.write(address, size, self.registers[source])?;
            }
            0xc3 | 0xdb => self.atomic(near(self.registers[destination]), size, source, immediate)?,
            0x85 if source == 1 => self.call(immediate)?,
            0x85 => {
                let [_, arguments @ .., _, _, _, _, _] = self.registers;
                self.registers[0] = helper(immediate, arguments)?;
            }
            0x95 => return Ok(self.exit()),
            _ => match code & 7 {
                4 | 7 => {
                    let result = calculate(&instruction, self.registers[destination], self.operand(&instruction));
                    self.registers[destination] = result.with_context(|| format!("{instruction:?} is unknown"))?;
                }
                5 | 6 => {
                    let is_taken = compare(code, self.registers[destination], self.operand(&instruction));
                    if is_taken.with_context(|| format!("{instruction:?} is unknown"))? {
                        self.jump(offset.into())?;
                    }
                }
                _ => bail!("{instruction:?} is unknown"),
            },
        }
        Ok(false)
    }

    fn fetch(&mut self) -> anyhow::Result<Instruction> {
        let instruction = self.program.get(self.next).context("the program has no end")?;
        self.next += 1;
        self.counts.instructions += 1;
        ensure!(self.counts.instructions <= MOST, "more than {MOST} instructions");
        Ok(*instruction)
    }

    fn operand(&self, instruction: &Instruction) -> u64 {
        if instruction.code & 8 == 0 {
            extended(instruction.immediate)
        } else {
            self.registers[instruction.source]
        }
    }

    fn jump(&mut self, by: isize) -> anyhow::Result<()> {
        self.next = self.next.checked_add_signed(by).context("a jump out of the program")?;
        Ok(())
    }

    fn atomic(&mut self, address: u64, size: usize, source: usize, kind: i32) -> anyhow::Result<()> {
        let before = self.memory.read(address, size)?;
        let operand = self.registers[source];
        let after = match kind {
            0x00 | 0x01 => before.wrapping_add(operand),
            0xe1 => operand,
            _ => bail!("the atomic operation {kind:#x} is unknown"),
        };
        self.memory.write(address, size, after)?;
        if kind & 1 != 0 {
            self.registers[source] = before;
        }
        self.counts.atomics += 1;
        Ok(())
    }

    fn call(&mut self, by: i32) -> anyhow::Result<()> {
        let [.., r6, r7, r8, r9, _] = self.registers;
        self.returns.push(Return {
            to: self.next,
            saved: [r6, r7, r8, r9],
        });
        self.registers[10] = self.memory.frame(self.returns.len())?;
        self.jump(isize::try_from(by).context("a call that far")?)
    }

    /// Whether that was the outermost function.
    fn exit(&mut self) -> bool {
        let Some(Return { to, saved }) = self.returns.pop() else {
            return true;
        };
        self.registers[6..10].copy_from_slice(&saved);
        self.registers[10] = self.memory.frame(self.returns.len()).expect("it was there before");
        self.next = to;
        false
    }
}

/// Arithmetic of 64 bits, or of 32 whose result has zeroes above; `None` if there is none of this code.
fn calculate(instruction: &Instruction, a: u64, b: u64) -> Option<u64> {
    let Instruction {
        code,
        offset,
        immediate,
        ..
    } = *instruction;
    if offset != 0 {
        return None;
    }
    if code & 0xf0 == 0xd0 {
        return swap(code, immediate, a);
    }
    let bits: u32 = if code & 7 == 7 { 64 } else { 32 };
    let (a, b) = (low(a, bits), low(b, bits));
    // Shorter than `bits`, which is a power of two.
    let shift = b & u64::from(bits - 1);
    let result = match code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 => (signed(a, bits) >> shift).cast_unsigned(),
        _ => return None,
    };
    Some(low(result, bits))
}

/// To (or from, which is the same) a byte order.
fn swap(code: u8, bits: i32, a: u64) -> Option<u64> {
    match (code, bits) {
        (0xdc, 16) => Some((a as u16).to_be().into()),
        (0xdc, 32) => Some((a as u32).to_be().into()),
        (0xdc, 64) => Some(a.to_be()),
        (0xd4, 16) => Some((a as u16).to_le().into()),
        (0xd4, 32) => Some((a as u32).to_le().into()),
        (0xd4, 64) => Some(a.to_le()),
        _ => None,
    }
}

/// Whether a jump is taken; `None` if there is none of this code.
fn compare(code: u8, a: u64, b: u64) -> Option<bool> {
    let bits: u32 = if code & 7 == 5 { 64 } else { 32 };
    let (a, b) = (low(a, bits), low(b, bits));
    let (signed_a, signed_b) = (signed(a, bits), signed(b, bits));
    Some(match code & 0xf0 {
        // Of the narrow kind there is a long jump, from v4 on.
        0x00 if bits == 64 => true,
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => signed_a > signed_b,
        0x70 => signed_a >= signed_b,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => signed_a < signed_b,
        0xd0 => signed_a <= signed_b,
        _ => return None,
    })
}

fn extended(immediate: i32) -> u64 {
    i64::from(immediate).cast_unsigned()
}

fn low(number: u64, bits: u32) -> u64 {
    number & u64::MAX >> (64 - bits)
}

fn signed(number: u64, bits: u32) -> i64 {
    (number << (64 - bits)).cast_signed() >> (64 - bits)
}
