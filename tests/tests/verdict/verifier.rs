//! The verifier budget.

use cordon_tests::harness::Setup;
use filter_user::kernel::{Bench, Kernel};

/// Instructions that the verifier may go through for any program, of the 1,000,000 that it would.
const BUDGET: u32 = 200_000;

#[test]
fn verified_instructions_are_within_the_budget() {
    let capacity = Setup::default().capacity;
    let kernel = Kernel::ephemeral(&capacity).expect("the program loads (as root)");
    let bench = Bench::new(&capacity, 1, 1, 1).expect("the benchmark's programs load");
    let programs: Vec<_> = kernel.programs().chain(bench.programs()).collect();
    for program in &programs {
        // `cargo xtask vm` reads this line.
        println!("{}: {} verified instructions", program.name, program.verified_instructions);
    }
    for program in programs {
        assert!(program.verified_instructions > 0, "{}", program.name);
        assert!(program.verified_instructions < BUDGET, "{} is over {BUDGET}", program.name);
    }
}
