//! Seccomp filters of another process, evaluated for the calls that we want to inject into it.
//!
//! A call that a filter answers with a signal would end the target, and suspending the filter
//! (`PTRACE_O_SUSPEND_SECCOMP`) ends with the tracer. So the filters are read first, and a
//! [`Plan`] is made of what they would do: inject, inject with the filters suspended, or never.
//!
//! Everything here is pure: the bytes of a program, as `PTRACE_SECCOMP_GET_FILTER` returns them,
//! become a [`Filter`]; [`evaluate`] runs a list of filters on the [`SeccompData`] of one call as
//! the kernel would. Not all of a call is known before it is made (which number a descriptor will
//! have, say): [`foresee`] tells all that may become of what is [`Foreseen`].
//!
//! Linux reference (6.18): `kernel/seccomp.c`, `seccomp_check_filter` and `seccomp_run_filters`;
//! `net/core/filter.c`, `bpf_check_classic` and `bpf_convert_filter`.

mod check;
mod filter;
mod foreseen;
mod interpret;
mod opcode;
mod plan;
mod verdict;

#[cfg(test)]
mod generate;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;

pub use filter::{BpfInstruction, Filter, FilterError};
pub use foreseen::Foreseen;
pub use plan::{Call, Need, Plan, Reason, Restriction};
pub use verdict::{SeccompData, Verdict, evaluate, foresee};
