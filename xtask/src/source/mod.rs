//! A Rust file as the checks see it: its code without comments and literals, its comments without
//! literals, its tokens, and which part of it is compiled for tests only.
//!
//! This is no parser: it knows as much of the language as telling code from text takes.

mod mask;
mod tokens;

use std::ops::Range;

pub(crate) use tokens::{Token, skip_group, tokens};

/// One Rust file. Offsets are in bytes and the same in all of its texts.
pub(crate) struct Source {
    /// The file as it is.
    pub(crate) text: String,
    /// The file with comments and the insides of literals blanked.
    pub(crate) code: String,
    /// The file with the insides of string literals blanked; comments stand.
    pub(crate) prose: String,
    /// The items that are compiled for tests only, in order.
    tests: Vec<Range<usize>>,
}

/// A function and the lines it takes, from `fn` to its closing brace.
pub(crate) struct Function<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Where `fn` stands.
    pub(crate) at: usize,
    /// How many lines it takes.
    pub(crate) lines: usize,
}

impl Source {
    /// Takes a file apart.
    pub(crate) fn new(text: String) -> Self {
        let code = mask::mask(&text, mask::Keep::Code);
        let prose = mask::mask(&text, mask::Keep::CodeAndComments);
        let tests = test_items(&tokens(&code), code.len());
        Self {
            text,
            code,
            prose,
            tests,
        }
    }

    /// The line that an offset stands on, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        lines_in(&self.text[..at]) + 1
    }

    /// Tells whether an offset lies in an item that is compiled for tests only.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// Counts the lines outside of items that are compiled for tests only.
    pub(crate) fn shipped_lines(&self) -> usize {
        let tests: usize = self
            .tests
            .iter()
            .map(|range| lines_in(&self.text[range.clone()]) + 1)
            .sum();
        self.text.lines().count().saturating_sub(tests)
    }

    /// Lists the functions that have a body.
    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let tokens = tokens(&self.code);
        let mut functions = Vec::new();
        for (index, pair) in tokens.windows(2).enumerate() {
            let [keyword, name] = pair else { continue };
            if keyword.text != "fn" || !name.is_word() {
                continue;
            }
            if let Some(end) = body_end(&tokens, index) {
                let lines = lines_in(&self.code[keyword.at..end]) + 1;
                functions.push(Function {
                    name: name.text,
                    at: keyword.at,
                    lines,
                });
            }
        }
        functions
    }
}

/// Finds the items under a `#[cfg(test)]` or a `#[test]`.
fn test_items(tokens: &[Token<'_>], code_length: usize) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let inside = items.last().is_some_and(|item| item.contains(&token.at));
        if token.text != "#" || inside {
            continue;
        }
        let bang = tokens.get(index + 1).is_some_and(|next| next.text == "!");
        let open = index + 1 + usize::from(bang);
        if tokens.get(open).is_none_or(|next| next.text != "[") {
            continue;
        }
        let close = skip_group(tokens, open);
        if !is_test_attribute(&tokens[open + 1..close]) {
            continue;
        }
        if bang {
            items.clear();
            items.push(0..code_length);
            break;
        }
        items.push(token.at..item_end(tokens, close, code_length));
    }
    items
}

/// Tells whether the attribute between the brackets keeps its item for tests: `test`,
/// `cfg(test)`, `cfg(any(test, feature = "..."))`, but not `cfg(not(test))`.
fn is_test_attribute(attribute: &[Token<'_>]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token.text == word);
    match attribute.first() {
        Some(first) if first.text == "test" => true,
        Some(first) if first.text == "cfg" => has("test") && !has("not"),
        _ => false,
    }
}

/// The offset behind the item that starts at a token, further attributes included.
fn item_end(tokens: &[Token<'_>], start: usize, code_length: usize) -> usize {
    let mut index = start;
    while let Some(token) = tokens.get(index) {
        match token.text {
            "(" | "[" => index = skip_group(tokens, index),
            "{" => {
                let close = skip_group(tokens, index);
                return tokens.get(close).map_or(code_length, |last| last.at + 1);
            }
            ";" => return token.at + 1,
            "}" => return token.at,
            _ => {}
        }
        index += 1;
    }
    code_length
}

/// The offset behind the body of the function whose `fn` is at a token; none if it has no body.
fn body_end(tokens: &[Token<'_>], start: usize) -> Option<usize> {
    let mut index = start;
    loop {
        match tokens.get(index)?.text {
            "(" | "[" => index = skip_group(tokens, index),
            "{" => {
                return tokens
                    .get(skip_group(tokens, index))
                    .map(|last| last.at + 1);
            }
            ";" => return None,
            _ => {}
        }
        index += 1;
    }
}

fn lines_in(text: &str) -> usize {
    text.matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
//! Talks of fn ghost() {}
fn first(a: [u8; 4]) -> u8 {
    a[0]
}
#[cfg(test)]
#[allow(dead_code)]
mod tests {
    fn helper() {
    }
}
trait T { fn without_body(&self); }
#[cfg(not(test))]
fn last() {}
";

    #[test]
    fn finds_functions_and_their_lengths() {
        let source = Source::new(FILE.to_owned());
        let found: Vec<_> = source
            .functions()
            .iter()
            .map(|f| (f.name.to_owned(), f.lines))
            .collect();
        let expected = [("first", 3), ("helper", 2), ("last", 1)];
        assert_eq!(
            found,
            expected.map(|(name, lines)| (name.to_owned(), lines))
        );
    }

    #[test]
    fn knows_what_is_for_tests() {
        let source = Source::new(FILE.to_owned());
        assert!(source.is_test(FILE.find("helper").unwrap()));
        assert!(!source.is_test(FILE.find("first").unwrap()));
        assert!(!source.is_test(FILE.find("last").unwrap()));
        assert_eq!(source.line(FILE.find("helper").unwrap()), 8);
        assert_eq!(source.shipped_lines(), FILE.lines().count() - 6);
    }

    #[test]
    fn a_whole_file_may_be_for_tests() {
        let source = Source::new("#![cfg(test)]\nfn a() {}\n".to_owned());
        assert!(source.is_test(15));
    }

    #[test]
    fn a_test_declaration_ends_at_its_semicolon() {
        let text = "#[cfg(test)]\nmod fake;\nmod real;\n";
        let source = Source::new(text.to_owned());
        assert!(source.is_test(text.find("fake").unwrap()));
        assert!(!source.is_test(text.find("real").unwrap()));
    }
}
