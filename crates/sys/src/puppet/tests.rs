use super::*;

fn anonymous(script: &mut Script, pages: u64) -> Token {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let args = [
        Arena::START,
        pages * page_size(),
        3,
        u64::from(flags.cast_unsigned()),
        u64::MAX,
        0,
    ];
    script.call(System::Mmap, &args.map(Arg::Value)).unwrap()
}

#[test]
fn it_maps_stores_loads_and_looks() {
    let puppet = Puppet::start(PuppetOptions::default()).unwrap();
    let mut script = puppet.script();
    let map = anonymous(&mut script, 4);
    let store = script.store(Arena::START + page_size(), 1, 0x41).unwrap();
    let load = script.load(Arena::START + page_size(), 8).unwrap();
    let span = Span {
        start: Arena::START,
        len: 8 * page_size(),
    };
    let look = script.look(span, 8, 9).unwrap();
    puppet.run(0, &script).unwrap();
    assert_eq!(
        script.reply(map).unwrap().value.cast_unsigned(),
        Arena::START
    );
    assert_eq!(script.reply(store).unwrap(), Reply::default());
    assert_eq!(script.reply(load).unwrap().value, 0x41);
    let look = script.seen(look);
    let area = Area {
        start: Arena::START,
        end: Arena::START + 4 * page_size(),
        access: 3,
        offset: 0,
        inode: 0,
        page_size: page_size(),
    };
    assert_eq!(look.areas, [area]);
    let present: Vec<bool> = look.entries.iter().map(|entry| entry >> 63 == 1).collect();
    assert_eq!(
        present,
        [false, true, false, false, false, false, false, false]
    );
}

#[test]
fn a_fault_is_an_answer() {
    let puppet = Puppet::start(PuppetOptions::default()).unwrap();
    let mut script = puppet.script();
    let load = script.load(Arena::START + page_size(), 1).unwrap();
    let store = script.store(Arena::START, 8, 1).unwrap();
    puppet.run(0, &script).unwrap();
    for (token, address) in [(load, Arena::START + page_size()), (store, Arena::START)] {
        let reply = script.reply(token).unwrap();
        assert_eq!(reply.signal, libc::SIGSEGV.cast_unsigned());
        assert_eq!((reply.code, reply.address), (1, address));
    }
}

#[test]
fn a_fork_is_a_lane_with_its_own_memory() {
    let puppet = Puppet::start(PuppetOptions::default()).unwrap();
    let mut script = puppet.script();
    anonymous(&mut script, 1);
    script.store(Arena::START, 1, 1).unwrap();
    script.fork(1).unwrap();
    script.store(Arena::START, 1, 2).unwrap();
    puppet.run(0, &script).unwrap();
    puppet.wait_born(1).unwrap();
    script.clear();
    let load = script.load(Arena::START, 1).unwrap();
    puppet.run(1, &script).unwrap();
    assert_eq!(script.reply(load).unwrap().value, 1);
    puppet.run(0, &script).unwrap();
    assert_eq!(script.reply(load).unwrap().value, 2);
    script.clear();
    script.exit().unwrap();
    puppet.begin(1, 0, 1).unwrap();
    assert_eq!(puppet.wait(1).unwrap(), Progress::Ended);
    puppet.forget(1);
    assert_eq!(puppet.lane_pid(1), None);
}

#[test]
fn a_thread_shares_memory_and_is_seen_blocked() {
    let puppet = Puppet::start(PuppetOptions::default()).unwrap();
    let mut script = puppet.script();
    anonymous(&mut script, 1);
    script.thread(1).unwrap();
    let pipe = script.buffer(8).unwrap();
    script
        .call(System::Pipe2, &[Arg::Data(pipe), Arg::Value(0)])
        .unwrap();
    puppet.run(0, &script).unwrap();
    puppet.wait_born(1).unwrap();
    let (from, store) = (script.len(), script.store(Arena::START, 1, 7).unwrap());
    let byte = script.buffer(8).unwrap();
    let read = script
        .call(
            System::Read,
            &[Arg::Word(pipe), Arg::Data(byte), Arg::Value(1)],
        )
        .unwrap();
    puppet.begin(1, from, script.len()).unwrap();
    assert_eq!(puppet.settle(1).unwrap(), Progress::Blocked);
    assert!(script.reply(store).is_some() && script.reply(read).is_none());
    let from = script.len();
    let load = script.load(Arena::START, 1).unwrap();
    let args = [Arg::Word(pipe + 4), Arg::Data(byte), Arg::Value(1)];
    script.call(System::Write, &args).unwrap();
    puppet.begin(0, from, script.len()).unwrap();
    assert_eq!(puppet.settle(0).unwrap(), Progress::Done);
    assert_eq!(puppet.settle(1).unwrap(), Progress::Done);
    assert_eq!(script.reply(load).unwrap().value, 7);
    assert_eq!(script.reply(read).unwrap().value, 1);
}

#[test]
fn memory_of_the_tool_can_not_be_named() {
    let puppet = Puppet::start(PuppetOptions::default()).unwrap();
    let mut script = puppet.script();
    let own = std::ptr::from_ref(&puppet).addr() as u64;
    assert!(matches!(
        script.store(own, 1, 0),
        Err(ScriptError::OutsideArena(_))
    ));
    let args = [own, 4096, 4].map(Arg::Value);
    assert!(matches!(
        script.call(System::Madvise, &args),
        Err(ScriptError::OutsideArena(_))
    ));
    let args = [Arg::Value(1), Arg::Value(0)];
    assert_eq!(
        script.call(System::ProcessVmReadv, &args),
        Err(ScriptError::NoLane)
    );
    assert!(script.is_empty());
}

#[test]
fn a_ring_s_fixed_buffer_reads_and_writes_a_file() {
    let puppet = Puppet::start(PuppetOptions::default()).unwrap();
    let mut script = puppet.script();
    anonymous(&mut script, 1);
    script.store(Arena::START, 1, 0x33).unwrap();
    let name = script.words(&[u64::from(b'x')]).unwrap();
    let file = script
        .call(System::MemfdCreate, &[Arg::Data(name), Arg::Value(0)])
        .unwrap();
    let (fd, ring) = (FIRST_SLOT, FIRST_SLOT + 60);
    script
        .call(System::Dup3, &[file.arg(), Arg::Value(fd), Arg::Value(0)])
        .unwrap();
    let made = script.ring_make(ring).unwrap();
    let span = Span {
        start: Arena::START,
        len: 4096,
    };
    let pinned = script.ring_pin(ring, span).unwrap();
    let transfer = Transfer {
        ring,
        file: fd,
        offset: 0,
        span,
        way: Way::ToFile,
    };
    let out = script.ring_move(transfer).unwrap();
    let back = Transfer {
        way: Way::ToMemory,
        offset: 1,
        ..transfer
    };
    let back = script.ring_move(back).unwrap();
    let load = script.load(Arena::START, 1).unwrap();
    puppet.run(0, &script).unwrap();
    if script.reply(made).unwrap().value < 0 {
        println!("skipped: io_uring");
        return;
    }
    assert_eq!(script.reply(pinned).unwrap().value, 0);
    assert_eq!(script.reply(out).unwrap().value, 4096);
    assert_eq!(script.reply(back).unwrap().value, 4095);
    assert_eq!(script.reply(load).unwrap().value, 0);
}
