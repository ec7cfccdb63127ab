//! Holds what a step showed against what it must show.

use sys::puppet::Arena;

use super::Features;
use crate::outcome::{Answer, Outcome, Output, View};
use crate::program::expect::{self, Alternative, Entry, Mapping, Region, Value};
use crate::program::{Address, Amount, Categories, Geometry, Op, Step};

const SOFT_DIRTY: u64 = 1 << 55;

/// What checking needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the subject has.
    pub features: &'a Features,
    /// The sizes of its pages.
    pub geometry: Geometry,
    /// Whether the soft-dirty bit counts. Where a kernel has it, nearly every page shows it.
    pub soft_dirty: bool,
}

/// Checks one step. A step that says nothing of its outcome must succeed.
///
/// # Errors
///
/// Says what differs.
pub fn check(step: &Step, outcome: &Outcome, terms: Terms<'_>) -> Result<(), String> {
    let checker = Checker {
        terms,
        geometry: terms.geometry,
    };
    checker.answer(step, outcome)?;
    let expected = &step.expect;
    if expected.pages.is_empty() && expected.mappings.is_none() {
        // Nothing is looked at.
    } else {
        let view = outcome.view.as_ref().ok_or("nothing could be looked at")?;
        for (start, entries) in &expected.pages {
            checker.pages(*start, entries, view)?;
        }
        if let Some(mappings) = &expected.mappings {
            checker.mappings(mappings, view)?;
        }
    }
    if let Some(regions) = &expected.regions {
        checker.regions(regions, outcome)?;
    }
    for (lane, wanted) in &expected.wakes {
        let woken = outcome.woken.iter().find(|(woken, ..)| *woken == lane.0);
        let (_, answer, outputs) = woken.ok_or_else(|| format!("{lane} does not go on"))?;
        if !checker.fits(wanted, *answer, outputs) {
            return Err(format!(
                "{lane} goes on with {}, not {wanted}",
                told(*answer, outputs)
            ));
        }
    }
    Ok(())
}

struct Checker<'a> {
    terms: Terms<'a>,
    geometry: Geometry,
}

