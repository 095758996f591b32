//! The machine that the figures are of.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

/// Cores, processor, memory and kernel, and the file system under this directory.
pub fn description(dir: &Path) -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let first = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':')
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), {} of memory, Linux {}, data on {}",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        kernel.trim(),
        file_system(dir)
    )
}

/// That of the longest mount point above `dir`.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(point).then_some((point.len(), kind))
    });
    above
        .max_by_key(|(len, _)| *len)
        .map_or("an unknown file system", |(_, kind)| kind)
        .to_owned()
}
