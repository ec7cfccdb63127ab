use proptest::prelude::*;
use space::Errno;

use super::generate::Random;
use super::opcode::{ADD, DIV, JA, JEQ, LD_ABS, LD_MEM, LDX_IMM, RET_A, RET_K, SOURCE_X, ST, TAX};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

fn op(code: u16, k: u32) -> BpfInstruction {
    BpfInstruction {
        code,
        k,
        ..BpfInstruction::default()
    }
}

fn returns(value: u32) -> Filter {
    Filter::new(vec![op(RET_K, value)]).unwrap()
}

fn call(nr: u32) -> SeccompData {
    SeccompData {
        nr,
        arch: SeccompData::NATIVE_ARCH,
        instruction_pointer: 0x1234,
        args: [0; 6],
    }
}

/// A filter that returns `value` for the call `nr` and allows all else.
fn only_for(nr: u32, value: u32) -> Filter {
    Filter::new(vec![
        op(LD_ABS, 0),
        BpfInstruction {
            code: JEQ,
            jt: 0,
            jf: 1,
            k: nr,
        },
        op(RET_K, value),
        op(RET_K, ALLOW),
    ])
    .unwrap()
}

#[test]
fn actions_win_in_the_kernels_order() {
    let order = [
        (0x8000_0000, Verdict::KillProcess),
        (0, Verdict::KillThread),
        (0x0003_0007, Verdict::Trap(7)),
        (ERRNO | 1, Verdict::Errno(Errno(1))),
        (0x7fc0_0000, Verdict::UserNotification),
        (0x7ff0_0009, Verdict::Trace(9)),
        (0x7ffc_0000, Verdict::Log),
        (ALLOW, Verdict::Allow),
    ];
    for (at, (strong, verdict)) in order.iter().enumerate() {
        for (weak, _) in &order[at..] {
            for pair in [[*strong, *weak], [*weak, *strong]] {
                assert_eq!(
                    evaluate(&pair.map(returns), &call(1)),
                    *verdict,
                    "{pair:x?}"
                );
            }
        }
    }
}

#[test]
fn of_the_same_action_the_newest_filter_wins() {
    let filters = [returns(ERRNO | 2), returns(ERRNO | 3)];
    assert_eq!(evaluate(&filters, &call(1)), Verdict::Errno(Errno(3)));
    assert_eq!(evaluate(&[], &call(1)), Verdict::Allow);
}

#[test]
fn unknown_actions_kill_and_large_errors_are_cut() {
    assert_eq!(
        evaluate(&[returns(0x0001_0000)], &call(1)),
        Verdict::KillProcess
    );
    assert_eq!(
        evaluate(&[returns(0x7ffe_0000)], &call(1)),
        Verdict::KillProcess
    );
    assert_eq!(
        evaluate(&[returns(ERRNO | 0xffff)], &call(1)),
        Verdict::Errno(Errno(4095))
    );
}

#[test]
fn division_by_a_zero_in_x_kills_the_thread() {
    let program = vec![op(LDX_IMM, 0), op(DIV | SOURCE_X, 0), op(RET_K, ALLOW)];
    assert_eq!(
        evaluate(&[Filter::new(program).unwrap()], &call(1)),
        Verdict::KillThread
    );
}

#[test]
fn loads_see_the_layout_of_seccomp_data() {
    let data = SeccompData {
        nr: 10,
        arch: 11,
        instruction_pointer: 13 << 32 | 12,
        args: std::array::from_fn(|i| {
            let low = 14 + 2 * u64::try_from(i).unwrap();
            (low + 1) << 32 | low
        }),
    };
    if cfg!(target_endian = "little") {
        for at in 0..16 {
            let program = vec![op(LD_ABS, 4 * at), op(ADD, ERRNO), op(RET_A, 0)];
            let verdict = evaluate(&[Filter::new(program).unwrap()], &data);
            let expected = i32::try_from(10 + at).unwrap();
            assert_eq!(verdict, Verdict::Errno(Errno(expected)), "word {at}");
        }
    }
}

#[test]
fn programs_that_the_kernel_refuses_are_refused() {
    let end = op(RET_K, ALLOW);
    let jump = |jt, jf| BpfInstruction {
        code: JEQ,
        jt,
        jf,
        k: 0,
    };
    let cases = [
        (vec![], FilterError::Length(0)),
        (vec![end; 4097], FilterError::Length(4097)),
        (
            vec![op(0x97, 1), end],
            FilterError::Code { at: 0, code: 0x97 },
        ),
        (
            vec![op(LD_ABS, 64), end],
            FilterError::Operand { at: 0, k: 64 },
        ),
        (
            vec![op(LD_ABS, 2), end],
            FilterError::Operand { at: 0, k: 2 },
        ),
        (vec![op(DIV, 0), end], FilterError::Operand { at: 0, k: 0 }),
        (vec![op(ST, 16), end], FilterError::Operand { at: 0, k: 16 }),
        (vec![op(JA, 1), end], FilterError::Jump { at: 0 }),
        (vec![op(JA, u32::MAX), end], FilterError::Jump { at: 0 }),
        (vec![jump(0, 1), end], FilterError::Jump { at: 0 }),
        (
            vec![op(LD_MEM, 0), end],
            FilterError::Uninitialised { at: 0 },
        ),
        (
            vec![jump(1, 0), op(ST, 3), op(LD_MEM, 3), end],
            FilterError::Uninitialised { at: 2 },
        ),
        (vec![op(ADD, 1)], FilterError::NoReturn),
    ];
    for (program, error) in cases {
        assert_eq!(Filter::new(program.clone()), Err(error), "{program:?}");
    }
    assert_eq!(
        Filter::from_ne_bytes(&[6, 0, 0]),
        Err(FilterError::CutOff(3))
    );
    assert!(Filter::new(vec![end; 4096]).is_ok());
}

