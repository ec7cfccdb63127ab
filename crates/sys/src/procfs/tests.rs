//! Questions about real processes: this one, and children.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use space::{Errno, Mapping, MappingFlags, PageSize, Sharing, Vaddr};

use super::*;

fn own() -> Process {
    Process::open(std::process::id()).unwrap()
}

fn page_size() -> PageSize {
    base_page_size()
}

fn own_maps() -> Vec<Mapping> {
    let mut out = Vec::new();
    own().maps(page_size(), &mut Vec::new(), &mut out).unwrap();
    out
}

#[test]
fn own_mappings_hold_a_local_and_the_program() {
    let local = 0_u8;
    let address = Vaddr(u64::try_from((&raw const local).addr()).unwrap());
    let maps = own_maps();
    assert!(maps.is_sorted_by_key(|mapping| mapping.range.start()));
    assert!(maps.iter().any(|mapping| mapping.range.contains(address)));
    let program = fs::canonicalize("/proc/self/exe").unwrap();
    assert!(
        maps.iter()
            .any(|mapping| mapping.name == program.to_str().unwrap())
    );
}

#[test]
fn smaps_and_maps_agree_on_a_process_that_waits() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = Process::open(child.id()).unwrap();
    while process.command_line().unwrap().first().map(String::as_str) != Some("sleep")
        || process.stat().unwrap().state != RunState::Sleeping
    {
        std::thread::yield_now();
    }
    let mut maps = Vec::new();
    process
        .maps(page_size(), &mut Vec::new(), &mut maps)
        .unwrap();
    let smaps = process.smaps(page_size()).unwrap();
    assert_eq!(maps.len(), smaps.len());
    for (map, smap) in maps.iter().zip(&smaps) {
        assert!(map.same_place(&smap.mapping), "{map:?} {smap:?}");
    }
    let all = process.smaps_rollup(page_size()).unwrap();
    let resident: u64 = smaps.iter().map(|smap| smap.resident.0).sum();
    assert_eq!(all.resident.0, resident);
    let stack = smaps
        .iter()
        .find(|smap| smap.mapping.name == "[stack]")
        .unwrap();
    assert!(stack.mapping.flags.contains(MappingFlags::GROWS_DOWN));
    assert!(stack.anonymous.0 > 0);
    let data = smaps
        .iter()
        .find(|smap| smap.mapping.flags.contains(MappingFlags::HAS_OWN_PAGES));
    assert_eq!(data.unwrap().mapping.sharing, Sharing::Private);

    let status = process.status().unwrap();
    let stat = process.stat().unwrap();
    assert_eq!(status.parent, std::process::id());
    assert_eq!(
        (stat.parent, stat.threads, stat.name.as_str()),
        (status.parent, 1, "sleep")
    );
    assert_eq!(own().children(own_task()).unwrap(), [child.id()]);
    assert!(stack.mapping.range.contains(stat.stack_start));
    let state = process_state(&process, &process).unwrap();
    assert_eq!(state.command_line, ["sleep", "1000"]);
    assert!(state.executable.starts_with('/'));
    assert!(state.limits.contains("Max open files"));
    assert_eq!(state.machine, executable::own_machine());
    assert_eq!(state.auxv.len() % 16, 0);

    child.kill().unwrap();
    child.wait().unwrap();
    for result in [process.stat().map(drop), process.descriptors().map(drop)] {
        assert_eq!(result, Err(ProcfsError::Gone { pid: child.id() }));
    }
    assert_eq!(
        Process::open(child.id()).map(drop),
        Err(ProcfsError::Gone { pid: child.id() })
    );
}

fn own_task() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap()
}

#[test]
fn a_zombie_has_no_memory() {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    let mut text = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut text).unwrap();
    let process = Process::open(child.id()).unwrap();
    while process.stat().unwrap().state != RunState::Zombie {
        std::thread::yield_now();
    }
    let mut maps = Vec::new();
    process
        .maps(page_size(), &mut Vec::new(), &mut maps)
        .unwrap();
    assert_eq!(maps, []);
    assert_eq!(process.status().unwrap().resident, None);
    assert_eq!(process.command_line().unwrap(), Vec::<String>::new());
    child.wait().unwrap();
}

#[test]
fn descriptors_tell_their_files_and_sockets() {
    let file = fs::File::open("/proc/self/maps").unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = |fd: &dyn AsRawFd| u32::try_from(fd.as_raw_fd()).unwrap();
    let descriptors = own().descriptors().unwrap();
    let target = |wanted| {
        let found = descriptors
            .iter()
            .find(|descriptor| descriptor.number == wanted);
        found.unwrap().target.clone()
    };
    assert!(target(number(&file)).ends_with("/maps"));
    assert!(target(number(&socket)).starts_with("socket:["));
    assert_eq!(
        own().socket_protocol(number(&socket)).as_deref(),
        Some("TCP")
    );
    assert_eq!(own().socket_protocol(number(&file)), None);
    let info = own().descriptor_info(number(&file)).unwrap();
    assert!(!info.is_direct());
    let wanted = rustix::fs::OFlags::CLOEXEC.bits();
    assert_eq!(info.flags & wanted, wanted);
}

#[test]
fn tasks_are_all_found() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(own_task()).unwrap();
        let _ = stopped.recv();
    });
    let tid = told.recv().unwrap();
    let tasks = own().tasks().unwrap();
    assert!(tasks.contains(&tid) && tasks.contains(&std::process::id()));
    let task = own().task(tid).unwrap();
    assert_eq!(task.status().unwrap().process, std::process::id());
    assert_eq!(task.status().unwrap().task, tid);
    drop(stop);
    thread.join().unwrap();
    assert!(processes().unwrap().contains(&std::process::id()));
}

#[test]
fn a_missing_file_is_not_a_missing_process() {
    let error = own().read("no such file").unwrap_err();
    assert_eq!(error.errno(), Errno::ENOENT);
    assert!(error.to_string().contains("no such file"));
}
