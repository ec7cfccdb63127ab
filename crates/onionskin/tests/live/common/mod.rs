//! What the tests share: programs to look at, readers of what was taken of them, and the tool.

mod areas;
mod bank;
mod build;
mod debugger;
mod frozen;
mod pages;
mod skip;
mod slots;
mod target;
mod tool;

pub(crate) use areas::compare_areas;
pub(crate) use bank::audit_bank;
pub(crate) use build::{build, build_32_bit, scratch_dir};
pub(crate) use debugger::{NO_GDB, expect_stacks, gdb};
pub(crate) use frozen::{LiveMemory, go_on, states, stop};
pub(crate) use pages::{Pages, mix, word};
pub(crate) use skip::{hugetlb_mib, skip, skip_part};
pub(crate) use slots::audit_slots;
pub(crate) use target::{Ended, Target, number};
pub(crate) use tool::{
    STRATEGIES, Tool, ask, ask_all, chain, is_slow, pages_of, rounds, rounds_min, slack_ms,
    temporary_directory,
};
