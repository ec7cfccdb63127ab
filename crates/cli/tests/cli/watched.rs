//! `watch`, on a program that writes to pages that the test knows.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{onionskin, works};

/// Tells a process that it is the program to look at.
const BODY: &str = "ONIONSKIN_TEST_WRITER";
/// How many pages it has, and how large one is at most. Together they are less than a huge page.
const PAGES: usize = 16;
const PAGE_MAX: usize = 64 << 10;
/// The pages that it writes to.
const WRITTEN: [usize; 4] = [3, 4, 9, 14];

/// Not a test: the body of the program, told so by its environment.
#[test]
fn body_of_the_writer() {
    if std::env::var_os(BODY).is_none() {
        return;
    }
    let mut memory = vec![1_u8; (PAGES + 1) * PAGE_MAX];
    let start = memory.as_ptr().addr().next_multiple_of(PAGE_MAX);
    println!("\nmemory {start}");
    let first = start - memory.as_ptr().addr();
    let (sender, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        // Whoever started us closes it, also by dying.
        std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        drop(sender);
    });
    let mut value = 0_u8;
    while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
        value = value.wrapping_add(1);
        for page in WRITTEN {
            memory[first + page * PAGE_MAX] = value;
        }
        std::hint::black_box(&mut memory);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The program, and where its memory is.
struct Writer(Child, u64);

impl Writer {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "watched::body_of_the_writer", "--nocapture"])
            .env(BODY, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let told = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("memory ")?.parse().ok());
        Self(child, told.expect("it says where its memory is"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Both fail where it ended before.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Reads a range as it is written: two numbers to the base of 16.
fn range(text: &Value) -> (u64, u64) {
    let (start, end) = text.as_str().unwrap().split_once('-').unwrap();
    let hex = |text| u64::from_str_radix(text, 16).unwrap();
    (hex(start), hex(end))
}

/// Returns which places of the program's memory an interval shows as written.
fn places(interval: &Value, memory: u64) -> BTreeSet<u64> {
    let page = interval["page_size"].as_u64().unwrap();
    let (mut places, mut listed) = (BTreeSet::new(), 0);
    for mapping in interval["mappings"].as_array().unwrap() {
        let mut own = 0;
        for (start, end) in mapping["written"]
            .as_array()
            .into_iter()
            .flatten()
            .map(range)
        {
            own += (end - start) / page;
            let len = (PAGES * PAGE_MAX) as u64;
            let inside = (start..end).step_by(page.try_into().unwrap());
            places.extend(
                inside
                    .filter(|at| (memory..memory + len).contains(at))
                    .map(|at| at - memory),
            );
        }
        assert_eq!(mapping["written_pages"], own, "{mapping}");
        listed += own;
    }
    assert_eq!(interval["written_pages"], listed);
    places
}

fn intervals(pid: &str, dir: &Path) -> Vec<Value> {
    let args = [
        "watch",
        pid,
        "--json",
        "--ranges",
        "--interval",
        "100ms",
        "--duration",
        "500ms",
    ];
    let output = onionskin(&args, dir);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect()
}

#[test]
fn the_written_pages_are_those_that_were_written() {
    let dir = tempfile::tempdir().unwrap();
    if !works("precopy", "watch", dir.path()) {
        return;
    }
    let writer = Writer::start();
    let wanted: BTreeSet<u64> = WRITTEN.map(|page| (page * PAGE_MAX) as u64).into();
    let mut seen = BTreeSet::new();
    // A busy machine may not let it run for a while.
    for _ in 0..100 {
        let intervals = intervals(&writer.pid(), dir.path());
        assert!(!intervals.is_empty());
        for interval in &intervals {
            seen.extend(places(interval, writer.1));
            let forecast = &interval["forecast"];
            let strategy = forecast["strategy"].as_str().unwrap();
            assert!(
                forecast["freeze_ms"][strategy].as_f64().unwrap() > 0.0,
                "{forecast}"
            );
        }
        // Where mappings join, soft-dirty bits show more than was written.
        let more = intervals.iter().any(|one| one["tracking"] == "soft-dirty");
        assert!(more || seen.is_subset(&wanted), "{seen:?} of {wanted:?}");
        if seen.is_superset(&wanted) {
            return;
        }
    }
    panic!("it does not write: {seen:?} of {wanted:?}");
}

#[test]
fn the_report_needs_nothing_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    if !works("precopy", "watch --html", dir.path()) {
        return;
    }
    let writer = Writer::start();
    let pid = writer.pid();
    let args = [
        "watch",
        &pid,
        "--html",
        "report.html",
        "--duration",
        "300ms",
    ];
    let output = onionskin(&[&args[..], &["--interval", "100ms"]].concat(), dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains(&pid) && page.contains("</html>"));
    // Names of formats look like addresses, and nothing is fetched for them.
    let page = page.replace("http://www.w3.org/", "");
    for outside in [
        "http:", "https:", "src=", "@import", "url(", "fetch(", "<link",
    ] {
        let at = page.find(outside);
        let around = at.map(|at| page[at..].chars().take(80).collect::<String>());
        assert_eq!(around, None);
    }
}
