//! Making a userfaultfd, and `UFFDIO_API`.

use space::Errno;

use super::Context;
use crate::machine::{Descriptor, Fd, Machine, Tid};
use crate::profile::{Kernel, Profile};
use crate::uapi::uffd::{API, CLOEXEC, Features, NONBLOCK, USER_MODE_ONLY, ioctl};

/// What `UFFDIO_API` leaves in its argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UffdApi {
    /// All features of this kernel.
    pub features: u64,
    /// The calls that a new userfaultfd takes.
    pub ioctls: u64,
}

/// `UFFD_API_FEATURES`.
fn features_of(profile: &Profile) -> Features {
    let newer = match profile.kernel {
        Kernel::V6_1 => {
            Features::WP_UNPOPULATED
                | Features::POISON
                | Features::WP_ASYNC
                | Features::MOVE
                | Features::RWP
                | Features::RWP_ASYNC
        }
        Kernel::V6_12 | Kernel::V6_18 => Features::RWP | Features::RWP_ASYNC,
        Kernel::V7_3 => Features::empty(),
    };
    let absent = match profile.uffd_wp {
        true => Features::empty(),
        false => {
            Features::PAGEFAULT_FLAG_WP
                | Features::WP_HUGETLBFS_SHMEM
                | Features::WP_UNPOPULATED
                | Features::WP_ASYNC
        }
    };
    Features::all() - newer - absent
}

impl Machine {
    /// Makes a userfaultfd for a thread's process.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags.
    pub fn userfaultfd(&mut self, tid: Tid, flags: u64) -> Result<Fd, Errno> {
        if flags & !(CLOEXEC | NONBLOCK | USER_MODE_ONLY) != 0 {
            return Err(Errno::EINVAL);
        }
        let (world, process) = self.halves(tid)?;
        let mut context = Context::new(process.mm.pid, flags & USER_MODE_ONLY != 0, None);
        context.nonblock = flags & NONBLOCK != 0;
        let uffd = world.uffds.add(context);
        Ok(process.add_fd(Descriptor::Uffd(uffd)))
    }

    /// `UFFDIO_API` (`userfaultfd_api`); the second value is what stands in the argument
    /// afterwards.
    pub fn uffd_api(
        &mut self,
        tid: Tid,
        fd: Fd,
        api: u64,
        features: u64,
    ) -> (Result<(), Errno>, UffdApi) {
        let failed = |errno| (Err(errno), UffdApi::default());
        let uffd = match self.uffd_of(tid, fd) {
            Ok(uffd) => uffd,
            Err(errno) => return failed(errno),
        };
        let kernel = self.world.profile.kernel;
        let known = features_of(&self.world.profile);
        let asked = Features::from_bits(features).filter(|&asked| known.contains(asked));
        let (true, Some(mut asked)) = (api == API, asked) else {
            return failed(Errno::EINVAL);
        };
        if asked.contains(Features::WP_ASYNC) {
            asked |= Features::WP_UNPOPULATED;
        }
        if asked.contains(Features::RWP_ASYNC) && !asked.contains(Features::RWP) {
            return failed(Errno::EINVAL);
        }
        let context = self.context_mut(uffd);
        if context.features.is_some() {
            return failed(Errno::EINVAL);
        }
        context.features = Some(asked);
        let mut ioctls = ioctl::REGISTER | ioctl::UNREGISTER | ioctl::API;
        if kernel >= Kernel::V7_3 {
            ioctls |= ioctl::SET_MODE;
        }
        let left = UffdApi {
            features: known.bits(),
            ioctls,
        };
        (Ok(()), left)
    }
}