impl Checker<'_> {
    fn answer(&self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        let outputs = with_signal(outcome);
        let ended = matches!(step.op, Op::Exit {}) && outcome.answer == Answer::Ended;
        let holds = |one: &&Alternative| {
            one.condition
                .as_ref()
                .is_none_or(|condition| self.terms.features.holds(condition))
        };
        let mut wanted = step.expect.outcomes.iter().filter(holds).peekable();
        let fine = if wanted.peek().is_none() {
            ended || matches!(outcome.answer, Answer::Value(_))
        } else {
            wanted.any(|one| self.fits(one, outcome.answer, &outputs))
        };
        if fine {
            return Ok(());
        }
        let wanted = step.expect.outcomes.iter().filter(holds);
        let wanted: Vec<String> = wanted.map(ToString::to_string).collect();
        let wanted = if wanted.is_empty() {
            "ok".to_owned()
        } else {
            wanted.join(" | ")
        };
        Err(format!(
            "it shows {}, not {wanted}",
            told(outcome.answer, &outcome.outputs)
        ))
    }

    fn fits(&self, wanted: &Alternative, answer: Answer, outputs: &[Output]) -> bool {
        let answered = match (&wanted.answer, answer) {
            (expect::Answer::Ok, Answer::Value(_)) | (expect::Answer::Blocked, Answer::Blocked) => {
                true
            }
            (expect::Answer::Value(value), Answer::Value(shown)) => {
                value.resolve(self.geometry) == shown
            }
            (expect::Answer::Address(address), Answer::Value(shown)) => {
                self.address(*address) == Some(shown)
            }
            (expect::Answer::Errno(errno), Answer::Errno(shown)) => *errno == shown,
            (expect::Answer::Segv(code), Answer::Segv { code: shown, .. })
            | (expect::Answer::Bus(code), Answer::Bus { code: shown, .. }) => *code == shown,
            _ => false,
        };
        answered && self.fields_fit(&wanted.fields, outputs)
    }

    /// Each name takes the next output of that name.
    fn fields_fit(&self, fields: &[(String, Value)], outputs: &[Output]) -> bool {
        fields.iter().enumerate().all(|(at, (name, value))| {
            let before = fields[..at]
                .iter()
                .filter(|(other, _)| other == name)
                .count();
            let mut same = outputs.iter().filter(|(shown, _)| shown == name);
            same.nth(before)
                .is_some_and(|(_, shown)| self.number(*value) == Some(*shown))
        })
    }

    fn number(&self, value: Value) -> Option<u64> {
        match value {
            Value::Amount(amount) => Some(amount.resolve(self.geometry)),
            Value::Address(address) => self.address(address),
            Value::Categories(categories) => Some(categories.0),
            Value::Event(kind) => Some(kind.0),
            Value::Fault(flags) => Some(flags.0),
            Value::Features(features) => Some(features.0),
            Value::Ioctls(ioctls) => Some(ioctls.0),
        }
    }

    fn address(&self, address: Address) -> Option<u64> {
        match address {
            Address::Arena(amount) => Some(self.arena(amount)),
            Address::Raw(raw) => Some(raw),
            Address::Pattern(_) | Address::Chosen(..) => None,
        }
    }

    fn arena(&self, amount: Amount) -> u64 {
        Arena::START.wrapping_add(amount.resolve(self.geometry))
    }

    fn pages(&self, start: Amount, wanted: &[Entry], view: &View) -> Result<(), String> {
        let first = usize::try_from(start.resolve(self.geometry) / self.geometry.page);
        let first = first.unwrap_or(usize::MAX);
        for (at, wanted) in wanted.iter().enumerate() {
            let Entry::Bits(bits) = *wanted else { continue };
            let page = first.saturating_add(at);
            let shown = view
                .entries
                .get(page)
                .copied()
                .ok_or("a page outside the window")?;
            let mask = if self.terms.soft_dirty {
                !0
            } else {
                !SOFT_DIRTY
            };
            if shown & mask != bits & mask {
                let shown = expect::letters(shown);
                return Err(format!("page {page} is {shown}, not {wanted}"));
            }
        }
        Ok(())
    }

    fn mappings(&self, wanted: &[Mapping], view: &View) -> Result<(), String> {
        let shown: Vec<_> = view
            .areas
            .iter()
            .map(|area| (area.start, area.end, area.access))
            .collect();
        let plain = |mapping: &Mapping| {
            let start = self.arena(mapping.start);
            (
                start,
                start + mapping.len.resolve(self.geometry),
                mapping.access,
            )
        };
        let wanted: Vec<_> = wanted.iter().map(plain).collect();
        if shown == wanted {
            return Ok(());
        }
        let text = |list: &[(u64, u64, u64)]| {
            let one = |(start, end, bits): &(u64, u64, u64)| {
                let page = self.geometry.page;
                let (start, pages) = ((start - Arena::START) / page, (end - start) / page);
                format!("@{start}p..{pages}p:{}", expect::access(*bits))
            };
            list.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        Err(format!(
            "mappings are {}, not {}",
            text(&shown),
            text(&wanted)
        ))
    }

    fn regions(&self, wanted: &[Region], outcome: &Outcome) -> Result<(), String> {
        let plain = |region: &Region| {
            let start = self.arena(region.start);
            [
                start,
                start + region.len.resolve(self.geometry),
                region.categories.0,
            ]
        };
        let wanted: Vec<[u64; 3]> = wanted.iter().map(plain).collect();
        let found = outcome
            .outputs
            .iter()
            .filter(|(name, _)| *name != "walk_end");
        let found: Vec<u64> = found.map(|(_, value)| *value).collect();
        let found: Vec<[u64; 3]> = found
            .chunks_exact(3)
            .map(|three| [three[0], three[1], three[2]])
            .collect();
        if found == wanted {
            return Ok(());
        }
        let text = |list: &[[u64; 3]]| {
            let one = |[start, end, categories]: &[u64; 3]| {
                let page = self.geometry.page;
                let (start, pages) = ((start - Arena::START) / page, (end - start) / page);
                format!("@{start}p..{pages}p:{}", Categories(*categories))
            };
            if list.is_empty() {
                "nothing".to_owned()
            } else {
                list.iter().map(one).collect::<Vec<_>>().join(" ")
            }
        };
        Err(format!("it finds {}, not {}", text(&found), text(&wanted)))
    }
}

