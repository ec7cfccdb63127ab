//! A batch of commands, made by the tool, and the answers to it.

use super::arena::{Arena, Span};
use super::board::{Board, COMMANDS_MAX, DATA_LEN};
use super::command::{Arg, Command, System};
use super::look::Look;
use super::{LANES, board};

/// What a command gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What a call returned (an error number is negative), or what was loaded.
    pub value: i64,
    /// The signal that an access ended with, or 0.
    pub signal: u32,
    /// The signal's code.
    pub code: u32,
    /// The address that the signal names.
    pub address: u64,
    /// The signal's `si_addr_lsb`, for hardware errors.
    pub lsb: u32,
}

/// Names the answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(super) u32);

impl Token {
    /// The answer as an argument of a later command of the batch.
    pub fn arg(self) -> Arg {
        Arg::Reply(self.0)
    }
}

/// Names a look's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookToken {
    pub(super) at: u32,
    pub(super) pages: u32,
    pub(super) areas_max: u32,
}

/// Why a command can't be part of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It names memory outside the arena.
    #[error("{:#x}+{:#x} is outside the arena that programs may use", .0.start, .0.len)]
    OutsideArena(Span),
    /// A call on another process must name it by its lane.
    #[error("a call on another process must name a lane")]
    NoLane,
    /// There is no such lane.
    #[error("there is no lane {0}: lanes are numbered below {LANES}")]
    LaneNumber(u8),
    /// The board has no room.
    #[error("the batch is full: run it and begin another")]
    Full,
}

/// A batch of commands for one lane.
#[derive(Debug)]
pub struct Script {
    board: Board,
    commands: u32,
    data: usize,
    /// Memory outside the arena that the kernel chose.
    chosen: Vec<Span>,
}

impl Script {
    pub(super) fn new(board: Board) -> Self {
        Self {
            board,
            commands: 0,
            data: 0,
            chosen: Vec::new(),
        }
    }

    /// Empties the script, so that the board's room can be used again.
    pub fn clear(&mut self) {
        self.commands = 0;
        self.data = 0;
    }

    /// Tells whether there is room for this much more.
    pub fn has_room(&self, commands: usize, bytes: usize) -> bool {
        self.commands as usize + commands <= COMMANDS_MAX && self.data + bytes <= DATA_LEN
    }

    /// How many commands there are.
    pub fn len(&self) -> u32 {
        self.commands
    }

    /// Tells whether there is no command yet.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Sets the memory outside the arena that commands may name: what the kernel chose.
    pub fn choose(&mut self, spans: &[Span]) {
        self.chosen.clear();
        self.chosen.extend_from_slice(spans);
    }

    /// Tells whether a command or a structure may name this memory.
    ///
    /// # Errors
    ///
    /// Fails if it may not.
    pub fn check(&self, span: Span) -> Result<(), ScriptError> {
        let board = self.board.pattern_address(0);
        let patterns = (board::PATTERNS.len() * board::PATTERN_LEN) as u64;
        let pattern = span.start >= board
            && span
                .start
                .checked_add(span.len)
                .is_some_and(|end| end <= board + patterns);
        if pattern || Arena::allows(span, &self.chosen) {
            Ok(())
        } else {
            Err(ScriptError::OutsideArena(span))
        }
    }

