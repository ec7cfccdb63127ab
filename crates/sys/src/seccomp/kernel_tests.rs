//! The evaluation compared with the running kernel: random filters are installed in a child
//! that makes one call under them and tells what came of it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use space::Errno;

use super::generate::Random;
use super::opcode::{JEQ, LD_ABS, RET_K};
use super::*;
use crate::programs::program;

/// The helper process: one for all cases.
struct Kernel {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

/// What the kernel did with a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Returned(i64),
    Trapped(i64),
    ThreadEnded,
    ProcessKilled,
    Refused(i64),
}

struct Answer {
    outcome: Outcome,
    installed: usize,
    instruction_pointer: u64,
}

impl Kernel {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(program("seccomp", directory.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the helper starts");
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from }
    }

    /// Makes a call under filters, given oldest first.
    fn ask(&mut self, filters: &[Vec<BpfInstruction>], data: &SeccompData) -> Answer {
        let count = |len: usize| u32::try_from(len).unwrap().to_ne_bytes();
        let mut message = count(filters.len()).to_vec();
        for filter in filters {
            message.extend(count(filter.len()));
            message.extend(filter.iter().flat_map(|op| op.to_ne_bytes()));
        }
        message.extend(data.nr.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(data.args.iter().flat_map(|arg| arg.to_ne_bytes()));
        self.to.write_all(&message).unwrap();

        let mut answer = [0; 24];
        self.from.read_exact(&mut answer).unwrap();
        let ([outcome, installed, ..], []) = answer.as_chunks::<4>() else {
            panic!("an answer is 24 bytes");
        };
        let value = i64::from_ne_bytes(answer[8..16].try_into().unwrap());
        Answer {
            outcome: match u32::from_ne_bytes(*outcome) {
                1 => Outcome::Returned(value),
                2 => Outcome::Trapped(value),
                3 => Outcome::ThreadEnded,
                4 => Outcome::ProcessKilled,
                5 => Outcome::Refused(value),
                other => panic!("the helper answered {other}"),
            },
            installed: usize::try_from(u32::from_ne_bytes(*installed)).unwrap(),
            instruction_pointer: u64::from_ne_bytes(answer[16..24].try_into().unwrap()),
        }
    }

    /// What `getppid` returns under a verdict.
    fn expected(&self, verdict: Verdict) -> Outcome {
        const ENOSYS: i64 = -38;
        match verdict {
            Verdict::KillProcess => Outcome::ProcessKilled,
            Verdict::KillThread => Outcome::ThreadEnded,
            Verdict::Trap(data) => Outcome::Trapped(data.into()),
            Verdict::Errno(Errno(errno)) => Outcome::Returned((-errno).into()),
            // No tracer and no supervisor is there.
            Verdict::UserNotification | Verdict::Trace(_) => Outcome::Returned(ENOSYS),
            Verdict::Log | Verdict::Allow => Outcome::Returned(self.child.id().into()),
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Its death ends its child too; both are already gone where it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a prologue before a program that lets `seccomp(2)` through, for the next filter.
fn guarded(program: Vec<BpfInstruction>) -> Vec<BpfInstruction> {
    let seccomp = u32::try_from(libc::SYS_seccomp).unwrap();
    let mut guarded = vec![
        BpfInstruction {
            code: LD_ABS,
            k: 0,
            ..BpfInstruction::default()
        },
        BpfInstruction {
            code: JEQ,
            jt: 0,
            jf: 1,
            k: seccomp,
        },
        BpfInstruction {
            code: RET_K,
            k: 0x7fff_0000,
            ..BpfInstruction::default()
        },
    ];
    guarded.extend(program);
    guarded
}

/// Random filters: fewer on a machine that is said to be slow.
fn cases() -> u64 {
    let slow = std::env::var_os("ONIONSKIN_SLOW").is_some();
    if slow { 200 } else { 1500 }
}

#[test]
fn random_filters_do_what_the_kernel_does() {
    let mut kernel = Kernel::start();
    let getppid = u32::try_from(libc::SYS_getppid).unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..cases() {
        let mut random = Random(seed);
        let mut data = random.data(getppid);
        let programs: Vec<_> = (0..=random.below(3))
            .map(|_| guarded(random.program(false)))
            .collect();
        let filters: Vec<_> = programs
            .iter()
            .cloned()
            .map(|p| Filter::new(p).unwrap())
            .collect();

        let answer = kernel.ask(&programs, &data);
        data.instruction_pointer = answer.instruction_pointer;
        let verdict = evaluate(&filters, &data);
        let expected = kernel.expected(verdict);
        assert_eq!(
            answer.outcome, expected,
            "seed {seed}: {verdict:?} for {data:x?} under {programs:x?}"
        );
        *seen
            .entry(format!("{verdict:?}").split('(').next().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 8, "every action was met: {seen:?}");
}

#[test]
fn the_kernel_refuses_what_the_check_refuses() {
    let mut kernel = Kernel::start();
    let getppid = u32::try_from(libc::SYS_getppid).unwrap();
    let mut refused = 0;
    for seed in 0..cases() {
        let mut random = Random(seed);
        let program = random.program(true);
        let data = random.data(getppid);
        let answer = kernel.ask(std::slice::from_ref(&program), &data);
        let made = Filter::new(program.clone());
        if made.is_err() {
            refused += 1;
            assert_eq!(
                answer.outcome,
                Outcome::Refused(22),
                "seed {seed}: {program:x?}"
            );
        }
        assert_eq!(
            answer.installed == 1,
            made.is_ok(),
            "seed {seed}: {made:?} {program:x?}"
        );
    }
    let cases = cases();
    assert!(
        (cases / 15..cases - cases / 15).contains(&refused),
        "{refused} of {cases} were refused"
    );
}
