//! What the messages of a transfer come to (RFC 5936 2.2, RFC 1995 4), record after record.
//!
//! Nothing of it counts before the record that closes it has come. A difference that does not begin where the last one
//! ended, or does not begin with what is here, is no difference to what is here.

use domain::base::Serial;

use super::records::{Parsed, Record, Records, Soa};

/// A transfer to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    /// The primary has nothing newer.
    Same,
    /// The whole zone.
    Whole {
        /// Its SOA record.
        soa: Soa,
        /// All the others.
        records: Records,
    },
    /// What changed since the version that was asked about, one step after the other.
    Steps {
        /// The SOA record after the last step.
        soa: Soa,
        /// The steps.
        steps: Vec<Step>,
    },
}

/// What changed from one version to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) removed: Records,
    pub(super) added: Records,
}

/// A transfer on its way.
pub(super) struct Reply {
    /// The version that is here, if differences to it were asked for.
    since: Option<u32>,
    /// The first record, as it came and as it is kept.
    first: Option<(Soa, Vec<u8>)>,
    state: State,
    /// Octets that its records may still take.
    room: u64,
    limit: u64,
}

enum State {
    /// At most the first record has come.
    Begun,
    Whole(Records),
    Steps {
        steps: Vec<Step>,
        /// The version that the last step leads to, once its SOA record has come.
        to: Option<u32>,
        /// The version that it comes from.
        from: u32,
    },
    Closed(Transfer),
}

