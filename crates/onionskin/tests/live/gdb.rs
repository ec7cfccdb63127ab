//! gdb reads variables and backtraces out of an exported core.

use onionskin::{SnapshotOptions, export};

use crate::common::{
    Ended, NO_GDB, STRATEGIES, Target, Tool, ask, ask_all, build, expect_stacks, gdb, hugetlb_mib,
    skip,
};

const THREADS: u64 = 5;

#[test]
fn variables_and_backtraces_of_every_thread() {
    let program = build("stacks");
    let threads = THREADS.to_string();
    let target = Target::start("stacks", &["--threads", &threads]);
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        let (_, snapshot) = tool.must(&ask(strategy));
        let core = tool.directory().join("core");
        export::core(&snapshot, &core, &mut |_| ()).unwrap();
        println!("{strategy:?}");
        if !expect_stacks(&program, &core, THREADS) {
            return skip(NO_GDB);
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn a_core_of_every_kind_of_memory_opens() {
    let mut args = vec!["--mappings", "3000"];
    if hugetlb_mib(64) {
        args.push("--hugetlb");
    }
    let target = Target::start("special", &args);
    let mut tool = Tool::on(&target);
    for (round, options) in [
        ask(onionskin::Strategy::Freeze),
        ask_all(onionskin::Strategy::Freeze),
    ]
    .iter()
    .enumerate()
    {
        let options = SnapshotOptions {
            more_follow: false,
            ..options.clone()
        };
        let (_, snapshot) = tool.must(&options);
        let core = tool.directory().join(format!("core{round}"));
        export::core(&snapshot, &core, &mut |_| ()).unwrap();
        let start = &target.ready["areas"]["prot_none"]["start"];
        let fill = &target.ready["areas"]["prot_none"]["fill"][0];
        let look = format!("print *(unsigned char *){start}");
        let said = gdb(
            &build("special"),
            &core,
            &["backtrace", &look, "print areas[0].pages"],
        );
        let Some(said) = said else {
            return skip(NO_GDB);
        };
        assert!(said.contains("main ("), "no backtrace:\n{said}");
        assert!(
            said.contains(&format!("$1 = {fill}")),
            "no {fill} in:\n{said}"
        );
        assert!(said.contains("$2 = 8"), "{said}");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
