//! Whether `/proc` shows all processes of the system.
//!
//! Linux reference (6.18): `fs/proc/root.c` and `fs/proc/base.c` (`hidepid`, `gid`).

use std::fs;

use crate::doctor::{CAP_SYS_PTRACE, capable};
use crate::namespace;

/// Returns which processes are not seen from here, and what to do about it, for a person to read.
pub(super) fn unseen() -> impl Iterator<Item = &'static str> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hides = hides_processes(&mounts, &groups())
        // A capability counts among the processes of its own user namespace only.
        && (!capable(CAP_SYS_PTRACE) || namespace::is_inside_user());
    let hidden = hides.then_some(
        "processes of other users are hidden here (hidepid), and may be able to write to this \
         shared memory: run as root to find out",
    );
    let outside = namespace::is_inside_pid().then_some(
        "processes outside of this pid namespace are not seen, and may be able to write to this \
         shared memory: run on the host, outside of containers, to find out",
    );
    [hidden, outside].into_iter().flatten()
}

/// The groups that we are in.
fn groups() -> Vec<u32> {
    let mut groups: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(rustix::process::Gid::as_raw)
        .collect();
    groups.push(rustix::process::getegid().as_raw());
    groups
}

/// Tells whether `/proc` does not list the processes of others, for somebody without privilege in
/// these groups. (Where they are listed but can't be looked at, each of them says so.)
fn hides_processes(mountinfo: &str, groups: &[u32]) -> bool {
    let of_proc = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let is_proc = mount.split(' ').nth(4) == Some("/proc") && file_system.starts_with("proc ");
        let options = file_system.rsplit(' ').next()?;
        is_proc.then(|| options.to_owned())
    };
    // The last one covers those before.
    let Some(options) = mountinfo.lines().filter_map(of_proc).next_back() else {
        return false;
    };
    let value = |name: &str| {
        let mut options = options.split(',');
        options.find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    };
    match value("hidepid") {
        Some("2" | "invisible") => {
            let exempt = value("gid").and_then(|gid| gid.parse().ok()).unwrap_or(0);
            !groups.contains(&exempt)
        }
        Some("4" | "ptraceable") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proc_that_hides_processes() {
        let hides = |options: &str, groups: &[u32]| {
            let mounts = format!(
                "21 27 0:20 / /sys rw - sysfs sysfs rw\n22 27 0:21 / /proc rw,relatime shared:5 \
                 - proc proc {options}\n30 27 0:30 / /mnt/proc rw - proc proc rw,hidepid=2\n"
            );
            hides_processes(&mounts, groups)
        };
        assert!(!hides("rw", &[1]));
        assert!(!hides("rw,hidepid=0", &[1]));
        assert!(!hides("rw,hidepid=noaccess", &[1]));
        assert!(hides("rw,hidepid=2", &[1]));
        assert!(hides("rw,gid=7,hidepid=invisible", &[1, 0]));
        assert!(!hides("rw,gid=7,hidepid=invisible", &[1, 7]));
        assert!(!hides("rw,hidepid=invisible", &[0]));
        assert!(hides("rw,gid=7,hidepid=ptraceable", &[7]));
        assert!(!hides_processes("", &[]));
    }

    #[test]
    fn the_last_mount_counts() {
        let line = |options| format!("22 27 0:21 / /proc rw - proc proc {options}\n");
        let (plain, hiding) = (line("rw"), line("rw,hidepid=2"));
        assert!(hides_processes(&format!("{plain}{hiding}"), &[1]));
        assert!(!hides_processes(&format!("{hiding}{plain}"), &[1]));
    }
}
