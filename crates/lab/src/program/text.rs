//! Programs as text: one line for a step, read and written.

use std::fmt;

use super::expect::{self, ExpectError};
use super::field::{Field, FieldError};
use super::op::{Op, OpError};
use super::{Amount, Expect, HugePages, Program, Step};
use crate::program::field::LaneSlot;

/// The first line of every program.
const HEADER: &str = "onionskin program 1";

/// The most steps that a program may have.
const STEPS_MAX: usize = 100_000;

/// Why a text is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The first line is another.
    #[error("line 1 must be '{HEADER}'")]
    Header,
    /// A line is wrong.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: LineError,
    },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is no operation.
    #[error("{0}")]
    Op(#[from] OpError),
    /// It expects what nothing can show.
    #[error("{0}")]
    Expect(#[from] ExpectError),
    /// A word of the head is wrong.
    #[error("{0}")]
    Head(#[from] FieldError),
    /// What is seen belongs to a step.
    #[error("'see', 'maps', 'regions' and 'wakes' follow a step")]
    NoStep,
    /// The head ends with the first step.
    #[error("'window', 'needs' and 'huge' come before the first step")]
    LateHead,
    /// `huge` is on or off.
    #[error("'huge' is on or off")]
    Huge,
    /// It is too long.
    #[error("a program has at most {STEPS_MAX} steps")]
    TooLong,
}

impl std::str::FromStr for Program {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().map(|(_, line)| line.trim());
        if header != Some(HEADER) {
            return Err(TextError::Header);
        }
        let mut program = Self::default();
        for (index, line) in lines {
            let line = line.split_once('#').map_or(line, |(code, _)| code).trim();
            let read = if line.is_empty() {
                Ok(())
            } else {
                read_line(&mut program, line)
            };
            read.map_err(|why| TextError::Line {
                line: index + 1,
                why,
            })?;
        }
        Ok(program)
    }
}

fn read_line(program: &mut Program, line: &str) -> Result<(), LineError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (first, rest) = words.split_first().unwrap_or((&"", &[]));
    match *first {
        "window" | "needs" | "huge" if !program.steps.is_empty() => Err(LineError::LateHead),
        "window" => {
            program.window = Amount::parse(rest.first().unwrap_or(&""))?;
            Ok(())
        }
        "needs" => {
            program
                .needs
                .extend(rest.iter().map(|&word| word.to_owned()));
            Ok(())
        }
        "huge" => {
            program.huge = match rest {
                ["on"] => HugePages::On,
                ["off"] => HugePages::Off,
                _ => return Err(LineError::Huge),
            };
            Ok(())
        }
        "see" => {
            let pages = expect::pages(rest)?;
            last_step(program)?.pages.push(pages);
            Ok(())
        }
        "maps" => {
            let mappings = expect::mappings(rest)?;
            last_step(program)?.mappings = Some(mappings);
            Ok(())
        }
        "regions" => {
            let regions = expect::regions(rest)?;
            last_step(program)?.regions = Some(regions);
            Ok(())
        }
        "wakes" => {
            let woken = expect::wakes(rest)?;
            last_step(program)?.wakes.push(woken);
            Ok(())
        }
        _ => {
            if program.steps.len() >= STEPS_MAX {
                return Err(LineError::TooLong);
            }
            program.steps.push(read_step(line)?);
            Ok(())
        }
    }
}

fn last_step(program: &mut Program) -> Result<&mut Expect, LineError> {
    let step = program.steps.last_mut().ok_or(LineError::NoStep)?;
    Ok(&mut step.expect)
}

fn read_step(line: &str) -> Result<Step, LineError> {
    let (code, expected) = match line.split_once("=>") {
        Some((code, expected)) => (code, Some(expected)),
        None => (line, None),
    };
    let mut words: Vec<&str> = code.split_whitespace().collect();
    let lane = match words.first().and_then(|word| word.strip_suffix(':')) {
        Some(lane) => {
            words.remove(0);
            LaneSlot::parse(lane)?
        }
        None => LaneSlot(0),
    };
    let op = Op::parse(&words)?;
    let outcomes = expected.map_or(Ok(Vec::new()), expect::outcomes)?;
    let expect = Expect {
        outcomes,
        ..Expect::default()
    };
    Ok(Step { lane, op, expect })
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lane.0 != 0 {
            write!(f, "{}: ", self.lane)?;
        }
        write!(f, "{}{}", self.op, self.expect)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        let plain = Self::default();
        if self.window != plain.window {
            writeln!(f, "window {}", self.window)?;
        }
        if self.huge != plain.huge {
            writeln!(f, "huge on")?;
        }
        if !self.needs.is_empty() {
            writeln!(f, "needs {}", self.needs.join(" "))?;
        }
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
onionskin program 1
window 16p
huge on
needs swap !soft-dirty
mmap @0 8p r|w private|fixed|anon - 0 => @0
store @1p 0x41 => ok
  see @0 - P -*6
fork l1
l1: load @1p => 65
  maps @0..8p:rw-p
l1: exit
";

    #[test]
    fn programs_are_read_and_written() {
        let program: Program = TEXT.parse().unwrap();
        assert_eq!(program.steps.len(), 5);
        assert_eq!(program.steps[3].lane, LaneSlot(1));
        assert_eq!(program.to_string(), TEXT);
    }

    #[test]
    fn comments_and_space_don_t_matter() {
        let text = "onionskin program 1\n\n# what it is for\n   load   @0   # why\n";
        let program: Program = text.parse().unwrap();
        assert_eq!(program.to_string(), "onionskin program 1\nload @0\n");
    }

    #[test]
    fn wrong_lines_are_named() {
        let error = |text: &str| text.parse::<Program>().unwrap_err().to_string();
        assert_eq!(error("hello"), "line 1 must be 'onionskin program 1'");
        assert_eq!(
            error("onionskin program 1\nlode @0"),
            "line 2: there is no operation 'lode'"
        );
        assert_eq!(
            error("onionskin program 1\nsee @0 P"),
            "line 2: 'see', 'maps', 'regions' and 'wakes' follow a step"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "(onionskin program 1\n)?[ -~\n]{0,200}") {
            if let Ok(program) = text.parse::<Program>() {
                proptest::prop_assert_eq!(program.to_string().parse::<Program>(), Ok(program));
            }
        }
    }
}
