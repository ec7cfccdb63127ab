//! Every operation a program may have, with its arguments as the kernel takes them.

use std::fmt;

use super::amount::{Address, Amount};
use super::field::{
    Byte, Closeable, Context, Field, FieldError, FileSlot, LaneSlot, MaybeFile, Number, Pipe, Ring,
};
use super::flags::{
    Advice, Categories, ContextFlags, ContinueMode, CopyMode, FallocateMode, Features, LockFlags,
    MapFlags, MemfdFlags, MoveMode, Prot, ProtectMode, RegisterMode, RemapFlags, ScanFlags, Seals,
    SpliceFlags, WakeMode,
};

/// Why a line is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// There is no operation of this name.
    #[error("there is no operation '{0}'")]
    Unknown(String),
    /// Arguments are missing or too many.
    #[error("'{name}' takes {expected} arguments ({fields}), not {found}")]
    Arguments {
        /// The operation's name.
        name: &'static str,
        /// Its arguments' names.
        fields: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An argument is wrong.
    #[error("{0}")]
    Field(#[from] FieldError),
}

/// Defines the operations: a name in the text, a variant, and its arguments in order.
macro_rules! operations {
    ($($(#[$doc:meta])* $text:literal $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        /// An operation with its arguments.
        #[expect(missing_docs, reason = "arguments are named as the kernel's manual names them")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op {
            $($(#[$doc])* $name { $($field: $type),* },)*
        }

        impl Op {
            /// The names of all operations, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$($text),*];

            /// The operations' names with those of their arguments.
            pub const SIGNATURES: &'static [(&'static str, &'static [&'static str])] =
                &[$(($text, &[$(stringify!($field)),*])),*];

            /// Returns its name in the text.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => $text,)* }
            }

            /// Reads an operation from its words.
            ///
            /// # Errors
            ///
            /// Fails where the words are none.
            #[expect(unused_mut, unused_variables, reason = "some operations have no arguments")]
            pub fn parse(words: &[&str]) -> Result<Self, OpError> {
                let (name, arguments) = words.split_first().unwrap_or((&"", &[]));
                match *name {
                    $($text => {
                        let names: &[&str] = &[$(stringify!($field)),*];
                        if arguments.len() != names.len() {
                            return Err(OpError::Arguments {
                                name: $text,
                                fields: concat!($(" ", stringify!($field)),*),
                                expected: names.len(),
                                found: arguments.len(),
                            });
                        }
                        let mut arguments = arguments.iter();
                        let mut next = || arguments.next().copied().unwrap_or_default();
                        Ok(Self::$name { $($field: <$type as Field>::parse(next())?),* })
                    })*
                    _ => Err(OpError::Unknown((*name).to_owned())),
                }
            }

            /// Returns it with every address replaced.
            #[must_use]
            pub fn map_addresses(self, mut replace: impl FnMut(Address) -> Address) -> Self {
                let replace: &mut dyn FnMut(Address) -> Address = &mut replace;
                match self {
                    $(Self::$name { $($field),* } => {
                        Self::$name { $($field: Field::map_address($field, replace)),* }
                    })*
                }
            }

            /// Returns this operation with one argument made simpler, in every way.
            pub fn simpler(&self) -> Vec<Self> {
                let mut simpler = Vec::new();
                match self {
                    $(Self::$name { $($field),* } => {
                        $(for value in Field::simpler($field) {
                            let mut one = *self;
                            if let Self::$name { $field, .. } = &mut one {
                                *$field = value;
                            }
                            simpler.push(one);
                        })*
                    })*
                }
                simpler
            }
        }

        impl fmt::Display for Op {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())?;
                match self {
                    $(Self::$name { $($field),* } => {
                        $(write!(f, " {}", $field)?;)*
                    })*
                }
                Ok(())
            }
        }
    };
}

impl Op {
    /// Tells whether it names an address that an earlier step returned, and which.
    pub fn chosen(&self) -> Option<u32> {
        let mut chosen = None;
        let _ = self.map_addresses(|address| {
            if let Address::Chosen(step, _) = address {
                chosen = Some(step);
            }
            address
        });
        chosen
    }
}

