//! `GET /metrics`: how feeds go, in the text format of Prometheus (version 0.0.4).

use super::api::FeedStatus;

/// A value of a feed; none where there is nothing to tell.
type Value = fn(&FeedStatus) -> Option<f64>;

/// Name, type, what it is, and its value.
const METRICS: [(&str, &str, &str, Value); 11] = [
    (
        "cordon_feed_seconds_since_success",
        "gauge",
        "Seconds since the feed's server last gave an answer that could be used, also that nothing is new.",
        |feed| Some(feed.fetch.as_ref()?.age? as f64),
    ),
    (
        "cordon_feed_stale",
        "gauge",
        "Whether it is unknown if the feed's server has something new, since it does not answer as it should.",
        |feed| Some(flag(feed.fetch.as_ref()?.stale_since.is_some())),
    ),
    ("cordon_feed_changed_timestamp_seconds", "gauge", "When the feed's server last gave something new.", |feed| {
        Some(feed.fetch.as_ref()?.changed?.as_second() as f64)
    }),
    ("cordon_feed_problem", "gauge", "Whether something is wrong with the feed; its status says what.", |feed| {
        Some(flag(feed.problem.is_some()))
    }),
    ("cordon_feed_refused_rows", "gauge", "Rows that the last reading refused.", |feed| {
        Some(feed.refusals.len() as f64)
    }),
    ("cordon_feed_held_changes", "gauge", "Changes that wait to be approved.", |feed| {
        Some(feed.held.iter().filter(|held| held.rejected.is_none()).count() as f64)
    }),
    ("cordon_feed_late_changes", "gauge", "Of these, those that miss their deadline.", |feed| {
        Some(feed.held.iter().filter(|held| held.rejected.is_none() && held.late).count() as f64)
    }),
    ("cordon_zone_serial", "gauge", "Serial of the zone that is enforced.", |feed| {
        Some(feed.fetch.as_ref()?.zone.as_ref()?.serial?.into())
    }),
    (
        "cordon_zone_expires_timestamp_seconds",
        "gauge",
        "When the zone expires, unless a primary confirms it.",
        |feed| Some(feed.fetch.as_ref()?.zone.as_ref()?.expires?.as_second() as f64),
    ),
    ("cordon_zone_expired", "gauge", "Whether the zone has expired.", |feed| {
        Some(flag(feed.fetch.as_ref()?.zone.as_ref()?.is_expired))
    }),
    ("cordon_zone_notifies_refused_total", "counter", "NOTIFYs from nobody who may send them.", |feed| {
        Some(feed.fetch.as_ref()?.zone.as_ref()?.notifies_refused as f64)
    }),
];

/// The page.
pub(super) fn page(feeds: &[FeedStatus]) -> String {
    let mut page = String::new();
    for (name, kind, help, value) in METRICS {
        let values: Vec<(&str, f64)> =
            feeds.iter().filter_map(|feed| Some((feed.name.as_str(), value(feed)?))).collect();
        if values.is_empty() {
            continue;
        }
        page.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (feed, value) in values {
            page.push_str(&format!("{name}{{feed=\"{}\"}} {value}\n", escaped(feed)));
        }
    }
    page
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_old_a_feed_is_stands_beside_whether_it_is_stale() {
        let feeds = json!([
            {"name": "orders", "path": "/o", "url": null, "fetch": null, "read": null, "problem": null, "refusals": []},
            {
                "name": "a \"zone\"", "path": "/z", "url": null, "read": null, "problem": "no primary", "refusals": [],
                "fetch": {
                    "checked": "2025-01-01T00:00:00Z", "age": 4200, "changed": "2025-01-01T00:00:00Z",
                    "stale_since": "2025-01-01T00:00:00Z", "seq": null,
                    "zone": {
                        "zone": "z", "serial": 4294967295_u32, "expires": "2025-01-02T00:00:00Z", "is_expired": true,
                        "primaries": [], "notifies": 1, "notifies_refused": 2, "whole": 1, "incremental": 0,
                    },
                },
            },
        ]);
        let feeds: Vec<FeedStatus> = serde_json::from_value(feeds).unwrap();
        let page = page(&feeds);
        let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        let zone = r#"{feed="a \"zone\""}"#;
        assert_eq!(
            lines,
            [
                format!("cordon_feed_seconds_since_success{zone} 4200"),
                format!("cordon_feed_stale{zone} 1"),
                format!("cordon_feed_changed_timestamp_seconds{zone} 1735689600"),
                "cordon_feed_problem{feed=\"orders\"} 0".to_owned(),
                format!("cordon_feed_problem{zone} 1"),
                "cordon_feed_refused_rows{feed=\"orders\"} 0".to_owned(),
                format!("cordon_feed_refused_rows{zone} 0"),
                "cordon_feed_held_changes{feed=\"orders\"} 0".to_owned(),
                format!("cordon_feed_held_changes{zone} 0"),
                "cordon_feed_late_changes{feed=\"orders\"} 0".to_owned(),
                format!("cordon_feed_late_changes{zone} 0"),
                format!("cordon_zone_serial{zone} 4294967295"),
                format!("cordon_zone_expires_timestamp_seconds{zone} 1735776000"),
                format!("cordon_zone_expired{zone} 1"),
                format!("cordon_zone_notifies_refused_total{zone} 2"),
            ]
        );
        assert!(page.starts_with("# HELP cordon_feed_seconds_since_success Seconds"), "{page}");
        assert_eq!(super::page(&[]), "");
    }
}
