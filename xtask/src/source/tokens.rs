//! Words and signs of code whose comments and literals were blanked.

/// A word (identifier, keyword or number) or one sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The characters of it.
    pub(crate) text: &'a str,
    /// Its offset in the code, in bytes.
    pub(crate) at: usize,
}

impl Token<'_> {
    /// Tells a word from a sign.
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_character)
    }
}

/// Splits code into tokens.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = code[at..].chars().next() {
        let rest = &code[at..];
        let length = if is_word_character(character) {
            rest.find(|next| !is_word_character(next))
                .unwrap_or(rest.len())
        } else {
            character.len_utf8()
        };
        if !character.is_whitespace() {
            tokens.push(Token {
                text: &rest[..length],
                at,
            });
        }
        at += length;
    }
    tokens
}

/// The index of the token that closes the bracket at `open`; the number of tokens if none does.
pub(crate) fn skip_group(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

fn is_word_character(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_words_and_signs() {
        let texts: Vec<_> = tokens("let a_1 = 0x1_000u64+b;")
            .iter()
            .map(|t| t.text)
            .collect();
        assert_eq!(texts, ["let", "a_1", "=", "0x1_000u64", "+", "b", ";"]);
    }

    #[test]
    fn skips_nested_groups() {
        let list = tokens("f(a[0], {b}) c");
        assert_eq!(list[skip_group(&list, 1) + 1].text, "c");
        let open = tokens("(a");
        assert_eq!(skip_group(&open, 0), open.len());
    }
}
