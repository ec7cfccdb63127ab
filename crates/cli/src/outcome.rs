//! How a run ends: its exit status and its error message.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::out::{self, BAD, DIM, Out, paint};

/// What a command that ran to its end has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing stands out: exit status 0.
    Fine,
    /// Damage, a difference or an obstacle was found and printed: exit status 1.
    Found,
}

impl Outcome {
    /// Returns [`Outcome::Found`] if `found` holds.
    pub(crate) fn found_if(found: bool) -> Self {
        if found { Self::Found } else { Self::Fine }
    }
}

/// An error as JSON.
#[derive(Serialize)]
struct ErrorJson {
    error: String,
    because: Vec<String>,
}

/// Prints the error, if there is one, and returns the exit status.
pub(crate) fn finish(result: anyhow::Result<Outcome>, out: &mut Out) -> ExitCode {
    let error = match result {
        Ok(Outcome::Fine) => return ExitCode::SUCCESS,
        Ok(Outcome::Found) => return ExitCode::from(1),
        Err(error) if out::is_closed(&error) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    let printed = print_error(&error, out);
    // Where not even the error can be written, the exit status still tells.
    drop(printed);
    ExitCode::from(2)
}

/// Prints an error: as JSON where that was asked for, or else in words on standard error.
///
/// # Errors
///
/// Those of writing.
pub(crate) fn print_error(error: &anyhow::Error, out: &mut Out) -> anyhow::Result<()> {
    let (error, because) = sentences(error);
    if out.json {
        return out.json_line(&ErrorJson { error, because });
    }
    write!(anstream::stderr(), "{}", render(&error, &because))?;
    Ok(())
}

/// The chain of causes, each once: some libraries repeat a cause within their own message.
fn sentences(error: &anyhow::Error) -> (String, Vec<String>) {
    let what = error.to_string();
    let mut because: Vec<String> = Vec::new();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        let said = because.last().unwrap_or(&what);
        if !said.contains(&cause) {
            because.push(cause);
        }
    }
    (what, because)
}

fn render(what: &str, because: &[String]) -> String {
    let mut text = format!("{} {what}\n", paint(BAD, "error:"));
    for cause in because {
        text.push_str(&format!("  {} {cause}\n", paint(DIM, "because")));
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn causes_follow_once_each() {
        let error = Err::<(), _>(anyhow!("no such file"))
            .context("opening /x: no such file")
            .context("process 7 can't be watched")
            .unwrap_err();
        let (what, because) = sentences(&error);
        assert_eq!(what, "process 7 can't be watched");
        assert_eq!(because, ["opening /x: no such file"]);
        let text = anstream::adapter::strip_str(&render(&what, &because)).to_string();
        assert_eq!(
            text,
            "error: process 7 can't be watched\n  because opening /x: no such file\n"
        );
    }
}
