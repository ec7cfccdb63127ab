//! Tells, second by second, which mapping a process writes most.
//!
//! `cargo run -p onionskin --example watch -- PID`

use std::{thread::sleep, time::Duration};

use onionskin::Watch;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid = std::env::args().nth(1).ok_or("usage: watch PID")?.parse()?;
    let mut watch = Watch::attach(pid)?;
    watch.interval()?;
    loop {
        sleep(Duration::from_secs(1));
        let interval = watch.interval()?;
        let most = interval
            .mappings
            .iter()
            .max_by_key(|mapping| mapping.written_pages);
        let Some(most) = most else { continue };
        println!(
            "{} pages written, {} of them in {} {}",
            interval.written_pages, most.written_pages, most.range, most.name
        );
    }
}
