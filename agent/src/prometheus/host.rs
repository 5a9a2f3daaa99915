//! The two metrics that are about the machine: how busy it is.

use std::{fs, io};

use crate::api::details::cpu_count;

/// Both, as text.
pub(super) fn metrics() -> io::Result<String> {
    let stat = fs::read_to_string("/proc/stat")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let (cpu, memory) = (cpu(&load, cpu_count(&stat)), used(&memory));
    Ok(gauge("cpu", "CPU", cpu) + &gauge("memory", "memory", memory))
}

fn gauge(name: &str, word: &str, percentage: f64) -> String {
    let name = format!("octavia_loadbalancer_{name}");
    format!(
        "# HELP {name} Load balancer {word} utilization (percentage).\n# TYPE {name} gauge\n{name} {percentage:.1}\n"
    )
}

/// The load of the last minute per processor, in percent: that is what Octavia calls utilization.
fn cpu(loadavg: &str, processors: usize) -> f64 {
    let load: f64 = loadavg.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
    let processors = u32::try_from(processors.max(1)).unwrap_or(u32::MAX);
    load / f64::from(processors) * 100.0
}

/// What of the memory is not available (`MemAvailable`), in percent.
fn used(meminfo: &str) -> f64 {
    let value = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|text| text.trim().trim_end_matches("kB").trim_end().parse::<f64>().ok())
    };
    match (value("MemTotal"), value("MemAvailable")) {
        (Some(total), Some(available)) if total > 0.0 => (total - available) / total * 100.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilization_is_in_percent() {
        assert_eq!(
            gauge("cpu", "CPU", cpu("0.50 0.40 0.30 1/100 1\n", 4)).lines().last(),
            Some("octavia_loadbalancer_cpu 12.5")
        );
        let meminfo = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     250 kB\n";
        assert_eq!(gauge("memory", "memory", used(meminfo)).lines().last(), Some("octavia_loadbalancer_memory 75.0"));
        assert!(metrics().unwrap().ends_with('\n'));
    }
}
