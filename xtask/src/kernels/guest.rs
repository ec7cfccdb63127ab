//! A guest's file system: made of programs, a kernel's modules and a script.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::catalog::Kernel;
use super::choice::Wanted;
use super::initramfs::Initramfs;
use super::programs::{Packed, Programs};
use super::stock::Machine;

/// The script that a guest begins with.
const INIT: &str = include_str!("guest/init.sh");
/// What the kernel never says when all is well. (It may be slow here, and say so.)
pub(super) const COMPLAINTS: &str = "Oops|kernel BUG|WARNING:|BUG: [^s]|Bad page|Bad rss\
    |general protection fault|Unable to handle kernel|refcount_t:|possible recursive";

/// What a guest is made of.
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) machine: &'a Machine,
    pub(super) programs: &'a Programs,
    pub(super) wanted: &'a Wanted,
    /// What was taken on this machine, to be read inside.
    pub(super) kept: &'a Path,
    /// Where cargo built it all: tests were told to leave files in its `tmp`.
    pub(super) built: PathBuf,
}

impl Guest<'_> {
    /// Writes the guest's file system.
    pub(super) fn pack(&self, to: &Path) -> Result<()> {
        let mut archive = Initramfs::create(to)?;
        for folder in ["/proc", "/sys", "/tmp", "/etc", "/var/tmp"] {
            archive.folder(Path::new(folder))?;
        }
        archive.folder(&self.built.join("tmp"))?;
        archive.file(Path::new("/init"), 0o755, INIT.as_bytes())?;
        archive.copy(&self.machine.shell, Path::new("/bin/busybox"))?;
        let users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
        archive.file(Path::new("/etc/passwd"), 0o644, users)?;
        archive.file(
            Path::new("/etc/group"),
            0o644,
            b"root:x:0:\nnogroup:x:65534:\n",
        )?;
        for module in self.machine.image.modules()? {
            let inside = Path::new("/modules").join(module.file_name().unwrap_or_default());
            archive.copy(&module, &inside)?;
        }
        archive.copy_all(self.kept, Path::new("/kept"))?;
        archive.copy_all(&self.programs.targets, Path::new("/programs"))?;
        if let Some(command) = &self.programs.command {
            archive.copy(command, &self.command())?;
        }
        for suite in &self.programs.suites {
            archive.folder(&suite.folder)?;
            archive.copy(&suite.stripped, &suite.path)?;
        }
        archive.file(Path::new("/settings"), 0o644, self.settings().as_bytes())?;
        archive.file(Path::new("/suites"), 0o644, self.script().as_bytes())?;
        archive.finish()
    }

    /// The command lies where the tests of the command were told at their build.
    fn command(&self) -> PathBuf {
        self.built.join("debug/onionskin")
    }

    fn settings(&self) -> String {
        let pages = self.kernel.huge_pages;
        format!(
            "export HUGE_PAGES={pages} ONIONSKIN_SKIPS=/tmp/skips RUST_BACKTRACE=1\n\
             export ONIONSKIN_KEEP=/out/kept ONIONSKIN_KEPT=/kept\n\
             export ONIONSKIN_SLOW=1 ONIONSKIN_KILLS=12 ONIONSKIN_FORKS=20 PROPTEST_CASES=32\n\
             COMPLAINTS='{COMPLAINTS}'\n"
        )
    }

    fn script(&self) -> String {
        let mut script = String::new();
        let mut line = |text: String| writeln!(script, "{text}").expect("a string takes text");
        if self.programs.command.is_some() {
            let command = self.command();
            line(format!(
                "{} doctor --json >/out/doctor.json",
                command.display()
            ));
        }
        for suite in &self.programs.suites {
            line(format!(
                "export ONIONSKIN_PROGRAMS=/programs/{}",
                suite.package
            ));
            line(format!("cd {}", suite.folder.display()));
            line(self.run(suite));
        }
        script
    }

    /// The line that runs a suite.
    fn run(&self, suite: &Packed) -> String {
        let mut run = format!(
            "suite '{}' {} {} --test-threads=1 --show-output",
            suite.name,
            self.wanted.extent.suite_limit().as_secs(),
            suite.path.display()
        );
        for left_out in self.wanted.left_out() {
            if left_out.suite == suite.name {
                run.push_str(&format!(" --skip '{}'", left_out.tests));
            }
        }
        for filter in &self.wanted.filters {
            run.push_str(&format!(" '{filter}'"));
        }
        run
    }
}
