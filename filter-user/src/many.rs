//! What is done to very many things at once: on several cores, since an order of a million names is to be in force in
//! seconds. Of few things it is not worth the start.

use std::{sync::LazyLock, thread::available_parallelism};

use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::ParallelIterator as _,
    slice::{ParallelSlice as _, ParallelSliceMut as _},
};

/// The results of all, in their order.
pub(crate) fn map<'a, T: Sync, R: Send>(items: &'a [T], each: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
    let mut parts = parts(items, |part| part.iter().map(&each).collect());
    if parts.len() == 1 { parts.remove(0) } else { parts.into_iter().flatten().collect() }
}

/// What parts of them come to, one part behind the other.
pub(crate) fn parts<'a, T, R>(items: &'a [T], each: impl Fn(&'a [T]) -> Vec<R> + Sync) -> Vec<Vec<R>>
where
    T: Sync,
    R: Send,
{
    match pool(items.len()) {
        Some(pool) => pool.install(|| items.par_chunks(items.len().div_ceil(PARTS)).map(&each).collect()),
        None => vec![each(items)],
    }
}

/// Sorts them; of equal ones, the order is lost.
pub(crate) fn sort<T: Ord + Send>(items: &mut [T]) {
    match pool(items.len()) {
        Some(pool) => pool.install(|| items.par_sort_unstable()),
        None => items.sort_unstable(),
    }
}

/// Threads for so many things, where it is worth having them and they are to be had.
fn pool(items: usize) -> Option<&'static ThreadPool> {
    static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        let cores = available_parallelism().map_or(1, usize::from);
        let cores = (cores / 2).clamp(2, MOST_THREADS).min(cores);
        let name = |index| format!("many-{index}");
        (cores > 1).then(|| ThreadPoolBuilder::new().num_threads(cores).thread_name(name).build().ok()).flatten()
    });
    if items < MANY { None } else { POOL.as_ref() }
}

/// Fewer take less time than it takes to wake a thread, or hardly more.
const MANY: usize = 4096;

/// So many, or half of the cores where that is less, but two where there are two: the others have packets to forward.
const MOST_THREADS: usize = 4;

/// Parts: some for each thread, so that none waits long for the last.
const PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_many_is_that_of_few() {
        for count in [0, 1, MANY - 1, MANY, 3 * MANY + 7] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(&items, |item| item * 3), items.iter().map(|item| item * 3).collect::<Vec<_>>());
            assert_eq!(parts(&items, <[usize]>::to_vec).concat(), items);
            let mut turned: Vec<usize> = items.iter().rev().copied().collect();
            sort(&mut turned);
            assert_eq!(turned, items);
        }
    }
}
