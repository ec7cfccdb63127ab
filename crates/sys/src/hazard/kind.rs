//! What a descriptor's target says of the power behind it.

use super::Danger;

/// A kind of descriptor whose holder's memory may be written past the page tables, or that
/// matters otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An io_uring; its details tell more.
    IoUring,
    /// A userfaultfd of the process's own.
    Userfaultfd,
    /// A socket; its protocol tells more.
    Socket,
    /// A device given to the process, as VFIO or iommufd does.
    Vfio,
    /// Remote direct memory access.
    Rdma,
    /// A graphics device.
    Drm,
    /// A compute device with a driver of its own: NVIDIA's, AMD's, or an accelerator.
    Gpu,
    /// Video capture and codecs.
    Video,
    /// A back end of virtio in the kernel, or a device through vDPA.
    Vhost,
    /// Memory handed to devices as a DMA buffer.
    DmaBuffer,
    /// A disk or controller by commands past the block layer.
    RawDisk,
    /// A socket of AF_XDP.
    XdpSocket,
    /// A socket of the kernel's crypto, which fills in pages pinned for it.
    CryptoSocket,
    /// A socket of RDS, which may use RDMA.
    RdsSocket,
    /// Nothing to be afraid of.
    Ordinary,
}

/// Names in `/dev` (behind that) and what they mean.
const DEVICES: [(&str, Kind); 18] = [
    ("vfio/", Kind::Vfio),
    ("iommu", Kind::Vfio),
    ("infiniband/", Kind::Rdma),
    ("dri/", Kind::Drm),
    ("nvidia", Kind::Gpu),
    ("kfd", Kind::Gpu),
    ("accel/", Kind::Gpu),
    ("video", Kind::Video),
    ("media", Kind::Video),
    ("v4l", Kind::Video),
    ("vhost-", Kind::Vhost),
    ("udmabuf", Kind::DmaBuffer),
    ("dma_heap/", Kind::DmaBuffer),
    ("sg", Kind::RawDisk),
    ("bsg/", Kind::RawDisk),
    ("ng", Kind::RawDisk),
    ("nvme-fabrics", Kind::RawDisk),
    ("ublkc", Kind::RawDisk),
];

/// Targets without a path, by their beginning.
const ANONYMOUS: [(&str, Kind); 12] = [
    ("anon_inode:[io_uring]", Kind::IoUring),
    ("anon_inode:[userfaultfd]", Kind::Userfaultfd),
    ("anon_inode:[vfio", Kind::Vfio),
    ("anon_inode:vfio", Kind::Vfio),
    ("anon_inode:kvm-vfio", Kind::Vfio),
    ("anon_inode:[iommufd", Kind::Vfio),
    ("anon_inode:[infiniband", Kind::Rdma),
    ("anon_inode:[uverbs", Kind::Rdma),
    ("anon_inode:sync_file", Kind::Drm),
    ("anon_inode:dmabuf", Kind::DmaBuffer),
    ("/dmabuf:", Kind::DmaBuffer),
    ("socket:[", Kind::Socket),
];

impl Kind {
    /// Tells the kind from what `/proc/PID/fd` shows.
    pub fn of_target(target: &str) -> Self {
        let anonymous = ANONYMOUS
            .iter()
            .find(|(prefix, _)| target.starts_with(prefix));
        if let Some((_, kind)) = anonymous {
            return *kind;
        }
        let Some(name) = target.strip_prefix("/dev/") else {
            return Self::Ordinary;
        };
        DEVICES
            .iter()
            .find(|(prefix, _)| is_device(name, prefix))
            .map_or(Self::Ordinary, |(_, kind)| *kind)
    }

    /// Tells the kind of a socket from its protocol's name.
    pub fn of_protocol(protocol: &str) -> Self {
        match protocol {
            "XDP" => Self::XdpSocket,
            "ALG" => Self::CryptoSocket,
            "RDS" => Self::RdsSocket,
            _ => Self::Ordinary,
        }
    }

