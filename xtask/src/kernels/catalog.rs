//! The kernels that everything must hold on, beside the machine's own.

use std::fmt;

/// A kernel of Debian's, as its packages name it.
pub(super) struct Kernel {
    /// What the command line and the tables call it.
    pub(super) name: &'static str,
    pub(super) architecture: Architecture,
    /// The package that depends on the newest image.
    pub(super) package: &'static str,
    /// The suite that has it.
    pub(super) suite: &'static str,
    /// The processor that QEMU plays.
    pub(super) cpu: &'static str,
    /// Huge pages to reserve: a few that the tests can use, of the architecture's usual size.
    pub(super) huge_pages: u32,
}

/// A processor whose registers are saved as those of today's are (XSAVE), without what QEMU can't
/// emulate of it.
const HASWELL: &str = "Haswell-noTSX,pcid=off,tsc-deadline=off,invpcid=off";

/// What a guest's processor understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Architecture {
    Amd64,
    Arm64,
}

/// Every kernel that runs in a guest, the slowest first.
pub(super) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "6.1-amd64",
        architecture: Architecture::Amd64,
        package: "linux-image-cloud-amd64",
        suite: "bookworm",
        cpu: HASWELL,
        huge_pages: 64,
    },
    Kernel {
        name: "6.12-amd64",
        architecture: Architecture::Amd64,
        package: "linux-image-cloud-amd64",
        suite: "bookworm-backports",
        cpu: HASWELL,
        huge_pages: 64,
    },
    Kernel {
        name: "6.12-arm64",
        architecture: Architecture::Arm64,
        package: "linux-image-cloud-arm64",
        suite: "bookworm-backports",
        cpu: "neoverse-n1",
        huge_pages: 64,
    },
    Kernel {
        name: "6.12-arm64-16k",
        architecture: Architecture::Arm64,
        package: "linux-image-arm64-16k",
        suite: "bookworm-backports",
        cpu: "neoverse-n1",
        // Of 32 MiB each.
        huge_pages: 8,
    },
    Kernel {
        name: "6.1-arm64",
        architecture: Architecture::Arm64,
        package: "linux-image-cloud-arm64",
        suite: "bookworm",
        cpu: "neoverse-n1",
        huge_pages: 64,
    },
];

impl Architecture {
    pub(super) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The name that Debian has for it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The target that Rust builds for.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The compiler of C programs.
    pub(super) fn c_compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "cc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// The emulator.
    pub(super) fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// The device of the first serial port.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.debian())
    }
}
