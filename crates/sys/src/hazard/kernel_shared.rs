//! Mappings that the process shares with the kernel or a device: their other side writes through
//! addresses of its own.

use space::{Mapping, MappingFlags, Sharing};

use super::Danger;

/// What stands on the other side of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partner {
    /// Who writes, for a person to read.
    pub(super) reason: &'static str,
    /// Whether it goes on while the tasks stand still.
    pub(super) danger: Danger,
}

/// Tells who else writes to `mapping`; `None` for memory of programs.
///
/// Memory of devices that must not be read (`IO`, `PFN_MAP`) is not in a snapshot, so nobody
/// writes to it as far as that is concerned.
pub(super) fn partner(mapping: &Mapping) -> Option<Partner> {
    let unread = MappingFlags::IO | MappingFlags::PFN_MAP;
    if mapping.sharing != Sharing::Shared || mapping.flags.intersects(unread) {
        return None;
    }
    let name = mapping.name.as_str();
    let found = |reason, danger| Some(Partner { reason, danger });
    if is_aio_ring(mapping) {
        return found(
            "the kernel writes events into an AIO ring",
            Danger::WhileTracked,
        );
    }
    if is_io_uring(mapping) {
        return found(
            "the kernel writes completions into an io_uring",
            Danger::WhileTracked,
        );
    }
    if name.starts_with("anon_inode:kvm-vcpu") {
        return found(
            "KVM writes into the state of a virtual processor",
            Danger::WhileTracked,
        );
    }
    if name.starts_with("socket:[") {
        return found(
            "the kernel puts packets into a socket's ring",
            Danger::EvenFrozen,
        );
    }
    if name.starts_with("anon_inode:") {
        return found(
            "the kernel writes into memory it shares",
            Danger::EvenFrozen,
        );
    }
    if name.starts_with("/dmabuf:") || name.starts_with("/drm mm object") {
        return found("a device may write into this memory", Danger::EvenFrozen);
    }
    if is_device(name) {
        return found(
            "a device's driver may write into this memory",
            Danger::EvenFrozen,
        );
    }
    None
}

/// Tells whether `mapping` is the ring of `io_setup`.
pub(super) fn is_aio_ring(mapping: &Mapping) -> bool {
    mapping.name.starts_with("/[aio]")
}

/// Tells whether `mapping` is a ring of an io_uring.
pub(super) fn is_io_uring(mapping: &Mapping) -> bool {
    mapping.name == "anon_inode:[io_uring]"
}

/// File systems and the shared zeros live in `/dev` too.
fn is_device(name: &str) -> bool {
    const NO_DEVICE: [&str; 4] = ["zero", "shm/", "hugepages", "mqueue/"];
    name.strip_prefix("/dev/")
        .is_some_and(|rest| !NO_DEVICE.iter().any(|prefix| rest.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use space::{PageRange, PageSize, Protection, Vaddr};

    use super::*;

    fn mapping(name: &str, sharing: Sharing) -> Mapping {
        Mapping {
            range: PageRange::new(Vaddr(0x1000), Vaddr(0x2000)).unwrap(),
            protection: Protection::READ | Protection::WRITE,
            sharing,
            file_offset: 0,
            device: (0, 1),
            inode: 1,
            name: name.into(),
            flags: MappingFlags::empty(),
            page_size: PageSize::new(4096).unwrap(),
        }
    }

    #[test]
    fn memory_with_a_partner() {
        for (name, danger) in [
            ("/[aio] (deleted)", Danger::WhileTracked),
            ("anon_inode:[io_uring]", Danger::WhileTracked),
            ("anon_inode:kvm-vcpu:0", Danger::WhileTracked),
            ("anon_inode:[perf_event]", Danger::EvenFrozen),
            ("anon_inode:bpf-map", Danger::EvenFrozen),
            ("socket:[77]", Danger::EvenFrozen),
            ("/dev/fb0", Danger::EvenFrozen),
            ("/dmabuf:", Danger::EvenFrozen),
        ] {
            let partner = partner(&mapping(name, Sharing::Shared));
            assert_eq!(
                partner.map(|partner| partner.danger),
                Some(danger),
                "{name}"
            );
        }
    }

    #[test]
    fn memory_of_programs() {
        for name in [
            "",
            "/dev/zero (deleted)",
            "/dev/shm/x",
            "/memfd:x (deleted)",
            "/usr/bin/ls",
        ] {
            assert_eq!(partner(&mapping(name, Sharing::Shared)), None, "{name}");
        }
        assert_eq!(partner(&mapping("/dev/fb0", Sharing::Private)), None);
        let mut device = mapping("/dev/fb0", Sharing::Shared);
        device.flags = MappingFlags::IO;
        assert_eq!(partner(&device), None);
    }
}
