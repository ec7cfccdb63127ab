//! The command line's definition: help, man pages and completions come from it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::units::{parse_duration, parse_duration_or_zero, parse_name, parse_pid, parse_size};

/// Watches and snapshots the memory of running, unmodified processes.
///
/// Exit status: 0 where all went well, 1 where something was found (damage, a difference, a
/// machine that can do nothing), 2 for an error.
#[derive(Debug, Parser)]
#[command(
    name = "onionskin",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Print JSON: one object, or one a line where there are many. Errors too.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try what this machine can do, and say what to change.
    Doctor(Doctor),
    /// Show which memory a process writes, and how fast.
    ///
    /// Each interval tells which pages were written at least once in it, all of them and not a
    /// sample. A rate is the size of those pages divided by the length of the interval: a page
    /// that is written a thousand times counts once. The forecast is the freeze that a snapshot
    /// would need now, by the strategy that it would choose.
    Watch(Watch),
    /// Take the memory and registers of a process at one instant.
    Snapshot(Snapshot),
    /// Look at, check, export or remove stored snapshots.
    #[command(subcommand)]
    Snapshots(Snapshots),
    /// Check what Linux's memory management must do, case by case, on this kernel or on the model.
    Conformance(Conformance),
    /// Show everything once, on a program of our own.
    Demo(Demo),
    /// Hold the model of memory management against this machine's kernel.
    #[command(subcommand)]
    Oracle(Oracle),
    /// The program that the demo looks at.
    #[command(hide = true)]
    DemoWorkload(DemoWorkload),
    /// Write the man pages or the shell completions.
    #[command(hide = true)]
    Generate(Generate),
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Say also what stands in the way for this process.
    #[arg(long, value_name = "PID", value_parser = parse_pid)]
    pub(crate) pid: Option<u32>,
}

/// Arguments of `watch`.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// The process.
    #[arg(value_parser = parse_pid)]
    pub(crate) pid: u32,
    /// Write a report that opens in any browser, without a network.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Stop after this time, as 30s or 5m. [default: when the process ends, or Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) interval: Duration,
    /// With --json: list each written address range too.
    #[arg(long, requires = "json")]
    pub(crate) ranges: bool,
}

/// Arguments of `snapshot`.
#[derive(Args, Debug)]
pub(crate) struct Snapshot {
    /// The process.
    #[arg(value_parser = parse_pid)]
    pub(crate) pid: u32,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// A name for the snapshot; with --every, the beginning of the names.
    #[arg(long, value_parser = parse_name)]
    pub(crate) name: Option<String>,
    /// How to take it.
    #[arg(long, value_enum, default_value_t = StrategyArg::Auto)]
    pub(crate) strategy: StrategyArg,
    /// The longest freeze allowed, as 10ms: where it can't be kept, no snapshot is taken. Stopping the
    /// process for anything else may take no longer either.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) max_freeze: Option<Duration>,
    /// Refuse a snapshot that can't be proven to be of one instant.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Stay attached and take another whenever this time has passed, as 5s: each is a layer
    /// that holds only what was written since.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) every: Option<Duration>,
    /// With --every: how many. [default: until the process ends, or Ctrl-C]
    #[arg(long, value_name = "K", requires = "every", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Compare every page with the frozen process before it goes on.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Take every readable mapping, not only what coredump_filter selects.
    #[arg(long)]
    pub(crate) all: bool,
}

/// How to take a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StrategyArg {
    /// The one with the shortest freeze, by forecast.
    Auto,
    /// Copy in rounds while it runs, then freeze for what is left.
    Precopy,
    /// Freeze to duplicate the process, and read the duplicate.
    Fork,
    /// Freeze and copy everything: works everywhere.
    Freeze,
}

/// Where snapshots are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArg {
    /// Where snapshots are kept: a directory, or an address as s3://bucket/prefix.
    #[arg(long, value_name = "PATH")]
    pub(crate) store: String,
}

/// What to do with stored snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshots {
    /// List the snapshots of a store.
    List(StoreArg),
    /// Show one snapshot: what it holds and what it cost.
    Show(OneSnapshot),
    /// Say which pages of which mappings changed from A to B. Exit status 1 where any did.
    Diff(DiffArgs),
    /// Check the hash of every page. Exit status 1 where one is wrong.
    Verify(VerifyArgs),
    /// Write a snapshot in a format that other tools open.
    Export(ExportArgs),
    /// Remove snapshots; their pages go with the next gc.
    Remove(RemoveArgs),
    /// Remove what no snapshot needs.
    Gc(GcArgs),
}

/// One snapshot of a store.
#[derive(Args, Debug)]
pub(crate) struct OneSnapshot {
    /// The snapshot: its id, the beginning of it, or its name.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) store: StoreArg,
}

/// Arguments of `snapshots diff`.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The earlier snapshot.
    pub(crate) a: String,
    /// The later snapshot.
    pub(crate) b: String,
    #[command(flatten)]
    pub(crate) store: StoreArg,
}

/// Arguments of `snapshots verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The snapshots. [default: all]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArg,
}

