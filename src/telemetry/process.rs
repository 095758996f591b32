//! Metrics of the process, with the names that all of Prometheus's clients use. The recorder of the metrics crate cannot have them: its
//! counters are whole numbers.

use std::fmt::Write;

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo};

use super::rankings::write_head;

/// Writes the metrics in Prometheus's text format, except those that the kernel hides.
pub(super) fn render(text: &mut String) {
    let mut write = |name: &str, of: &str, help: &str, value: ProcResult<f64>| {
        if let Ok(value) = value {
            write_head(text, name, of, help);
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name} {value}");
        }
    };
    let Ok(process) = Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        let resident = stat.rss_bytes().get() as f64;
        let start = procfs::boot_time_secs().map(|boot| boot as f64 + stat.starttime as f64 / ticks);
        write(
            "process_cpu_seconds_total",
            "counter",
            "Processor time in seconds",
            Ok(cpu),
        );
        write(
            "process_resident_memory_bytes",
            "gauge",
            "Memory in bytes",
            Ok(resident),
        );
        write(
            "process_virtual_memory_bytes",
            "gauge",
            "Address space in bytes",
            Ok(stat.vsize as f64),
        );
        write("process_threads", "gauge", "Threads", Ok(stat.num_threads as f64));
        write("process_start_time_seconds", "gauge", "Start, in Unix seconds", start);
    }
    let open = process.fd_count().map(|count| count as f64);
    write("process_open_fds", "gauge", "Open file descriptors", open);
    let max = process.limits().map(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Unlimited => f64::INFINITY,
        LimitValue::Value(max) => max as f64,
    });
    write(
        "process_max_fds",
        "gauge",
        "Maximum number of open file descriptors",
        max,
    );
}
