//! What was measured on.

use std::fs;

use anyhow::Result;

/// What and how, a row each.
pub type Facts = Vec<(&'static str, String)>;

/// Of this machine; `busy` is how many CPUs other work kept busy before the measurement.
pub fn facts(busy: Option<f64>) -> Result<Facts> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let is_virtual = value(&cpus, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let model = value(&cpus, "model name").unwrap_or("of no name");
    let mut facts = vec![
        ("Processor", format!("{model}{}", if is_virtual { ", in a virtual machine" } else { "" })),
        ("CPUs", format!("{count}; caches of the first: {}", caches())),
        ("Memory", memory()?),
        ("Kernel", format!("Linux {}, {}", read("/proc/sys/kernel/osrelease")?, read("/proc/sys/kernel/version")?)),
        ("BPF JIT", jit()),
        ("Mitigations", mitigations()),
        ("Load average before", read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(", ")),
    ];
    if let Some(busy) = busy {
        facts.push(("Busy before", format!("{busy:.2} of {count} CPUs, with other work")));
    }
    Ok(facts)
}

fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Of the first `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn memory() -> Result<String> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kilobytes: f64 =
        value(&text, "MemTotal").and_then(|size| size.strip_suffix(" kB")?.parse().ok()).unwrap_or(0.0);
    Ok(format!("{:.1} GiB", kilobytes / 1024.0 / 1024.0))
}

/// As sysfs has them (Documentation/ABI/testing/sysfs-devices-system-cpu).
fn caches() -> String {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    let cache = |index: usize| {
        let part = |file: &str| read(&format!("{folder}/index{index}/{file}"));
        let kind = part("type").ok().filter(|kind| kind != "Unified").map(|kind| format!(" {}", kind.to_lowercase()));
        Some(format!("L{}{} {}", part("level").ok()?, kind.unwrap_or_default(), part("size").ok()?))
    };
    let known: Vec<String> = (0..8).map_while(cache).collect();
    if known.is_empty() { "unknown".to_owned() } else { known.join(", ") }
}

/// Documentation/admin-guide/sysctl/net.rst.
fn jit() -> String {
    let setting = |name| read(&format!("/proc/sys/net/core/{name}")).unwrap_or_default();
    let state = match setting("bpf_jit_enable").as_str() {
        "0" => "off: programs are interpreted",
        "1" => "on",
        "2" => "on, with traces",
        _ => "always on",
    };
    let harden = match setting("bpf_jit_harden").as_str() {
        "0" | "" => "not hardened",
        "1" => "hardened for unprivileged programs",
        _ => "hardened",
    };
    format!("{state}, {harden}")
}

/// What the processor is affected by and what the kernel does about it.
fn mitigations() -> String {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mut known: Vec<String> = entries
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            let is_affected = state.trim() != "Not affected";
            is_affected.then(|| format!("{}: {}", entry.file_name().display(), state.trim()))
        })
        .collect();
    known.sort();
    if known.is_empty() { "none known to be needed".to_owned() } else { known.join("<br>") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_their_names() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2: 3\nflags\t\t: a hypervisor b\n";
        assert_eq!(value(text, "model name"), Some("Some CPU @ 2: 3"));
        assert_eq!(value(text, "model"), None);
    }
}
