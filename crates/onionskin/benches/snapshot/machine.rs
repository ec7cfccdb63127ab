//! The machine that figures come from, without its name.

use std::fs;

/// Says processor, cores, memory and kernel.
pub(crate) fn describe() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib.div_ceil(1 << 20));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let numbers: String = kernel
        .trim()
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let place = match fs::read_to_string("/proc/cpuinfo") {
        Ok(text) if text.contains(" hypervisor") => "a virtual machine",
        _ => "a machine",
    };
    format!("{cpu}, {cores} cores of {place}, {memory} GiB of memory, Linux {numbers}")
}

/// Returns how busy the machine was in the last minute, and in the last five.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What a process has cost so far: page faults that needed no disk, and milliseconds of processor
/// time, of all its threads.
pub(crate) fn cost(pid: u32) -> Option<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok().map(f64::from);
    // proc_pid_stat(5): minflt is the tenth field, utime and stime the 14th and 15th, in ticks of
    // which there are 100 a second; the first two fields are cut off.
    Some((number(7)?, (number(11)? + number(12)?) * 10.0))
}

/// Returns the text behind `name:` in a file of the kernel's.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
