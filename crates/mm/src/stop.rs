//! How an operation ends that does not end well.

use std::fmt;

use space::Errno;

use crate::uffd::UffdId;

/// What a thread waits for: something of this userfaultfd's, until it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The userfaultfd.
    pub uffd: UffdId,
    /// The number of the fault or event in the order in which they were queued.
    pub ticket: u64,
}

/// Why a call returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed.
    Failed(Errno),
    /// The thread sleeps until somebody handles a fault or reads an event. Issued again with the
    /// same arguments when [`Machine::is_blocked`](crate::Machine::is_blocked) says no, the call
    /// goes on.
    Blocked(Wait),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// A signal that an access gets, with its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGSEGV`, `SEGV_MAPERR`: nothing is mapped, or a guard.
    SegvMaperr,
    /// `SIGSEGV`, `SEGV_ACCERR`: the mapping does not allow it.
    SegvAccerr,
    /// `SIGSEGV`, `SEGV_PKUERR`: a protection key does not allow it.
    SegvPkuerr,
    /// `SIGBUS`, `BUS_ADRERR`: nothing is behind the mapping.
    BusAdrerr,
    /// `SIGBUS`, `BUS_MCEERR_AR`: the memory is broken.
    BusMceerrAr {
        /// Base-two logarithm of how much of it.
        lsb: u32,
    },
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SegvMaperr => f.write_str("SIGSEGV/MAPERR"),
            Self::SegvAccerr => f.write_str("SIGSEGV/ACCERR"),
            Self::SegvPkuerr => f.write_str("SIGSEGV/PKUERR"),
            Self::BusAdrerr => f.write_str("SIGBUS/ADRERR"),
            Self::BusMceerrAr { lsb } => write!(f, "SIGBUS/MCEERR_AR lsb {lsb}"),
        }
    }
}

/// Why a load or store did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The thread gets a signal.
    Signal {
        /// Which.
        signal: Signal,
        /// The address that was accessed (`si_addr`).
        addr: u64,
    },
    /// The thread sleeps until somebody handles the fault; then the access is made again.
    Blocked(Wait),
    /// There is no such thread.
    NoThread,
}
