//! Verdict tables: one frame, one verdict, one counter, by BPF_PROG_TEST_RUN. Names begin with the case's id.

mod actions;
mod agreement;
mod answers;
mod dns;
mod frames;
mod hidden;
mod initials;
mod judgments;
mod lengths;
mod names;
mod orders;
mod overblocking;
mod quic;
mod redirect;
mod split;
mod tier;
mod tls;
mod tunnels;
mod verifier;

/// Keeps this thread on its CPU: token buckets and rings are each CPU's own.
fn pin_to_this_cpu() {
    // SAFETY: a set of CPUs that is zeroed is an empty one, and it lives through the call.
    let pinned = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    assert_eq!(pinned, 0, "sched_setaffinity");
}
