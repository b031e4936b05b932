//! Memory of a server: mimalloc, which keeps what one query freed for the next (docs/decisions/0014).

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

pub use mimalloc::MiMalloc as Allocator;

/// How long freed memory stays with the process, in milliseconds.
const KEPT_MS: c_long = 60_000;
/// `mi_option_purge_delay` of mimalloc.h: the crate names no options.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps freed memory longer than mimalloc does by itself. Call it first of all; the variable `MIMALLOC_PURGE_DELAY`
/// of the environment, in milliseconds, overrules it.
#[expect(unsafe_code, reason = "mimalloc takes options from the environment or through C only")]
pub fn keep_freed() {
    // SAFETY: it sets a number that is there for the life of the process, and no other thread runs yet.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "as above")]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: as above; these are this test's own calls.
        let before = unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(before, 1000, "mimalloc's default is one second");
        keep_freed();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, KEPT_MS);
    }
}
