//! The extended state: what `NT_X86_XSTATE` gives, and how a frame wants it.

use space::Errno;

use crate::task::read_set;
use crate::uapi::x86_64::{FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FPX_SW_BYTES};

/// Floating point and vector registers of a task.
#[derive(Debug)]
pub(crate) struct Extended(Vec<u8>);

impl Extended {
    /// Reads them of a stopped task.
    pub(crate) fn read(tid: u32) -> Result<Self, Errno> {
        const NT_X86_XSTATE: u32 = 0x202;
        read_set(tid, NT_X86_XSTATE).map(Self)
    }

    /// The most bytes that they add to a frame: the gap before them and the magic number behind
    /// take under 128.
    pub(crate) fn frame_len_max(&self) -> u64 {
        self.0.len() as u64 + 128
    }

    /// Brings back what a call takes from a task: nothing.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    #[expect(
        clippy::unused_self,
        reason = "elsewhere there is something to bring back"
    )]
    pub(crate) fn put_back(&self, _tid: u32) -> Result<(), Errno> {
        Ok(())
    }

    /// The state as `NT_X86_XSTATE` gives it, dressed as a frame wants it: software bytes that
    /// tell size and features, and a magic number behind.
    pub(super) fn for_frame(&self) -> Vec<u8> {
        const XSTATE_BV: usize = 512;
        const TILE_DATA: u64 = 1 << 18;
        let xstate = self.0.as_slice();
        let word = |at: usize| {
            let bytes = xstate
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let features = word(FPX_SW_BYTES);
        // A task that never asked for AMX has a smaller area, and a frame larger than that would
        // be taken for a legacy one.
        let (size, features) = if features & TILE_DATA != 0 && word(XSTATE_BV) & TILE_DATA == 0 {
            (tile_data_offset().min(xstate.len()), features & !TILE_DATA)
        } else {
            (xstate.len(), features)
        };
        let mut state = xstate[..size].to_vec();
        let size = u32::try_from(size).expect("some KiB");
        let magic_len = u32::try_from(size_of::<u32>()).expect("four");
        let mut software = Vec::with_capacity(48);
        software.extend(FP_XSTATE_MAGIC1.to_le_bytes());
        software.extend((size + magic_len).to_le_bytes());
        software.extend(features.to_le_bytes());
        software.extend(size.to_le_bytes());
        software.resize(48, 0);
        state[FPX_SW_BYTES..FPX_SW_BYTES + 48].copy_from_slice(&software);
        state.extend(FP_XSTATE_MAGIC2.to_le_bytes());
        state
    }
}

/// Where AMX tile data begins in the standard layout (CPUID leaf 0xD, sub-leaf 18, EBX).
fn tile_data_offset() -> usize {
    let leaf = std::arch::x86_64::__cpuid_count(0xd, 18);
    usize::try_from(leaf.ebx).expect("some KiB")
}
