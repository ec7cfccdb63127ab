//! What is known of a call before it is made.

use super::opcode::DATA_BYTES;
use super::verdict::SeccompData;

/// The words of a [`SeccompData`].
const WORDS: usize = DATA_BYTES as usize / WORD_BYTES;
const WORD_BYTES: usize = 4;
/// Where the instruction pointer begins, in words.
const INSTRUCTION_POINTER: usize = 2;
/// Where the arguments begin, in words.
const ARGUMENTS: usize = 4;

/// What is known of a call before it is made: what a filter will see of it, word by word, as far
/// as that can be told.
///
/// Both architectures have the low half of a number first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    words: [Option<u32>; WORDS],
}

impl From<SeccompData> for Foreseen {
    /// A call of which everything is known.
    fn from(data: SeccompData) -> Self {
        let mut words = [None; WORDS];
        for (word, offset) in words.iter_mut().zip((0..).step_by(WORD_BYTES)) {
            *word = data.word(offset);
        }
        Self { words }
    }
}

impl Foreseen {
    /// Returns the call's number, if it is known.
    pub fn nr(&self) -> Option<u32> {
        self.words[0]
    }

    /// Returns the calling convention, if it is known.
    pub(super) fn arch(&self) -> Option<u32> {
        self.words[1]
    }

    /// The same call, from an instruction that is not known.
    #[must_use]
    pub fn from_anywhere(self) -> Self {
        self.without(INSTRUCTION_POINTER..ARGUMENTS)
    }

    /// The same call with arguments that are not known.
    #[must_use]
    pub fn with_any_arguments(self) -> Self {
        self.without(ARGUMENTS..WORDS)
    }

    /// The same call with an argument that is not known: an address, say.
    ///
    /// # Panics
    ///
    /// Panics for an argument behind the sixth.
    #[must_use]
    pub fn with_any(self, argument: usize) -> Self {
        let first = ARGUMENTS + 2 * argument;
        self.without(first..first + 2)
    }

    /// The same call with an argument of which only the high half is known: of a descriptor or the
    /// id of a process, that it is zero.
    ///
    /// # Panics
    ///
    /// Panics for an argument behind the sixth.
    #[must_use]
    pub fn with_any_low_half(self, argument: usize) -> Self {
        let first = ARGUMENTS + 2 * argument;
        self.without(first..first + 1)
    }

    fn without(mut self, words: std::ops::Range<usize>) -> Self {
        self.words[words].fill(None);
        self
    }

    /// Returns what is known of the four bytes at an offset, as a filter loads them: the outer
    /// `None` where there is nothing to load.
    pub(super) fn word(&self, offset: u32) -> Option<Option<u32>> {
        let offset = usize::try_from(offset).ok()?;
        if !offset.is_multiple_of(WORD_BYTES) {
            return None;
        }
        self.words.get(offset / WORD_BYTES).copied()
    }
}
