//! Probes of what may be done to another process: a child of ours.

use std::collections::BTreeMap;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use space::Errno;

use super::child::ProbeChild;
use super::raw::Order;
use super::report::Finding;
use crate::raw::{memory, process, ptrace};

const ADMIN: &str = "run as root (the real one, with CAP_SYS_ADMIN)";

/// Probes reading, stopping and looking into a child.
pub(super) fn probe(features: &mut BTreeMap<String, Finding>, child: Result<&ProbeChild, Errno>) {
    let probes: [(&str, Probe, &str); 5] = [
        ("process_vm_readv", reads, "memory of a child is read"),
        (
            "pidfd_getfd",
            takes,
            "a descriptor of a child is duplicated",
        ),
        ("ptrace", stops, "a child is seized, stopped, and let go"),
        ("seccomp_read", sees_filter, "the filter of a child is read"),
        (
            "seccomp_suspend",
            suspends,
            "the filter of a child is suspended",
        ),
    ];
    for (name, probe, works) in probes {
        let result = match child {
            Ok(child) => probe(child),
            Err(errno) => Err(Finding::failed("no child to try it on", errno)),
        };
        let finding = match result {
            Ok(()) => Finding::works(works),
            Err(finding) => finding,
        };
        features.insert(name.into(), finding);
    }
}

type Probe = fn(&ProbeChild) -> Result<(), Finding>;

fn reads(child: &ProbeChild) -> Result<(), Finding> {
    let what = "process_vm_readv of a child";
    let mut buf = [0];
    match memory::read_at(child.pid(), child.page(), &mut buf) {
        Ok(1) => Ok(()),
        Ok(_) => Err(Finding::missing(format!("{what} read nothing"))),
        Err(errno) => Err(Finding::failed(what, errno)
            .fix("boot a kernel with CONFIG_CROSS_MEMORY_ATTACH=y, outside a seccomp filter")),
    }
}

fn takes(child: &ProbeChild) -> Result<(), Finding> {
    use std::os::fd::{AsFd, AsRawFd};
    let failed =
        |errno| Finding::failed("pidfd_getfd of a child", errno).fix("boot Linux 5.6 or newer");
    let pid = i32::try_from(child.pid()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(Errno::ESRCH))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| failed(Errno(errno.raw_os_error())))?;
    process::pidfd_getfd(pidfd.as_fd(), child.shared().as_raw_fd())
        .map(drop)
        .map_err(failed)
}

fn stops(child: &ProbeChild) -> Result<(), Finding> {
    Seized::new(child).map(drop).map_err(|errno| {
        let fix = "run outside the container's seccomp filter, or with CAP_SYS_PTRACE";
        Finding::failed("ptrace of a child", errno).fix(fix)
    })
}

fn sees_filter(child: &ProbeChild) -> Result<(), Finding> {
    let failed = |errno| Finding::failed("PTRACE_SECCOMP_GET_FILTER of a child", errno).fix(ADMIN);
    install_filter(child)?;
    let seized = Seized::new(child).map_err(failed)?;
    ptrace::seccomp_filter(seized.child.pid(), 0)
        .map(drop)
        .map_err(failed)
}

/// Has the child make the call that its filter refuses, with the filter suspended.
fn suspends(child: &ProbeChild) -> Result<(), Finding> {
    const PTRACE_O_SUSPEND_SECCOMP: i32 = 1 << 21;
    let failed = |errno| Finding::failed("PTRACE_O_SUSPEND_SECCOMP of a child", errno).fix(ADMIN);
    install_filter(child)?;
    if child.order(Order::Call).map_err(failed)? == 0 {
        return Err(Finding::missing(
            "a seccomp filter of a child does not filter",
        ));
    }
    let seized = Seized::new(child).map_err(failed)?;
    ptrace::set_options(child.pid(), PTRACE_O_SUSPEND_SECCOMP).map_err(failed)?;
    ptrace::cont(child.pid()).map_err(failed)?;
    let answer = child.order(Order::Call).map_err(failed);
    ptrace::interrupt(child.pid()).map_err(failed)?;
    child.wait_stopped().map_err(failed)?;
    drop(seized);
    match answer? {
        0 => Ok(()),
        _ => Err(Finding::missing("a suspended seccomp filter filters still")),
    }
}

fn install_filter(child: &ProbeChild) -> Result<(), Finding> {
    match child.order(Order::Filter) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Finding::missing("a child can't install a seccomp filter")
            .fix("boot a kernel with CONFIG_SECCOMP_FILTER=y")),
        Err(errno) => Err(Finding::failed("the child", errno)),
    }
}

/// A child that is traced and stopped; let go when this is dropped.
struct Seized<'a> {
    child: &'a ProbeChild,
}

impl<'a> Seized<'a> {
    fn new(child: &'a ProbeChild) -> Result<Self, Errno> {
        ptrace::seize(child.pid())?;
        ptrace::interrupt(child.pid())?;
        child.wait_stopped()?;
        Ok(Self { child })
    }
}

impl Drop for Seized<'_> {
    fn drop(&mut self) {
        // Fails only for a child that is gone, or that runs: then it is ended traced.
        let _ = ptrace::detach(self.child.pid(), 0);
    }
}
