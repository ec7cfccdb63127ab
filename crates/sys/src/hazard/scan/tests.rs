//! What is made of descriptors that this machine need not have.

use std::os::fd::AsRawFd;

use space::{MappingFlags, Sharing};

use super::*;

/// A mapping that can be written, as what is in doubt is told by.
fn memory() -> Mapping {
    Mapping {
        range: PageRange::new(Vaddr(0x10_0000), Vaddr(0x20_0000)).unwrap(),
        protection: Protection::READ | Protection::WRITE,
        sharing: Sharing::Private,
        file_offset: 0,
        device: (0, 0),
        inode: 0,
        name: String::new(),
        flags: MappingFlags::empty(),
        page_size: crate::procfs::base_page_size(),
    }
}

/// What is found of this process where an ordinary file of it is looked at by `look`.
fn found(look: impl FnOnce(&mut Findings<'_>, &Process, u32)) -> Vec<Unproven> {
    let file = tempfile::tempfile().unwrap();
    let number = u32::try_from(file.as_raw_fd()).unwrap();
    let ours = Process::open(std::process::id()).unwrap();
    let mappings = [memory()];
    let size = crate::procfs::base_page_size();
    let mut findings = Findings::new(std::process::id(), &mappings, size);
    look(&mut findings, &ours, number);
    findings.hazards.unproven
}

#[test]
fn devices_that_write_into_memory_are_in_doubt() {
    for target in [
        "/dev/vfio/12",
        "anon_inode:[vfio-device]",
        "/dev/iommu",
        "/dev/infiniband/uverbs0",
        "/dev/dri/renderD128",
        "/dev/nvidia0",
        "/dev/video0",
        "/dev/vhost-net",
        "/dev/udmabuf",
    ] {
        let told = found(|findings, ours, number| {
            let target = target.to_owned();
            let ring = findings.descriptor(ours, &Descriptor { number, target });
            assert_eq!(ring.unwrap(), None);
        });
        let [doubt] = &told[..] else {
            panic!("{target}: {told:?}");
        };
        assert!(doubt.reason.contains(target), "{}", doubt.reason);
        assert_eq!(doubt.danger, Danger::EvenFrozen, "{target}");
        assert_eq!(doubt.ranges, [memory().range], "{target}");
    }
    let plain = found(|findings, ours, number| {
        let target = "/dev/null".to_owned();
        findings
            .descriptor(ours, &Descriptor { number, target })
            .unwrap();
    });
    assert_eq!(plain, []);
}

#[test]
fn a_ring_that_tells_nothing_of_itself_is_in_doubt() {
    let told = found(|findings, ours, number| {
        assert_eq!(findings.ring(ours, number).unwrap(), None);
        assert_eq!(findings.rings, 1);
    });
    let unknown = "an io_uring's buffers are not known";
    let doubt = told.iter().find(|doubt| doubt.reason.starts_with(unknown));
    let doubt = doubt.unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(doubt.danger, Danger::EvenFrozen);
    assert_eq!(doubt.ranges, [memory().range]);
}
