//! Probes of userfaultfd: ways to get one, and what it offers.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use space::Errno;

use super::raw;
use super::report::Finding;
use crate::raw::userfaultfd::userfaultfd;
use crate::uapi::userfaultfd::{UFFD_API, UFFD_USER_MODE_ONLY, UffdioApi};

/// The names of the feature bits, bit 0 first (`include/uapi/linux/userfaultfd.h`, Linux 6.18).
const FEATURES: [&str; 17] = [
    "pagefault_flag_wp",
    "event_fork",
    "event_remap",
    "event_remove",
    "missing_hugetlbfs",
    "missing_shmem",
    "event_unmap",
    "sigbus",
    "thread_id",
    "minor_hugetlbfs",
    "minor_shmem",
    "exact_address",
    "wp_hugetlbfs_shmem",
    "wp_unpopulated",
    "poison",
    "wp_async",
    "move",
];

const NO_CONFIG: &str = "boot a kernel with CONFIG_USERFAULTFD=y";

/// Probes every way to a userfaultfd, and every feature of one.
pub(super) fn probe(features: &mut BTreeMap<String, Finding>) {
    features.insert("userfaultfd".into(), full());
    features.insert("userfaultfd_user_mode".into(), user_mode());
    features.insert("dev_userfaultfd".into(), device());
    let Some(offered) = offered() else {
        let none = without(user_mode());
        let rows = FEATURES.map(|name| (format!("uffd_{name}"), none.clone()));
        features.extend(rows);
        return;
    };
    for bit in 0..u64::BITS {
        let name = FEATURES.get(usize::try_from(bit).expect("small")).copied();
        if name.is_some() || offered & 1 << bit != 0 {
            let name = name.map_or_else(|| format!("bit_{bit}"), str::to_owned);
            features.insert(format!("uffd_{name}"), feature(1 << bit));
        }
    }
}

/// What is known of each feature where no userfaultfd is to be had: what keeps us from having one by the
/// way that asks for the least privilege.
fn without(way: Finding) -> Finding {
    let why = format!("not known without a userfaultfd: {}", way.why);
    if way.is_good() {
        return Finding::missing(why).fix(NO_CONFIG);
    }
    Finding { why, ..way }
}

/// Gets a userfaultfd by the way that asks for the least privilege.
pub(super) fn any() -> Result<OwnedFd, Errno> {
    userfaultfd(UFFD_USER_MODE_ONLY)
        .or_else(|errno| userfaultfd(0).map_err(|_| errno))
        .or_else(|errno| from_device().map_err(|_| errno))
}

fn full() -> Finding {
    match userfaultfd(0) {
        Ok(_) => Finding::works("userfaultfd(2) also takes the kernel's own faults"),
        Err(Errno::ENOSYS) => Finding::failed("userfaultfd(2)", Errno::ENOSYS).fix(NO_CONFIG),
        Err(errno) => Finding::failed("userfaultfd(2)", errno)
            .fix("sudo sysctl -w vm.unprivileged_userfaultfd=1"),
    }
}

fn user_mode() -> Finding {
    let what = "userfaultfd(2) with USER_MODE_ONLY";
    match userfaultfd(UFFD_USER_MODE_ONLY) {
        Ok(_) => Finding::works(format!("{what} needs no privilege")),
        Err(Errno::EINVAL) => Finding::failed(what, Errno::EINVAL).fix("boot Linux 5.11 or newer"),
        Err(Errno::ENOSYS) => Finding::failed(what, Errno::ENOSYS).fix(NO_CONFIG),
        Err(errno) => {
            Finding::failed(what, errno).fix("run outside the container's seccomp filter")
        }
    }
}

fn from_device() -> Result<OwnedFd, Errno> {
    let device = rustix::fs::open(
        "/dev/userfaultfd",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Errno(errno.raw_os_error()))?;
    raw::userfaultfd_of_device(device.as_fd())
}

fn device() -> Finding {
    match from_device() {
        Ok(_) => Finding::works("/dev/userfaultfd gives one with the kernel's faults"),
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => Finding::failed("/dev/userfaultfd", errno)
            .fix("sudo setfacl -m u:$USER:rw /dev/userfaultfd"),
        Err(errno) => Finding::failed("/dev/userfaultfd", errno)
            .fix("boot Linux 6.1 or newer, with devtmpfs on /dev"),
    }
}

/// Returns all the features that the kernel says it has.
fn offered() -> Option<u64> {
    let fd = any().ok()?;
    let mut api = UffdioApi {
        api: UFFD_API,
        ..UffdioApi::default()
    };
    crate::raw::userfaultfd::api(fd.as_fd(), &mut api).ok()?;
    Some(api.features)
}

/// Asks for one feature, on a descriptor that is thrown away: the handshake is done once only.
fn feature(bit: u64) -> Finding {
    let what = "the handshake with this feature alone";
    let fd = match any() {
        Ok(fd) => fd,
        Err(errno) => return Finding::failed("userfaultfd(2)", errno),
    };
    let mut api = UffdioApi {
        api: UFFD_API,
        features: bit,
        ioctls: 0,
    };
    match crate::raw::userfaultfd::api(fd.as_fd(), &mut api) {
        Ok(()) if api.features & bit != 0 => Finding::works(format!("{what} succeeds")),
        Ok(()) => Finding::missing(format!("{what} succeeds, but the feature is not granted")),
        Err(Errno::EPERM) => Finding::failed(what, Errno::EPERM).fix(may_trace_command()),
        Err(errno) => Finding::failed(what, errno).fix("boot a newer kernel"),
    }
}

/// The command that gives this program the right to trace.
fn may_trace_command() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "onionskin".into());
    // In quotes, for a path may have blanks.
    let path = program.to_string_lossy().replace('\'', r"'\''");
    format!("sudo setcap cap_sys_ptrace+ep '{path}'")
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn features_that_are_not_known_say_what_to_do_about_it() {
        let denied = Finding::failed("userfaultfd(2)", Errno::EPERM).fix("ask for it");
        let rows = without(denied);
        assert_eq!(rows.status, Status::Denied);
        assert_eq!(rows.fix.as_deref(), Some("ask for it"));
        assert!(rows.why.contains("userfaultfd(2)"), "{}", rows.why);
        let odd = without(Finding::works("it is there"));
        assert_eq!(odd.status, Status::Missing);
        assert_eq!(odd.fix.as_deref(), Some(NO_CONFIG));
    }
}
