//! The verifier budget.

use cordon_tests::harness::Setup;
use filter_user::kernel::Kernel;

/// Instructions that the verifier may go through for any program, of the 1,000,000 that it would.
const BUDGET: u32 = 200_000;

#[test]
fn verified_instructions_are_within_the_budget() {
    let kernel = Kernel::ephemeral(&Setup::default().capacity).expect("the program loads (as root)");
    for program in kernel.programs() {
        println!("{}: {} verified instructions", program.name, program.verified_instructions);
        assert!(program.verified_instructions > 0, "{}", program.name);
        assert!(program.verified_instructions < BUDGET, "{} is over {BUDGET}", program.name);
    }
}