    /// Returns when memory may be written by this kind's ways, and by whom; `None` where the
    /// descriptor alone is no sign of that.
    pub fn danger(self) -> Option<(Danger, &'static str)> {
        use Danger::{EvenFrozen, WhileTracked};
        match self {
            Self::IoUring | Self::Userfaultfd | Self::Socket | Self::Ordinary => None,
            Self::Vfio => Some((
                EvenFrozen,
                "a device given to the process by VFIO may write",
            )),
            Self::Rdma => Some((EvenFrozen, "RDMA may write")),
            Self::Drm => Some((EvenFrozen, "a graphics device may write")),
            Self::Gpu => Some((EvenFrozen, "an accelerator may write")),
            Self::Video => Some((EvenFrozen, "a video device may write")),
            Self::Vhost => Some((EvenFrozen, "vhost writes from threads of the kernel")),
            Self::DmaBuffer => Some((EvenFrozen, "devices may write into a DMA buffer")),
            Self::RawDisk => Some((EvenFrozen, "commands to a disk may write into pinned pages")),
            Self::XdpSocket => Some((EvenFrozen, "AF_XDP puts packets into memory")),
            Self::RdsSocket => Some((EvenFrozen, "RDS may write by RDMA")),
            Self::CryptoSocket => {
                Some((WhileTracked, "the kernel's crypto writes into pinned pages"))
            }
        }
    }
}

/// Tells whether `name` starts with `prefix`; a prefix that is not a directory is followed by a
/// number or nothing, or by more words where it ends in a dash or is a vendor's.
fn is_device(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix) else {
        return false;
    };
    prefix.ends_with(['/', '-'])
        || prefix == "nvidia"
        || prefix == "v4l"
        || rest.is_empty()
        || rest.starts_with(|byte: char| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_their_kinds() {
        for (target, kind) in [
            ("anon_inode:[io_uring]", Kind::IoUring),
            ("anon_inode:[userfaultfd]", Kind::Userfaultfd),
            ("anon_inode:[vfio-device]", Kind::Vfio),
            ("anon_inode:kvm-vfio", Kind::Vfio),
            ("anon_inode:[infinibandevent]", Kind::Rdma),
            ("/dev/vfio/12", Kind::Vfio),
            ("/dev/iommu", Kind::Vfio),
            ("/dev/infiniband/uverbs0", Kind::Rdma),
            ("/dev/dri/renderD128", Kind::Drm),
            ("/dev/nvidia0", Kind::Gpu),
            ("/dev/nvidiactl", Kind::Gpu),
            ("/dev/kfd", Kind::Gpu),
            ("/dev/video0", Kind::Video),
            ("/dev/vhost-net", Kind::Vhost),
            ("/dev/vhost-vdpa-0", Kind::Vhost),
            ("/dev/udmabuf", Kind::DmaBuffer),
            ("/dmabuf:", Kind::DmaBuffer),
            ("/dev/sg3", Kind::RawDisk),
            ("/dev/ng0n1", Kind::RawDisk),
            ("socket:[123]", Kind::Socket),
        ] {
            assert_eq!(Kind::of_target(target), kind, "{target}");
        }
    }

    #[test]
    fn names_that_only_look_alike() {
        for target in [
            "",
            "/dev/null",
            "/dev/pts/3",
            "/dev/kvm",
            "anon_inode:kvm-vm",
            "/dev/sgi",
            "/dev/ngx",
            "/dev/videocard",
            "/dev/shm/vfio/1",
            "/srv/dev/vfio/1",
            "/dev/nvme0n1",
            "pipe:[1]",
            "anon_inode:[eventpoll]",
            "/memfd:vhost-net (deleted)",
        ] {
            assert_eq!(Kind::of_target(target), Kind::Ordinary, "{target}");
        }
        for protocol in ["TCP", "UNIX-STREAM", "PACKET", "NETLINK"] {
            assert_eq!(Kind::of_protocol(protocol), Kind::Ordinary);
        }
        assert_eq!(Kind::of_protocol("XDP"), Kind::XdpSocket);
    }
}
