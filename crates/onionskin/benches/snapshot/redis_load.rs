//! redis-benchmark, run again and again until it is told to stop, and its latencies put together.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};

use super::stats::float64;

/// Requests of one run: few, so that runs end soon after they should.
const REQUESTS: u64 = 20_000;

/// Latencies, as steps of a distribution: milliseconds, and how many requests took about that.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    steps: Vec<(f64, u64)>,
}

/// Sets random keys until `stop` is set; a run that has begun is finished.
pub(crate) fn run(
    socket: &Path,
    keys: u64,
    value_bytes: u64,
    stop: &AtomicBool,
) -> Result<Latencies> {
    let mut all = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let output = Command::new("redis-benchmark")
            .arg("-s")
            .arg(socket)
            .args([
                "-t",
                "set",
                "-n",
                &REQUESTS.to_string(),
                "-r",
                &keys.to_string(),
            ])
            .args(["-d", &value_bytes.to_string(), "--precision", "3"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .context("redis-benchmark can't be run: apt-get install redis-tools")?;
        ensure!(
            output.status.success(),
            "redis-benchmark ended with {}",
            output.status
        );
        all.add(&String::from_utf8_lossy(&output.stdout))?;
    }
    Ok(all)
}

impl Latencies {
    /// Adds what a run printed: lines `99.902% <= 1.351 milliseconds (cumulative count 19981)`.
    fn add(&mut self, text: &str) -> Result<()> {
        let table = text.split("Latency by percentile distribution:").nth(1);
        let table = table.and_then(|rest| rest.split("Cumulative distribution").next());
        let mut before = 0;
        for line in table
            .context("redis-benchmark printed no percentiles")?
            .lines()
        {
            let Some((_, rest)) = line.split_once("% <= ") else {
                continue;
            };
            let (latency, rest) = rest.split_once(" milliseconds").context("no latency")?;
            let count = rest
                .rsplit(' ')
                .next()
                .and_then(|count| count.strip_suffix(')'));
            let count: u64 = count.context("no count")?.parse()?;
            self.steps
                .push((latency.parse()?, count.saturating_sub(before)));
            before = count;
        }
        self.steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(())
    }

    /// How many requests were answered.
    pub(crate) fn count(&self) -> u64 {
        self.steps.iter().map(|step| step.1).sum()
    }

    /// The latency that a share of the requests did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = share * float64(self.count());
        let mut sum = 0;
        for &(latency, count) in &self.steps {
            sum += count;
            if float64(sum) >= wanted {
                return latency;
            }
        }
        self.max()
    }

    /// The longest.
    pub(crate) fn max(&self) -> f64 {
        self.steps.last().map_or(f64::NAN, |step| step.0)
    }
}
