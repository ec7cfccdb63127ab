//! Dead files: a `.rs` file in a member's folder that no `mod` reaches from a crate root.
//!
//! The walk also tells which files are compiled for tests only, for the checks that spare those.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::source::{Source, Token, skip_group, tokens};
use crate::workspace::Workspace;

/// The files that are reached from a crate root, and whether each serves tests only.
#[derive(Default)]
pub(super) struct ModuleMap {
    test_only: BTreeMap<PathBuf, bool>,
}

/// A `mod name;` of a file.
#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    name: String,
    /// The inline modules around it, outermost first.
    inside: Vec<String>,
    /// What a `#[path]` names.
    path: Option<String>,
    test_only: bool,
}

/// Fails on files that nothing reaches.
pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    let map = ModuleMap::of(workspace)?;
    let mut problems = Vec::new();
    for file in workspace.files()? {
        let path = workspace.root.join(&file);
        let in_member = workspace
            .members
            .iter()
            .any(|member| path.starts_with(&member.folder));
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        if is_rust && in_member && !map.test_only.contains_key(&path) {
            problems.push(format!("{}: no `mod` reaches this file", file.display()));
        }
    }
    Ok(Outcome::of(problems))
}

impl ModuleMap {
    /// Walks every target of every member.
    pub(super) fn of(workspace: &Workspace) -> Result<Self> {
        let mut map = Self::default();
        for target in workspace.members.iter().flat_map(|member| &member.targets) {
            map.walk(&target.root, true, target.is_test())?;
        }
        Ok(map)
    }

    /// Tells whether a file is reached by tests only. A file that nothing reaches is not.
    pub(super) fn is_test_only(&self, file: &Path) -> bool {
        self.test_only.get(file).copied().unwrap_or(false)
    }

    fn walk(&mut self, file: &Path, is_root: bool, test_only: bool) -> Result<()> {
        // A file that both reach is not for tests only, and is walked again to say so below it.
        match self.test_only.get(file) {
            Some(known) if !*known || test_only => return Ok(()),
            _ => self.test_only.insert(file.to_owned(), test_only),
        };
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let source = Source::new(text);
        let whole = source.is_test(0);
        for declaration in declarations(&source) {
            if let Some(next) = declaration.file(file, is_root) {
                self.walk(&next, false, test_only || whole || declaration.test_only)?;
            }
        }
        Ok(())
    }
}

impl Declaration {
    /// The file that is declared, if it exists; the compiler complains of a missing one.
    fn file(&self, declared_in: &Path, is_root: bool) -> Option<PathBuf> {
        let folder = declared_in.parent()?;
        let mut base = folder.to_owned();
        if !is_root && declared_in.file_name()? != "mod.rs" {
            base.push(declared_in.file_stem()?);
        }
        base.extend(&self.inside);
        let candidates = match &self.path {
            Some(path) if self.inside.is_empty() => vec![folder.join(path)],
            Some(path) => vec![base.join(path)],
            None => vec![
                base.join(format!("{}.rs", self.name)),
                base.join(&self.name).join("mod.rs"),
            ],
        };
        candidates.into_iter().find(|candidate| candidate.is_file())
    }
}

fn declarations(source: &Source) -> Vec<Declaration> {
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    let mut inside: Vec<Option<String>> = Vec::new();
    let mut path = None;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token.text {
            "#" if tokens.get(index + 1).is_some_and(|next| next.text == "[") => {
                let close = skip_group(&tokens, index + 1);
                path = path_attribute(source, &tokens[index..close]).or(path);
                index = close;
            }
            "mod" => {
                let name = tokens
                    .get(index + 1)
                    .map_or("", |name| name.text)
                    .to_owned();
                match tokens.get(index + 2).map(|next| next.text) {
                    Some(";") => found.push(Declaration {
                        name,
                        inside: inside.iter().flatten().cloned().collect(),
                        path: path.take(),
                        test_only: source.is_test(token.at),
                    }),
                    Some("{") => {
                        inside.push(Some(name));
                        index += 2;
                    }
                    _ => {}
                }
            }
            "{" => inside.push(None),
            "}" => {
                inside.pop();
            }
            ";" => path = None,
            _ => {}
        }
        index += 1;
    }
    found
}

/// The value of `#[path = "..."]`, read from the text because literals are blanked in the code.
fn path_attribute(source: &Source, attribute: &[Token<'_>]) -> Option<String> {
    let is_path = attribute.iter().any(|token| token.text == "path");
    let quotes: Vec<usize> = attribute
        .iter()
        .filter(|token| token.text == "\"")
        .map(|token| token.at)
        .collect();
    match quotes[..] {
        [open, close] if is_path => Some(source.text[open + 1..close].to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_declarations() {
        let source = Source::new(
            "mod a;\npub(crate) mod b;\n#[cfg(test)]\nmod c;\nmod outer { mod d; fn f() {} }\n\
             #[path = \"x/y.rs\"]\nmod e;\n// mod ghost;\nmod f { }\n"
                .to_owned(),
        );
        let found: Vec<_> = declarations(&source)
            .into_iter()
            .map(|one| (one.name, one.inside.join("/"), one.path, one.test_only))
            .collect();
        let row = |name: &str, inside: &str, path: Option<&str>, test_only| {
            (
                name.to_owned(),
                inside.to_owned(),
                path.map(str::to_owned),
                test_only,
            )
        };
        let expected = [
            row("a", "", None, false),
            row("b", "", None, false),
            row("c", "", None, true),
            row("d", "outer", None, false),
            row("e", "", Some("x/y.rs"), false),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn walks_this_program() {
        let workspace = Workspace::load().unwrap();
        let map = ModuleMap::of(&workspace).unwrap();
        let here = workspace.root.join("xtask/src/check/modules.rs");
        assert_eq!(map.test_only.get(&here), Some(&false));
    }
}
