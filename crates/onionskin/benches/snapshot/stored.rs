//! Taking snapshots into a store that is removed in the end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onionskin::report::SnapshotReport;
use onionskin::{Access, Session, SessionOptions, Silent, SnapshotOptions, Store, Strategy};
use tempfile::TempDir;

use super::command::scratch;
use super::gaps::Gaps;
use super::heartbeat::Heartbeat;
use super::stats::Values;

/// A store in a folder that goes away with it.
pub(crate) struct Stored {
    /// The store.
    pub(crate) store: Store,
    _folder: TempDir,
}

impl Stored {
    /// Makes one on the disk.
    pub(crate) fn new() -> Result<Self> {
        Self::within(scratch())
    }

    /// Makes one in a folder.
    pub(crate) fn within(folder: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("onionskin-bench")
            .tempdir_in(folder)?;
        let address = folder.path().join("store");
        let store = Store::open(address.to_str().context("a path of text")?, Access::Create)?;
        Ok(Self {
            store,
            _folder: folder,
        })
    }
}

/// A session on a heartbeat, with what its snapshots cost.
pub(crate) struct Series {
    session: Session,
    stored: Stored,
    /// The first: a whole one.
    pub(crate) first: Costs,
    /// Those after it: layers.
    pub(crate) layers: Costs,
}

/// What several snapshots cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    /// The freeze in milliseconds, and its parts.
    pub(crate) freeze: Values,
    /// Stopping.
    pub(crate) stop: Values,
    /// Looking.
    pub(crate) scan: Values,
    /// Copying or forking, registers and arming beside it.
    pub(crate) copy: Values,
    /// The largest gap of the heartbeat.
    pub(crate) gap: Values,
    /// How much longer the largest gap of any thread was than the freeze.
    pub(crate) beyond: Values,
    /// MiB copied while frozen.
    pub(crate) frozen_mib: Values,
    /// The whole snapshot, in milliseconds.
    pub(crate) duration: Values,
    /// The strategies used.
    pub(crate) strategies: Vec<&'static str>,
}

impl Costs {
    /// Adds a snapshot.
    pub(crate) fn add(&mut self, report: &SnapshotReport, gaps: Option<(Duration, Duration)>) {
        self.freeze.push(report.freeze_ms);
        self.stop.push(report.freeze.stop);
        self.scan.push(report.freeze.scan);
        self.copy.push(report.freeze.copy);
        self.frozen_mib.push(super::stats::mib(
            report.pages_copied_frozen * report.page_size,
        ));
        self.duration.push(report.duration_ms);
        if let Some((largest, _)) = gaps {
            self.gap.push_time(largest);
            self.beyond
                .push(super::stats::millis(largest) - report.freeze_ms);
        }
        let name = report.strategy.name();
        if !self.strategies.contains(&name) {
            self.strategies.push(name);
        }
    }

    /// Adds all of another series.
    pub(crate) fn join(&mut self, other: &Self) {
        self.freeze.join(&other.freeze);
        self.stop.join(&other.stop);
        self.scan.join(&other.scan);
        self.copy.join(&other.copy);
        self.gap.join(&other.gap);
        self.beyond.join(&other.beyond);
        self.frozen_mib.join(&other.frozen_mib);
        self.duration.join(&other.duration);
        for name in &other.strategies {
            if !self.strategies.contains(name) {
                self.strategies.push(name);
            }
        }
    }
}

impl Series {
    /// Attaches and takes the first, whole snapshot.
    pub(crate) fn begin(heartbeat: &Heartbeat) -> Result<Self> {
        let stored = Stored::new()?;
        let session = Session::attach(heartbeat.pid(), SessionOptions::default())?;
        let (first, layers) = (Costs::default(), Costs::default());
        let mut series = Self {
            session,
            stored,
            first,
            layers,
        };
        let (report, gaps) = series.take(heartbeat, Strategy::Auto)?;
        series.first.add(&report, gaps);
        Ok(series)
    }

    /// Takes a layer.
    pub(crate) fn layer(&mut self, heartbeat: &Heartbeat) -> Result<SnapshotReport> {
        self.layer_by(heartbeat, Strategy::Auto)
    }

    /// Takes a layer in a given way.
    pub(crate) fn layer_by(
        &mut self,
        heartbeat: &Heartbeat,
        strategy: Strategy,
    ) -> Result<SnapshotReport> {
        let (report, gaps) = self.take(heartbeat, strategy)?;
        eprintln!(
            "  {} froze {:.2} ms (stop {:.2}, scan {:.2}, copy {:.2}) gaps {:.2?}, {} pages \
             frozen, {} rounds, {:.0} ms in all",
            report.strategy.name(),
            report.freeze_ms,
            report.freeze.stop,
            report.freeze.scan,
            report.freeze.copy,
            gaps.unwrap_or_default(),
            report.pages_copied_frozen,
            report.rounds,
            report.duration_ms
        );
        self.layers.add(&report, gaps);
        Ok(report)
    }

    /// Attaches and takes the first snapshot, without looking at the heartbeat.
    pub(crate) fn begin_unseen(heartbeat: &Heartbeat) -> Result<Self> {
        let stored = Stored::new()?;
        let session = Session::attach(heartbeat.pid(), SessionOptions::default())?;
        let (first, layers) = (Costs::default(), Costs::default());
        let mut series = Self {
            session,
            stored,
            first,
            layers,
        };
        series.take_unseen(Strategy::Auto)?;
        Ok(series)
    }

    /// Takes a layer without looking at the heartbeat: it may be stopped.
    pub(crate) fn take_unseen(&mut self, strategy: Strategy) -> Result<SnapshotReport> {
        let options = SnapshotOptions {
            strategy,
            more_follow: true,
            ..Default::default()
        };
        Ok(self
            .session
            .snapshot(&self.stored.store, &options, &mut Silent)?)
    }

    fn take(
        &mut self,
        heartbeat: &Heartbeat,
        strategy: Strategy,
    ) -> Result<(SnapshotReport, Option<(Duration, Duration)>)> {
        let options = SnapshotOptions {
            strategy,
            more_follow: true,
            ..Default::default()
        };
        let mut gaps = Gaps::of(heartbeat);
        let report = self
            .session
            .snapshot(&self.stored.store, &options, &mut gaps)?;
        Ok((report, gaps.seen))
    }
}
