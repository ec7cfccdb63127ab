//! The C programs that the tests look at: a process of our own would bring Rust's runtime into
//! the picture. They lie in `tests/programs`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Returns the program made of `tests/programs/NAME.c`.
///
/// `ONIONSKIN_PROGRAMS` names a folder that has them ready, where there is no compiler: `cargo
/// xtask kernels` packs one into its guests. Otherwise it is built in `directory`.
pub(crate) fn program(name: &str, directory: &Path) -> PathBuf {
    if let Some(ready) = std::env::var_os("ONIONSKIN_PROGRAMS") {
        return Path::new(&ready).join(name);
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let binary = directory.join(name);
    let built = Command::new("cc")
        .args(["-w", "-O1", "-pthread", "-o"])
        .arg(&binary)
        .arg(sources.join(name).with_extension("c"))
        .status()
        .expect("cc can be run");
    assert!(built.success(), "{name}.c does not compile");
    binary
}

/// The program `live`, which counts and checks its calls, and says at each line whether they went well.
pub(crate) struct Live {
    pub(crate) child: Child,
    answers: BufReader<ChildStdout>,
}

impl Live {
    /// Starts it, with so many page tables more, which make a fork slow; returns what it says first,
    /// too: where it counts.
    pub(crate) fn start(directory: &Path, page_tables: u32) -> (Self, String) {
        let mut child = Command::new(program("live", directory))
            .arg(page_tables.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut live = Self { child, answers };
        let first = live.answer();
        (live, first)
    }

    /// Writes a line to it, and returns its answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{line}").expect("it listens");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().to_owned()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}
