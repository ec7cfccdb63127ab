//! Blanks comments and the insides of literals, so that what is left is code.

/// What stays readable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Code only.
    Code,
    /// Code and comments.
    CodeAndComments,
}

/// Replaces every byte that is not kept by a space; line ends stay, and so do all offsets.
pub(super) fn mask(text: &str, keep: Keep) -> String {
    let bytes = text.as_bytes();
    let mut masked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, blank) = match span_at(text, at) {
            Span::Code => (at + 1, at..at),
            Span::Comment(end) if keep == Keep::CodeAndComments => (end, at..at),
            Span::Comment(end) => (end, at..end),
            Span::Literal { inside, end } => (end, inside),
        };
        for byte in &mut masked[blank] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(masked).expect("whole characters are replaced by spaces")
}

enum Span {
    /// One byte of code.
    Code,
    /// A comment up to an offset.
    Comment(usize),
    /// A literal up to `end` whose content is `inside`.
    Literal {
        inside: std::ops::Range<usize>,
        end: usize,
    },
}

fn span_at(text: &str, at: usize) -> Span {
    let rest = &text.as_bytes()[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => Span::Comment(
            rest.iter()
                .position(|&b| b == b'\n')
                .map_or(text.len(), |n| at + n),
        ),
        b'/' if rest.starts_with(b"/*") => Span::Comment(at + block_comment_length(rest)),
        b'"' => quoted(text, at, b'"'),
        b'\'' if is_character_literal(&text[at + 1..]) => quoted(text, at, b'\''),
        b'r' if starts_literal(&text.as_bytes()[..at]) => raw_string(text, at),
        _ => Span::Code,
    }
}

/// Block comments nest.
fn block_comment_length(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A literal in quotes, in which a backslash takes the next byte along.
fn quoted(text: &str, at: usize, quote: u8) -> Span {
    let bytes = text.as_bytes();
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    let inside_end = end.min(bytes.len());
    Span::Literal {
        inside: at + 1..inside_end,
        end: (end + 1).min(bytes.len()),
    }
}

/// Tells a character literal from a lifetime, by what follows the first quote.
fn is_character_literal(rest: &str) -> bool {
    let mut characters = rest.chars();
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// Tells whether an `r` after these bytes can start a raw string: it begins a word, but for the
/// `b` or `c` of a byte or C string.
fn starts_literal(before: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match before {
        [.., first, b'b' | b'c'] => !is_word(first),
        [b'b' | b'c'] | [] => true,
        [.., last] => !is_word(last),
    }
}

fn raw_string(text: &str, at: usize) -> Span {
    let rest = &text[at + 1..];
    let hashes = rest.bytes().take_while(|&byte| byte == b'#').count();
    if rest.as_bytes().get(hashes) != Some(&b'"') {
        return Span::Code;
    }
    let inside = at + 1 + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    match text[inside..].find(&close) {
        Some(length) => Span::Literal {
            inside: inside..inside + length,
            end: inside + length + close.len(),
        },
        None => Span::Literal {
            inside: inside..text.len(),
            end: text.len(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let masked = mask(text, Keep::Code);
        assert_eq!(masked.len(), text.len());
        masked.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_go() {
        assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(code("/// docs with \"quotes\nfn"), "fn");
        assert_eq!(mask("a // b", Keep::CodeAndComments), "a // b");
    }

    #[test]
    fn insides_of_literals_go() {
        assert_eq!(
            code(r#"x("a // \" b", 'c', '\'', b'\\') y"#),
            r#"x(" ", ' ', ' ', b' ') y"#
        );
        assert_eq!(
            code("r#\"a \" b\"# c br\"d\" r#type"),
            "r#\" \"# c br\" \" r#type"
        );
        assert_eq!(code("let s = \"umlaut ä\"; t"), "let s = \" \"; t");
    }

    #[test]
    fn lifetimes_stay() {
        assert_eq!(
            code("fn f<'a>(x: &'a str, y: &'static u8) {}"),
            "fn f<'a>(x: &'a str, y: &'static u8) {}"
        );
    }

    #[test]
    fn what_is_left_open_ends_with_the_file() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'\\", "\"abc\\"] {
            assert_eq!(mask(text, Keep::Code).len(), text.len());
        }
    }
}
