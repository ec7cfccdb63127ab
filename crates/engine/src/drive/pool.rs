//! Threads that share a list of work for as long as one call lasts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Does `count` pieces of work in `threads` threads and hands each result to `done`, in the calling
/// thread. The first error ends it, once pieces under way are finished.
pub(crate) fn each<W, T, E>(
    threads: usize,
    count: usize,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> Result<T, E> + Sync,
    done: &mut dyn FnMut(T),
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    let next = AtomicUsize::new(0);
    let (next, state, work) = (&next, &state, &work);
    #[expect(clippy::disallowed_methods, reason = "threads belong here")]
    std::thread::scope(|scope| {
        let (results, collected) = mpsc::sync_channel(threads * 4);
        for _ in 0..threads {
            let results = results.clone();
            scope.spawn(move || {
                let mut own = state();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = work(&mut own, index);
                    let failed = result.is_err();
                    if failed {
                        next.store(count, Ordering::Relaxed);
                    }
                    if results.send(result).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(results);
        for result in collected {
            done(result?);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        let mut seen = vec![0; 1000];
        let work = |own: &mut usize, index| -> Result<usize, ()> {
            *own += 1;
            Ok(index)
        };
        each(3, 1000, || 0, work, &mut |index: usize| seen[index] += 1).unwrap();
        assert!(seen.iter().all(|&times| times == 1));
    }

    #[test]
    fn the_first_error_ends_it() {
        let started = AtomicUsize::new(0);
        let work = |(): &mut (), index| {
            started.fetch_add(1, Ordering::Relaxed);
            if index == 5 { Err(index) } else { Ok(()) }
        };
        let result = each(2, 1_000_000, || (), work, &mut |()| {});
        assert_eq!(result, Err(5));
        assert!(started.load(Ordering::Relaxed) < 1_000_000);
    }
}
