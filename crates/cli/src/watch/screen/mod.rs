//! The live view on a terminal.
//!
//! One thread does everything: it waits for keys until the next look is due. The terminal is
//! put back on every way out, a panic too.

mod state;
mod view;

use std::time::{Duration, Instant};

use anyhow::Result;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::history::History;
use super::{Schedule, Source};
use crate::args::Watch;
use crate::stop::Stop;
use state::{State, Step};

/// How long a request to stop may stay unseen while we wait for keys.
const PIECE: Duration = Duration::from_millis(100);

/// Shows each interval until it is over; returns whether the process ended.
///
/// # Errors
///
/// Those of the source and of the terminal.
pub(super) fn run(
    args: &Watch,
    source: &mut dyn Source,
    history: &mut History,
    stop: &Stop,
) -> Result<bool> {
    // It puts the terminal back on a panic too.
    let mut terminal = ratatui::try_init()?;
    let result = watch(args, source, history, stop, &mut terminal);
    ratatui::restore();
    result
}

fn watch(
    args: &Watch,
    source: &mut dyn Source,
    history: &mut History,
    stop: &Stop,
    terminal: &mut DefaultTerminal,
) -> Result<bool> {
    let mut state = State::new(args.pid, args.interval);
    let mut schedule = Schedule::new(args);
    loop {
        terminal.draw(|frame| view::draw(&mut state, frame))?;
        if stop.asked() {
            return Ok(false);
        }
        let left = schedule.due().saturating_duration_since(Instant::now());
        if left.is_zero() {
            let Some(interval) = source.interval()? else {
                return Ok(true);
            };
            history.add(&interval);
            state.add(interval);
            if !schedule.advance() {
                return Ok(false);
            }
        } else if event::poll(left.min(PIECE))?
            && let Event::Key(key) = event::read()?
            && press(key, &mut state) == Step::Quit
        {
            return Ok(false);
        }
    }
}

fn press(key: KeyEvent, state: &mut State) -> Step {
    if key.kind == KeyEventKind::Release {
        return Step::Go;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => return Step::Quit,
        KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
        KeyCode::Char('s') => state.sort_next(),
        KeyCode::Char('p' | ' ') => state.pause(),
        KeyCode::Up | KeyCode::Char('k') => state.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => state.scroll(1),
        KeyCode::PageUp => state.scroll(-10),
        KeyCode::PageDown => state.scroll(10),
        KeyCode::Home => state.scroll(isize::MIN),
        KeyCode::End => state.scroll(isize::MAX),
        _ => {}
    }
    Step::Go
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn keys_do_what_the_footer_says() {
        let mut state = State::new(1, Duration::from_secs(1));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for quits in [key(KeyCode::Char('q')), key(KeyCode::Esc), control_c] {
            assert_eq!(press(quits, &mut state), Step::Quit);
        }
        assert_eq!(press(key(KeyCode::Char('c')), &mut state), Step::Go);
        assert_eq!(press(key(KeyCode::Char('p')), &mut state), Step::Go);
        assert!(state.paused());
    }
}
