//! Huge pages that the machine lends for the time of a run.
//!
//! The pool is the machine's. A lender, a shell of its own process group, takes pages and gives as
//! many back when its input ends, which it does when this process does, killed or not. What it
//! gives back is a difference: others may change the pool meanwhile.
//!
//! Programs show how full the pool is, so that two runs at once would disturb one another: the
//! lender holds a lock on the pool's file as long as it lends. A second run waits a while for it,
//! and then goes without huge pages.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for another run, unless there is a reason for another time.
pub const WAIT: Duration = Duration::from_secs(20);
/// How many pages of the default size there are.
const POOL: &str = "/proc/sys/vm/nr_hugepages";
/// The pools of all sizes.
const POOLS: &str = "/sys/kernel/mm/hugepages";

/// What the lender does with a pool and a number of pages. Its standard error is the lock, which
/// is free again when it ends.
const LENDER: &str = r#"
trap '' HUP INT QUIT TERM
before=$(cat "$1")
echo $((before + $2)) >"$1"
taken=$(($(cat "$1") - before))
echo "$taken"
read -r end
echo $(($(cat "$1") - taken)) >"$1"
"#;

/// Why there are no huge pages to borrow.
#[derive(Debug, thiserror::Error)]
pub enum LoanError {
    /// The pool is not this process's to change, or there is none.
    #[error("{POOL} can't be changed: {0}")]
    Pool(io::Error),
    /// Another run has them.
    #[error("another run of the oracle or of the conformance cases works with the huge pages")]
    Busy,
    /// There is no shell.
    #[error("no shell could be started to give huge pages back: {0}")]
    Lender(io::Error),
}

/// Huge pages on loan.
#[derive(Debug)]
pub struct Loan(Child);

impl Loan {
    /// Borrows this many huge pages, or as many as there are; waits so long for another run.
    ///
    /// # Errors
    ///
    /// Fails if this process may not, or if another run does not give them back in time.
    pub fn take(pages: u64, wait: Duration) -> Result<Self, LoanError> {
        let lock = File::options()
            .read(true)
            .write(true)
            .open(POOL)
            .map_err(LoanError::Pool)?;
        wait_for(&lock, wait)?;
        // Pages beyond the pool's size become part of it first.
        let mut command = lender(POOL, pages + number("surplus_hugepages"));
        let lender = command.stderr(lock).spawn().map_err(LoanError::Lender)?;
        Ok(Self::of(lender))
    }

    /// Waits until the lender has taken the pages.
    fn of(mut lender: Child) -> Self {
        let mut taken = String::new();
        if let Some(output) = lender.stdout.take() {
            // How many there are is read from the pool: others may have some, too.
            drop(BufReader::new(output).read_line(&mut taken));
        }
        Self(lender)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

fn lender(pool: &str, pages: u64) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", LENDER, "lender", pool, &pages.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // An interrupt from the terminal ends the run, not the lender.
        .process_group(0);
    command
}

/// Waits until nobody else has the pool.
fn wait_for(pool: &File, wait: Duration) -> Result<(), LoanError> {
    const PAUSE: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + wait;
    loop {
        match pool.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(LoanError::Busy),
            Err(TryLockError::Error(error)) => return Err(LoanError::Pool(error)),
        }
    }
}

/// How many huge pages a program can have: those that are free and promised to nobody.
pub fn available() -> u64 {
    number("free_hugepages").saturating_sub(reserved())
}

/// How many huge pages are promised to mappings.
pub fn reserved() -> u64 {
    number("resv_hugepages")
}

/// How many more the pool may grow by on demand.
pub fn overcommit() -> u64 {
    number("nr_overcommit_hugepages").saturating_sub(number("surplus_hugepages"))
}

fn number(name: &str) -> u64 {
    /// The folder of the default size.
    static FOLDER: OnceLock<String> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        format!("{POOLS}/hugepages-{}kB", default_kib(&text).unwrap_or(2048))
    });
    let text = fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The default size of huge pages, in KiB, from the text of `/proc/meminfo`.
fn default_kib(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let size = lines.find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    size.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_size_is_read() {
        let text = "Hugetlb:           16384 kB\nHugepagesize:      32768 kB\n";
        assert_eq!(default_kib(text), Some(32768));
        assert_eq!(default_kib("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn only_what_was_taken_is_given_back() {
        let name = format!("onionskin-lender-{}", std::process::id());
        let pool = std::env::temp_dir().join(name);
        let write = |pages: u64| fs::write(&pool, format!("{pages}\n")).unwrap();
        let read = || fs::read_to_string(&pool).unwrap().trim().parse::<u64>();
        write(2);
        let mut command = lender(pool.to_str().unwrap(), 8);
        let loan = Loan::of(command.spawn().unwrap());
        assert_eq!(read(), Ok(10));
        // Somebody else takes three more.
        write(13);
        drop(loan);
        assert_eq!(read(), Ok(5));
        fs::remove_file(&pool).unwrap();
    }

    #[test]
    fn a_lender_outlives_signals_that_end_its_borrower() {
        let name = format!("onionskin-lender-signals-{}", std::process::id());
        let pool = std::env::temp_dir().join(name);
        fs::write(&pool, "2\n").unwrap();
        let loan = Loan::of(lender(pool.to_str().unwrap(), 8).spawn().unwrap());
        for signal in ["-INT", "-TERM", "-HUP"] {
            let sent = Command::new("kill")
                .args([signal, &loan.0.id().to_string()])
                .status();
            assert!(sent.unwrap().success());
        }
        drop(loan);
        assert_eq!(fs::read_to_string(&pool).unwrap(), "2\n");
        fs::remove_file(&pool).unwrap();
    }
}