#[test]
fn a_plan_follows_the_worst_call() {
    let need = |nr, need| Call {
        data: call(nr).into(),
        need,
    };
    let calls = [
        need(1, Need::Success),
        need(2, Need::Success),
        need(3, Need::MayFail),
    ];
    let plan = |filters: Vec<Filter>| Plan::decide(&Restriction::Filters(filters), &calls);

    assert_eq!(plan(vec![only_for(9, 0)]), Plan::Inject);
    assert_eq!(plan(vec![only_for(1, 0x7ffc_0000)]), Plan::Inject);
    assert_eq!(
        plan(vec![only_for(2, ERRNO | 1)]),
        Plan::InjectSuspended(Errno::EPERM)
    );
    assert_eq!(plan(vec![only_for(3, ERRNO | 1)]), Plan::Inject);
    let never = |value| match plan(vec![only_for(1, ERRNO | 1), only_for(3, value)]) {
        Plan::Never(reason) => reason,
        other => panic!("{value:#x} gave {other:?}"),
    };
    assert_eq!(never(0), Reason::Kill { nr: 3 });
    assert_eq!(never(0x8000_0000), Reason::Kill { nr: 3 });
    assert_eq!(never(0x0003_0000), Reason::Trap { nr: 3 });
    assert_eq!(never(0x7fc0_0000), Reason::Supervisor { nr: 3 });
    assert_eq!(never(0x7ff0_0000), Reason::Tracer { nr: 3 });
}

#[test]
fn strict_mode_and_unknown_filters_are_left_alone() {
    let nr = |call: i64| u32::try_from(call).unwrap();
    let plan = |restriction: &Restriction, number| {
        Plan::decide(
            restriction,
            &[Call {
                data: call(number).into(),
                need: Need::MayFail,
            }],
        )
    };
    for allowed in [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_exit,
        libc::SYS_rt_sigreturn,
    ] {
        assert_eq!(plan(&Restriction::Strict, nr(allowed)), Plan::Inject);
    }
    let mmap = nr(libc::SYS_mmap);
    assert_eq!(
        plan(&Restriction::Strict, mmap),
        Plan::Never(Reason::Kill { nr: mmap })
    );
    assert_eq!(plan(&Restriction::None, mmap), Plan::Inject);
    assert_eq!(
        plan(&Restriction::Unreadable(Errno::EACCES), mmap),
        Plan::Never(Reason::Unreadable(Errno::EACCES))
    );
}

#[test]
fn what_a_filter_may_do_with_what_is_not_known_is_all_foreseen() {
    /// Kills the call where the low half of its first argument is not 0.
    fn only_zero() -> Filter {
        let program = vec![
            op(LD_ABS, 16),
            BpfInstruction {
                code: JEQ,
                jt: 0,
                jf: 1,
                k: 0,
            },
            op(RET_K, ALLOW),
            op(RET_K, 0),
        ];
        Filter::new(program).unwrap()
    }
    let known = Foreseen::from(call(3));
    let filters = [only_zero()];
    assert_eq!(foresee(&filters, &known), [Verdict::Allow]);
    assert_eq!(foresee(&filters, &known.with_any(1)), [Verdict::Allow]);
    assert_eq!(foresee(&filters, &known.from_anywhere()), [Verdict::Allow]);
    let both = foresee(&filters, &known.with_any_low_half(0));
    assert!(both.contains(&Verdict::Allow) && both.contains(&Verdict::KillThread));

    let plan = |data, filters: &[Filter]| {
        let need = Need::MayFail;
        let restriction = Restriction::Filters(filters.to_vec());
        Plan::decide(&restriction, &[Call { data, need }])
    };
    let unknown = known.with_any_low_half(0);
    assert_eq!(plan(known, &filters), Plan::Inject);
    let depends = Plan::Never(Reason::Depends { nr: 3 });
    assert_eq!(plan(unknown, &filters), depends);
    // Another filter's error keeps the call from being ended only where it is the stricter.
    let with_error = [only_zero(), returns(ERRNO | 1)];
    assert_eq!(plan(unknown, &with_error), depends);
    let dead = Plan::Never(Reason::Kill { nr: 3 });
    assert_eq!(plan(unknown, &[only_zero(), returns(0)]), dead);

    // The high half is known to be zero; a value that is not known may be any.
    let high = Filter::new(vec![op(LD_ABS, 20), op(RET_A, 0)]).unwrap();
    assert_eq!(foresee(&[high], &unknown), [Verdict::KillThread]);
    let low = Filter::new(vec![op(LD_ABS, 16), op(RET_A, 0)]).unwrap();
    assert!(foresee(&[low], &unknown).contains(&Verdict::KillProcess));
    let divided = vec![
        op(LD_ABS, 16),
        op(TAX, 0),
        op(DIV | SOURCE_X, 0),
        op(RET_K, ALLOW),
    ];
    let divided = foresee(&[Filter::new(divided).unwrap()], &unknown);
    assert!(divided.contains(&Verdict::KillThread) && divided.contains(&Verdict::Allow));
}

