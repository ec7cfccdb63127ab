//! The picture of the live view.

use onionskin::report::{MappingActivity, Strategy, Tracked, WatchInterval};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table, TableState};

use super::state::{Sort, State};
use crate::units::{as_f64, bytes, clock, millis, rate};
use crate::watch::strip::{fit, heat_level};

/// The colours of heat, cold to hot; of the 256 that most terminals have.
const HEAT: [Color; 5] = [
    Color::Indexed(238),
    Color::Indexed(96),
    Color::Indexed(168),
    Color::Indexed(208),
    Color::Indexed(228),
];
/// The cells of heat, so that they can be told apart without colours too.
const CELLS: [&str; 5] = ["·", "░", "▒", "▓", "█"];
const DIM: Style = Style::new().fg(Color::DarkGray);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const ACCENT: Style = Style::new().fg(Color::Indexed(208));

/// Draws everything.
pub(super) fn draw(state: &mut State, frame: &mut Frame<'_>) {
    let [head, curve, forecast, table, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(4),
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    match state.shown() {
        Some(interval) => {
            frame.render_widget(header(interval, state), head);
            draw_curve(state, frame, curve);
            frame.render_widget(freeze(interval), forecast);
            draw_table(state, frame, table);
        }
        None => frame.render_widget(first_look(state), head),
    }
    frame.render_widget(keys(state), foot);
}

fn first_look(state: &State) -> Paragraph<'static> {
    let text = format!(
        "process {}: the first look comes in {}",
        state.pid,
        millis(state.interval.as_secs_f64() * 1000.0)
    );
    Paragraph::new(text).style(DIM)
}

fn header(interval: &WatchInterval, state: &State) -> Paragraph<'static> {
    let mut first = vec![
        Span::styled(interval.program.clone(), STRONG),
        Span::styled(format!("  process {}", interval.pid), DIM),
        Span::styled(format!("  {}", interval.tracking.name()), DIM),
        Span::styled(format!("  {}", clock(interval.t_ms / 1000.0)), DIM),
    ];
    if interval.stopped_ms > 0.0 {
        let text = format!("  stopped {} in this interval", millis(interval.stopped_ms));
        first.push(Span::styled(text, Style::new().fg(Color::Yellow)));
    }
    if state.paused() {
        first.push(Span::styled(
            "  paused",
            ACCENT.add_modifier(Modifier::BOLD),
        ));
    }
    let resident = interval.resident_pages * interval.page_size;
    let part = as_f64(interval.written_pages) / as_f64(interval.resident_pages.max(1));
    let second = vec![
        Span::raw("writes "),
        Span::styled(
            rate(interval.written_bytes_per_s),
            ACCENT.add_modifier(Modifier::BOLD),
        ),
        Span::styled(format!("  {:.2} % of its pages", part * 100.0), DIM),
        Span::raw("   in memory "),
        Span::styled(bytes(resident), STRONG),
    ];
    Paragraph::new(vec![Line::from(first), Line::from(second)])
}

fn draw_curve(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let rates = state.rates();
    let shown = &rates[rates.len().saturating_sub(usize::from(area.width))..];
    let top = shown.iter().copied().fold(0.0, f64::max);
    // What counts is the share of the highest; a thousandth is less than any terminal shows.
    let data: Vec<u64> = shown
        .iter()
        .map(|&value| {
            (1..=1000)
                .rev()
                .find(|&n| value * 1000.0 >= top * as_f64(n))
        })
        .map(Option::unwrap_or_default)
        .collect();
    let block = Block::new().title_top(
        Line::from(format!("written, up to {}", rate(top)))
            .style(DIM)
            .right_aligned(),
    );
    let curve = Sparkline::default()
        .block(block)
        .data(data)
        .max(1000)
        .style(ACCENT);
    frame.render_widget(curve, area);
}

fn freeze(interval: &WatchInterval) -> Paragraph<'static> {
    let ms = interval.forecast.freeze_ms;
    let strategies = [
        (Strategy::Precopy, ms.precopy),
        (Strategy::Fork, ms.fork),
        (Strategy::Freeze, ms.freeze),
    ];
    let mut spans = vec![Span::raw("a snapshot now would freeze it for ")];
    for (strategy, ms) in strategies {
        let Some(ms) = ms else { continue };
        let text = format!("{} {}", strategy.name(), millis(ms));
        let chosen = strategy == interval.forecast.strategy;
        spans.push(Span::styled(text, if chosen { STRONG } else { DIM }));
        spans.push(Span::raw("   "));
    }
    Paragraph::new(Line::from(spans))
}

