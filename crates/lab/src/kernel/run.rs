//! One run of a program.
//!
//! Steps of one lane go to the puppet as a batch, each followed by a look. A program in which a
//! lane may sleep (threads, or several processes with a userfaultfd) goes step by step: after
//! each, all lanes have finished or sleep, and only then the lane looks.

use sys::puppet::{Arena, LANES, LookToken, Progress, Puppet, PuppetError, Script, Span};

use super::compile::{Compiled, Compiler};
use super::decode::Decoder;
use super::{KernelError, uapi};
use crate::outcome::{Answer, Area, FileNames, Outcome, Output, View};
use crate::program::expect::ENTRY_MASK;
use crate::program::{Geometry, LaneSlot, Op, Program, Step};

/// Room that one step may need on the board besides its look.
const STEP_COMMANDS: usize = 8;
/// The most mappings that a look lists.
const AREAS_MAX: u32 = 256;

/// What is known of a lane.
#[derive(Clone, Copy, Debug)]
enum Lane {
    /// There is none.
    Absent,
    /// It waits for a step.
    Ready,
    /// It sleeps in a step.
    Asleep { step: usize, compiled: Compiled },
}

/// A step that was handed over.
struct Pending {
    step: usize,
    compiled: Compiled,
    look: Option<LookToken>,
}

