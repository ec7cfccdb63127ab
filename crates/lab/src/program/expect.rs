//! What a step should show, as a program in text says it.

use std::fmt;

use space::Errno;

use super::amount::{Address, Amount};
use super::field::{Field, FieldError, LaneSlot, number};
use super::flags::{Categories, EventKind, FaultFlags, Features, RangeIoctls};

/// The answer that a step should give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Any success.
    Ok,
    /// Success with this value: what was returned or loaded.
    Value(Amount),
    /// Success with this address.
    Address(Address),
    /// This error.
    Errno(Errno),
    /// SIGSEGV with this code.
    Segv(u32),
    /// SIGBUS with this code.
    Bus(u32),
    /// Asleep in the kernel.
    Blocked,
}

/// One allowed outcome: an answer, and fields of the output. It counts only where its condition
/// holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// A feature of the kernel's configuration, or with `!` its absence.
    pub condition: Option<String>,
    /// The answer.
    pub answer: Answer,
    /// Fields of the output, by name. A name that comes twice means the second such field.
    pub fields: Vec<(String, Value)>,
}

/// A field's value, written as its name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number of bytes or of anything.
    Amount(Amount),
    /// An address.
    Address(Address),
    /// Categories of `PAGEMAP_SCAN`.
    Categories(Categories),
    /// The kind of an event.
    Event(EventKind),
    /// Flags of a page fault.
    Fault(FaultFlags),
    /// Features of a userfaultfd.
    Features(Features),
    /// Ioctls of a range.
    Ioctls(RangeIoctls),
}

impl Value {
    fn parse(name: &str, word: &str) -> Result<Self, FieldError> {
        match name {
            "categories" => Categories::parse(word).map(Self::Categories),
            "event" => EventKind::parse(word).map(Self::Event),
            "flags" => FaultFlags::parse(word).map(Self::Fault),
            "features" => Features::parse(word).map(Self::Features),
            "ioctls" => RangeIoctls::parse(word).map(Self::Ioctls),
            _ if word.starts_with(['@', '$']) => Address::parse(word).map(Self::Address),
            _ => Amount::parse(word).map(Self::Amount),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => amount.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Categories(categories) => categories.fmt(f),
            Self::Event(kind) => kind.fmt(f),
            Self::Fault(flags) => flags.fmt(f),
            Self::Features(features) => features.fmt(f),
            Self::Ioctls(ioctls) => ioctls.fmt(f),
        }
    }
}

/// What a page's entry in pagemap should be: the bits by letters, or anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// These bits and no others of those that programs see.
    Bits(u64),
    /// Anything.
    Any,
}

/// The letters of pagemap's bits.
pub const ENTRY_LETTERS: [(char, u64); 6] = [
    ('P', 1 << 63),
    ('S', 1 << 62),
    ('F', 1 << 61),
    ('G', 1 << 58),
    ('W', 1 << 57),
    ('D', 1 << 55),
];

/// The bits of a pagemap entry that are compared.
pub const ENTRY_MASK: u64 = 0b1110_0110_1000_0000 << 48;

/// A mapping that should be there: start, length, and `rwxs` or `p` as in `maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Behind the arena's start.
    pub start: Amount,
    /// Its length.
    pub len: Amount,
    /// 1 readable, 2 writable, 4 executable, 8 shared.
    pub access: u64,
}

/// A region that a scan should find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Behind the arena's start.
    pub start: Amount,
    /// Its length.
    pub len: Amount,
    /// What is told of its pages.
    pub categories: Categories,
}

/// All that a step should show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The outcomes that are allowed; none means anything.
    pub outcomes: Vec<Alternative>,
    /// Pages that were looked at after the step: the first, and entries from there on.
    pub pages: Vec<(Amount, Vec<Entry>)>,
    /// The whole list of mappings in the window.
    pub mappings: Option<Vec<Mapping>>,
    /// All that a scan finds, in order.
    pub regions: Option<Vec<Region>>,
    /// Lanes that slept and go on because of the step, and how their own steps end.
    pub wakes: Vec<(LaneSlot, Alternative)>,
}

