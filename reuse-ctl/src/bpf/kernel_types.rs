//! Finds where the running kernel keeps the fields of TCP sockets that the programs read, from the kernel's type information (BTF).
//!
//! aya parses BTF as well, but only for relocations: it gives no access to the members of structures.

use std::{collections::HashMap, fs, io, path::Path};

use reuse_common::tcp_layout::TcpLayout;

/// The kernel's type information.
const KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// Why the layout could not be determined.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    /// The kernel was built without type information, or it can't be read.
    #[error("{KERNEL}: {0}")]
    Unreadable(#[from] io::Error),
    /// The data is not in the format of `linux/btf.h`.
    #[error("{KERNEL}: malformed at byte {0}")]
    Malformed(usize),
    /// A structure has no such member.
    #[error("the kernel's `struct {structure}` has no `{member}`")]
    Missing {
        /// The structure.
        structure: &'static str,
        /// The member, or a path of members.
        member: &'static str,
    },
}

/// Looks up every offset.
///
/// # Errors
/// See [`LayoutError`].
pub(super) fn tcp_layout() -> Result<TcpLayout, LayoutError> {
    layout_from(&fs::read(Path::new(KERNEL))?)
}

fn layout_from(bytes: &[u8]) -> Result<TcpLayout, LayoutError> {
    let types = Types::parse(bytes)?;
    let tcp = |member| types.offset("tcp_sock", member);
    Ok(TcpLayout {
        is_known: 1,
        state: types.offset("sock_common", "skc_state")?,
        local_port: types.offset("sock_common", "skc_num")?,
        cookie: types.offset("sock_common", "skc_cookie")?,
        error: types.offset("sock", "sk_err")?,
        wake_bytes: types.offset("sock", "sk_rcvlowat")?,
        cgroup: types.offset("sock", "sk_cgrp_data.cgroup")?,
        cgroup_node: types.offset("cgroup", "kn")?,
        node_id: types.offset("kernfs_node", "id")?,
        socket: types.offset("sock", "sk_socket")?,
        socket_flags: types.offset("socket", "flags")?,
        received_tick: types.offset("inet_connection_sock", "icsk_ack.lrcvtime")?,
        last_packet_us: tcp("tcp_mstamp")?,
        received: tcp("rcv_nxt")?,
        read: tcp("copied_seq")?,
        written: tcp("write_seq")?,
        sent: tcp("snd_nxt")?,
        acknowledged: tcp("snd_una")?,
        acknowledged_at: tcp("snd_wl1")?,
        sent_tick: tcp("lsndtime")?,
    })
}

const MAGIC: u16 = 0xeb9f;
/// Kinds of types in `linux/btf.h` that have members: structures and unions.
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The types, in the order of their numbers (from 1), and the names of the structures.
struct Types<'a> {
    bytes: &'a [u8],
    strings: usize,
    places: Vec<usize>,
    structures: HashMap<&'a [u8], u32>,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, LayoutError> {
        let word = |at| word_at(bytes, at);
        if word(0)? & 0xffff != u32::from(MAGIC) {
            return Err(LayoutError::Malformed(0));
        }
        let header = index(word(4)?);
        let (mut at, length) = (header + index(word(8)?), index(word(12)?));
        let end = at + length;
        let mut types = Self {
            bytes,
            strings: header + index(word(16)?),
            places: Vec::new(),
            structures: HashMap::new(),
        };
        while at < end {
            let info = word(at + 4)?;
            types.places.push(at);
            if kind_of(info) == STRUCT {
                let number = u32::try_from(types.places.len()).map_err(|_| LayoutError::Malformed(at))?;
                types.structures.insert(types.string(word(at)?)?, number);
            }
            at += 12 + rest_of(info).ok_or(LayoutError::Malformed(at))?;
        }
        Ok(types)
    }

    /// The offset of a member in bytes. `path` may lead through members that are structures themselves.
    fn offset(&self, structure: &'static str, path: &'static str) -> Result<u32, LayoutError> {
        let missing = || LayoutError::Missing {
            structure,
            member: path,
        };
        let mut within = *self.structures.get(structure.as_bytes()).ok_or_else(missing)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (member_type, at_bit) = self.member(within, name.as_bytes())?.ok_or_else(missing)?;
            bits += at_bit;
            within = member_type;
        }
        Ok(bits / 8)
    }

    /// The type of a member and its position in bits. Unnamed members are searched as well.
    fn member(&self, number: u32, wanted: &[u8]) -> Result<Option<(u32, u32)>, LayoutError> {
        let Some(&at) = index(number).checked_sub(1).and_then(|place| self.places.get(place)) else {
            return Ok(None);
        };
        let info = word_at(self.bytes, at + 4)?;
        if !matches!(kind_of(info), STRUCT | UNION) {
            return Ok(None);
        }
        // If the flag is set, the upper byte is the width of a bit field.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for nth in 0..index(info & 0xffff) {
            let entry = at + 12 + 12 * nth;
            let name = self.string(word_at(self.bytes, entry)?)?;
            let member_type = word_at(self.bytes, entry + 4)?;
            let bits = word_at(self.bytes, entry + 8)? & mask;
            if name == wanted {
                return Ok(Some((member_type, bits)));
            }
            if name.is_empty()
                && let Some((found, further)) = self.member(member_type, wanted)?
            {
                return Ok(Some((found, bits + further)));
            }
        }
        Ok(None)
    }

    fn string(&self, offset: u32) -> Result<&'a [u8], LayoutError> {
        let at = self.strings + index(offset);
        let rest = self.bytes.get(at..).ok_or(LayoutError::Malformed(at))?;
        let length = rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(LayoutError::Malformed(at))?;
        Ok(&rest[..length])
    }
}

fn word_at(bytes: &[u8], at: usize) -> Result<u32, LayoutError> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u32::from_ne_bytes(*word))
        .ok_or(LayoutError::Malformed(at))
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("Linux has 32 bits at least")
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Number of bytes that follow the first twelve bytes of a type; `None` if the kind is unknown.
fn rest_of(info: u32) -> Option<usize> {
    let count = index(info & 0xffff);
    Some(match kind_of(info) {
        // Pointers, forward declarations, typedefs and qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Enumerations, parameters.
        6 | 13 => 8 * count,
        // Members, sections, 64-bit enumerations.
        STRUCT | UNION | 15 | 19 => 12 * count,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_everything() {
        let layout = tcp_layout().expect("BTF");
        let distinct: std::collections::BTreeSet<_> = [
            layout.received,
            layout.read,
            layout.written,
            layout.sent,
            layout.acknowledged,
            layout.acknowledged_at,
            layout.sent_tick,
            layout.received_tick,
            layout.last_packet_us,
        ]
        .into();
        assert_eq!(distinct.len(), 9, "{layout:?}");
        assert_eq!(layout.last_packet_us % 8, 0);
        // Stable for as long as there is BPF: programs are given these as `struct bpf_sock` has them.
        assert_eq!((layout.state, layout.local_port), (18, 14), "{layout:?}");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = fs::read(KERNEL).expect("BTF");
        for length in [0, 3, 20, 4_000, bytes.len() / 2] {
            assert!(layout_from(&bytes[..length]).is_err(), "{length}");
        }
        let mut foreign = bytes;
        foreign[0] ^= 1;
        assert!(matches!(layout_from(&foreign), Err(LayoutError::Malformed(0))));
    }
}
