//! Addresses that the kernel chose, as far as what it showed tells.

use crate::outcome::{Answer, Outcome};

/// The address that a step of `lane` took, whose mapping lies at `from` if it is `mremap`. `seen` begins
/// with what the step showed. A call that sleeps tells its address when it ends, or an event does.
pub(super) fn chosen(lane: u8, from: Option<u64>, seen: &[Outcome]) -> Option<u64> {
    let (now, later) = seen.split_first()?;
    let answer = match now.answer {
        Answer::Blocked => later.iter().find_map(|outcome| {
            let told = from
                .and_then(|from| moved(from, outcome))
                .map(Answer::Value);
            returned(lane, outcome).or(told)
        }),
        answer => Some(answer),
    };
    match answer {
        Some(Answer::Value(address)) => Some(address),
        _ => None,
    }
}

/// How a lane's call ended that slept.
fn returned(lane: u8, outcome: &Outcome) -> Option<Answer> {
    let mut woken = outcome.woken.iter();
    woken.find(|woken| woken.0 == lane).map(|woken| woken.1)
}

/// Where an event says that the mapping at `from` is now.
fn moved(from: u64, outcome: &Outcome) -> Option<u64> {
    match *outcome.outputs.as_slice() {
        [("event", 0x14), ("from", old), ("to", new), ..] if old == from => Some(new),
        _ => None,
    }
}
