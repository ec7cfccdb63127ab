//! The program that the demo looks at: threads that move amounts between accounts, so that the
//! sum of all never changes.
//!
//! # Layout
//!
//! One piece of memory, counted in 64-bit words:
//!
//! | words | what |
//! |---|---|
//! | 0 | the sum that all accounts have together |
//! | 8 + 8 t | thread t moves an amount just now: 1, else 0 |
//! | 9 + 8 t, 10 + 8 t | the accounts it moves from and to |
//! | 11 + 8 t, 12 + 8 t | what these held before |
//! | 13 + 8 t | how many it moved |
//! | [`FIRST`] + [`STRIDE`] n | account n |
//!
//! The rest is filled, half of it so that it can't be compressed. A thread writes down what the
//! two accounts held before it touches them, so that the sum can be told at any instant; and only
//! at one instant: pages of different moments give another sum. Account n belongs to thread
//! n modulo the number of threads.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::args::DemoWorkload;
use crate::outcome::Outcome;

/// Words from one account to the next: each has 4 KiB for itself.
pub(super) const STRIDE: u64 = 512;
/// The word of the first account.
pub(super) const FIRST: u64 = 512;
/// Words of what a thread writes down.
const NOTES: u64 = 8;
/// The most threads whose notes fit before the first account.
const THREADS_MAX: usize = 32;
/// What each account begins with.
const BEGINNING: u64 = 1000;
/// How many amounts are moved between two pauses.
const BATCH: u64 = 4000;
const PAUSE: Duration = Duration::from_millis(1);

/// What the demo needs to know to check the program from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The address of word 0.
    pub(super) base: u64,
    /// The number of accounts.
    pub(super) accounts: u64,
    /// The number of threads.
    pub(super) threads: u64,
    /// The sum that all accounts have together.
    pub(super) total: u64,
}

/// What the program says at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Goodbye {
    /// How many amounts were moved.
    pub(super) moved: u64,
    /// The sum that it found.
    pub(super) total: u64,
}

impl Hello {
    /// Returns the length of the memory in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        (FIRST + self.accounts * STRIDE) * 8
    }

    /// Adds up all accounts as they were before the moves that are under way. `word` tells what
    /// a word holds.
    pub(super) fn sum(&self, word: impl Fn(u64) -> u64) -> u64 {
        let account = |n: u64| word(FIRST + n * STRIDE);
        let mut sum = (0..self.accounts).map(account).fold(0, u64::wrapping_add);
        for notes in (0..self.threads).map(notes_of) {
            if word(notes) == 0 {
                continue;
            }
            for side in [1, 2] {
                let (n, before) = (word(notes + side), word(notes + side + 2));
                sum = sum
                    .wrapping_sub(account(n % self.accounts))
                    .wrapping_add(before);
            }
        }
        sum
    }

    /// Adds up how many amounts were moved.
    pub(super) fn moved(&self, word: impl Fn(u64) -> u64) -> u64 {
        (0..self.threads)
            .map(|thread| word(notes_of(thread) + 5))
            .sum()
    }
}

fn notes_of(thread: u64) -> u64 {
    NOTES * (1 + thread)
}

/// Runs until standard input ends, and then says what it found.
///
/// # Errors
///
/// Those of standard input and output, and sizes that make no sense.
pub(crate) fn run(args: &DemoWorkload) -> Result<Outcome> {
    ensure!(
        (1..=THREADS_MAX).contains(&args.threads),
        "1 to {THREADS_MAX} threads, please"
    );
    let threads = args.threads as u64;
    let accounts = (args.memory / 8 / STRIDE).saturating_sub(1);
    ensure!(accounts >= 4 * threads, "{} bytes are too few", args.memory);
    let words: Arc<[AtomicU64]> = fill(accounts).into();
    let hello = Hello {
        base: words.as_ptr().addr() as u64,
        accounts,
        threads,
        total: accounts * BEGINNING,
    };
    words[0].store(hello.total, Ordering::SeqCst);
    say(&hello)?;
    let stop = Arc::new(AtomicBool::new(false));
    let movers: Vec<_> = (0..threads)
        .map(|thread| {
            let mover = Mover::new(&words, &hello, thread);
            let stop = Arc::clone(&stop);
            thread::Builder::new()
                .name(format!("teller-{thread}"))
                .spawn(move || mover.run(&stop))
                .context("can't start a thread")
        })
        .collect::<Result<_>>()?;
    // Whoever started us closes it, also by dying.
    io::stdin().lock().lines().for_each(drop);
    stop.store(true, Ordering::SeqCst);
    for mover in movers {
        mover.join().expect("a mover does not panic");
    }
    let word = |at: u64| words[index(at)].load(Ordering::SeqCst);
    say(&Goodbye {
        moved: hello.moved(word),
        total: hello.sum(word),
    })?;
    Ok(Outcome::Fine)
}

