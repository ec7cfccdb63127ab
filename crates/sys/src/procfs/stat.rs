//! `/proc/PID/stat` and `/proc/PID/task/TID/stat`.

use std::time::Duration;

use space::{ByteLen, Vaddr};

use super::error::ProcfsError;
use super::text::{decimal, fields, signed, small};

/// In what unit Linux tells times in `stat`, on every architecture: `USER_HZ`.
pub const TICKS_PER_SECOND: u32 = 100;

/// Returns how long `ticks` of [`TICKS_PER_SECOND`] are.
pub fn ticks_length(ticks: u64) -> Duration {
    let rate = u64::from(TICKS_PER_SECOND);
    Duration::from_secs(ticks / rate) + Duration::from_secs(1) / TICKS_PER_SECOND * rest(ticks)
}

fn rest(ticks: u64) -> u32 {
    u32::try_from(ticks % u64::from(TICKS_PER_SECOND)).expect("a remainder is below its divisor")
}

/// What a task does, as the letter in `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// `R`: runs, or waits for a processor.
    Running,
    /// `S`: waits, and a signal would wake it.
    Sleeping,
    /// `D`: waits, and no signal (but perhaps a fatal one) wakes it.
    Uninterruptible,
    /// `T`: stopped by job control.
    Stopped,
    /// `t`: stopped by its tracer.
    Traced,
    /// `Z`: ended, not waited for.
    Zombie,
    /// `X`: just being removed.
    Dead,
    /// `I`: a kernel thread with nothing to do.
    Idle,
    /// `P`: a kernel thread set aside.
    Parked,
    /// A letter this program does not know.
    Other(u8),
}

impl RunState {
    fn from_letter(letter: u8) -> Self {
        match letter {
            b'R' => Self::Running,
            b'S' => Self::Sleeping,
            b'D' => Self::Uninterruptible,
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' => Self::Zombie,
            b'X' | b'x' => Self::Dead,
            b'I' => Self::Idle,
            b'P' => Self::Parked,
            other => Self::Other(other),
        }
    }
}

/// What `stat` tells of a task or process. Addresses are zero where the reader may not know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The id of the task, in the pid namespace of the mounted `/proc`.
    pub pid: u32,
    /// Its name (`comm`); bytes that are no UTF-8 are replaced.
    pub name: String,
    /// What it does.
    pub state: RunState,
    /// The process id of its parent; 0 where that is in no view of ours.
    pub parent: u32,
    /// Its process group.
    pub process_group: u32,
    /// Its session.
    pub session: u32,
    /// The kernel's `PF_*` flags.
    pub flags: u64,
    /// Time in user mode, in ticks of [`TICKS_PER_SECOND`].
    pub user_ticks: u64,
    /// Time in the kernel, in ticks of [`TICKS_PER_SECOND`].
    pub system_ticks: u64,
    /// Its nice value, -20 to 19.
    pub nice: i32,
    /// How many threads the process has.
    pub threads: u32,
    /// When it started, in ticks of [`TICKS_PER_SECOND`] since boot: with the id, a name that is
    /// never given again.
    pub start_ticks: u64,
    /// The size of its address space.
    pub virtual_size: ByteLen,
    /// Where the program's code starts.
    pub code_start: Vaddr,
    /// The bottom (highest address) of the first stack.
    pub stack_start: Vaddr,
    /// The signal its parent gets when it ends; 0 for none, -1 for a thread.
    pub exit_signal: i32,
}

impl Stat {
    /// The kernel's flag of a process that forked and has not called `execve` since.
    pub const FORKED_NO_EXEC: u64 = 0x40;
    /// The kernel's flag of a thread that works for io_uring (`PF_IO_WORKER`).
    pub const IO_WORKER: u64 = 0x10;
    /// The kernel's flag of a thread of the kernel (`PF_KTHREAD`).
    pub const KERNEL_THREAD: u64 = 0x0020_0000;

    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// [`ProcfsError::Malformed`] where it is not understood.
    pub fn parse(text: &[u8]) -> Result<Self, ProcfsError> {
        parse(text).ok_or(ProcfsError::Malformed {
            file: "stat",
            line: 1,
        })
    }

