//! Access to memory that several CPUs write. Map values are shared, so every read and write of a counter goes through these functions.
//! Also comparisons without branches: the verifier follows each branch twice.

/// Reads a word that another CPU may be writing.
///
/// # Safety
/// `cell` must be valid for reads and aligned.
#[inline(always)]
pub unsafe fn read<T: Copy>(cell: *const T) -> T {
    // SAFETY: the caller's promise. Volatile, so that the compiler neither repeats nor merges reads of changing memory.
    unsafe { core::ptr::read_volatile(cell) }
}

/// Writes a word that another CPU may be reading.
///
/// # Safety
/// `cell` must be valid for writes and aligned.
#[inline(always)]
pub unsafe fn write<T: Copy>(cell: *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_volatile(cell, value) }
}

/// Returns the number unchanged, but hides its value from the compiler. Otherwise the compiler turns mask arithmetic back into branches,
/// and each branch doubles the verifier's work in a loop.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    let number = {
        let mut same = number;
        // SAFETY: copies a register onto itself. (With no instruction here, two line records would share one offset, which the kernel
        // refuses.)
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) same, options(pure, nomem, nostack)) };
        same
    };
    number
}

/// The smaller of two numbers that are less than 2^63 apart, without a branch.
#[inline(always)]
pub(crate) fn smaller(a: i64, b: i64) -> i64 {
    let difference = b.wrapping_sub(a);
    a.wrapping_add(difference & ones_if_negative(difference))
}

/// All ones if `a` is less than `b`, else 0; without a branch.
#[inline(always)]
pub(crate) fn ones_if_less(a: u32, b: u32) -> u32 {
    // The operand is opaque too: the compiler recognises a plain difference of two words and turns it into a comparison.
    let difference = opaque((i64::from(a) - i64::from(b)).cast_unsigned());
    ones_if_negative(difference.cast_signed()).cast_unsigned() as u32
}

/// All ones (-1) if the number is negative, else 0; without a branch.
#[inline(always)]
pub(crate) fn ones_if_negative(number: i64) -> i64 {
    opaque((number >> 63).cast_unsigned()).cast_signed()
}

macro_rules! fetch_add {
    ($name:ident, $int:ty, $atomic:ident) => {
        /// Adds atomically (wrapping) and returns the previous value.
        ///
        /// # Safety
        /// `cell` must be valid for reads and writes, and aligned.
        #[inline(always)]
        pub unsafe fn $name(cell: *mut $int, amount: $int) -> $int {
            // AcqRel: with Relaxed the BPF back end drops the fetch and returns a wrong value.
            #[cfg(target_arch = "bpf")]
            // SAFETY: the caller's promise.
            return unsafe {
                core::intrinsics::atomic_xadd::<$int, $int, { core::intrinsics::AtomicOrdering::AcqRel }>(cell, amount)
            };
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller's promise.
            return unsafe { core::sync::atomic::$atomic::from_ptr(cell) }
                .fetch_add(amount, core::sync::atomic::Ordering::AcqRel);
        }
    };
}

fetch_add!(add_u32, u32, AtomicU32);
fetch_add!(add_u64, u64, AtomicU64);

/// Writes atomically and returns the previous value. No other access of this thread is reordered across it.
///
/// # Safety
/// `cell` must be valid for reads and writes, and aligned.
#[inline(always)]
pub unsafe fn exchange_u32(cell: *mut u32, value: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    return unsafe { core::intrinsics::atomic_xchg::<u32, { core::intrinsics::AtomicOrdering::SeqCst }>(cell, value) };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    return unsafe { core::sync::atomic::AtomicU32::from_ptr(cell) }.swap(value, core::sync::atomic::Ordering::SeqCst);
}
