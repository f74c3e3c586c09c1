//! Whether the machine has time to be measured.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};

/// How many CPUs other work keeps busy. Waits for what has just been built to come to rest.
///
/// # Errors
/// If it is too much to measure, unless that is wished for.
pub fn check(loaded: bool) -> Result<f64> {
    let mut busy = sample()?;
    for _ in 1..TRIES {
        if busy <= MOST || loaded {
            break;
        }
        busy = sample()?;
    }
    let average = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    let average = average.split(' ').next().unwrap_or_default();
    ensure!(
        busy <= MOST || loaded,
        "the machine is too loaded to measure: other work keeps {busy:.2} of its {} CPUs busy (load average {average}), \
         and more than {MOST} spoils every figure; end that work, or measure all the same with --loaded",
        cpus()?,
    );
    if busy > MOST {
        println!(
            "warning: other work keeps {busy:.2} CPUs busy (load average {average}): the figures are worth little."
        );
    }
    Ok(busy)
}

/// CPUs that may be busy.
const MOST: f64 = 0.2;
const TRIES: u32 = 10;
const SAMPLE: Duration = Duration::from_secs(2);

fn cpus() -> Result<usize> {
    Ok(thread::available_parallelism().context("the number of CPUs")?.get())
}

fn sample() -> Result<f64> {
    let before = times()?;
    thread::sleep(SAMPLE);
    let after = times()?;
    Ok(between(before, after) * cpus()? as f64)
}

/// Clock ticks of all CPUs since boot: idle, and all.
fn times() -> Result<[u64; 2]> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    parse(&stat).context("/proc/stat is not as proc(5) has it")
}

/// The first line of /proc/stat (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
fn parse(stat: &str) -> Option<[u64; 2]> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks = fields.take(8).map(|field| field.parse().ok()).collect::<Option<Vec<u64>>>()?;
    Some([ticks.get(3)? + ticks.get(4)?, ticks.iter().sum()])
}

/// The share of the time in which CPUs were not idle.
fn between([idle_before, all_before]: [u64; 2], [idle, all]: [u64; 2]) -> f64 {
    let passed = all.saturating_sub(all_before).max(1);
    1.0 - idle.saturating_sub(idle_before).min(passed) as f64 / passed as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_idle_is_busy() {
        let stat = "cpu  10 0 20 300 50 1 2 3 7 0\ncpu0 1 2 3\n";
        assert_eq!(parse(stat), Some([350, 386]));
        assert_eq!(parse("cpu0 1 2"), None);
        assert!((between([350, 386], [500, 586]) - 0.25).abs() < 1e-9);
    }
}