#[test]
fn the_way_back_must_be_let_through_by_the_filters_themselves() {
    let plan = |value| {
        let restriction = Restriction::Filters(vec![only_for(15, value)]);
        let (data, need) = (call(15).into(), Need::LetThrough);
        Plan::decide(&restriction, &[Call { data, need }])
    };
    assert_eq!(plan(ALLOW), Plan::Inject);
    assert_eq!(plan(0), Plan::Never(Reason::Kill { nr: 15 }));
    let (nr, errno) = (15, Errno::EPERM);
    let no_way = Reason::NoWayBack { nr, errno };
    assert_eq!(plan(ERRNO | 1), Plan::Never(no_way));
    assert!(no_way.to_string().contains("answer the system call"));
    assert!(!no_way.to_string().contains("kill it"));
}

proptest! {
    /// Whatever the words that were not known turn out to be, what the filters do was foreseen.
    #[test]
    fn what_happens_was_foreseen(seed in any::<u64>(), hidden in any::<u8>()) {
        let mut random = Random(seed);
        let filters: Vec<Filter> = (0..=random.below(2))
            .map(|_| Filter::new(random.program(false)).unwrap())
            .collect();
        let one = random.data(1);
        let mut foreseen = Foreseen::from(one);
        let is_hidden = |bit: usize| hidden >> bit & 1 != 0;
        for argument in (0..6).filter(|&argument| is_hidden(argument)) {
            foreseen = foreseen.with_any(argument);
        }
        if is_hidden(6) {
            foreseen = foreseen.from_anywhere();
        }
        for _ in 0..32 {
            let mut other = random.data(1);
            for argument in (0..6).filter(|&argument| !is_hidden(argument)) {
                other.args[argument] = one.args[argument];
            }
            if !is_hidden(6) {
                other.instruction_pointer = one.instruction_pointer;
            }
            let happens = evaluate(&filters, &other);
            let expected = foresee(&filters, &foreseen);
            // A value that hangs on what is hidden stands for the best and the worst.
            let any = expected.contains(&Verdict::KillProcess);
            prop_assert!(any || expected.contains(&happens), "{:?} of {:?}", happens, expected);
        }
        if hidden & 0x7f == 0 {
            prop_assert_eq!(foresee(&filters, &foreseen).len(), 1);
        }
    }

    /// Whatever the bytes, the answer is an error or a filter that runs to an end.
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(filter) = Filter::from_ne_bytes(&bytes) {
            evaluate(&[filter], &call(1));
        }
    }

    /// Programs that look like filters keep their bytes and have one answer.
    #[test]
    fn programs_survive_their_bytes(seed in any::<u64>(), wild in any::<bool>()) {
        let mut random = Random(seed);
        let program = random.program(wild);
        let bytes: Vec<u8> = program.iter().flat_map(|op| op.to_ne_bytes()).collect();
        let made = Filter::new(program.clone());
        prop_assert_eq!(&made, &Filter::from_ne_bytes(&bytes));
        prop_assert!(made.is_ok() || wild, "{:?}", program);
        if let Ok(filter) = made {
            let data = random.data(39);
            let filters = [filter];
            prop_assert_eq!(evaluate(&filters, &data), evaluate(&filters, &data));
        }
    }

    /// A filter more never makes a verdict milder, unless it replaces a value without meaning:
    /// those kill, but take their place among the others by their number.
    #[test]
    fn another_filter_only_tightens(seed in any::<u64>()) {
        let strength = |verdict: Verdict| match verdict {
            Verdict::KillProcess => 0,
            Verdict::KillThread => 1,
            Verdict::Trap(_) => 2,
            Verdict::Errno(_) => 3,
            Verdict::UserNotification => 4,
            Verdict::Trace(_) => 5,
            Verdict::Log => 6,
            Verdict::Allow => 7,
        };
        let mut random = Random(seed);
        let data = random.data(1);
        let mut filters = Vec::new();
        let mut before = 7;
        for _ in 0..4 {
            filters.push(Filter::new(random.program(false)).unwrap());
            let now = strength(evaluate(&filters, &data));
            prop_assert!(now <= before || before == 0);
            before = now;
        }
    }
}
