//! Random names like those that people look up.

/// A small generator (xorshift64*), the same sequence in each run.
pub struct Random(u64);

impl Random {
    /// From a seed other than 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// One of several.
    pub fn of<'a>(&mut self, names: &'a [String]) -> &'a str {
        names.get(self.below(names.len())).map_or("", String::as_str)
    }

    /// A name of so many labels: 4 are about 32 octets.
    pub fn name(&mut self, labels: usize) -> String {
        let label = |index: usize| match index {
            _ if index + 1 == labels => 3,
            0 if labels > 2 => 3 + self.below(4),
            // Many labels are short ones.
            _ if labels > 4 => 3 + self.below(4),
            _ => 8 + self.below(7),
        };
        let lengths: Vec<_> = (0..labels).map(label).collect();
        let name = self.labels(lengths);
        // What the daemon protects is held, and not enforced.
        if [".gov", ".mil"].iter().any(|end| name.ends_with(end)) { self.name(labels) } else { name }
    }

    /// A name of labels of these lengths.
    pub fn labels(&mut self, lengths: impl IntoIterator<Item = usize>) -> String {
        let text = |length: usize| (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect::<String>();
        lengths.into_iter().map(text).collect::<Vec<_>>().join(".")
    }

    /// A name four labels below another.
    pub fn below_name(&mut self, name: &str) -> String {
        format!("{}.{name}", self.labels([3; 4]))
    }
}
