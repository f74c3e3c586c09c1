//! Zone transfer from real primaries, BIND and Knot, and from one that does what it should not.

mod transfer {
    mod hostile;
    mod notify;
    mod primaries;
    pub mod scripted;
    pub mod support;
}
