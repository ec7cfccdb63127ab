//! How fast snapshots are: every figure of `docs/performance.md`.
//!
//! `cargo xtask bench snapshot` builds what is needed and runs this. Each module measures one
//! subject, always beside what it is compared with, in turns within one run, and returns a section
//! of the document. What is compared runs on the same process, with memory that was touched before.
#![forbid(unsafe_code)]

mod bare;
mod busy;
mod command;
mod first;
mod freeze;
mod gaps;
mod heartbeat;
mod loops;
mod machine;
mod options;
mod peak;
mod pipeline;
mod probe;
mod redis;
mod redis_load;
mod redis_picture;
mod redis_server;
mod report;
mod sizes;
mod stats;
mod stored;
mod watched;

use anyhow::Result;

use self::options::Options;
use self::report::{Document, Section};

/// A subject: its name on the command line, and how it is measured.
type Subject = (&'static str, fn(&Options) -> Result<Section>);

const SUBJECTS: &[Subject] = &[
    ("freeze", freeze::measure),
    ("sizes", sizes::measure),
    ("busy", busy::measure),
    ("loops", loops::measure),
    ("watched", watched::measure),
    ("first", first::measure),
    ("peak", peak::measure),
    ("redis", redis::measure),
];

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut document = Document::open(options.docs.as_deref())?;
    for (name, measure) in SUBJECTS {
        if !options.wants(name) {
            continue;
        }
        eprintln!("== {name} (load {})", machine::load());
        match measure(&options) {
            Ok(section) => {
                println!("{}", section.markdown());
                document.put(name, section);
                document.write()?;
            }
            Err(error) => {
                println!("{name} could not be measured: {error:#}");
            }
        }
    }
    Ok(())
}
