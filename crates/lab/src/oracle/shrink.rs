//! Makes a program that diverges as small as it gets.

use std::time::{Duration, Instant};

use crate::program::{Program, Step};

/// Shrinks a program as long as `fails` says that it still does, for at most `time`.
///
/// Steps are left out in ever smaller groups, then arguments are made simpler, until nothing
/// helps.
pub fn shrink(
    program: &Program,
    time: Duration,
    mut fails: impl FnMut(&Program) -> bool,
) -> Program {
    let deadline = Instant::now() + time;
    let mut best = program.clone();
    loop {
        let before = best.clone();
        leave_out(&mut best, deadline, &mut fails);
        simplify(&mut best, deadline, &mut fails);
        if best == before || Instant::now() > deadline {
            return best;
        }
    }
}

fn leave_out(best: &mut Program, deadline: Instant, fails: &mut impl FnMut(&Program) -> bool) {
    let mut group = best.steps.len().div_ceil(2);
    while group > 0 {
        let mut at = 0;
        while at < best.steps.len() && Instant::now() < deadline {
            let end = (at + group).min(best.steps.len());
            let mut candidate = best.clone();
            candidate.leave_out(at..end);
            if !candidate.steps.is_empty() && fails(&candidate) {
                *best = candidate;
            } else {
                at = end;
            }
        }
        group = if group == 1 { 0 } else { group.div_ceil(2) };
    }
}

fn simplify(best: &mut Program, deadline: Instant, fails: &mut impl FnMut(&Program) -> bool) {
    for at in 0..best.steps.len() {
        let mut again = true;
        while again && Instant::now() < deadline {
            again = false;
            for op in best.steps[at].op.simpler() {
                let mut candidate = best.clone();
                candidate.steps[at] = Step {
                    op,
                    ..best.steps[at].clone()
                };
                if fails(&candidate) {
                    *best = candidate;
                    again = true;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let text =
            "onionskin program 1\nload @0\nmunmap @3p 4p\nstore @1p 0x01\nmprotect @6p 2p r|w\n";
        let program: Program = text.parse().unwrap();
        let fails = |program: &Program| {
            let text = program.to_string();
            text.contains("munmap") && text.contains("mprotect")
        };
        let small = shrink(&program, Duration::from_secs(5), fails);
        assert_eq!(
            small.to_string(),
            "onionskin program 1\nmunmap @0 0\nmprotect @0 0 0\n"
        );
    }
}