impl Expect {
    /// Tells whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a line says no expectation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no expectation: write ok, a value, an errno, SIGBUS 2, SIGSEGV 1 or blocked")]
pub struct ExpectError(String);

/// Reads what stands behind `=>`.
///
/// # Errors
///
/// Fails where that is no expectation.
pub fn outcomes(text: &str) -> Result<Vec<Alternative>, ExpectError> {
    text.split(" | ")
        .map(|text| alternative(text.trim()))
        .collect()
}

fn alternative(text: &str) -> Result<Alternative, ExpectError> {
    let wrong = || ExpectError(text.to_owned());
    let mut words = text.split_whitespace().peekable();
    let condition = words
        .next_if(|word| word.starts_with('['))
        .map(|word| word.trim_matches(['[', ']']).to_owned());
    let first = words.next().ok_or_else(wrong)?;
    let mut code = || {
        let code = words.next().and_then(number).ok_or_else(wrong)?;
        u32::try_from(code).map_err(|_| wrong())
    };
    let answer = match first {
        "ok" => Answer::Ok,
        "blocked" => Answer::Blocked,
        "SIGSEGV" => Answer::Segv(code()?),
        "SIGBUS" => Answer::Bus(code()?),
        name if name.starts_with('E') => Answer::Errno(errno(name).ok_or_else(wrong)?),
        word if word.starts_with(['@', '$']) => {
            Answer::Address(Address::parse(word).map_err(|_| wrong())?)
        }
        word => Answer::Value(Amount::parse(word).map_err(|_| wrong())?),
    };
    let field = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), Value::parse(name, value).ok()?))
    };
    let fields = words
        .map(|word| field(word).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    Ok(Alternative {
        condition,
        answer,
        fields,
    })
}

fn errno(name: &str) -> Option<Errno> {
    (1..200).map(Errno).find(|errno| errno.name() == Some(name))
}

/// Reads a line `see START ENTRY...`, in words behind `see`.
///
/// # Errors
///
/// Fails where that is none.
pub fn pages(words: &[&str]) -> Result<(Amount, Vec<Entry>), ExpectError> {
    let wrong = || ExpectError(words.join(" "));
    let (first, rest) = words.split_first().ok_or_else(wrong)?;
    let start = first.strip_prefix('@').ok_or_else(wrong)?;
    let start = Amount::parse(start).map_err(|_| wrong())?;
    let mut entries = Vec::new();
    for word in rest {
        let (letters, times) = word.split_once('*').unwrap_or((word, "1"));
        let times: usize = times.parse().map_err(|_| wrong())?;
        if times > 1 << 16 {
            return Err(wrong());
        }
        let entry = entry(letters).ok_or_else(wrong)?;
        entries.extend(std::iter::repeat_n(entry, times));
    }
    Ok((start, entries))
}

fn entry(letters: &str) -> Option<Entry> {
    match letters {
        "?" => return Some(Entry::Any),
        "-" => return Some(Entry::Bits(0)),
        _ => {}
    }
    let bit = |letter| {
        let known = ENTRY_LETTERS.iter().find(|(known, _)| *known == letter);
        known.map(|(_, bit)| *bit)
    };
    letters
        .chars()
        .map(bit)
        .try_fold(0, |bits, bit| Some(bits | bit?))
        .map(Entry::Bits)
}

/// Shows the bits of an entry as letters.
pub fn letters(bits: u64) -> String {
    let set = ENTRY_LETTERS.iter().filter(|(_, bit)| bits & bit != 0);
    let letters: String = set.map(|(letter, _)| letter).collect();
    if letters.is_empty() {
        "-".to_owned()
    } else {
        letters
    }
}

/// Reads a line `maps START+LEN:rw-p...`, in words behind `maps`.
///
/// # Errors
///
/// Fails where that is none.
pub fn mappings(words: &[&str]) -> Result<Vec<Mapping>, ExpectError> {
    words
        .iter()
        .map(|word| mapping(word).ok_or_else(|| ExpectError((*word).to_owned())))
        .collect()
}

/// Reads a line `regions @START..LEN:CATEGORIES...`, in words behind `regions`.
///
/// # Errors
///
/// Fails where that is none.
pub fn regions(words: &[&str]) -> Result<Vec<Region>, ExpectError> {
    words
        .iter()
        .map(|word| region(word).ok_or_else(|| ExpectError((*word).to_owned())))
        .collect()
}

fn region(word: &str) -> Option<Region> {
    let (range, categories) = word.strip_prefix('@')?.split_once(':')?;
    let (start, len) = range.split_once("..")?;
    Some(Region {
        start: Amount::parse(start).ok()?,
        len: Amount::parse(len).ok()?,
        categories: Categories::parse(categories).ok()?,
    })
}

/// Reads a line `wakes LANE OUTCOME`, in words behind `wakes`.
///
/// # Errors
///
/// Fails where that is none.
pub fn wakes(words: &[&str]) -> Result<(LaneSlot, Alternative), ExpectError> {
    let wrong = || ExpectError(words.join(" "));
    let (lane, outcome) = words.split_first().ok_or_else(wrong)?;
    let lane = LaneSlot::parse(lane).map_err(|_| wrong())?;
    Ok((lane, alternative(&outcome.join(" "))?))
}

