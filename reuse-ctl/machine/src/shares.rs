//! Fixed shares of new connections, for `weight` and canaries.

use reuse_common::Share;

use super::Machine;
use super::commands::Judgement;
use super::context::Ticket;
use super::slot::Slot;
use super::words;
use crate::ids::SlotId;
use crate::interface::{Done, NoteKind, Refusal};
use crate::states::ErrorKind;
use crate::text::Verb;

/// Maximum number of slots with a share, limited by the kernel program.
const MAX_SHARES: usize = 32;

impl Machine {
    pub(super) fn judge_weigh(&self, slot: SlotId, share: Option<Share>) -> Result<Judgement, Refusal> {
        let worker = self.slot(slot)?;
        if worker.is_leaving() {
            return Err(words::being_removed(slot));
        }
        if worker.share() == share {
            return Ok(Judgement::AlreadyDone(format!("{} already", gets(slot, share))));
        }
        let staying = self.slots.iter().filter(|other| !other.is_leaving());
        fit(staying.map(|other| if other.id() == slot { share } else { other.share() }))?;
        Ok(Judgement::Accepted)
    }

    pub(super) fn weigh(&mut self, ticket: Ticket, slot: SlotId, share: Option<Share>) {
        self.slots[usize::from(slot.0)].set_share(share);
        let message = gets(slot, share);
        self.cx.note(NoteKind::Weighed, Some(slot), None, message.clone());
        let slots = vec![slot];
        self.cx.answer(ticket, Ok(Done { slots, message }));
    }

    /// Checks whether further slots with these shares would fit.
    pub(super) fn judge_further(&self, further: impl IntoIterator<Item = Option<Share>>) -> Result<(), Refusal> {
        let staying = self.slots.iter().filter(|slot| !slot.is_leaving());
        fit(staying.map(Slot::share).chain(further))
    }
}

fn gets(slot: SlotId, share: Option<Share>) -> String {
    match share {
        Some(share) => format!("worker {slot} gets {share} of new connections"),
        None => format!("worker {slot} has no fixed share any more"),
    }
}

/// Checks that something is left for slots without a share.
fn fit(shares: impl Iterator<Item = Option<Share>>) -> Result<(), Refusal> {
    let (mut sum, mut fixed, mut free) = (0_u32, 0, 0);
    for share in shares {
        match share {
            Some(share) => {
                sum += u32::from(share.hundredths_of_a_percent());
                fixed += 1;
            }
            None => free += 1,
        }
    }
    let whole = u32::from(Share::WHOLE);
    let error = if fixed > MAX_SHARES {
        format!("at most {MAX_SHARES} workers can have a weight of their own")
    } else if free > 0 && sum >= whole {
        format!(
            "the weights would add up to {}: nothing would be left for {}",
            percent(sum),
            words::count(free, "other worker")
        )
    } else if sum > whole {
        format!("the weights would add up to {}", percent(sum))
    } else {
        return Ok(());
    };
    Err(words::refusal(
        ErrorKind::Usage,
        error,
        Verb::Status.run() + " shows the weights; " + Verb::Weight.with("ID auto") + " takes one back",
    ))
}

/// Writes "105%", "100.5%".
fn percent(hundredths: u32) -> String {
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}
