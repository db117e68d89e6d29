//! What the kernel says of a process: memory, CPU time, its network counters.

use anyhow::{Context, Result};
use std::fs;

/// Resident memory now, in bytes.
///
/// # Errors
/// Where the process is gone.
pub fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS")
}

/// The most resident memory since the start or the last [`forget_peak`], in bytes.
///
/// # Errors
/// Where the process is gone.
pub fn peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM")
}

/// Lets the peak start again from what is resident now.
///
/// # Errors
/// Where the process is gone or belongs to somebody else.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("the peak of process {pid}"))
}

/// CPU time that the process has used, user and system, in seconds; counted in steps of 10 ms.
///
/// # Errors
/// Where the process is gone.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name in parentheses may hold anything, so the fields are counted from its end.
    let fields: Vec<&str> = text.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a stat field")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// How many TCP connections were begun in the network that the process lives in, refused ones included.
///
/// # Errors
/// Where the process is gone.
pub fn connections_begun(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).with_context(|| format!("process {pid}"))?;
    let mut rows = text.lines().filter(|l| l.starts_with("Tcp:"));
    let (names, values) = (rows.next().context("names")?, rows.next().context("values")?);
    let at = names.split(' ').position(|n| n == "ActiveOpens").context("ActiveOpens")?;
    Ok(values.split(' ').nth(at).context("a value")?.parse()?)
}

fn status(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = text.lines().find(|l| l.starts_with(name)).with_context(|| format!("{name} of process {pid}"))?;
    let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib * 1024)
}