operations! {
    /// `mmap`.
    "mmap" Mmap {
        address: Address, len: Amount, prot: Prot, flags: MapFlags, file: MaybeFile, offset: Amount,
    }
    /// `munmap`.
    "munmap" Munmap { address: Address, len: Amount }
    /// `mprotect`.
    "mprotect" Mprotect { address: Address, len: Amount, prot: Prot }
    /// `mremap`.
    "mremap" Mremap {
        address: Address, old: Amount, new: Amount, flags: RemapFlags, target: Address,
    }
    /// `madvise`.
    "madvise" Madvise { address: Address, len: Amount, advice: Advice }
    /// `mlock2`.
    "mlock" Mlock { address: Address, len: Amount, flags: LockFlags }
    /// `munlock`.
    "munlock" Munlock { address: Address, len: Amount }
    /// `mincore`.
    "mincore" Mincore { address: Address, len: Amount }
    /// A load of one byte.
    "load" Load { address: Address }
    /// A load of eight bytes, which may lie in two pages.
    "load-word" LoadWord { address: Address }
    /// A store of one byte.
    "store" Store { address: Address, value: Byte }
    /// A store of eight bytes, which may lie in two pages.
    "store-word" StoreWord { address: Address, value: Number }
    /// Nothing but the look that follows every step.
    "look" Look {}
    /// `fork`: the child becomes the lane.
    "fork" Fork { lane: LaneSlot }
    /// A new thread, which becomes the lane.
    "thread" Thread { lane: LaneSlot }
    /// The end of the process.
    "exit" Exit {}
    /// `memfd_create`.
    "memfd" Memfd { file: FileSlot, flags: MemfdFlags }
    /// `ftruncate`.
    "ftruncate" Ftruncate { file: FileSlot, len: Amount }
    /// `fallocate`.
    "fallocate" Fallocate { file: FileSlot, mode: FallocateMode, offset: Amount, len: Amount }
    /// `fcntl(F_ADD_SEALS)`.
    "seal" Seal { file: FileSlot, seals: Seals }
    /// `close`.
    "close" Close { what: Closeable }
    /// Reads one byte of a file without mapping it.
    "peek" Peek { file: FileSlot, offset: Amount }
    /// `pread`: the kernel writes into memory.
    "pread" Pread { file: FileSlot, address: Address, len: Amount, offset: Amount }
    /// `pwrite`: the kernel reads from memory.
    "pwrite" Pwrite { file: FileSlot, address: Address, len: Amount, offset: Amount }
    /// `pipe2(O_NONBLOCK)`.
    "pipe" MakePipe { pipe: Pipe }
    /// `vmsplice` into a pipe.
    "vmsplice" Vmsplice { pipe: Pipe, address: Address, len: Amount, flags: SpliceFlags }
    /// Reads from a pipe and shows the bytes.
    "pipe-read" PipeRead { pipe: Pipe, len: Amount }
    /// `read` from a pipe into memory.
    "pipe-into" PipeInto { pipe: Pipe, address: Address, len: Amount }
    /// `write` from memory into a pipe.
    "pipe-from" PipeFrom { pipe: Pipe, address: Address, len: Amount }
    /// `process_vm_readv` from a lane's process.
    "vm-read" VmRead { lane: LaneSlot, remote: Address, len: Amount, local: Address }
    /// `process_vm_writev` to a lane's process.
    "vm-write" VmWrite { lane: LaneSlot, remote: Address, len: Amount, local: Address }
    /// A write to `/proc/self/clear_refs`.
    "clear-refs" ClearRefs { value: Byte }
    /// Makes an io_uring.
    "ring" MakeRing { ring: Ring }
    /// Registers a fixed buffer: a long-term pin.
    "pin" Pin { ring: Ring, address: Address, len: Amount }
    /// Drops the fixed buffer.
    "unpin" Unpin { ring: Ring }
    /// Reads from a file into the fixed buffer.
    "ring-read" RingRead {
        ring: Ring, file: FileSlot, offset: Amount, address: Address, len: Amount,
    }
    /// Writes from the fixed buffer to a file.
    "ring-write" RingWrite {
        ring: Ring, file: FileSlot, offset: Amount, address: Address, len: Amount,
    }
    /// `PAGEMAP_SCAN`.
    "scan" Scan {
        start: Address, end: Address, flags: ScanFlags, regions: Number, pages_max: Number,
        inverted: Categories, mask: Categories, anyof: Categories, shown: Categories,
    }
    /// `userfaultfd`.
    "userfaultfd" Userfaultfd { context: Context, flags: ContextFlags }
    /// `UFFDIO_API`.
    "api" Api { context: Context, api: Number, features: Features }
    /// `UFFDIO_REGISTER`.
    "register" Register { context: Context, address: Address, len: Amount, mode: RegisterMode }
    /// `UFFDIO_UNREGISTER`.
    "unregister" Unregister { context: Context, address: Address, len: Amount }
    /// `UFFDIO_WAKE`.
    "wake" Wake { context: Context, address: Address, len: Amount }
    /// `UFFDIO_COPY`.
    "copy" Copy {
        context: Context, target: Address, source: Address, len: Amount, mode: CopyMode,
    }
    /// `UFFDIO_ZEROPAGE`.
    "zeropage" Zeropage { context: Context, address: Address, len: Amount, mode: WakeMode }
    /// `UFFDIO_CONTINUE`.
    "continue" Continue { context: Context, address: Address, len: Amount, mode: ContinueMode }
    /// `UFFDIO_WRITEPROTECT`.
    "writeprotect" Writeprotect {
        context: Context, address: Address, len: Amount, mode: ProtectMode,
    }
    /// `UFFDIO_POISON`.
    "poison" Poison { context: Context, address: Address, len: Amount, mode: WakeMode }
    /// `UFFDIO_MOVE`.
    "move" Move {
        context: Context, target: Address, source: Address, len: Amount, mode: MoveMode,
    }
    /// `UFFDIO_RWPROTECT` (Linux 7.3).
    "rwprotect" Rwprotect { context: Context, address: Address, len: Amount, mode: ProtectMode }
    /// `UFFDIO_SET_MODE` (Linux 7.3).
    "set-mode" SetMode { context: Context, enable: Features, disable: Features }
    /// Reads one event. The descriptor that a fork event brings becomes `new`.
    "read-event" ReadEvent { context: Context, new: Context }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_and_written() {
        for text in [
            "mmap @0 8p r|w private|fixed|anon - 0",
            "mremap @0 2p 4p maymove|fixed @1h",
            "look",
            "scan @0 @8p wp-matching 16 0 0 written 0 written|present",
            "copy u0 @1p =0x5a 1p wp",
            "vm-read l1 @0 8 @4p",
            "fallocate f0 keep-size|punch 1p 2p",
            "madvise @0 0 0x1e",
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(Op::parse(&words).unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        let error = Op::parse(&["load"]).unwrap_err().to_string();
        assert_eq!(error, "'load' takes 1 arguments ( address), not 0");
        let error = Op::parse(&["lode", "@0"]).unwrap_err().to_string();
        assert_eq!(error, "there is no operation 'lode'");
        let error = Op::parse(&["store", "@0", "256"]).unwrap_err().to_string();
        assert_eq!(error, "'256' is not a byte, as 0x41");
    }

    #[test]
    fn simpler_operations_differ_in_one_argument() {
        let op = Op::parse(&["mprotect", "@2p", "4p", "r|w"]).unwrap();
        let simpler: Vec<String> = op.simpler().iter().map(ToString::to_string).collect();
        assert!(simpler.contains(&"mprotect @1p 4p r|w".to_owned()));
        assert!(simpler.contains(&"mprotect @2p 2p r|w".to_owned()));
        assert!(simpler.contains(&"mprotect @2p 4p r".to_owned()));
        assert!(!simpler.contains(&op.to_string()));
    }
}
