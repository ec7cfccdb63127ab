//! Other people's formats, written from a snapshot's pieces.
//!
//! * [`core`]: the ELF core file that debuggers open;
//! * [`raw`]: one plain file for each mapping, with an index, for tools of one's own.
//!
//! Both take what was captured from any [`space::PageSource`], hold a fixed buffer however large
//! the memory is, and leave holes in the output where nothing but zeros would stand.
#![forbid(unsafe_code)]

mod copy;
pub mod core;
pub mod raw;
