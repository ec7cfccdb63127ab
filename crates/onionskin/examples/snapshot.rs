//! Takes two snapshots of a process, the second of which costs only what changed between.
//!
//! `cargo run -p onionskin --example snapshot -- PID DIRECTORY`

use onionskin::{Access, Session, SessionOptions, Silent, SnapshotOptions, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(pid), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: snapshot PID DIRECTORY".into());
    };
    let store = Store::open(&directory, Access::Create)?;
    let mut session = Session::attach(pid.parse()?, SessionOptions::default())?;
    for more_follow in [true, false] {
        let options = SnapshotOptions {
            more_follow,
            ..SnapshotOptions::default()
        };
        let report = session.snapshot(&store, &options, &mut Silent)?;
        println!(
            "{}: stopped for {:.3} ms, {} bytes stored",
            report.snapshot, report.freeze_ms, report.bytes_stored
        );
    }
    Ok(())
}