    /// Puts words into the batch's data, and returns where they are.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn words(&mut self, words: &[u64]) -> Result<u32, ScriptError> {
        let at = self.space(words.len() * 8)?;
        for (index, word) in words.iter().enumerate() {
            self.board.set_data_word(at as usize + index * 8, *word);
        }
        Ok(at)
    }

    /// Keeps room in the batch's data for what the kernel writes, filled with zeros.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn buffer(&mut self, len: usize) -> Result<u32, ScriptError> {
        let at = self.space(len)?;
        for index in 0..len.div_ceil(8) {
            self.board.set_data_word(at as usize + index * 8, 0);
        }
        Ok(at)
    }

    fn space(&mut self, len: usize) -> Result<u32, ScriptError> {
        let at = self.data;
        let end = at
            .checked_add(len.next_multiple_of(8))
            .ok_or(ScriptError::Full)?;
        if end > DATA_LEN {
            return Err(ScriptError::Full);
        }
        self.data = end;
        Ok(u32::try_from(at).expect("the board is smaller than 4 GiB"))
    }

    /// The address that data will have in each lane.
    pub fn data_address(&self, at: u32) -> u64 {
        self.board.data_address(at as usize)
    }

    /// The address of a run of 2 MiB of one of [`PATTERNS`](super::PATTERNS).
    pub fn pattern_address(&self, pattern: usize) -> u64 {
        self.board.pattern_address(pattern)
    }

    /// Adds a system call.
    ///
    /// # Errors
    ///
    /// Fails if the call names memory that it may not, or if there is no room.
    pub fn call(&mut self, system: System, args: &[Arg]) -> Result<Token, ScriptError> {
        let mut all = [Arg::Value(0); 6];
        all[..args.len()].copy_from_slice(args);
        for &(start, len) in system.spans() {
            if let (Arg::Value(start), Arg::Value(len)) = (all[start], all[len]) {
                self.check(Span { start, len })?;
            }
        }
        let remote = matches!(system, System::ProcessVmReadv | System::ProcessVmWritev);
        if remote && !matches!(all[0], Arg::Lane(_)) {
            return Err(ScriptError::NoLane);
        }
        self.push(Command::Call(system, all))
    }

    /// Adds a load of 1 or 8 bytes.
    ///
    /// # Errors
    ///
    /// As [`Script::call`].
    pub fn load(&mut self, address: u64, width: u64) -> Result<Token, ScriptError> {
        self.check(Span {
            start: address,
            len: width,
        })?;
        self.push(Command::Load { address, width })
    }

    /// Adds a store of 1 or 8 bytes.
    ///
    /// # Errors
    ///
    /// As [`Script::call`].
    pub fn store(&mut self, address: u64, width: u64, value: u64) -> Result<Token, ScriptError> {
        self.check(Span {
            start: address,
            len: width,
        })?;
        self.push(Command::Store {
            address,
            width,
            value,
        })
    }

    /// Adds a look at `span`, `pages` pages, which lists at most `areas_max` mappings.
    ///
    /// # Errors
    ///
    /// As [`Script::call`].
    pub fn look(
        &mut self,
        span: Span,
        pages: u32,
        areas_max: u32,
    ) -> Result<LookToken, ScriptError> {
        let at = self.space(Look::room(pages as usize, areas_max as usize))?;
        self.board.set_data_word(at as usize, 0);
        let (start, end) = (span.start, span.start.saturating_add(span.len));
        self.push(Command::Look {
            start,
            end,
            out: at,
            areas_max,
        })?;
        Ok(LookToken {
            at,
            pages,
            areas_max,
        })
    }

    /// Adds a fork, whose child becomes `lane`.
    ///
    /// # Errors
    ///
    /// Fails if there is no such lane or no room.
    pub fn fork(&mut self, lane: u8) -> Result<Token, ScriptError> {
        Self::lane(lane)?;
        self.push(Command::Fork { lane })
    }

    /// Adds a new thread, which becomes `lane`.
    ///
    /// # Errors
    ///
    /// Fails if there is no such lane or no room.
    pub fn thread(&mut self, lane: u8) -> Result<Token, ScriptError> {
        Self::lane(lane)?;
        self.push(Command::Thread { lane })
    }

    fn lane(lane: u8) -> Result<(), ScriptError> {
        if lane == 0 || usize::from(lane) >= LANES {
            return Err(ScriptError::LaneNumber(lane));
        }
        Ok(())
    }

    /// Adds the end of the process.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn exit(&mut self) -> Result<Token, ScriptError> {
        self.push(Command::Exit)
    }

    /// Adds a write to `clear_refs` of the process.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn clear_refs(&mut self, value: u8) -> Result<Token, ScriptError> {
        self.push(Command::ClearRefs { value })
    }

    /// Adds switching transparent huge pages on or off for the process.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn huge_pages(&mut self, wish: HugePages) -> Result<Token, ScriptError> {
        let value = u64::from(wish == HugePages::Off);
        self.push(Command::HugeOff { value })
    }

    /// Adds making an io_uring with the descriptor `fd`.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn ring_make(&mut self, fd: u64) -> Result<Token, ScriptError> {
        self.push(Command::RingMake { fd })
    }

    /// Adds registering memory as the ring's fixed buffer.
    ///
    /// # Errors
    ///
    /// As [`Script::call`].
    pub fn ring_pin(&mut self, fd: u64, span: Span) -> Result<Token, ScriptError> {
        self.check(span)?;
        let (address, len) = (span.start, span.len);
        self.push(Command::RingPin { fd, address, len })
    }

    /// Adds dropping the ring's fixed buffer.
    ///
    /// # Errors
    ///
    /// Fails if there is no room.
    pub fn ring_unpin(&mut self, fd: u64) -> Result<Token, ScriptError> {
        self.push(Command::RingUnpin { fd })
    }

    /// Adds moving bytes between a file and the ring's fixed buffer.
    ///
    /// # Errors
    ///
    /// As [`Script::call`].
    pub fn ring_move(&mut self, transfer: Transfer) -> Result<Token, ScriptError> {
        let Transfer {
            ring,
            file,
            offset,
            span,
            way,
        } = transfer;
        self.check(span)?;
        self.push(Command::RingMove {
            fd: ring,
            file,
            offset,
            address: span.start,
            len: span.len,
            write: way == Way::ToFile,
        })
    }

    fn push(&mut self, command: Command) -> Result<Token, ScriptError> {
        if self.commands as usize >= COMMANDS_MAX {
            return Err(ScriptError::Full);
        }
        let token = Token(self.commands);
        self.board.set_command(self.commands as usize, command);
        self.commands += 1;
        Ok(token)
    }

    /// Returns the answer to a command, if it has come.
    pub fn reply(&self, token: Token) -> Option<Reply> {
        self.board.reply(token.0 as usize)
    }

    /// Reads a word of data, as the kernel or the script left it.
    pub fn word(&self, at: u32) -> u64 {
        self.board.data_word(at as usize)
    }

    /// Reads what a look saw.
    pub fn seen(&self, token: LookToken) -> Look {
        let (pages, areas_max) = (token.pages as usize, token.areas_max as usize);
        Look::read(self.board, token.at as usize, pages, areas_max)
    }
}

/// Whether a process gets transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// As the system is set.
    On,
    /// Never.
    Off,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the file to the memory.
    ToMemory,
    /// From the memory to the file.
    ToFile,
}

/// A transfer between a file and a ring's fixed buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The ring's descriptor.
    pub ring: u64,
    /// The file's descriptor.
    pub file: u64,
    /// Where in the file.
    pub offset: u64,
    /// Where in the fixed buffer.
    pub span: Span,
    /// Which way.
    pub way: Way,
}
