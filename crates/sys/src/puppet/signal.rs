//! The handler that turns a fault of an access into an answer.
#![expect(unsafe_code, reason = "signal handlers")]

use std::mem::MaybeUninit;

unsafe extern "C" {
    /// The first instruction that may fault.
    static onionskin_puppet_access_start: u8;
    /// Behind the last instruction that may fault: a return.
    static onionskin_puppet_access_end: u8;
}

/// What a lane's process exits with if it faults where it must not.
const LOST: i32 = 97;

/// Handles SIGSEGV and SIGBUS from here on, and blocks what can be blocked of the rest.
pub(super) fn install() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call fills the set that it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: just filled.
    let mut all = unsafe { all.assume_init() };
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the set is initialized, and the numbers are signals.
        unsafe { libc::sigdelset(&raw mut all, signal) };
    }
    // SAFETY: the set is initialized; blocking signals touches no memory.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
    // SAFETY: zeros are a valid `sigaction`: no handler, no flags, an empty set.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: 1. the action is initialized. 2. the handler touches only what it is given.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
}

/// What the kernel says of a fault.
struct Fault {
    /// The signal's number and, from bit 32, its code.
    signal: u64,
    address: u64,
    lsb: u64,
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t`.
    let code = unsafe { (*info).si_code };
    // SAFETY: the kernel passes a valid `siginfo_t`.
    let info_of_fault = unsafe { &*info };
    // SAFETY: both signals carry an address.
    let address = unsafe { info_of_fault.si_addr() };
    // `si_addr_lsb` follows the address.
    const LSB: usize = 24;
    // SAFETY: a `siginfo_t` has 128 bytes.
    let lsb = unsafe { info.cast::<u8>().add(LSB) };
    // SAFETY: any bytes are a number there.
    let lsb = unsafe { lsb.cast::<u16>().read_unaligned() };
    let hardware = signal == libc::SIGBUS && code != libc::BUS_ADRERR && code != libc::BUS_ADRALN;
    let fault = Fault {
        signal: u64::from(signal.cast_unsigned()) | (u64::from(code.cast_unsigned()) << 32),
        address: address.expose_provenance() as u64,
        lsb: if hardware { lsb.into() } else { 0 },
    };
    let start = (&raw const onionskin_puppet_access_start).expose_provenance() as u64;
    let end = (&raw const onionskin_puppet_access_end).expose_provenance() as u64;
    // SAFETY: the kernel passes a valid `ucontext_t` to a handler with `SA_SIGINFO`, and nobody
    // else refers to it.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if send_on(context, &fault, start..end) {
        return;
    }
    // Poisoned memory is told to its owner even while a call of the owner's poisons it.
    if !hardware {
        // SAFETY: the call ends the process.
        unsafe { libc::_exit(LOST) };
    }
}

/// Has the thread go on behind the access, with the fault in its registers. Tells whether the
/// thread was in an access.
#[cfg(target_arch = "x86_64")]
fn send_on(context: &mut libc::ucontext_t, fault: &Fault, accesses: std::ops::Range<u64>) -> bool {
    let registers = &mut context.uc_mcontext.gregs;
    let pointer = usize::try_from(libc::REG_RIP).expect("a small number");
    if !accesses.contains(&registers[pointer].cast_unsigned()) {
        return false;
    }
    let mut set = |register: i32, value: u64| {
        registers[usize::try_from(register).expect("a small number")] = value.cast_signed();
    };
    set(libc::REG_RDX, fault.signal);
    set(libc::REG_RCX, fault.address);
    set(libc::REG_R8, fault.lsb);
    registers[pointer] = accesses.end.cast_signed();
    true
}

/// Has the thread go on behind the access, with the fault in its registers. Tells whether the
/// thread was in an access.
#[cfg(target_arch = "aarch64")]
fn send_on(context: &mut libc::ucontext_t, fault: &Fault, accesses: std::ops::Range<u64>) -> bool {
    let machine = &mut context.uc_mcontext;
    if !accesses.contains(&machine.pc) {
        return false;
    }
    machine.regs[2] = fault.signal;
    machine.regs[3] = fault.address;
    machine.regs[4] = fault.lsb;
    machine.pc = accesses.end;
    true
}
