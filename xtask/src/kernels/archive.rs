//! Debian's archive through its ordinary client, with a state of its own.
//!
//! Lists, cache and configuration lie in `target/kernels/apt`, packages are only downloaded and
//! unpacked, and no root is needed: the system's own package state stays as it is, and so does
//! what it has installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use super::catalog::Architecture;
use crate::process;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org/debian";
/// Debian 12's own kernels and tools, newer ones for it, and the sources of newer Rust.
const SUITES: [&str; 3] = ["bookworm", "bookworm-backports", "trixie-backports"];
/// To it, lists that can't be read are no mere warning.
const UPDATE: [&str; 3] = ["-o", "APT::Update::Error-Mode=any", "update"];
/// Lists older than that may name packages that the mirror has no more.
const LISTS_KEEP: Duration = Duration::from_secs(12 * 60 * 60);

/// The archive, and the folder that everything of it goes to.
pub(super) struct Archive {
    folder: PathBuf,
}

/// A package in one version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// The name, with the architecture after a colon where that isn't the machine's.
    pub(super) name: String,
    pub(super) version: String,
}

impl Archive {
    /// Makes the private state in `folder` and reads the archive's lists, unless they are new. Where
    /// they can't be read now, those that were read earlier will do: what was fetched is there.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        ensure!(
            process::find("apt-get").is_some() && process::find("dpkg-deb").is_some(),
            "no apt-get here: kernels and tools come from Debian's packages"
        );
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install debian-archive-keyring"
        );
        let archive = Self {
            folder: folder.to_owned(),
        };
        archive.configure()?;
        let stamp = folder.join("lists-read");
        if !is_new(&stamp) {
            println!("reading the lists of {}", SUITES.join(", "));
            match process::run_quietly(archive.apt("apt-get").args(UPDATE)) {
                Ok(()) => {
                    fs::write(&stamp, "").with_context(|| format!("writing {}", stamp.display()))?
                }
                Err(error) if stamp.exists() => {
                    println!("the lists are old, and new ones can't be had: {error:#}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(archive)
    }

    /// The newest version that a suite has of a package.
    pub(super) fn newest(&self, name: &str, suite: &str) -> Result<Package> {
        let versions = self.versions(name)?;
        let version = versions.into_iter().find(|(_, from)| from == suite);
        let (version, _) = version.with_context(|| format!("{suite} has no package {name}"))?;
        Ok(Package {
            name: name.to_owned(),
            version,
        })
    }

    /// All versions of a package, newest first, each with its suite.
    pub(super) fn versions(&self, name: &str) -> Result<Vec<(String, String)>> {
        let text = process::output_of(self.apt("apt-cache").args(["madison", name]))
            .with_context(|| format!("apt-cache knows no {name}"))?;
        Ok(madison(&text))
    }

    /// The package of the image that a package such as `linux-image-cloud-amd64` stands for.
    pub(super) fn image_of(&self, meta: &Package, architecture: Architecture) -> Result<Package> {
        let asked = format!("{}={}", meta.name, meta.version);
        let text = process::output_of(self.apt("apt-cache").args(["show", &asked]))
            .with_context(|| format!("apt-cache does not show {asked}"))?;
        let mut image = image(&text).with_context(|| format!("{asked} names no image"))?;
        image.name = format!("{}:{architecture}", image.name);
        Ok(image)
    }

    /// What would have to be installed for these packages to work here, themselves included.
    pub(super) fn missing(&self, suite: &str, packages: &[&str]) -> Result<Vec<Package>> {
        let mut command = self.apt("apt-get");
        command.args(["-o", "Dir::State::status=/var/lib/dpkg/status"]);
        command.args(["install", "--simulate", "--no-install-recommends", "-t"]);
        let text = process::output_of(command.arg(suite).args(packages))
            .with_context(|| format!("{} can't be had on this system", packages.join(", ")))?;
        let plan = simulated(&text);
        ensure!(!plan.is_empty(), "{} are installed", packages.join(", "));
        Ok(plan)
    }

    /// Downloads packages and unpacks them below `root`.
    pub(super) fn unpack(&self, packages: &[Package], root: &Path) -> Result<()> {
        let downloads = self.folder.join("downloads");
        recreate(&downloads)?;
        let mut command = self.apt("apt-get");
        command.current_dir(&downloads).arg("download");
        for package in packages {
            command.arg(format!("{}={}", package.name, package.version));
        }
        println!("downloading {}", names(packages));
        process::run_quietly(&mut command)?;
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let mut count = 0;
        for file in fs::read_dir(&downloads)?.flatten() {
            let mut unpack = Command::new("dpkg-deb");
            process::run_quietly(unpack.arg("-x").arg(file.path()).arg(root))?;
            count += 1;
        }
        ensure!(count == packages.len(), "{count} packages came");
        fs::remove_dir_all(&downloads).with_context(|| format!("{}", downloads.display()))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn configure(&self) -> Result<()> {
        for sub in ["lists/partial", "cache/archives/partial", "empty"] {
            let path = self.folder.join(sub);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        let mirror = mirror();
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        let folder = self.folder.display();
        let configuration = format!(
            r#"Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/empty";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "{folder}/empty";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; "arm64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
"#
        );
        for (name, text) in [
            ("sources.list", sources.as_str()),
            ("apt.conf", &configuration),
            ("status", ""),
            ("preferences", ""),
        ] {
            let path = self.folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// Empties a folder, or makes it.
pub(super) fn recreate(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

fn is_new(stamp: &Path) -> bool {
    let age = |time: SystemTime| SystemTime::now().duration_since(time).unwrap_or_default();
    let written = fs::metadata(stamp).and_then(|data| data.modified());
    written.is_ok_and(|time| age(time) < LISTS_KEEP)
}

fn names(packages: &[Package]) -> String {
    let names: Vec<_> = packages.iter().map(|package| &*package.name).collect();
    names.join(", ")
}

/// The mirror that this machine uses, or Debian's own.
fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    files.extend(parts.flatten().map(|part| part.path()));
    files.sort();
    let texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts
        .filter_map(|text| mirror_in(&text))
        .next()
        .unwrap_or_else(|| MIRROR.to_owned())
}

/// The first address of a whole Debian archive in a list of sources of either form.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.contains("://") && word.ends_with("/debian"))
        .map(str::to_owned)
}

/// Reads lines such as `linux-image | 6.1-1 | http://mirror bookworm/main amd64 Packages`.
fn madison(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split('|').map(str::trim).skip(1);
            let version = fields.next()?;
            let (suite, _) = fields.next()?.split_whitespace().nth(1)?.split_once('/')?;
            Some((version.to_owned(), suite.to_owned()))
        })
        .collect()
}

/// Reads `Depends: linux-image-6.1-cloud-amd64 (= 6.1-1)`.
fn image(text: &str) -> Option<Package> {
    let depends = text
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split(", ").find_map(|dependency| {
        let (name, version) = dependency.split_once(" (= ")?;
        Some(Package {
            name: name.starts_with("linux-image-").then(|| name.to_owned())?,
            version: version.strip_suffix(')')?.to_owned(),
        })
    })
}

/// Reads lines such as `Inst name [old version] (version Debian:12/stable [amd64])`.
fn simulated(text: &str) -> Vec<Package> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let (_, version) = rest.split_once('(')?;
            Some(Package {
                name: name.to_owned(),
                version: version.split_whitespace().next()?.to_owned(),
            })
        })
        .collect()
}

/// Runs `make` unless `folder` was finished by an earlier run for the same `wanted`.
pub(super) fn once(folder: &Path, wanted: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut stamp = folder.as_os_str().to_owned();
    stamp.push(".made");
    let stamp = PathBuf::from(stamp);
    if folder.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    recreate(folder)?;
    make()?;
    if fs::read_dir(folder)?.next().is_none() {
        bail!("{} stayed empty", folder.display());
    }
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn finds_a_suite_s_version_and_its_image() {
        let text = " linux-image | 6.12.9-1~bpo12+1 | http://m/debian bookworm-backports/main a P\n \
                    linux-image | 6.1.9-1 | http://m/debian bookworm/main amd64 Packages\n";
        let pair = |version: &str, suite: &str| (version.to_owned(), suite.to_owned());
        let found = madison(text);
        assert_eq!(found[0], pair("6.12.9-1~bpo12+1", "bookworm-backports"));
        assert_eq!(found[1], pair("6.1.9-1", "bookworm"));
        let shown = "Package: a\nDepends: libc6, linux-image-6.1.0-5-cloud (= 6.1.9-1)\n";
        assert_eq!(
            image(shown),
            Some(package("linux-image-6.1.0-5-cloud", "6.1.9-1"))
        );
        assert_eq!(image("Depends: libc6 (= 3)\n"), None);
    }

    #[test]
    fn reads_what_apt_would_install() {
        let text = "Inst a (1.0-1 Debian:12.5/stable [amd64])\nRemv b [1]\n\
                    Inst c:arm64 [1] (2:2 Debian [arm64]) []\nConf a (1.0-1 Debian)\n";
        assert_eq!(
            simulated(text),
            [package("a", "1.0-1"), package("c:arm64", "2:2")]
        );
    }

    #[test]
    fn reads_the_mirror_of_either_form() {
        let one_line = "# deb http://no/debian\ndeb [arch=amd64] https://a/debian/ bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("https://a/debian"));
        let fields = "Types: deb\nURIs: http://b/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(fields).as_deref(), Some("http://b/debian"));
        assert_eq!(mirror_in("URIs: http://b/debian-security\n"), None);
    }
}
