//! What a forked duplicate is compared with.

use onionskin::{Event, Observer, SnapshotOptions, Strategy};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::common::{Ended, Target, Tool, ask, is_slow, skip};

/// Has all tasks of a process run on another processor before each freeze.
struct Mover {
    pid: u32,
    cpus: Vec<usize>,
    moves: usize,
}

impl Observer for Mover {
    fn event(&mut self, event: &Event) {
        if !matches!(event, Event::Freezing) {
            return;
        }
        let mut on = CpuSet::new();
        on.set(self.cpus[self.moves % self.cpus.len()]);
        self.moves += 1;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        for task in tasks {
            let name = task.unwrap().file_name();
            let tid: i32 = name.to_str().unwrap().parse().unwrap();
            // It may have ended meanwhile.
            let _ = sched_setaffinity(Pid::from_raw(tid), &on);
        }
    }
}

#[test]
fn a_task_that_is_made_to_fork_elsewhere_makes_no_difference() {
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect();
    if cpus.len() < 2 {
        return skip("there is one processor only");
    }
    // So much is written that `auto` forks after its rounds.
    let mib = if is_slow() { "96" } else { "256" };
    let writes = ["--mib", mib, "--hot-percent", "100", "--writes", "4000"];
    let mut target = Target::start("heartbeat", &writes);
    let mut mover = Mover {
        pid: target.pid(),
        cpus,
        moves: 0,
    };
    let mut forks = 0;
    for _ in 0..6 {
        let mut tool = Tool::on(&target);
        if !tool.can_test(Strategy::Precopy) {
            return;
        }
        let options = SnapshotOptions {
            verify: true,
            ..ask(Strategy::Auto)
        };
        let (report, _) = tool
            .take_observed(&options, &mut mover)
            .expect("nothing is promised");
        let verified = report.verify.as_ref().expect("it was asked for");
        assert_eq!(verified.differing_pages, 0, "{report:?}");
        forks += u32::from(report.strategy == onionskin::report::Strategy::Fork);
        target.must_advance("beats");
    }
    println!("{forks} forks after rounds");
    if forks == 0 {
        // It depends on how fast rounds are here beside the writes.
        skip("no round left so much that auto forked");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
