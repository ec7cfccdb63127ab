//! Whether the filters of a task let the injected calls through.

use space::{Errno, Vaddr};

use super::call::InjectError;
use super::fork::{CLONE_FLAGS, WALL, WALL_NOHANG};
use crate::arch::{CALL_LEN, Reentry, Registers, call};
use crate::procfs::SeccompMode;
use crate::raw::ptrace;
use crate::seccomp::{
    BpfInstruction, Call, Filter, Foreseen, Need, Plan, Restriction, SeccompData,
};
use crate::task::{Task, proc};

/// What an injection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A userfaultfd is made and closed.
    Track,
    /// A child is made.
    Fork,
    /// A child is waited for.
    Reap,
}

/// Tells whether filters are to be suspended for the calls of `purpose`, and for that by which the
/// task comes back into the one that it was interrupted in.
pub(crate) fn plan(
    task: Task,
    purpose: Purpose,
    gadget: Vaddr,
    reentry: Option<&Reentry>,
) -> Result<bool, InjectError> {
    let restriction = restriction(task)?;
    let mut calls = calls(purpose, gadget);
    if let Some(reentry) = reentry {
        // Carried out only if we die just before.
        let args = [reentry.first_argument, 0, 0, 0, 0, 0];
        let number = u32::try_from(reentry.number).map_err(|_| Errno::ENOSYS)?;
        let data = made(number, args, gadget).into();
        let need = Need::MayFail;
        calls.push(Call { data, need });
    }
    match Plan::decide(&restriction, &calls) {
        Plan::Inject => Ok(false),
        Plan::InjectSuspended(_) => Ok(true),
        Plan::Never(reason) => Err(InjectError::Seccomp(reason)),
    }
}

/// Tells whether the filters of a task let it go on with an interrupted call by
/// `restart_syscall`.
pub(crate) fn allows_restart(task: Task) -> bool {
    // The kernel has it made by the code, and with the arguments, of the interrupted call.
    let call = call(call::RESTART_SYSCALL, [0; 6], Vaddr(0));
    let call = call.from_anywhere().with_any_arguments();
    restriction(task).is_ok_and(|restriction| restriction.allows(&call))
}

/// Tells whether the filters of a task let it make a call with either registers, as if there were no
/// difference. (Mostly there is none: what they look at is the same.)
pub(crate) fn treats_alike(task: Task, one: &Registers, other: &Registers) -> bool {
    let [one, other] = [one, other].map(|registers| {
        let (at, number, args) = registers.call();
        Some(Foreseen::from(made(u32::try_from(number).ok()?, args, at)))
    });
    let (Some(one), Some(other)) = (one, other) else {
        return false;
    };
    one == other
        || restriction(task)
            .is_ok_and(|restriction| restriction.allows(&one) && restriction.allows(&other))
}

fn restriction(task: Task) -> Result<Restriction, Errno> {
    Ok(match proc::seccomp_mode(task.tid)? {
        SeccompMode::Off => Restriction::None,
        SeccompMode::Strict => Restriction::Strict,
        SeccompMode::Filter => filters(task),
        SeccompMode::Other(_) => Restriction::Unreadable(Errno::EINVAL),
    })
}

fn filters(task: Task) -> Restriction {
    let mut filters = Vec::new();
    for index in 0.. {
        let program = match ptrace::seccomp_filter(task.tid, index) {
            Ok(program) => program,
            Err(Errno::ENOENT) => break,
            Err(errno) => return Restriction::Unreadable(errno),
        };
        let instructions = program
            .iter()
            .map(|op| BpfInstruction {
                code: op.code,
                jt: op.jt,
                jf: op.jf,
                k: op.k,
            })
            .collect();
        match Filter::new(instructions) {
            Ok(filter) => filters.push(filter),
            // The kernel took it, so it is our reading that is wrong: inject nothing.
            Err(_) => return Restriction::Unreadable(Errno::EINVAL),
        }
    }
    Restriction::Filters(filters)
}

/// A call by the instruction at `gadget`.
fn made(nr: u32, args: [u64; 6], gadget: Vaddr) -> SeccompData {
    SeccompData {
        nr,
        arch: SeccompData::NATIVE_ARCH,
        instruction_pointer: gadget.0 + CALL_LEN,
        args,
    }
}

/// One of the calls that are injected.
fn call(number: u64, args: [u64; 6], gadget: Vaddr) -> Foreseen {
    let nr = u32::try_from(number).expect("call numbers are small");
    made(nr, args, gadget).into()
}

/// The calls that are made, and those that the way back makes if we die.
///
/// What the kernel or a moment decides is not known: the number of a descriptor, the id of a child,
/// where the frames lie. A filter that looks there may answer either way.
fn calls(purpose: Purpose, gadget: Vaddr) -> Vec<Call> {
    let call = |number, args| call(number, args, gadget);
    let need = |need| move |data| Call { data, need };
    // The task goes there with what an injected call left in its registers.
    let way_back = call(call::RT_SIGRETURN, [0; 6])
        .from_anywhere()
        .with_any_arguments();
    let take_note = |options| call(call::WAIT4, [0, 0, options, 0, 0, 0]).with_any_low_half(0);
    let mut calls = vec![need(Need::LetThrough)(way_back)];
    match purpose {
        Purpose::Track => calls.extend([
            need(Need::Success)(call(call::USERFAULTFD, super::track_args())),
            need(Need::Success)(call(call::CLOSE, [0; 6]).with_any_low_half(0)),
        ]),
        Purpose::Fork => {
            let clone = call(call::CLONE, [CLONE_FLAGS, 0, 0, 0, 0, 0]);
            calls.extend([
                need(Need::Success)(clone.with_any(1).with_any(2)),
                need(Need::LetThrough)(call(call::EXIT_GROUP, [0; 6])),
                need(Need::MayFail)(take_note(WALL)),
                // A child whose end can't be taken note of is not made.
                need(Need::MayFail)(take_note(WALL_NOHANG)),
            ]);
        }
        Purpose::Reap => calls.push(need(Need::Success)(take_note(WALL_NOHANG))),
    }
    calls
}