/// The outputs, and what a signal tells.
fn with_signal(outcome: &Outcome) -> Vec<Output> {
    let mut outputs = outcome.outputs.clone();
    match outcome.answer {
        Answer::Segv { address, .. } => outputs.push(("address", address)),
        Answer::Bus { address, lsb, .. } => {
            outputs.extend([("address", address), ("lsb", u64::from(lsb))]);
        }
        _ => {}
    }
    outputs
}

/// An answer and its outputs in words.
fn told(answer: Answer, outputs: &[Output]) -> String {
    let mut text = answer.to_string();
    for (name, value) in outputs {
        text.push_str(&format!(" {name}={value:#x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Area;
    use crate::program::Program;

    fn checked(step: &str, outcome: &Outcome) -> Result<(), String> {
        let program: Program = format!("onionskin program 1\n{step}\n").parse().unwrap();
        let features = Features::default();
        let terms = Terms {
            features: &features,
            geometry: Geometry::X86_64,
            soft_dirty: false,
        };
        check(&program.steps[0], outcome, terms)
    }

    #[test]
    fn answers_and_fields_must_fit() {
        let outcome = Outcome {
            outputs: vec![
                ("start", Arena::START),
                ("categories", 2),
                ("start", Arena::START + 4096),
            ],
            ..Outcome::plain(Answer::Value(2))
        };
        assert_eq!(
            checked("look => 2 start=@0 categories=written start=@1p", &outcome),
            Ok(())
        );
        assert_eq!(checked("look", &outcome), Ok(()));
        for wrong in [
            "3",
            "2 start=@1p",
            "2 categories=present",
            "EINVAL",
            "SIGBUS 2",
            "blocked",
        ] {
            assert!(
                checked(&format!("look => {wrong}"), &outcome).is_err(),
                "{wrong}"
            );
        }
        assert!(checked("look", &Outcome::plain(Answer::Errno(space::Errno(22)))).is_err());
        assert!(checked("look", &Outcome::plain(Answer::LeftOut)).is_err());
    }

    #[test]
    fn conditions_choose_alternatives() {
        let outcome = Outcome::plain(Answer::Bus {
            code: 2,
            address: 0,
            lsb: 0,
        });
        assert_eq!(
            checked("look => [swap] ok | [!swap] SIGBUS 2 lsb=0", &outcome),
            Ok(())
        );
        assert!(checked("look => [swap] SIGBUS 2 | [!swap] ok", &outcome).is_err());
    }

    #[test]
    fn views_must_fit() {
        let area = Area {
            start: Arena::START,
            end: Arena::START + 8192,
            access: 3,
            offset: 0,
            file: 0,
            page_size: 4096,
        };
        let view = View {
            areas: vec![area],
            entries: vec![1 << 63, SOFT_DIRTY],
        };
        let outcome = Outcome {
            view: Some(view),
            ..Outcome::plain(Answer::Value(0))
        };
        assert_eq!(
            checked("look\nsee @0 P -\nmaps @0..2p:rw-p", &outcome),
            Ok(())
        );
        for wrong in [
            "see @0 -",
            "see @1p P",
            "see @1p - -",
            "maps @0..1p:rw-p",
            "maps",
        ] {
            assert!(
                checked(&format!("look\n{wrong}"), &outcome).is_err(),
                "{wrong}"
            );
        }
        assert!(checked("look\nsee @0 P", &Outcome::plain(Answer::Value(0))).is_err());
    }

    #[test]
    fn regions_and_woken_lanes_must_fit() {
        let outputs = vec![
            ("walk_end", 0),
            ("start", Arena::START),
            ("end", Arena::START + 4096),
        ];
        let outcome = Outcome {
            outputs: [outputs, vec![("categories", 8)]].concat(),
            woken: vec![(1, Answer::Value(65), Vec::new())],
            ..Outcome::plain(Answer::Value(1))
        };
        assert_eq!(
            checked("look\nregions @0..1p:present\nwakes l1 65", &outcome),
            Ok(())
        );
        for wrong in [
            "regions",
            "regions @0..1p:written",
            "wakes l2 ok",
            "wakes l1 66",
        ] {
            assert!(
                checked(&format!("look\n{wrong}"), &outcome).is_err(),
                "{wrong}"
            );
        }
    }
}
