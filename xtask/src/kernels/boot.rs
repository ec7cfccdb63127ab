//! Boots a guest, shows what it says, and notices when it hangs.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::archive::recreate;
use super::catalog::{Architecture, Kernel};
use super::console::{Console, Suite};
use super::images::Image;
use super::tools::Tools;
use crate::process;

/// Memory of a guest, in MiB.
const MEMORY_MIB: u32 = 2048;
/// The disk on which results come out: more than a guest can keep in memory. With pages of 16 KiB, what
/// tests leave takes half a GiB.
const DISK_BYTES: u64 = 2 << 30;

/// What hardens a processor's kernel against other programs costs an emulated one a good part of its time:
/// each system call changes page tables, which throws away all that was translated.
const CHEAP: &str = "mitigations=off";

/// Boots the file system `initramfs` and follows it to its end, or to its limit. What the guest brings
/// out lies in `out` afterwards, with its console.
pub(super) fn boot(
    kernel: &Kernel,
    image: &Image,
    initramfs: &Path,
    tools: &Tools,
    out: &Path,
    patience: &Patience,
) -> Result<Vec<Suite>> {
    recreate(out)?;
    let disk = out.join("disk");
    File::create(&disk)
        .and_then(|file| file.set_len(DISK_BYTES))
        .with_context(|| format!("making {}", disk.display()))?;
    let mut command = emulator(kernel, image, initramfs, tools, &disk)?;
    process::announce(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("the emulator could not be started")?;
    let lines = read_lines(child.stdout.take().context("standard output is a pipe")?);
    let mut log = File::create(out.join("console.txt")).context("keeping the console")?;
    let mut console = Console::default();
    let cut_short = follow(kernel.name, &lines, patience, &mut console, &mut log)?;
    if cut_short.is_some() {
        process::kill_tree(child.id());
    }
    child.wait()?;
    let suites = console.finish(cut_short);
    let mut unpack = Command::new("tar");
    unpack.arg("-C").arg(out).arg("-xf").arg(&disk);
    if process::output_of(&mut unpack).is_none() {
        println!("{}: nothing was brought out", kernel.name);
    }
    fs::remove_file(&disk).with_context(|| format!("removing {}", disk.display()))?;
    Ok(suites)
}

fn emulator(
    kernel: &Kernel,
    image: &Image,
    initramfs: &Path,
    tools: &Tools,
    disk: &Path,
) -> Result<Command> {
    let mut command = Command::new(tools.program(kernel.architecture.qemu())?);
    if kernel.architecture == Architecture::Arm64 {
        command.args(["-M", "virt"]);
    }
    let memory = MEMORY_MIB.to_string();
    command.args(["-cpu", kernel.cpu, "-accel", "tcg", "-m", &memory]);
    command.args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"]);
    command.arg(image.kernel()).arg("-initrd").arg(initramfs);
    command.arg("-drive");
    command.arg(format!("file={},format=raw,if=virtio", disk.display()));
    let console = kernel.architecture.console();
    let line = format!("console={console} loglevel=2 panic=-1 oops=panic {CHEAP} rdinit=/init");
    command.args(["-append", &line]);
    Ok(command)
}

fn read_lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line);
            if sender.send(text.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

/// How long a guest is followed.
pub(super) struct Patience {
    /// How long it may say nothing.
    pub(super) silence: Duration,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// Shows and reads lines until the guest has ended, and keeps each with its time; tells why the guest
/// has to be ended, if so.
fn follow(
    name: &str,
    lines: &Receiver<String>,
    patience: &Patience,
    console: &mut Console,
    log: &mut dyn Write,
) -> Result<Option<String>> {
    let start = Instant::now();
    loop {
        match lines.recv_timeout(patience.silence) {
            Ok(line) => {
                let seconds = start.elapsed().as_secs_f64();
                writeln!(log, "{seconds:6.1} {line}").context("keeping the console")?;
                if console.line(&line) {
                    println!("{name}: {line}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                return Ok(Some(format!("hangs: silent for {:?}", patience.silence)));
            }
        }
        if start.elapsed() > patience.limit {
            return Ok(Some(format!("was ended after {:?}", patience.limit)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a guest that says these lines and then nothing, and tells what comes of it.
    fn follow_a_silent(said: &[&str], patience: &Patience) -> (Option<String>, String) {
        let (sender, lines) = mpsc::channel();
        for line in said {
            sender.send((*line).to_owned()).unwrap();
        }
        let (mut console, mut log) = (Console::default(), Vec::new());
        let cut_short = follow("guest", &lines, patience, &mut console, &mut log).unwrap();
        drop(sender);
        (cut_short, String::from_utf8(log).unwrap())
    }

    #[test]
    fn a_guest_that_hangs_is_given_up_and_its_console_kept() {
        let patience = Patience {
            silence: Duration::from_millis(50),
            limit: Duration::from_secs(60),
        };
        let (cut_short, log) = follow_a_silent(&["@@ suite a", "running 2 tests"], &patience);
        assert_eq!(cut_short.as_deref(), Some("hangs: silent for 50ms"));
        assert_eq!(log.lines().count(), 2);
        assert!(log.ends_with(" running 2 tests\n"), "{log}");
    }

    #[test]
    fn a_guest_that_goes_on_and_on_is_given_up() {
        let patience = Patience {
            silence: Duration::from_secs(60),
            limit: Duration::ZERO,
        };
        let (cut_short, _) = follow_a_silent(&["@@ suite a"], &patience);
        assert_eq!(cut_short.as_deref(), Some("was ended after 0ns"));
    }
}
