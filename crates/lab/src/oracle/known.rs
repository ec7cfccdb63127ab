//! Divergences that are known and open: a run counts and shows them, and a test that looks for new
//! ones lets them pass. `docs/mm/divergences.md` says more of each, under its name.

use super::Divergence;
use crate::generate::Family;

/// A known divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// The family that shows it.
    pub family: Family,
    /// How its signature begins (see [`Divergence::signature`]).
    pub signature: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

/// Every known divergence.
pub const KNOWN: &[Known] = &[];

/// The known divergence that this one is, if it is one.
pub fn known(family: Family, divergence: &Divergence) -> Option<&'static Known> {
    let signature = divergence.signature();
    KNOWN
        .iter()
        .find(|known| known.family == family && signature.starts_with(known.signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_described() {
        let page = include_str!("../../../../docs/mm/divergences.md");
        for Known { name, .. } in KNOWN {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