fn draw_table(state: &State, frame: &mut Frame<'_>, area: Rect) {
    const NUMBERS: [u16; 4] = [12, 10, 10, 10];
    let spare = area.width.saturating_sub(NUMBERS.iter().sum::<u16>() + 6);
    let strip = (spare / 2).clamp(8, 64);
    let title = |text: &str, sort: Option<Sort>| {
        let style = if sort == Some(state.sort()) {
            STRONG
        } else {
            DIM
        };
        Line::styled(text.to_owned(), style)
    };
    let heads = [
        title("rate", Some(Sort::Rate)).right_aligned(),
        title("written", None).right_aligned(),
        title("resident", Some(Sort::Resident)).right_aligned(),
        title("size", Some(Sort::Size)).right_aligned(),
        title("where", None),
        title("mapping", Some(Sort::Address)),
    ];
    let page_size = state.shown().map_or(0, |interval| interval.page_size);
    // Only the lines that can be seen are made: there may be ten thousand.
    let lines = usize::from(area.height.saturating_sub(1)).max(1);
    let first = state.selected().saturating_sub(lines - 1);
    let seen = state.mappings().iter().skip(first).take(lines);
    let rows = seen.map(|mapping| row(mapping, page_size, usize::from(strip)));
    let widths = NUMBERS
        .map(Constraint::Length)
        .into_iter()
        .chain([Constraint::Length(strip), Constraint::Min(8)]);
    let table = Table::new(rows, widths)
        .header(Row::new(heads))
        .row_highlight_style(Style::new().bg(Color::Indexed(236)));
    let mut marked = TableState::new().with_selected(state.selected() - first);
    frame.render_stateful_widget(table, area, &mut marked);
}

fn row(mapping: &MappingActivity, page_size: u64, strip: usize) -> Row<'static> {
    let quiet = mapping.written_pages == 0;
    let number = |text: String, style: Style| Line::styled(text, style).right_aligned();
    let or_dash = |text: String| if quiet { "–".to_owned() } else { text };
    let busy = if quiet { DIM } else { ACCENT };
    Row::new([
        number(or_dash(rate(mapping.written_bytes_per_s)), busy),
        number(
            or_dash(bytes(mapping.written_pages * page_size)),
            if quiet { DIM } else { Style::new() },
        ),
        number(bytes(mapping.resident_bytes), Style::new()),
        number(bytes(mapping.size_bytes), DIM),
        heat(mapping, strip),
        place(mapping),
    ])
}

fn heat(mapping: &MappingActivity, width: usize) -> Line<'static> {
    if let Tracked::No(reason) = &mapping.tracked {
        return Line::styled(reason.clone(), Style::new().fg(Color::Yellow));
    }
    let cells = fit(mapping.heat.cells(), width);
    let spans = cells
        .chunk_by(|a, b| heat_level(*a) == heat_level(*b))
        .map(|run| {
            let level = heat_level(run[0]);
            Span::styled(CELLS[level].repeat(run.len()), Style::new().fg(HEAT[level]))
        });
    Line::from_iter(spans)
}

fn place(mapping: &MappingActivity) -> Line<'static> {
    let file = mapping.name.rsplit('/').next().unwrap_or_default();
    let name = if file.is_empty() { "anonymous" } else { file };
    Line::from(vec![
        Span::raw(name.to_owned()),
        Span::styled(
            format!(" {} {:x}", mapping.protection, mapping.range.start()),
            DIM,
        ),
    ])
}

fn keys(state: &State) -> Paragraph<'static> {
    let text = format!(
        "q quit   ↑↓ move   s sort (by {})   p {}   {} mappings",
        state.sort().name(),
        if state.paused() { "go on" } else { "pause" },
        state.mappings().len()
    );
    Paragraph::new(text).style(DIM)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::watch::fake::Process;

    fn picture(state: &mut State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, frame)).unwrap();
        terminal.backend().to_string()
    }

    fn watched(mappings: u64, intervals: u64) -> State {
        let mut process = Process::new(mappings);
        let mut state = State::new(4711, Duration::from_secs(1));
        for _ in 0..intervals {
            state.add(process.interval());
        }
        state
    }

    #[test]
    fn everything_a_reader_needs_is_there() {
        let text = picture(&mut watched(12, 40), 120, 24);
        for part in [
            "/usr/bin/example",
            "process 4711",
            "write-protect",
            "0:40",
            "precopy",
            "fork 14.3 ms",
            "in memory",
            "[heap] rw-p 558",
            "belongs to another userfaultfd",
            "q quit",
            "12 mappings",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn before_the_first_look_it_says_so() {
        let mut state = State::new(7, Duration::from_secs(2));
        let text = picture(&mut state, 80, 24);
        assert!(
            text.contains("process 7: the first look comes in 2.00 s"),
            "{text}"
        );
    }

    #[test]
    fn no_terminal_is_too_small() {
        let mut state = watched(12, 3);
        state.scroll(isize::MAX);
        for (width, height) in [(1, 1), (10, 5), (40, 12), (300, 100)] {
            picture(&mut state, width, height);
        }
    }

    #[test]
    fn the_marked_mapping_can_be_seen() {
        let mut state = watched(1000, 1);
        state.sort_next();
        state.sort_next();
        state.sort_next();
        state.scroll(isize::MAX);
        let text = picture(&mut state, 120, 24);
        assert!(text.contains("[stack]"), "{text}");
    }
}
