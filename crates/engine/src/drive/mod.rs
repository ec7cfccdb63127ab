//! The threads that carry the engine's bulk work. Everything that decides is elsewhere.

mod crew;
mod pool;

pub(crate) use crew::Crew;
pub(crate) use pool::each;