pub(super) struct Run<'a> {
    puppet: &'a Puppet,
    script: &'a mut Script,
    geometry: Geometry,
    program: &'a Program,
    /// Whether each step is waited for.
    stepwise: bool,
    lanes: [Lane; LANES],
    /// The lane whose process a lane belongs to.
    process: [usize; LANES],
    outcomes: Vec<Outcome>,
    /// The addresses that steps returned.
    chosen: Vec<Option<u64>>,
    /// Memory outside the arena that the kernel chose.
    strays: Vec<Span>,
    files: FileNames,
    pending: Vec<Pending>,
    /// The lane of the batch.
    lane: usize,
    /// The batch's first command.
    start: u32,
    /// Where the last event was read to.
    event_at: u32,
    /// Whether the puppet can be used for another program.
    clean: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        puppet: &'a Puppet,
        script: &'a mut Script,
        geometry: Geometry,
        program: &'a Program,
    ) -> Self {
        let mut lanes = [Lane::Absent; LANES];
        lanes[0] = Lane::Ready;
        let mut process = [0; LANES];
        for (lane, process) in process.iter_mut().enumerate() {
            *process = lane;
        }
        Self {
            puppet,
            script,
            geometry,
            program,
            stepwise: is_stepwise(program),
            lanes,
            process,
            outcomes: Vec::with_capacity(program.steps.len()),
            chosen: vec![None; program.steps.len()],
            strays: Vec::new(),
            files: FileNames::default(),
            pending: Vec::new(),
            lane: 0,
            start: 0,
            event_at: 0,
            clean: true,
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.clean
    }

    pub(super) fn chosen_spans(&self) -> Vec<Span> {
        self.strays.clone()
    }

    pub(super) fn all_steps(&mut self) -> Result<Vec<Outcome>, KernelError> {
        for index in 0..self.program.steps.len() {
            let result = self.step(index);
            if result.is_err() {
                self.clean = false;
            }
            result?;
        }
        self.flush()?;
        let asleep = self
            .lanes
            .iter()
            .any(|lane| matches!(lane, Lane::Asleep { .. }));
        let threads = (0..LANES).any(|lane| self.process[lane] != lane);
        // A ring that is closed interrupts those who used it, some time later: the next program
        // would have its waits and calls ended by that (`io_ring_exit_work`).
        let mut steps = self.program.steps.iter();
        let rings = steps.any(|step| matches!(step.op, Op::MakeRing { .. }));
        if asleep || threads || rings || matches!(self.lanes[0], Lane::Absent) {
            self.clean = false;
        }
        Ok(std::mem::take(&mut self.outcomes))
    }

    fn step(&mut self, index: usize) -> Result<(), KernelError> {
        let step = &self.program.steps[index];
        let lane = usize::from(step.lane.0);
        let window = self.pages() as usize * 8 + AREAS_MAX as usize * 48 + 8;
        let room = self.script.has_room(STEP_COMMANDS, window + (512 << 10));
        let op_wants = step.op.chosen().is_some();
        if lane != self.lane || op_wants || !room {
            self.flush()?;
        }
        self.lane = lane;
        if self.pending.is_empty() {
            self.begin_batch();
        }
        if self.is_left_out(lane, step) {
            self.flush()?;
            self.outcomes.push(Outcome::plain(Answer::LeftOut));
            return Ok(());
        }
        let mut compiler = Compiler {
            script: self.script,
            geometry: self.geometry,
            chosen: &self.chosen,
        };
        let compiled = match compiler.compile(&step.op) {
            Ok(compiled) => compiled,
            // How far what the kernel placed reaches is known now only.
            Err(_) if op_wants => {
                self.flush()?;
                self.outcomes.push(Outcome::plain(Answer::Refused));
                return Ok(());
            }
            Err(why) => return Err(KernelError::Step { step: index, why }),
        };
        let look = if self.stepwise {
            None
        } else {
            Some(self.look()?)
        };
        if matches!(step.op, Op::ReadEvent { .. }) {
            self.event_at = compiled.at;
        }
        self.pending.push(Pending {
            step: index,
            compiled,
            look,
        });
        if self.stepwise || ends_batch(&step.op) {
            self.flush()?;
        }
        Ok(())
    }

    fn pages(&self) -> u32 {
        let pages = self.program.window.resolve(self.geometry) / self.geometry.page;
        u32::try_from(pages.min(1 << 16)).expect("just bounded")
    }

    fn look(&mut self) -> Result<LookToken, KernelError> {
        let pages = self.pages();
        let span = Span {
            start: Arena::START,
            len: u64::from(pages) * self.geometry.page,
        };
        Ok(self.script.look(span, pages, AREAS_MAX.min(pages + 1))?)
    }

    fn is_left_out(&self, lane: usize, step: &Step) -> bool {
        let is_there = |lane: LaneSlot| !matches!(self.lanes[usize::from(lane.0)], Lane::Absent);
        !step.has_its_things(is_there, &self.chosen) || !matches!(self.lanes[lane], Lane::Ready)
    }

    /// The board's room is used again, unless a lane sleeps in a command that lies there.
    fn begin_batch(&mut self) {
        let asleep = self
            .lanes
            .iter()
            .any(|lane| matches!(lane, Lane::Asleep { .. }));
        if !asleep {
            self.script.clear();
        }
        self.start = self.script.len();
        self.script.choose(&self.strays);
    }

    /// Has the batch run, and notes what its steps showed.
    fn flush(&mut self) -> Result<(), KernelError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.puppet
            .begin(self.lane, self.start, self.script.len())?;
        let progress = match self.puppet.settle(self.lane) {
            Err(PuppetError::Stuck(_)) => return self.give_up(),
            settled => settled?,
        };
        let mut sleeps = false;
        for pending in std::mem::take(&mut self.pending) {
            let op = self.program.steps[pending.step].op;
            let outcome = match self.decode(&op, pending.compiled) {
                Some((answer, outputs)) => {
                    self.note_chosen(pending.step, &op, answer);
                    Outcome {
                        outputs,
                        ..Outcome::plain(answer)
                    }
                }
                None if sleeps => Outcome::plain(Answer::LeftOut),
                None if progress == Progress::Ended => {
                    sleeps = true;
                    self.note_end(self.lane, &op);
                    Outcome::plain(Answer::Ended)
                }
                None => {
                    sleeps = true;
                    let (step, compiled) = (pending.step, pending.compiled);
                    self.lanes[self.lane] = Lane::Asleep { step, compiled };
                    Outcome::plain(Answer::Blocked)
                }
            };
            let view = pending.look.filter(|_| !sleeps).map(|look| self.view(look));
            self.outcomes.push(Outcome { view, ..outcome });
            self.follow(&op)?;
        }
        if self.stepwise {
            self.wake()?;
            self.look_apart()?;
        }
        Ok(())
    }

    /// Notes that a step never ends: the program ends with it.
    fn give_up(&mut self) -> Result<(), KernelError> {
        self.clean = false;
        self.lanes = [Lane::Absent; LANES];
        let mut endless = false;
        for pending in std::mem::take(&mut self.pending) {
            let op = self.program.steps[pending.step].op;
            let outcome = match self.decode(&op, pending.compiled) {
                Some((answer, outputs)) => Outcome {
                    outputs,
                    ..Outcome::plain(answer)
                },
                None if endless => Outcome::plain(Answer::LeftOut),
                None => {
                    endless = true;
                    Outcome::plain(Answer::Endless)
                }
            };
            let view = pending
                .look
                .filter(|_| !endless)
                .map(|look| self.view(look));
            self.outcomes.push(Outcome { view, ..outcome });
        }
        Ok(())
    }

    fn decode(&self, op: &Op, compiled: Compiled) -> Option<(Answer, Vec<Output>)> {
        let lane_of_thread = |thread: u64| {
            let lanes = 0..LANES;
            let mut same =
                lanes.filter(|&lane| self.puppet.lane_thread(lane).map(u64::from) == Some(thread));
            same.next().map_or(u64::MAX - 1, |lane| lane as u64)
        };
        let decoder = Decoder {
            script: self.script,
            geometry: self.geometry,
            lane_of_thread: &lane_of_thread,
        };
        decoder.decode(op, compiled)
    }

    fn view(&mut self, look: LookToken) -> View {
        let mut seen = self.script.seen(look);
        let files = &mut self.files;
        let areas = seen.areas.iter().map(|area| Area {
            start: area.start,
            end: area.end,
            access: area.access,
            offset: area.offset,
            file: files.number(area.inode),
            page_size: area.page_size,
        });
        let areas = areas.collect();
        for entry in &mut seen.entries {
            *entry &= ENTRY_MASK;
        }
        View {
            areas,
            entries: seen.entries,
        }
    }

    /// Does what belongs to an operation once it is done.
    fn follow(&mut self, op: &Op) -> Result<(), KernelError> {
        let (answer, event) = {
            let last = self.outcomes.last().expect("the caller pushed one");
            (last.answer, last.outputs.first().copied())
        };
        match (op, answer) {
            (Op::Fork { lane }, Answer::Value(_)) => {
                let lane = usize::from(lane.0);
                self.puppet.wait_born(lane)?;
                self.lanes[lane] = Lane::Ready;
            }
            (Op::Thread { lane }, Answer::Value(_)) => {
                let lane = usize::from(lane.0);
                self.puppet.wait_born(lane)?;
                self.lanes[lane] = Lane::Ready;
                self.process[lane] = self.process[self.lane];
            }
            (Op::ReadEvent { new, .. }, _) if event == Some(("event", uapi::event::FORK)) => {
                self.adopt(*new)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Moves the descriptor that a fork event brought to its number.
    fn adopt(&mut self, new: crate::program::Context) -> Result<(), KernelError> {
        use sys::puppet::{Arg, System};
        // The descriptor's number follows the event's first word.
        let fd = Arg::Word(self.event_at + 8);
        self.start = self.script.len();
        let moved = [fd, Arg::Value(uapi::context(new)), Arg::Value(0)];
        self.script.call(System::Dup3, &moved)?;
        self.script.call(System::Close, &[fd])?;
        self.puppet
            .begin(self.lane, self.start, self.script.len())?;
        self.puppet.wait(self.lane)?;
        Ok(())
    }

    /// Finds the lanes that slept and go on.
    fn wake(&mut self) -> Result<(), KernelError> {
        for lane in 0..LANES {
            let Lane::Asleep { step, compiled } = self.lanes[lane] else {
                continue;
            };
            if self.outcomes.len() == step + 1 {
                // It fell asleep in this very step.
                continue;
            }
            let op = self.program.steps[step].op;
            let progress = match self.puppet.settle(lane) {
                Err(PuppetError::Stuck(_)) => {
                    // It goes on and never ends: the program ends with it.
                    self.clean = false;
                    self.lanes = [Lane::Absent; LANES];
                    self.note_woken(lane, Answer::Endless, Vec::new());
                    return Ok(());
                }
                settled => settled?,
            };
            match progress {
                Progress::Blocked => {}
                Progress::Ended => self.note_end(lane, &op),
                Progress::Done => {
                    self.lanes[lane] = Lane::Ready;
                    let Some((answer, outputs)) = self.decode(&op, compiled) else {
                        continue;
                    };
                    self.note_chosen(step, &op, answer);
                    if let (Op::Fork { lane: new }, Answer::Value(_)) = (op, answer) {
                        self.puppet.wait_born(usize::from(new.0))?;
                        self.lanes[usize::from(new.0)] = Lane::Ready;
                    }
                    self.note_woken(lane, answer, outputs);
                }
            }
        }
        Ok(())
    }

    fn note_woken(&mut self, lane: usize, answer: Answer, outputs: Vec<Output>) {
        let lane = u8::try_from(lane).expect("lanes are few");
        let last = self.outcomes.last_mut().expect("a step was made");
        last.woken.push((lane, answer, outputs));
    }

    /// Looks once everybody has settled.
    fn look_apart(&mut self) -> Result<(), KernelError> {
        if !matches!(self.lanes[self.lane], Lane::Ready) {
            return Ok(());
        }
        self.begin_batch();
        let look = self.look()?;
        self.puppet
            .begin(self.lane, self.start, self.script.len())?;
        if self.puppet.wait(self.lane)? == Progress::Done {
            let view = self.view(look);
            self.outcomes.last_mut().expect("a step was made").view = Some(view);
        }
        Ok(())
    }

    fn note_end(&mut self, lane: usize, op: &Op) {
        if !matches!(op, Op::Exit {}) {
            // Killed, or lost: nothing more can be said of this puppet.
            self.clean = false;
        }
        let process = self.process[lane];
        self.puppet.forget(lane);
        for other in 0..LANES {
            if self.process[other] == process {
                self.lanes[other] = Lane::Absent;
                self.process[other] = other;
            }
        }
    }

    /// Notes an address that a step returned.
    fn note_chosen(&mut self, step: usize, op: &Op, answer: Answer) {
        let len = match op {
            Op::Mmap { len, .. } => *len,
            Op::Mremap { new, .. } => *new,
            _ => return,
        };
        let Answer::Value(start) = answer else { return };
        self.chosen[step] = Some(start);
        let len = len
            .resolve(self.geometry)
            .next_multiple_of(self.geometry.page);
        if !(Arena::START..Arena::END).contains(&start) {
            self.strays.push(Span { start, len });
        }
    }
}

/// Tells whether lanes may sleep: then each step is waited for.
fn is_stepwise(program: &Program) -> bool {
    let has = |wanted: fn(&Op) -> bool| program.steps.iter().any(|step| wanted(&step.op));
    let threads = has(|op| matches!(op, Op::Thread { .. }));
    let forks = has(|op| matches!(op, Op::Fork { .. }));
    let contexts = has(|op| matches!(op, Op::Userfaultfd { .. }));
    threads || (forks && contexts)
}

/// Tells whether what follows needs this operation's answer.
fn ends_batch(op: &Op) -> bool {
    matches!(
        op,
        Op::Fork { .. } | Op::Thread { .. } | Op::Exit {} | Op::ReadEvent { .. }
    )
}
