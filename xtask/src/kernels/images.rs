//! What a guest boots: a kernel, the modules that it needs, and a shell.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::archive::{Archive, once, recreate};
use super::catalog::{Architecture, Kernel};

/// Swap, and a disk to bring results out on. What is built in has no module.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "lzo", "lzo-rle", "zram"];

/// A kernel that was fetched.
pub(super) struct Image {
    folder: PathBuf,
}

impl Image {
    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Modules in the order in which they can be loaded.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("modules");
        let entries = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        let mut modules: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        modules.sort();
        Ok(modules)
    }
}

/// Fetches a kernel, unless an earlier run has: the archive is asked only then.
pub(super) fn fetch(archive: &Archive, kernel: &Kernel, folder: &Path) -> Result<Image> {
    let image = Image {
        folder: folder.join("images").join(kernel.name),
    };
    once(&image.folder, kernel.package, || {
        let meta = format!("{}:{}", kernel.package, kernel.architecture);
        let meta = archive.newest(&meta, kernel.suite)?;
        let package = archive.image_of(&meta, kernel.architecture)?;
        let unpacked = folder.join("unpacked");
        recreate(&unpacked)?;
        archive.unpack(&[package], &unpacked)?;
        let vmlinuz = find(&unpacked.join("boot"), &|name| name.starts_with("vmlinuz-"))?;
        fs::copy(&vmlinuz, image.kernel()).context("keeping the kernel")?;
        let shell = shell(archive, Architecture::Amd64, folder)?;
        take_modules(&unpacked.join("lib/modules"), &image.folder, &shell)?;
        fs::remove_dir_all(&unpacked).context("removing what was unpacked")
    })?;
    Ok(image)
}

/// Fetches a shell and small tools in one static program.
pub(super) fn shell(
    archive: &Archive,
    architecture: Architecture,
    folder: &Path,
) -> Result<PathBuf> {
    let root = folder.join("shell").join(architecture.debian());
    once(&root, "busybox-static", || {
        let name = format!("busybox-static:{architecture}");
        archive.unpack(&[archive.newest(&name, "bookworm")?], &root)
    })?;
    find(&root.join("bin"), &|name| name == "busybox")
}

/// Copies the modules that are wanted and those that they need, unpacked, and numbered in the
/// order of their loading.
fn take_modules(from: &Path, image: &Path, shell: &Path) -> Result<()> {
    let to = image.join("modules");
    fs::create_dir_all(&to).with_context(|| format!("creating {}", to.display()))?;
    let mut files = BTreeMap::new();
    list(from, &mut files)?;
    let mut loaded = Vec::new();
    for wanted in MODULES {
        load(&normal(wanted), &files, shell, &mut loaded)?;
    }
    for (number, (name, bytes)) in loaded.iter().enumerate() {
        let path = to.join(format!("{number:02}-{name}.ko"));
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Puts a module behind those that it depends on.
fn load(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    shell: &Path,
    loaded: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let Some(file) = files.get(name) else {
        return Ok(());
    };
    if loaded.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let bytes = if file.extension().is_some_and(|end| end == "xz") {
        let output = Command::new(shell).arg("xzcat").arg(file).output()?;
        ensure!(
            output.status.success(),
            "{} does not unpack",
            file.display()
        );
        output.stdout
    } else {
        fs::read(file).with_context(|| format!("reading {}", file.display()))?
    };
    for dependency in dependencies(&bytes) {
        load(&dependency, files, shell, loaded)?;
    }
    loaded.push((name.to_owned(), bytes));
    Ok(())
}

/// Reads `depends=a,b` out of a module's section of texts that end with a zero.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let rest = &module[at + KEY.len()..];
    let end = rest
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(rest.len());
    let list = String::from_utf8_lossy(&rest[..end]);
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(normal).collect()
}

/// The kernel takes `-` and `_` in a module's name for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn list(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            list(&path, files)?;
        } else if let Some((module, _)) = name.split_once(".ko") {
            files.insert(normal(module), path);
        }
    }
    Ok(())
}

fn find(folder: &Path, is_it: &dyn Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    entries
        .flatten()
        .find(|entry| is_it(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .with_context(|| format!("what was looked for is not in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_module_depends_on() {
        let module = b"ELF\0license=GPL\0depends=zsmalloc,lzo-compress\0name=zram\0";
        assert_eq!(dependencies(module), ["zsmalloc", "lzo_compress"]);
        assert!(dependencies(b"\0depends=\0").is_empty() && dependencies(b"ELF").is_empty());
    }
}
