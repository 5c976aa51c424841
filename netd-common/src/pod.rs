//! Declares a map type as plain old data, with its size pinned.

/// Implements `bytemuck::Pod` (and `aya::Pod` for user space) for concrete `#[repr(C)]` types whose
/// size is the sum of their fields, which the size given here proves: a padded type would be larger.
macro_rules! map_type {
    ($($ty:ty = $size:expr;)+) => {$(
        const _: () = assert!(::core::mem::size_of::<$ty>() == $size);
        // SAFETY: every field is itself plain data and the assertion above rules padding out.
        unsafe impl ::bytemuck::Zeroable for $ty {}
        // SAFETY: as above; the types hold no pointers and every bit pattern is valid.
        unsafe impl ::bytemuck::Pod for $ty {}
        #[cfg(feature = "user")]
        // SAFETY: `aya::Pod` asks for what `bytemuck::Pod` has just promised.
        unsafe impl ::aya::Pod for $ty {}
    )+};
}

pub(crate) use map_type;
