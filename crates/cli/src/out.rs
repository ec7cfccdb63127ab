//! Standard output: colours where it is a terminal, and no complaint where a reader left.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Stdout, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

/// Standard output. Styles are taken out unless it is a terminal and `NO_COLOR` is not set.
pub(crate) struct Out {
    stream: AutoStream<Stdout>,
    terminal: bool,
    /// Whether the user asked for JSON.
    pub(crate) json: bool,
}

impl Out {
    /// Opens standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            stream: AutoStream::auto(io::stdout()),
            json,
        }
    }

    /// Tells whether a person looks at a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal && !self.json
    }

    /// Prints one line of JSON and gives it out at once.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.write_all(&line)?;
        self.flush()?;
        Ok(())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().map_err(mark_closed)
    }
}

/// Marks the error of a reader of standard output that left, to tell it from a broken pipe
/// elsewhere.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of standard output left")
    }
}

impl Error for Closed {}

fn mark_closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        io::Error::new(io::ErrorKind::BrokenPipe, Closed)
    } else {
        error
    }
}

/// Tells whether an error is only that the reader of standard output left.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.get_ref().is_some_and(|inner| inner.is::<Closed>()))
}

/// Headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// What is less important.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What to be careful about.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Shows `text` in a style.
pub(crate) fn paint(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn only_our_own_broken_pipe_is_forgiven() {
        let ours = mark_closed(io::ErrorKind::BrokenPipe.into());
        let ours = Err::<(), _>(ours).context("printing").unwrap_err();
        assert!(is_closed(&ours));
        let theirs = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!is_closed(&theirs));
        let full = anyhow::Error::new(mark_closed(io::ErrorKind::StorageFull.into()));
        assert!(!is_closed(&full));
    }
}