/// Arguments of `snapshots export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The snapshot: its id, the beginning of it, or its name.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// What to write.
    #[arg(long, value_enum, default_value_t = ExportFormat::Core)]
    pub(crate) format: ExportFormat,
    /// The file (core) or the directory (raw) to write.
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: PathBuf,
}

/// A format that other tools open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// An ELF core: `gdb PROGRAM CORE`.
    Core,
    /// One file for each mapping.
    Raw,
}

/// Arguments of `snapshots remove`.
#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// The snapshots.
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArg,
}

/// Arguments of `snapshots gc`.
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// How long what is not needed waits before it is deleted: readers and writers on other
    /// machines have so much time. With 0s it is deleted at once.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration_or_zero)]
    pub(crate) grace: Duration,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `conformance`.
#[derive(Args, Debug)]
pub(crate) struct Conformance {
    /// What the cases run on.
    #[arg(long, value_enum, default_value_t = Ground::Mm, conflicts_with = "markdown")]
    pub(crate) on: Ground,
    /// Only cases with this in FAMILY/NAME.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) only: String,
    /// Run the cases that poison memory too: this kernel loses a few pages until it restarts.
    #[arg(long)]
    pub(crate) allow_poisoning: bool,
    /// Run on both, and write a page with a table of all cases.
    #[arg(long, conflicts_with_all = ["json", "only"])]
    pub(crate) markdown: bool,
}

/// What can be held to the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ground {
    /// The running kernel, in child processes.
    Kernel,
    /// The model of it.
    Mm,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The directory for the demo's snapshots and core; it must be new, empty or an earlier
    /// demo's.
    #[arg(long, value_name = "DIR", default_value = "onionskin-demo")]
    pub(crate) dir: PathBuf,
    /// The memory of the program that is looked at.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub(crate) memory: u64,
}

/// Arguments of `demo-workload`.
#[derive(Args, Debug)]
pub(crate) struct DemoWorkload {
    /// Its memory.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: u64,
    /// Threads that move amounts.
    #[arg(long, default_value_t = 4)]
    pub(crate) threads: usize,
}

/// Arguments of `generate`.
#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// What to write.
    #[arg(value_enum)]
    pub(crate) what: Generated,
    /// The directory to write into.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generated {
    /// Man pages, one for each command.
    Man,
    /// Completions for bash, zsh, fish, elvish and PowerShell.
    Completions,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_snapshot_with_everything_parses() {
        let line = "onionskin snapshot 17 --store s3://b/p --name n --strategy fork \
                    --max-freeze 10ms --strict --every 5s --count 3 --verify --all --json";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        assert!(cli.json);
        let Command::Snapshot(args) = cli.command else {
            panic!("not a snapshot")
        };
        assert_eq!(args.max_freeze, Some(Duration::from_millis(10)));
        assert_eq!(
            (args.every, args.count),
            (Some(Duration::from_secs(5)), Some(3))
        );
        assert_eq!(args.strategy, StrategyArg::Fork);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "onionskin snapshot 17",
            "onionskin snapshot 17 --store s --name a/b",
            "onionskin snapshot 17 --store s --name=",
            "onionskin snapshot 17 --store s --count 3",
            "onionskin snapshot 17 --store s --every 5s --count 0",
            "onionskin snapshot 17 --store s --max-freeze 10",
            "onionskin watch 17 --interval 0s",
            "onionskin watch 17 --ranges",
            "onionskin watch -1",
            "onionskin snapshots remove --store s",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}

/// What the oracle shall do.
#[derive(Debug, Subcommand)]
pub(crate) enum Oracle {
    /// Run random programs on the kernel and on the model, and compare after every step.
    Run(OracleRun),
    /// Run one program from a file.
    Replay(OracleReplay),
}

/// Arguments of `oracle run`.
#[derive(Args, Debug)]
pub(crate) struct OracleRun {
    /// Stop after this many compared steps. [default: with neither limit, 30 seconds]
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// Stop after this time.
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<u64>,
    /// Stop after this many programs that diverge.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) divergences: Option<u64>,
    /// What the programs are drawn from. [default: another each time, and printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The running kernel's profile, as 6.18 or 6.12-arm64: refused where another runs.
    /// [default: the nearest to the running kernel]
    #[arg(long, value_name = "P")]
    pub(crate) profile: Option<String>,
    /// Only programs of these families: mapping, userfault, fork, fork-userfault, pin, hugetlb,
    /// thp, handler.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) family: Vec<String>,
    /// Leave these operations out.
    #[arg(long, value_name = "OP", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// How many programs run side by side: the same are found with any number.
    /// [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Show how often each operation ended how.
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Write the shrunk programs that differ into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `oracle replay`.
#[derive(Args, Debug)]
pub(crate) struct OracleReplay {
    /// The program.
    pub(crate) file: PathBuf,
    /// What it runs on.
    #[arg(long, value_enum, default_value_t = SideArg::Both)]
    pub(crate) on: SideArg,
    /// The kernel that the model plays, as 6.18 or 7.3-arm64-16k. [default: the running one]
    #[arg(long, value_name = "P")]
    pub(crate) profile: Option<String>,
}

/// What a program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideArg {
    /// The running kernel.
    Kernel,
    /// The model.
    Mm,
    /// Both, compared.
    Both,
}