fn mapping(word: &str) -> Option<Mapping> {
    let (range, access) = word.strip_prefix('@')?.split_once(':')?;
    let (start, len) = range.split_once("..")?;
    let mut bits = 0;
    for (at, letter) in access.chars().enumerate() {
        bits |= match (at, letter) {
            (0, 'r') => 1,
            (1, 'w') => 2,
            (2, 'x') => 4,
            (3, 's') => 8,
            (0..=2, '-') | (3, 'p') => 0,
            _ => return None,
        };
    }
    Some(Mapping {
        start: Amount::parse(start).ok()?,
        len: Amount::parse(len).ok()?,
        access: bits,
    })
}

/// Shows a mapping's access as `maps` does.
pub fn access(bits: u64) -> String {
    let letter = |bit, letter, other| if bits & bit == 0 { other } else { letter };
    [
        letter(1, 'r', '-'),
        letter(2, 'w', '-'),
        letter(4, 'x', '-'),
        letter(8, 's', 'p'),
    ]
    .into_iter()
    .collect()
}

impl fmt::Display for Alternative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(condition) = &self.condition {
            write!(f, "[{condition}] ")?;
        }
        match &self.answer {
            Answer::Ok => f.write_str("ok")?,
            Answer::Value(value) => value.fmt(f)?,
            Answer::Address(address) => address.fmt(f)?,
            Answer::Errno(errno) => write!(f, "{errno:?}")?,
            Answer::Segv(code) => write!(f, "SIGSEGV {code}")?,
            Answer::Bus(code) => write!(f, "SIGBUS {code}")?,
            Answer::Blocked => f.write_str("blocked")?,
        }
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("?"),
            Self::Bits(bits) => f.write_str(&letters(*bits)),
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}..{}:{}", self.start, self.len, access(self.access))
    }
}

impl fmt::Display for Expect {
    /// The part behind the operation, and the lines that follow it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, outcome) in self.outcomes.iter().enumerate() {
            write!(f, "{}{outcome}", if at == 0 { " => " } else { " | " })?;
        }
        for (start, entries) in &self.pages {
            write!(f, "\n  see @{start}")?;
            for run in entries.chunk_by(|one, other| one == other) {
                match run.len() {
                    1 => write!(f, " {}", run[0])?,
                    times => write!(f, " {}*{times}", run[0])?,
                }
            }
        }
        if let Some(mappings) = &self.mappings {
            write!(f, "\n  maps")?;
            for mapping in mappings {
                write!(f, " {mapping}")?;
            }
        }
        if let Some(regions) = &self.regions {
            write!(f, "\n  regions")?;
            for Region {
                start,
                len,
                categories,
            } in regions
            {
                write!(f, " @{start}..{len}:{categories}")?;
            }
        }
        for (lane, outcome) in &self.wakes {
            write!(f, "\n  wakes {lane} {outcome}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_and_written() {
        for text in [
            "ok",
            "@3p",
            "65",
            "EINVAL",
            "SIGBUS 2",
            "SIGSEGV 1",
            "blocked",
            "EAGAIN copy=1p",
            "ok event=pagefault flags=write|wp address=@3p thread=1",
            "2 start=@0 categories=written|present start=@2p",
            "ok | EAGAIN",
            "[memory-failure] SIGBUS 4 | [!memory-failure] SIGBUS 2",
        ] {
            let read = outcomes(text).unwrap();
            let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" | "), text);
        }
        for text in ["", "EWHAT", "SIGBUS", "ok copy", "okay"] {
            assert!(outcomes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn looks_are_read_and_written() {
        let (start, entries) = pages(&["@2p", "PW", "-", "SW*2", "?"]).unwrap();
        let expect = Expect {
            pages: vec![(start, entries)],
            mappings: Some(mappings(&["@0..4p:rw-p", "@4p..1p:r--s"]).unwrap()),
            regions: Some(regions(&["@0..4p:written|present"]).unwrap()),
            wakes: vec![wakes(&["l1", "65"]).unwrap()],
            ..Expect::default()
        };
        let text = "\n  see @2p PW - SW*2 ?\n  maps @0..4p:rw-p @4p..1p:r--s\
                    \n  regions @0..4p:written|present\n  wakes l1 65";
        assert_eq!(expect.to_string(), text);
        assert!(pages(&["2p", "P"]).is_err());
        assert!(pages(&["@2p", "X"]).is_err());
        assert!(mappings(&["@0..1p:wr-p"]).is_err());
    }

    #[test]
    fn the_mask_is_all_letters() {
        let all = ENTRY_LETTERS.iter().fold(0, |bits, (_, bit)| bits | bit);
        assert_eq!(all, ENTRY_MASK);
    }
}
