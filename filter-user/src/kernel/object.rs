//! The BPF objects in this binary.

/// A BPF object that the build embeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The filter: program `cordon`.
    Filter,
    /// The benchmark: programs `bench_run` and `bench_empty`.
    Bench,
}

/// What the kernel says of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Instructions that the verifier went through.
    pub verified_instructions: u32,
}
