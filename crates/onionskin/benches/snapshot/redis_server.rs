//! redis-server, alone in a folder that is removed in the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::command::scratch;

/// A server, ended when this is dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts one with `keys` keys of `value_bytes` each.
    pub(crate) fn start(keys: u64, value_bytes: u64) -> Result<Self> {
        let folder = tempfile::tempdir_in(scratch())?;
        // Debian's checker of dumps is the server's program under another name.
        let program = link(folder.path()).unwrap_or_else(|| "redis-server".into());
        let child = Command::new(program)
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--daemonize",
                "no",
                "--unixsocket",
                "socket",
            ])
            .args(["--enable-debug-command", "yes"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server can't be started: apt-get install redis-tools")?;
        let server = Self { child, folder };
        let until = Instant::now() + Duration::from_secs(30);
        while server.connect().is_err() {
            anyhow::ensure!(Instant::now() < until, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server.ask(&format!("debug populate {keys} key {value_bytes}"))?;
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Has it save its memory in its own way, and waits for the end.
    pub(crate) fn save(&self) -> Result<()> {
        self.ask("bgsave")?;
        while !self
            .ask("info persistence")?
            .contains("rdb_bgsave_in_progress:0")
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its memory in use, in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        super::machine::field(&format!("/proc/{}/status", self.pid()), "VmRSS")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib >> 10)
    }

    /// Connects to it.
    pub(crate) fn connect(&self) -> Result<UnixStream> {
        Ok(UnixStream::connect(self.socket())?)
    }

    fn ask(&self, command: &str) -> Result<String> {
        let mut stream = self.connect()?;
        writeln!(stream, "{command}\r")?;
        let mut answers = BufReader::new(stream);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        match line.chars().next() {
            Some('+') => Ok(line),
            Some('$') => {
                let mut text = vec![0; line[1..].trim().parse()?];
                answers.read_exact(&mut text)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            _ => bail!("redis-server: {command}: {line}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn link(folder: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let find = |name: &str| {
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    };
    if let Some(server) = find("redis-server") {
        return Some(server);
    }
    let link = folder.join("redis-server");
    std::os::unix::fs::symlink(find("redis-check-rdb")?, &link).ok()?;
    Some(link)
}
