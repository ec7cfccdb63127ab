//! The picture: latency over time, a panel a way, on one scale.

use std::fmt::Write as _;
use std::time::Duration;

use super::probe::Answers;
use super::stats::{float, millis};

/// One way, and what the probe saw.
pub(crate) struct Panel {
    /// The way.
    pub(crate) name: &'static str,
    /// The probe's answers.
    pub(crate) answers: Answers,
}

const WIDTH: f64 = 820.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const HEIGHT: f64 = 84.0;
const BETWEEN: f64 = 30.0;
/// The scale: from a tenth of a millisecond to a hundred seconds.
const DECADES: [(f64, &str); 6] = [
    (-1.0, "0.1 ms"),
    (0.0, "1 ms"),
    (1.0, "10 ms"),
    (2.0, "100 ms"),
    (3.0, "1 s"),
    (4.0, "10 s"),
];

/// Draws it.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let longest = panels.iter().flat_map(|panel| panel.answers.last());
    let seconds = longest
        .zip(panels.iter().flat_map(|panel| panel.answers.first()))
        .map(|(last, first)| (last.0 + last.1).saturating_sub(first.0).as_secs_f64())
        .fold(1.0, f64::max);
    let height = TOP + (HEIGHT + BETWEEN) * float(panels.len()) + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\" fill=\"#222\">\
         Latency of redis-server while its memory is saved</text>\n\
         <text x=\"{LEFT}\" y=\"40\" fill=\"#555\">one question a millisecond; the longest wait of \
         every {} ms; smaller is better</text>\n",
        bucket(seconds).as_millis()
    );
    for (number, panel) in panels.iter().enumerate() {
        let top = TOP + (HEIGHT + BETWEEN) * float(number);
        panel_into(&mut svg, panel, top, seconds);
    }
    let bottom = TOP + (HEIGHT + BETWEEN) * float(panels.len());
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{bottom}\" fill=\"#555\">0 s</text>\n\
         <text x=\"{}\" y=\"{bottom}\" fill=\"#555\" text-anchor=\"end\">{seconds:.1} s</text>\n\
         </svg>",
        WIDTH - RIGHT
    );
    svg
}

fn panel_into(svg: &mut String, panel: &Panel, top: f64, seconds: f64) {
    let inner = WIDTH - LEFT - RIGHT;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\" fill=\"#222\">{}</text>",
        top + 8.0,
        panel.name
    );
    let top = top + 14.0;
    for (decade, label) in DECADES {
        let y = height_of(decade, top);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" fill=\"#777\" font-size=\"9\" text-anchor=\"end\">{label}\
             </text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 3.0
        );
    }
    let Some(&(first, _)) = panel.answers.first() else {
        return;
    };
    let step = bucket(seconds);
    let mut path = String::new();
    let mut rest = panel.answers.as_slice();
    let mut at = first;
    while !rest.is_empty() {
        let next = at + step;
        let count = rest.iter().take_while(|(due, _)| *due < next).count();
        let (now, later) = rest.split_at(count);
        if let Some(longest) = now.iter().map(|answer| answer.1).max() {
            let x = LEFT + (at - first).as_secs_f64() / seconds * inner;
            let y = height_of(millis(longest).max(0.01).log10(), top);
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{x:.1} {y:.1}");
        }
        (rest, at) = (later, next);
    }
    let color = if panel.name.starts_with("onionskin") {
        "#0a7d54"
    } else {
        "#9a3b26"
    };
    let color = if panel.name == "nothing" {
        "#555555"
    } else {
        color
    };
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.2\" \
         stroke-linejoin=\"round\"/>"
    );
}

/// Time that one point of the line stands for.
fn bucket(seconds: f64) -> Duration {
    Duration::from_millis(5).max(Duration::from_secs_f64(seconds / 700.0))
}

fn height_of(decade: f64, top: f64) -> f64 {
    let (low, high) = (DECADES[0].0, DECADES[DECADES.len() - 1].0);
    let share = ((decade - low) / (high - low)).clamp(0.0, 1.0);
    top + HEIGHT * (1.0 - share)
}
