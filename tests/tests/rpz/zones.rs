//! Small zones in which names lie close to each other, and names to ask for.

use std::collections::{BTreeMap, BTreeSet};

/// The same numbers each time (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A zone: what it says of each owner.
pub struct Made {
    rows: BTreeMap<String, Vec<String>>,
}

impl Made {
    pub fn new(random: &mut Random) -> Self {
        let mut rows = BTreeMap::new();
        for _ in 0..6 + random.below(24) {
            let mut owner = name(random, 3);
            if random.below(3) == 0 {
                owner = format!("*.{owner}");
            } else if random.below(3) == 0 {
                // As most lists have them.
                let says = says(random, "*");
                rows.insert(format!("*.{owner}"), says.clone());
                rows.insert(owner, says);
                continue;
            }
            let says = says(random, &owner);
            rows.insert(owner, says);
        }
        // Many labels, above and below others.
        let deep: Vec<String> = (0..20 + random.below(90)).map(|label| format!("l{}", label % 10)).collect();
        let deep = format!("{}.{}", deep.join("."), name(random, 1));
        if deep.len() < 230 {
            rows.insert(format!("*.{deep}"), vec!["CNAME .".to_owned()]);
        }
        Self { rows }
    }

    /// The master file, with owners in any case, relative and absolute.
    pub fn text(&self) -> String {
        let mut text = "$TTL 60\n@ SOA ns.invalid. host.invalid. 1 60 60 60 60\n@ NS ns.invalid.\n".to_owned();
        for (number, (owner, says)) in self.rows.iter().enumerate() {
            let owner = if number % 2 == 0 { odd_case(owner) } else { owner.clone() };
            let owner = if number % 3 == 0 { format!("{owner}.RPZ.example.") } else { owner };
            says.iter().for_each(|says| text.push_str(&format!("{owner} {says}\n")));
        }
        text
    }

    /// Whether the zone has a name strictly below this one.
    pub fn has_name_below(&self, name: &str) -> bool {
        let below = format!(".{}", name.to_ascii_lowercase());
        self.rows.keys().any(|owner| owner.strip_prefix("*.").unwrap_or(owner).ends_with(&below))
    }

    /// Names of the zone, names above and below and beside them, and others.
    pub fn names(&self, random: &mut Random) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for owner in self.rows.keys() {
            let owner = owner.strip_prefix("*.").unwrap_or(owner);
            let parent = owner.split_once('.').map_or(owner, |(_, parent)| parent);
            names.insert(owner.to_owned());
            names.insert(parent.to_owned());
            if owner.len() < 230 {
                names.insert(format!("q.{owner}"));
                names.insert(format!("a.{owner}"));
                names.insert(format!("q.r.{owner}"));
            }
            names.insert(format!("q.{parent}"));
        }
        for _ in 0..20 {
            names.insert(name(random, 5));
        }
        // One label is a top-level domain, of which nobody compares anything.
        names
            .into_iter()
            .filter(|name| name.contains('.'))
            .map(|name| if random.below(2) == 0 { odd_case(&name) } else { name })
            .collect()
    }
}

fn says(random: &mut Random, owner: &str) -> Vec<String> {
    let one = |says: &str| vec![says.to_owned()];
    match random.below(12) {
        0..=3 => one("CNAME ."),
        4 | 5 => one("CNAME *."),
        6 => one("CNAME rpz-drop."),
        7 | 8 => one("CNAME rpz-passthru."),
        // How PASSTHRU was written once; of a wildcard that would be another name.
        9 if !owner.starts_with('*') => vec![format!("CNAME {owner}.")],
        9 => one("CNAME rpz-passthru."),
        10 => one("A 203.0.113.7"),
        _ => vec!["A 203.0.113.8".to_owned(), "AAAA 2001:db8:ff::8".to_owned()],
    }
}

/// A name of one of two sites, with up to so many labels in front of it, from few.
fn name(random: &mut Random, most: u64) -> String {
    let mut name = random.pick(&["one.example", "two.example"]).to_owned();
    for _ in 0..random.below(most + 1) {
        name = format!("{}.{name}", random.pick(&["a", "b", "c", "www"]));
    }
    name
}

fn odd_case(name: &str) -> String {
    name.char_indices().map(|(at, letter)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter }).collect()
}
