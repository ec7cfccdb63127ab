//! `onionskin snapshots`: what a store holds, and what can be done with it.

mod diff;
mod export;
mod gc;
mod list;
mod show;
mod verify;

use std::io::Write;

use anyhow::Result;
use onionskin::store::{Access, SnapshotId, Store};
use serde::Serialize;

use crate::args::{RemoveArgs, Snapshots, StoreArg};
use crate::out::Out;
use crate::outcome::Outcome;

/// Does what was asked for.
///
/// # Errors
///
/// Those of the store and of printing.
pub(crate) fn run(command: &Snapshots, out: &mut Out) -> Result<Outcome> {
    match command {
        Snapshots::List(at) => list::run(&open(at)?, out),
        Snapshots::Show(args) => show::run(&open(&args.store)?, &args.id, &args.store, out),
        Snapshots::Diff(args) => diff::run(&open(&args.store)?, &args.a, &args.b, out),
        Snapshots::Verify(args) => verify::run(&open(&args.store)?, &args.ids, out),
        Snapshots::Export(args) => export::run(&open(&args.store)?, args, out),
        Snapshots::Remove(args) => remove(&open(&args.store)?, args, out),
        Snapshots::Gc(args) => gc::run(&open(&args.store)?, args, out),
    }
}

fn open(at: &StoreArg) -> Result<Store> {
    crate::open::store(&at.store, Access::Existing)
}

/// What was removed, as JSON.
#[derive(Serialize)]
struct Removed {
    removed: Vec<SnapshotId>,
}

fn remove(store: &Store, args: &RemoveArgs, out: &mut Out) -> Result<Outcome> {
    // All are looked up before the first is removed: a typing error removes nothing.
    let mut removed: Vec<SnapshotId> = args
        .ids
        .iter()
        .map(|id| store.find(id))
        .collect::<Result<_, _>>()?;
    removed.sort_unstable();
    removed.dedup();
    for id in &removed {
        store.remove(*id)?;
    }
    if out.json {
        out.json_line(&Removed { removed })?;
    } else {
        for id in removed {
            writeln!(out, "removed {id}")?;
        }
    }
    Ok(Outcome::Fine)
}
