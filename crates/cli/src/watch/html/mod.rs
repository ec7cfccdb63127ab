//! The HTML report: one file that needs no network.
//!
//! `page.html` holds the places for the style, the data and the script; [`data`] makes the
//! data. Names from the process reach the page as JSON only, never as markup.

mod data;

use std::fs;
use std::io;
use std::path::Path;

use super::history::History;
use data::Data;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const VIEW: &str = include_str!("view.js");

/// Writes the report into a file.
///
/// # Errors
///
/// Those of writing.
pub(super) fn write(path: &Path, history: &History) -> io::Result<()> {
    fs::write(path, render(&Data::of(history))?)
}

fn render(data: &Data) -> io::Result<String> {
    // A `<` could end the script that holds the data.
    let json = serde_json::to_string(data)?.replace('<', "\\u003c");
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + VIEW.len() + json.len());
    for part in PAGE.split("@@") {
        page.push_str(match part {
            "STYLE" => STYLE,
            "DATA" => &json,
            "VIEW" => VIEW,
            text => text,
        });
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::path::PathBuf;

    use super::*;
    use crate::watch::fake::Process;

    fn report(mappings: u64, intervals: u64) -> String {
        let mut process = Process::new(mappings);
        let mut history = History::default();
        for _ in 0..intervals {
            history.add(&process.interval());
        }
        // To look at them: ONIONSKIN_REPORTS=DIR cargo test -p onionskin-cli html
        if let Some(dir) = env::var_os("ONIONSKIN_REPORTS") {
            let name = format!("watch-{mappings}-{intervals}.html");
            write(&PathBuf::from(dir).join(name), &history).unwrap();
        }
        render(&Data::of(&history)).unwrap()
    }

    #[test]
    fn the_page_is_whole_and_needs_no_network() {
        let page = report(10, 120);
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("@@"));
        assert!(!page.contains("://"), "an address of the network");
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn one_interval_and_none_make_a_page_too() {
        assert!(report(10, 1).len() > 10_000);
        assert!(report(10, 0).contains("\"columns\":[]"));
    }

    #[test]
    fn large_reports_stay_small() {
        assert!(report(400, 2000).len() < 2 << 20);
        assert!(report(10_000, 3).len() < 4 << 20);
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let mut interval = Process::new(3).interval();
        interval.program = "</script><script>alert(1)</script>".to_owned();
        interval.mappings[0].name = "<!--<script>".to_owned();
        let mut history = History::default();
        history.add(&interval);
        let page = render(&Data::of(&history)).unwrap();
        assert!(!page.contains("<script>alert") && !page.contains("<!--<"));
        assert!(page.contains("\\u003c/script>"));
    }
}
