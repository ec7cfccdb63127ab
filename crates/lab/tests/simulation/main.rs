//! The engine over a modelled process, which changes its memory between any two of its calls.
//!
//! A run is named by its seed. `ONIONSKIN_SEED=N` repeats one, `ONIONSKIN_SEEDS=N` tries so many.
#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod app;
mod nervous;
mod run;
mod sink;

use std::cell::Cell;

use engine::Strategy;
use mm::{Arch, Kernel};
use space::Tracking;

use run::{Plan, Sabotage, Sim, Trouble};

/// Runs `body` for many seeds and says how to repeat the one that fails.
fn seeds(test: &str, default: u64, body: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let range = match number("ONIONSKIN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ONIONSKIN_SEEDS").unwrap_or(default),
    };
    for seed in range {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(seed)));
        if let Err(panic) = result {
            eprintln!(
                "repeat with: ONIONSKIN_SEED={seed} cargo test -p onionskin-lab --test simulation \
                 {test}"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

fn plan(kernel: Kernel, arch: Arch, tracking: Tracking) -> Plan {
    Plan {
        kernel,
        arch,
        tracking,
        busy: true,
    }
}

/// Some snapshots without trouble, some with, and one without: what went wrong must not show.
fn chain_of_snapshots(seed: u64, plan: Plan, used: &Used) {
    let mut sim = Sim::new(seed, plan);
    for _ in 0..2 {
        used.add(sim.any_snapshot(Trouble::None));
    }
    for _ in 0..2 {
        used.add(sim.any_snapshot(Trouble::Any));
    }
    used.add(sim.any_snapshot(Trouble::None));
}

/// How often each strategy was used.
#[derive(Default)]
struct Used {
    precopy: Cell<u64>,
    fork: Cell<u64>,
    freeze: Cell<u64>,
}

impl Used {
    fn add(&self, strategy: Option<Strategy>) {
        let cell = match strategy {
            Some(Strategy::Precopy) => &self.precopy,
            Some(Strategy::Fork) => &self.fork,
            Some(Strategy::Auto | Strategy::Freeze) => &self.freeze,
            None => return,
        };
        cell.set(cell.get() + 1);
    }

    /// Fails where one of them was hardly ever used.
    fn are_all(&self) {
        if std::env::var_os("ONIONSKIN_SEED").is_none() {
            let all = [&self.precopy, &self.fork, &self.freeze].map(Cell::get);
            let few = all.iter().sum::<u64>() / 20;
            assert!(all.iter().all(|&count| count > few), "{all:?}");
        }
    }
}

#[test]
fn write_protection_on_x86_64() {
    let used = Used::default();
    seeds("write_protection_on_x86_64", 1200, |seed| {
        let kernel = [Kernel::V6_18, Kernel::V6_12, Kernel::V6_18, Kernel::V7_3];
        let kernel = kernel[usize::try_from(seed % 4).unwrap()];
        let plan = plan(kernel, Arch::X86_64, Tracking::WriteProtect);
        chain_of_snapshots(seed, plan, &used);
    });
    used.are_all();
}

#[test]
fn write_protection_on_arm64() {
    let used = Used::default();
    seeds("write_protection_on_arm64", 600, |seed| {
        let arch = match seed % 6 {
            0 => Arch::Arm64Page4K,
            1 => Arch::Arm64Page64K,
            _ => Arch::Arm64Page16K,
        };
        let plan = plan(Kernel::V6_18, arch, Tracking::WriteProtect);
        chain_of_snapshots(seed, plan, &used);
    });
    used.are_all();
}

/// On x86_64 only: Linux has no such bits on arm64.
#[test]
fn soft_dirty_bits() {
    let used = Used::default();
    seeds("soft_dirty_bits", 800, |seed| {
        let kernel = [Kernel::V6_1, Kernel::V6_18, Kernel::V6_12, Kernel::V7_3];
        let kernel = kernel[usize::try_from(seed % 4).unwrap()];
        let plan = plan(kernel, Arch::X86_64, Tracking::SoftDirty);
        chain_of_snapshots(seed, plan, &used);
    });
    used.are_all();
}

#[test]
fn without_tracking() {
    let used = Used::default();
    seeds("without_tracking", 200, |seed| {
        let kernel = [Kernel::V6_1, Kernel::V6_18][usize::try_from(seed % 2).unwrap()];
        let arch = [Arch::X86_64, Arch::Arm64Page16K][usize::try_from(seed / 2 % 2).unwrap()];
        chain_of_snapshots(seed, plan(kernel, arch, Tracking::None), &used);
    });
}

#[test]
fn a_quiet_process_is_read_once() {
    for (kernel, tracking) in [
        (Kernel::V6_18, Tracking::WriteProtect),
        (Kernel::V6_1, Tracking::SoftDirty),
    ] {
        for strategy in [
            Strategy::Auto,
            Strategy::Precopy,
            Strategy::Fork,
            Strategy::Freeze,
        ] {
            let quiet = Plan {
                busy: false,
                ..plan(kernel, Arch::X86_64, tracking)
            };
            let mut sim = Sim::new(7, quiet);
            let first = sim.attached(strategy);
            assert!(first.bytes_read.0 > 0, "{strategy:?} {quiet:?}");
            let second = sim.attached(strategy);
            assert_eq!(second.bytes_read.0, 0, "{strategy:?} {quiet:?}");
            sim.write_pages(3);
            let third = sim.attached(strategy);
            assert_eq!(third.bytes_read.0, 3 << 12, "{strategy:?} {quiet:?}");
        }
    }
}

/// The simulation itself has to find a machine that loses writes.
#[test]
fn sabotage_is_noticed() {
    for sabotage in [Sabotage::HidesWrites, Sabotage::TellsNoPins] {
        let noticed = (0..300).any(|seed| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let result = std::panic::catch_unwind(|| {
                let plan = plan(Kernel::V6_18, Arch::X86_64, Tracking::WriteProtect);
                let mut sim = Sim::new(seed, plan);
                sim.sabotage(sabotage);
                for _ in 0..5 {
                    sim.any_snapshot(Trouble::None);
                }
            });
            std::panic::set_hook(hook);
            result.is_err()
        });
        assert!(noticed, "{sabotage:?}");
    }
}
