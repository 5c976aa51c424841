//! Steps, and whose stack frame they are taken in. A program has 512 bytes of stack for all its frames, and on a
//! processor that does not guess where a function returns to, a call costs as much as half a look-up in a table.

/// Takes a step that all packets take: for common ones in the caller's frame, for rare ones, whose steps have
/// larger ones, [`apart`].
macro_rules! step {
    ($kind:ty, $step:expr, $($argument:expr),+) => {
        if <$kind as $crate::parse::Kind>::IS_RARE {
            $crate::engine::step::apart!($step, $($argument),+)
        } else {
            $step($($argument),+)
        }
    };
}

/// Takes a step in a frame of its own. Its arguments are passed in registers, of which there are five: what a
/// closure captures would lie in the caller's frame.
macro_rules! apart {
    ($step:expr, $a:expr, $b:expr) => {
        $crate::engine::step::with_two($step, $a, $b)
    };
    ($step:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
        $crate::engine::step::with_four($step, $a, $b, $c, $d)
    };
    ($step:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        $crate::engine::step::with_five($step, $a, $b, $c, $d, $e)
    };
}

pub(super) use {apart, step};

#[inline(never)]
pub(super) fn with_two<A, B, R>(step: impl FnOnce(A, B) -> R, a: A, b: B) -> R {
    step(a, b)
}

#[inline(never)]
pub(super) fn with_four<A, B, C, D, R>(
    step: impl FnOnce(A, B, C, D) -> R,
    a: A,
    b: B,
    c: C,
    d: D,
) -> R {
    step(a, b, c, d)
}

#[inline(never)]
pub(super) fn with_five<A, B, C, D, E, R>(
    step: impl FnOnce(A, B, C, D, E) -> R,
    a: A,
    b: B,
    c: C,
    d: D,
    e: E,
) -> R {
    step(a, b, c, d, e)
}
