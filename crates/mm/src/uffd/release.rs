//! The end of a userfaultfd (`userfaultfd_release`).

use super::UffdId;
use super::unregister;
use crate::machine::Machine;

impl Machine {
    /// One descriptor less stands for a userfaultfd; the last one ends all its registrations, and
    /// lets go who waits.
    pub(crate) fn uffd_put(&mut self, uffd: UffdId) {
        let context = self.context_mut(uffd);
        context.refs -= 1;
        if context.refs > 0 {
            return;
        }
        let Some(context) = self.world.uffds.remove(uffd) else {
            return;
        };
        if let Ok((world, process)) = self.halves_of(context.pid) {
            let mm = &mut process.mm;
            let mut index = 0;
            while let Some(vma) = mm.vmas.get(index) {
                if vma.uffd == Some(uffd) {
                    let (start, end) = (vma.start, vma.end);
                    index = unregister::clear(world, mm, index, start, end)
                        .expect("whole mappings are not cut");
                }
                index += 1;
            }
        }
        for queued in context.events {
            self.drop_event(queued.event);
        }
    }
}