    /// Returns the time spent in user mode.
    pub fn user_time(&self) -> Duration {
        ticks_length(self.user_ticks)
    }

    /// Returns the time spent in the kernel.
    pub fn system_time(&self) -> Duration {
        ticks_length(self.system_ticks)
    }

    /// Tells whether it is a thread of the kernel, which has no memory of its own.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & Self::KERNEL_THREAD != 0
    }
}

/// The name stands in parentheses and may hold some itself, so the last one ends it.
fn parse(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let name = text.get(open + 1..close)?;
    let pid = small(text[..open].trim_ascii())?;
    // The fields behind the name, of which `proc(5)` calls the first the third.
    let rest: Vec<&[u8]> = fields(&text[close + 1..]).collect();
    let field = |number: usize| rest.get(number - 3).copied();
    let &[state] = field(3)? else {
        return None;
    };
    Some(Stat {
        pid,
        name: String::from_utf8_lossy(name).into_owned(),
        state: RunState::from_letter(state),
        parent: small(field(4)?)?,
        // A group or session outside our pid namespace is 0, and -1 where there is none.
        process_group: small(field(5)?).unwrap_or(0),
        session: small(field(6)?).unwrap_or(0),
        flags: decimal(field(9)?)?,
        user_ticks: decimal(field(14)?)?,
        system_ticks: decimal(field(15)?)?,
        nice: signed(field(19)?)?.try_into().ok()?,
        threads: small(field(20)?)?,
        start_ticks: decimal(field(22)?)?,
        virtual_size: ByteLen(decimal(field(23)?)?),
        code_start: Vaddr(decimal(field(26)?)?),
        stack_start: Vaddr(decimal(field(28)?)?),
        exit_signal: signed(field(38)?)?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = " S 26779 26770 3204 0 -1 4194560 87 0 0 0 150 7 0 0 20 -5 3 0 237697 \
        2617344 315 18446744073709551615 94178294284288 94178294285725 140731887716528 0 0 0 \
        65536 6 0 1 0 0 17 0 0 0 0 0 0 94178294296016 94178294296688 94179064733696 \
        140731887725301 140731887725305 140731887725305 140731887726580 0\n";

    #[test]
    fn every_field_from_its_place() {
        let stat = Stat::parse(format!("26789 (u){TAIL}").as_bytes()).unwrap();
        assert_eq!(
            stat,
            Stat {
                pid: 26789,
                name: "u".into(),
                state: RunState::Sleeping,
                parent: 26779,
                process_group: 26770,
                session: 3204,
                flags: 4_194_560,
                user_ticks: 150,
                system_ticks: 7,
                nice: -5,
                threads: 3,
                start_ticks: 237_697,
                virtual_size: ByteLen(2_617_344),
                code_start: Vaddr(94_178_294_284_288),
                stack_start: Vaddr(140_731_887_716_528),
                exit_signal: 17,
            }
        );
        assert_eq!(stat.user_time(), Duration::from_millis(1500));
        assert_eq!(stat.system_time(), Duration::from_millis(70));
        assert!(!stat.is_kernel_thread());
    }

    #[test]
    fn names_that_look_like_fields() {
        for name in ["a b", ") S 1 2", "(((", ")", "", "x) R (y", "a\nb"] {
            let stat = Stat::parse(format!("1 ({name}){TAIL}").as_bytes()).unwrap();
            assert_eq!(stat.name, name);
            assert_eq!(stat.parent, 26779);
        }
    }

    #[test]
    fn too_few_fields_are_an_error() {
        for text in ["", "1", "1 (a", "1 )a(", "1 (a) S 1 2", "x (a) S 1 2 3"] {
            assert!(Stat::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn damaged_text_does_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = format!("26789 (u){TAIL}").into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = Stat::parse(&text);
            let _ = Stat::parse(&text[at..]);
            let _ = Stat::parse(&text[..at]);
        }

        #[test]
        fn any_number_of_ticks_has_a_length(ticks in any::<u64>()) {
            let length = ticks_length(ticks);
            prop_assert_eq!(length.as_secs(), ticks / 100);
            prop_assert_eq!(u64::from(length.subsec_millis()), ticks % 100 * 10);
        }
    }
}