fn say(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn index(word: u64) -> usize {
    usize::try_from(word).expect("a word of our own memory has an index")
}

/// Makes the memory: accounts with their beginning, and every other page random between them.
fn fill(accounts: u64) -> Vec<AtomicU64> {
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let words = (0..FIRST + accounts * STRIDE).map(|word| {
        let page = word / STRIDE;
        let value = if page == 0 {
            0
        } else if word % STRIDE == 0 {
            BEGINNING
        } else if page.is_multiple_of(2) {
            next(&mut random)
        } else {
            page
        };
        AtomicU64::new(value)
    });
    words.collect()
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// A thread that moves amounts between its accounts.
struct Mover {
    words: Arc<[AtomicU64]>,
    accounts: u64,
    threads: u64,
    thread: u64,
    random: u64,
}

impl Mover {
    fn new(words: &Arc<[AtomicU64]>, hello: &Hello, thread: u64) -> Self {
        Self {
            words: Arc::clone(words),
            accounts: hello.accounts,
            threads: hello.threads,
            thread,
            random: 0x1234_5678_9abc_def1 ^ (thread << 32),
        }
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut moved = 0;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..BATCH {
                let (from, to) = (self.account(moved), self.account(moved));
                if from != to {
                    self.transfer(from, to);
                    moved += 1;
                }
            }
            thread::sleep(PAUSE);
        }
    }

    /// Picks an account: mostly of a window that wanders, now and then any.
    fn account(&mut self, moved: u64) -> u64 {
        let own = self.accounts / self.threads;
        let window = (own / 64).max(2);
        let random = next(&mut self.random);
        let nth = if random.is_multiple_of(16_384) {
            random >> 16
        } else {
            moved / (1 << 14) + (random >> 16) % window
        };
        (nth % own) * self.threads + self.thread
    }

    fn transfer(&mut self, from: u64, to: u64) {
        let words = &self.words;
        let cell = |word: u64| &words[index(word)];
        let (source, target) = (cell(FIRST + from * STRIDE), cell(FIRST + to * STRIDE));
        // Nobody else touches these accounts, so that plain order is all that is needed.
        let before = (source.load(Ordering::SeqCst), target.load(Ordering::SeqCst));
        let amount = self.random % (before.0 / 2).max(1);
        let notes = notes_of(self.thread);
        for (word, value) in [(1, from), (2, to), (3, before.0), (4, before.1)] {
            cell(notes + word).store(value, Ordering::SeqCst);
        }
        cell(notes).store(1, Ordering::SeqCst);
        source.store(before.0.wrapping_sub(amount), Ordering::SeqCst);
        target.store(before.1.wrapping_add(amount), Ordering::SeqCst);
        cell(notes).store(0, Ordering::SeqCst);
        cell(notes + 5).fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Arc<[AtomicU64]>, Hello) {
        let words: Arc<[AtomicU64]> = fill(64).into();
        let hello = Hello {
            base: 0,
            accounts: 64,
            threads: 2,
            total: 64 * BEGINNING,
        };
        (words, hello)
    }

    #[test]
    fn the_sum_holds_after_many_moves() {
        let (words, hello) = small();
        let mut mover = Mover::new(&words, &hello, 1);
        for moved in 0..10_000 {
            let (from, to) = (mover.account(moved), mover.account(moved));
            assert_eq!((from % 2, to % 2), (1, 1));
            if from != to {
                mover.transfer(from, to);
            }
        }
        let word = |at: u64| words[index(at)].load(Ordering::SeqCst);
        assert_eq!(hello.sum(word), hello.total);
        assert!(hello.moved(word) > 5_000);
    }

    #[test]
    fn a_move_under_way_is_counted_as_not_begun() {
        let (words, hello) = small();
        let set = |at: u64, value: u64| words[index(at)].store(value, Ordering::SeqCst);
        let word = |at: u64| words[index(at)].load(Ordering::SeqCst);
        let notes = notes_of(1);
        for (at, value) in [(0, 1), (1, 3), (2, 5), (3, BEGINNING), (4, BEGINNING)] {
            set(notes + at, value);
        }
        assert_eq!(hello.sum(word), hello.total);
        set(FIRST + 3 * STRIDE, BEGINNING - 7);
        assert_eq!(hello.sum(word), hello.total, "half done");
        set(FIRST + 9 * STRIDE, BEGINNING - 7);
        assert_ne!(hello.sum(word), hello.total, "a page of another moment");
    }
}
