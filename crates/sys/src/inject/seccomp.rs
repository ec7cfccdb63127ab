//! Whether the filters of a task let the injected calls through.

use space::{Errno, Vaddr};

use super::call::InjectError;
use super::fork::{CLONE_FLAGS, WALL, WALL_NOHANG};
use crate::arch::{CALL_LEN, Registers, call};
use crate::procfs::SeccompMode;
use crate::raw::ptrace;
use crate::seccomp::{
    BpfInstruction, Call, Filter, Need, Plan, Reason, Restriction, SeccompData, Verdict,
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

/// Tells whether filters are to be suspended for the calls of `purpose`.
pub(crate) fn plan(task: Task, purpose: Purpose, gadget: Vaddr) -> Result<bool, InjectError> {
    let restriction = restriction(task)?;
    for nr in [call::RT_SIGRETURN, call::EXIT_GROUP] {
        // On the way back nothing is suspended any more, so an error there is as bad as a kill.
        let call = made(nr, [0; 6], Need::Success, gadget);
        let verdict = restriction
            .verdict(&call.data)
            .map_err(InjectError::Seccomp)?;
        if !matches!(verdict, Verdict::Allow | Verdict::Log)
            && (nr == call::RT_SIGRETURN || purpose == Purpose::Fork)
        {
            return Err(InjectError::Seccomp(Reason::Kill { nr: call.data.nr }));
        }
    }
    match Plan::decide(&restriction, &calls(purpose, gadget)) {
        Plan::Inject => Ok(false),
        Plan::InjectSuspended(_) => Ok(true),
        Plan::Never(reason) => Err(InjectError::Seccomp(reason)),
    }
}

/// Tells whether the filters of a task let it go on with an interrupted call by
/// `restart_syscall`.
pub(crate) fn allows_restart(task: Task) -> bool {
    let data = made(call::RESTART_SYSCALL, [0; 6], Need::Success, Vaddr(0)).data;
    let verdict = restriction(task).map(|restriction| restriction.verdict(&data));
    matches!(verdict, Ok(Ok(Verdict::Allow | Verdict::Log)))
}

/// Tells whether the filters of a task let it make a call with either registers, as if there were no
/// difference. (Mostly there is none: what they look at is the same.)
pub(crate) fn treats_alike(task: Task, one: &Registers, other: &Registers) -> bool {
    let [one, other] = [one, other].map(|registers| {
        let (at, number, args) = registers.call();
        Some(made(u32::try_from(number).ok()?.into(), args, Need::Success, at).data)
    });
    let (Some(one), Some(other)) = (one, other) else {
        return false;
    };
    let allows = |restriction: &Restriction, data| {
        matches!(restriction.verdict(data), Ok(Verdict::Allow | Verdict::Log))
    };
    one == other
        || restriction(task)
            .is_ok_and(|restriction| allows(&restriction, &one) && allows(&restriction, &other))
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

fn made(number: u64, args: [u64; 6], need: Need, gadget: Vaddr) -> Call {
    let data = SeccompData {
        nr: u32::try_from(number).expect("call numbers are small"),
        arch: SeccompData::NATIVE_ARCH,
        instruction_pointer: gadget.0 + CALL_LEN,
        args,
    };
    Call { data, need }
}

/// The calls that are made, and those that the way back makes if we die.
fn calls(purpose: Purpose, gadget: Vaddr) -> Vec<Call> {
    let call = |number, args, need| made(number, args, need, gadget);
    match purpose {
        Purpose::Track => vec![
            call(call::USERFAULTFD, super::track_args(), Need::Success),
            call(call::CLOSE, [0; 6], Need::Success),
        ],
        Purpose::Fork => vec![
            call(call::CLONE, [CLONE_FLAGS, 0, 0, 0, 0, 0], Need::Success),
            call(call::WAIT4, [0, 0, WALL, 0, 0, 0], Need::MayFail),
        ],
        Purpose::Reap => {
            vec![call(
                call::WAIT4,
                [0, 0, WALL_NOHANG, 0, 0, 0],
                Need::Success,
            )]
        }
    }
}