impl Reply {
    /// `since`: the version that differences were asked to. What it keeps takes `limit` octets at most: a message may
    /// hold many times its own length, since it says a name once.
    pub(super) fn new(since: Option<u32>, limit: u64) -> Self {
        Self { since, first: None, state: State::Begun, room: limit, limit }
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// It cannot stand there. Nothing that came before counts then.
    pub(super) fn record(&mut self, record: Parsed) -> Result<(), String> {
        let Some((first, first_data)) = &self.first else {
            let Parsed::Soa(soa, data) = record else {
                return Err("it does not begin with the zone's SOA record".into());
            };
            self.first = Some((soa, data));
            return Ok(());
        };
        if let Parsed::Other(owner, rtype, data) = &record {
            let octets = Records::octets(&Record { owner, rtype: *rtype, data });
            let too_long = || format!("its records take more than {} octets", self.limit);
            self.room = self.room.checked_sub(octets).ok_or_else(too_long)?;
        }
        let closes = matches!(&record, Parsed::Soa(_, data) if data == first_data);
        let state = std::mem::replace(&mut self.state, State::Begun);
        self.state = match (state, record) {
            (State::Begun, record) => begin(record, self.since, closes, first)?,
            (State::Whole(records), Parsed::Soa(..)) if closes => {
                State::Closed(Transfer::Whole { soa: *first, records })
            }
            (State::Whole(_), Parsed::Soa(soa, _)) => {
                let (first, other) = (first.serial, soa.serial);
                return Err(format!("it begins with serial {first} and has another SOA record, of serial {other}"));
            }
            (State::Whole(mut records), Parsed::Other(owner, rtype, data)) => {
                records.push(Record { owner: &owner, rtype, data: &data });
                State::Whole(records)
            }
            (State::Steps { mut steps, to, from }, Parsed::Other(owner, rtype, data)) => {
                if let Some(step) = steps.last_mut() {
                    let records = if to.is_none() { &mut step.removed } else { &mut step.added };
                    records.push(Record { owner: &owner, rtype, data: &data });
                }
                State::Steps { steps, to, from }
            }
            (State::Steps { steps, to: None, from }, Parsed::Soa(soa, _)) => {
                let to = Serial(soa.serial);
                let is_on_the_way = to > Serial(from) && to <= Serial(first.serial);
                if !is_on_the_way {
                    let (to, end) = (soa.serial, first.serial);
                    return Err(format!("a difference from serial {from} to {to}, on the way to {end}"));
                }
                State::Steps { steps, to: Some(soa.serial), from }
            }
            (State::Steps { steps, to: Some(to), .. }, Parsed::Soa(..)) if closes && to == first.serial => {
                State::Closed(Transfer::Steps { soa: *first, steps })
            }
            (State::Steps { mut steps, to: Some(to), .. }, Parsed::Soa(soa, _)) => {
                if soa.serial != to || to == first.serial {
                    let next = soa.serial;
                    return Err(format!("a difference that ends at serial {to} is followed by one from serial {next}"));
                }
                steps.push(Step::default());
                State::Steps { steps, to: None, from: to }
            }
            (State::Closed(_), _) => return Err("it goes on behind the SOA record that closes it".into()),
        };
        Ok(())
    }

    /// Tells that a message has ended. Then one that has nothing new is known as such, since it has a single record.
    pub(super) fn message_ends(&mut self) {
        if let (State::Begun, Some((first, _)), Some(since)) = (&self.state, &self.first, self.since)
            && Serial(first.serial) <= Serial(since)
        {
            self.state = State::Closed(Transfer::Same);
        }
    }

    /// Whether the last record has come.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// What came; none before its end.
    pub(super) fn finish(self) -> Option<Transfer> {
        if let State::Closed(transfer) = self.state { Some(transfer) } else { None }
    }
}

/// What the second record makes of it.
fn begin(record: Parsed, since: Option<u32>, closes: bool, first: &Soa) -> Result<State, String> {
    match (record, since) {
        (Parsed::Other(owner, rtype, data), _) => {
            let mut records = Records::default();
            records.push(Record { owner: &owner, rtype, data: &data });
            Ok(State::Whole(records))
        }
        (Parsed::Soa(..), None) if closes => {
            Ok(State::Closed(Transfer::Whole { soa: *first, records: Records::default() }))
        }
        (Parsed::Soa(soa, _), Some(since)) if soa.serial == since => {
            Ok(State::Steps { steps: vec![Step::default()], to: None, from: since })
        }
        (Parsed::Soa(soa, _), Some(since)) => {
            let from = soa.serial;
            Err(format!("its differences begin at serial {from}, not at {since}, which is here"))
        }
        (Parsed::Soa(soa, _), None) => {
            let (first, other) = (first.serial, soa.serial);
            Err(format!("it begins with serial {first} and has another SOA record, of serial {other}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soa(serial: u32) -> Parsed {
        Parsed::Soa(Soa { serial, refresh: 1, retry: 2, expire: 3 }, serial.to_be_bytes().to_vec())
    }

    fn other(owner: &str) -> Parsed {
        Parsed::Other(owner.as_bytes().to_vec(), 5, b"\0".to_vec())
    }

    /// `S7` is an SOA record, `a` another, `|` the end of a message.
    fn taken(since: Option<u32>, text: &str) -> Result<Option<String>, String> {
        let mut reply = Reply::new(since, 1 << 20);
        for word in text.split(' ') {
            match word.strip_prefix('S') {
                Some(serial) => reply.record(soa(serial.parse().unwrap()))?,
                None if word == "|" => reply.message_ends(),
                None => reply.record(other(word))?,
            }
        }
        let names = |records: &Records| {
            records.iter().map(|record| String::from_utf8_lossy(record.owner).into_owned()).collect::<String>()
        };
        Ok(reply.finish().map(|transfer| match transfer {
            Transfer::Same => "same".to_owned(),
            Transfer::Whole { soa, records } => format!("{} whole {}", soa.serial, names(&records)),
            Transfer::Steps { soa, steps } => {
                let step = |step: &Step| format!(" -{}+{}", names(&step.removed), names(&step.added));
                format!("{}{}", soa.serial, steps.iter().map(step).collect::<String>())
            }
        }))
    }

    #[test]
    fn whole_zones_end_with_the_record_that_they_begin_with() {
        let whole = |text| taken(None, text);
        assert_eq!(whole("S7 a b S7 |"), Ok(Some("7 whole ab".into())));
        assert_eq!(whole("S7 | a | b S7"), Ok(Some("7 whole ab".into())));
        assert_eq!(whole("S7 | S7 |"), Ok(Some("7 whole ".into())));
        for open in ["S7 |", "S7 a b |"] {
            assert_eq!(whole(open), Ok(None), "{open}");
        }
        for (broken, why) in [
            ("a S7", "it does not begin with the zone's SOA record"),
            ("S7 a S8", "it begins with serial 7 and has another SOA record, of serial 8"),
            ("S7 S6 a S7 b S7", "it begins with serial 7 and has another SOA record, of serial 6"),
            ("S7 a S7 b", "it goes on behind the SOA record that closes it"),
            ("S7 a S7 S7", "it goes on behind the SOA record that closes it"),
        ] {
            assert_eq!(whole(broken), Err(why.to_owned()), "{broken}");
        }
    }

    #[test]
    fn differences_lead_from_what_is_here_to_what_they_say() {
        let steps = |text| taken(Some(5), text);
        assert_eq!(steps("S5 |"), Ok(Some("same".into())));
        assert_eq!(steps("S4 |"), Ok(Some("same".into())), "the primary is behind");
        assert_eq!(steps("S7 S5 a S7 b c S7 |"), Ok(Some("7 -a+bc".into())));
        assert_eq!(steps("S7 | S5 | a S6 | b S6 b S7 | c S7"), Ok(Some("7 -a+b -b+c".into())));
        assert_eq!(steps("S7 S5 S7 S7"), Ok(Some("7 -+".into())));
        assert_eq!(steps("S7 a b S7 |"), Ok(Some("7 whole ab".into())), "a server may answer with the whole zone");
        for open in ["S7 |", "S7 S5 a |", "S7 S5 a S6 b |", "S7 S5 a S6 b S6 |", "S7 a |", "S7 S5 a S7 b |"] {
            assert_eq!(steps(open), Ok(None), "{open}");
        }
        for (broken, why) in [
            ("S7 S6 a S7 b S7", "its differences begin at serial 6, not at 5, which is here"),
            ("S7 S7", "its differences begin at serial 7, not at 5, which is here"),
            ("S7 S5 a S5 b S7", "a difference from serial 5 to 5, on the way to 7"),
            ("S7 S5 a S4 b S7", "a difference from serial 5 to 4, on the way to 7"),
            ("S7 S5 a S8 b S7", "a difference from serial 5 to 8, on the way to 7"),
            ("S7 S5 a S6 b S7", "a difference that ends at serial 6 is followed by one from serial 7"),
            ("S7 S5 a S6 b S5 c", "a difference that ends at serial 6 is followed by one from serial 5"),
            ("S7 S5 a S7 b S7 c", "it goes on behind the SOA record that closes it"),
        ] {
            assert_eq!(steps(broken), Err(why.to_owned()), "{broken}");
        }
    }

    #[test]
    fn what_the_records_take_has_a_bound() {
        let taken = |limit, since: Option<u32>, records: Vec<Parsed>| {
            let mut reply = Reply::new(since, limit);
            records.into_iter().try_for_each(|record| reply.record(record)).map(|()| reply.is_closed())
        };
        // Of each record: 4 octets of its owner, 1 of its data, and 6.
        let whole = || vec![soa(7), other("aaaa"), other("bbbb"), soa(7)];
        assert_eq!(taken(22, None, whole()), Ok(true));
        assert_eq!(taken(21, None, whole()), Err("its records take more than 21 octets".to_owned()));
        let steps = || vec![soa(7), soa(6), other("aaaa"), soa(7), other("bbbb"), soa(7)];
        assert_eq!(taken(22, Some(6), steps()), Ok(true));
        assert_eq!(taken(21, Some(6), steps()), Err("its records take more than 21 octets".to_owned()));
    }

    #[test]
    fn serials_wrap() {
        let near_the_end = u32::MAX - 1;
        let since = Some(near_the_end);
        assert_eq!(taken(since, &format!("S3 S{near_the_end} a S0 b S0 c S3 d S3")), Ok(Some("3 -a+b -c+d".into())));
        assert_eq!(taken(Some(3), &format!("S{near_the_end} |")), Ok(Some("same".into())));
        assert_eq!(taken(since, "S3 |"), Ok(None), "newer, so more is to come");
    }
}
