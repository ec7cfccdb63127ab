//! redis-server under load.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onionskin::SnapshotOptions;

use crate::common::{STRATEGIES, Tool, ask, chain, rounds, skip, temporary_directory};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns what redis-cli prints.
fn cli(socket: &Path, words: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .arg("-s")
        .arg(socket)
        .args(words)
        .output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[test]
fn redis_goes_on_under_load() {
    let directory = temporary_directory();
    let socket = directory.path().join("redis.sock");
    let server = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--daemonize",
            "no",
            "--unixsocket",
        ])
        .arg(&socket)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let Ok(server) = server else {
        skip("redis-server is not installed");
        return;
    };
    let mut server = Running(server);
    let until = Instant::now() + Duration::from_secs(30);
    while cli(&socket, &["ping"]) != "PONG" {
        assert!(Instant::now() < until, "redis-server does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    cli(&socket, &["debug", "populate", "100000", "key", "200"]);
    let digest = cli(&socket, &["debug", "digest-value", "key:1", "key:99999"]);

    let load = Command::new("redis-benchmark")
        .arg("-s")
        .arg(&socket)
        .args([
            "-t",
            "set,incr,lpush",
            "-n",
            "100000000",
            "-r",
            "50000",
            "-q",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-benchmark comes with redis-server");
    let mut load = Running(load);
    for strategy in STRATEGIES {
        let mut tool =
            Tool::attach(server.0.id()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        if !tool.can(strategy) {
            continue;
        }
        for round in rounds(6, Duration::from_secs(8)) {
            let options = SnapshotOptions {
                verify: round % 2 == 0,
                ..ask(strategy)
            };
            let (report, _) = tool.must(&options);
            println!(
                "{strategy:?}: froze {:.1} ms, copied {} pages then, {} in all",
                report.freeze_ms, report.pages_copied_frozen, report.pages_total
            );
            if let Some(verify) = report.verify {
                assert_eq!(verify.differing_pages, 0, "{strategy:?}");
            }
        }
        assert_eq!(cli(&socket, &["ping"]), "PONG", "after {strategy:?}");
    }
    assert!(load.0.try_wait().unwrap().is_none(), "the load ended early");
    drop(load);
    assert_eq!(
        cli(&socket, &["debug", "digest-value", "key:1", "key:99999"]),
        digest
    );
    assert!(server.0.try_wait().unwrap().is_none(), "redis-server ended");
}
