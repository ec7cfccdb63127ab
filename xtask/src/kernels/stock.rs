//! What rows need and nobody builds: kernels, an emulator, compilers, a debugger. Each is fetched
//! once; what can't be had is told to whoever asks for it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::catalog::{Architecture, Kernel};
use super::images::{self, Image};
use super::rust::Rust;
use super::tools::Tools;

/// What was fetched, or why not.
pub(super) struct Stock {
    pub(super) tools: Tools,
    rust: Vec<(Architecture, Result<Rust, String>)>,
    machines: Vec<(&'static str, Result<Machine, String>)>,
}

/// What a guest boots.
pub(super) struct Machine {
    pub(super) image: Image,
    pub(super) shell: PathBuf,
}

impl Stock {
    /// Fetches what some kernels need, into a folder. It takes a while only the first time.
    pub(super) fn fetch(folder: &Path, kernels: &[&'static Kernel]) -> Self {
        let tools = Tools::new(folder);
        let opened = Archive::open(&folder.join("apt"))
            .and_then(|archive| tools.get_qemu(&archive).map(|()| archive))
            .map_err(|error| format!("{error:#}"));
        if let Ok(archive) = &opened
            && let Err(error) = tools.get_debugger(archive)
        {
            println!("the guests' cores are read without a debugger: {error:#}");
        }
        let rust = Architecture::ALL.map(|architecture| {
            let prepared = try_with(&opened, |archive| {
                Rust::prepare(architecture, archive, &tools, folder)
            });
            (architecture, prepared)
        });
        let machines = kernels.iter().map(|kernel| {
            let fetched = try_with(&opened, |archive| Machine::fetch(archive, kernel, folder));
            (kernel.name, fetched)
        });
        Self {
            rust: rust.into(),
            machines: machines.collect(),
            tools,
        }
    }

    /// A way to build for an architecture, or why there is none.
    pub(super) fn rust(&self, architecture: Architecture) -> Result<&Rust, String> {
        let found = self.rust.iter().find(|(known, _)| *known == architecture);
        let (_, prepared) = found.expect("each architecture was asked for");
        prepared.as_ref().map_err(Clone::clone)
    }

    /// What a kernel's guest boots, or why there is none.
    pub(super) fn machine(&self, kernel: &Kernel) -> Result<&Machine, String> {
        match self.machines.iter().find(|(name, _)| *name == kernel.name) {
            Some((_, fetched)) => fetched.as_ref().map_err(Clone::clone),
            None => Err("it was not asked for".to_owned()),
        }
    }

    /// Everything that can't be had, with its reason.
    pub(super) fn missing(&self) -> Vec<String> {
        let rust = self.rust.iter().filter_map(|(architecture, prepared)| {
            let why = prepared.as_ref().err()?;
            Some(format!("Rust for {architecture}: {why}"))
        });
        let machines = self.machines.iter().filter_map(|(name, fetched)| {
            let why = fetched.as_ref().err()?;
            Some(format!("{name}: {why}"))
        });
        rust.chain(machines).collect()
    }
}

impl Machine {
    fn fetch(archive: &Archive, kernel: &Kernel, folder: &Path) -> Result<Self> {
        Ok(Self {
            image: images::fetch(archive, kernel, folder)
                .with_context(|| format!("the kernel {}", kernel.name))?,
            shell: images::shell(archive, kernel.architecture, folder)?,
        })
    }
}

fn try_with<T>(
    archive: &Result<Archive, String>,
    get: impl FnOnce(&Archive) -> Result<T>,
) -> Result<T, String> {
    let archive = archive.as_ref().map_err(Clone::clone)?;
    get(archive).map_err(|error| format!("{error:#}"))
}
