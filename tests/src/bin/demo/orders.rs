//! The example orders, as they stand or, where their time has passed, as if it were now.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

/// Reads `examples/orders/`.
pub fn in_force() -> Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/orders");
    let mut orders = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let event = serde_json::from_str(line).with_context(|| path.display().to_string())?;
            orders.push(current(event).with_context(|| path.display().to_string())?);
        }
    }
    Ok(orders)
}

/// The same order, in force now.
fn current(mut event: Value) -> Result<Value> {
    let order = &mut event["order"];
    let time = |key: &str| -> Result<Timestamp> { Ok(order[key].as_str().context(key.to_owned())?.parse()?) };
    let (start, end, now) = (time("not_before")?, time("not_after")?, Timestamp::now());
    let id = order["id"].as_str().unwrap_or_default().to_owned();
    println!("The order {id}: {}.", order["basis"].as_str().unwrap_or_default().trim_end_matches('.'));
    if (start..end).contains(&now) {
        return Ok(event);
    }
    let shifted_start = now.checked_sub(24.hours())?;
    let shifted_end = shifted_start.checked_add(end.duration_since(start))?;
    println!(
        "It held from {} to {}, which is not now: here it is loaded as if its season were the running one, from {} to {}.",
        day(start),
        day(end),
        day(shifted_start),
        day(shifted_end)
    );
    order["not_before"] = shifted_start.to_string().into();
    order["not_after"] = shifted_end.to_string().into();
    Ok(event)
}

fn day(time: Timestamp) -> String {
    time.strftime("%F").to_string()
}
