//! The memory that an executed program sees: values of this process that were lent to it, and its stack. Addresses are the real ones;
//! every access is checked.

use std::{marker::PhantomData, ptr};

use anyhow::Context as _;

/// Bytes of stack that each function has; and how many may be inside one another. Both are the kernel's.
const FRAME: usize = 512;
const FRAMES: usize = 8;

/// All of it.
pub(super) struct Memory<'a> {
    regions: Vec<Region>,
    stack: u64,
    _lent: PhantomData<&'a mut ()>,
}

struct Region {
    start: *mut u8,
    length: usize,
}

impl<'a> Memory<'a> {
    /// Nothing but the stack.
    pub(super) fn new(stack: &'a mut Stack) -> Self {
        let mut memory = Self {
            regions: Vec::new(),
            stack: 0,
            _lent: PhantomData,
        };
        // SAFETY: any bytes are words.
        memory.stack = unsafe { memory.lend(&mut stack.0) };
        memory
    }

    /// Lets the program read and write a value, and returns where it is.
    ///
    /// # Safety
    /// Any bytes must be a valid `T`.
    pub(super) unsafe fn lend<T: ?Sized>(&mut self, value: &'a mut T) -> u64 {
        let length = size_of_val(value);
        let start = ptr::from_mut(value).cast::<u8>();
        self.regions.push(Region { start, length });
        start.addr() as u64
    }

    /// Where the frame of a function at this depth ends: what it has in r10.
    pub(super) fn frame(&self, depth: usize) -> anyhow::Result<u64> {
        anyhow::ensure!(depth < FRAMES, "more than {FRAMES} functions inside one another");
        Ok(self.stack + (FRAME * (depth + 1)) as u64)
    }

    /// A number of `size` bytes, at most eight.
    pub(super) fn read(&self, address: u64, size: usize) -> anyhow::Result<u64> {
        let start = self.place(address, size)?;
        let mut bytes = [0; 8];
        // SAFETY: `place` has checked that so many bytes are there; `bytes` has room for them.
        unsafe { ptr::copy_nonoverlapping(start, bytes.as_mut_ptr(), size) };
        // The object is little-endian, and so is every machine that it is loaded on.
        Ok(u64::from_le_bytes(bytes))
    }

    /// Its lowest `size` bytes, at most eight.
    pub(super) fn write(&self, address: u64, size: usize, number: u64) -> anyhow::Result<()> {
        let start = self.place(address, size)?;
        // SAFETY: as for `read`; the values are lent for writing, as long as `self` lives.
        unsafe { ptr::copy_nonoverlapping(number.to_le_bytes().as_ptr(), start, size) };
        Ok(())
    }

    fn place(&self, address: u64, size: usize) -> anyhow::Result<*mut u8> {
        let within = |region: &Region| {
            let offset = usize::try_from(address.checked_sub(region.start.addr() as u64)?).ok()?;
            let is_inside = offset.checked_add(size)? <= region.length && size <= 8;
            // SAFETY: inside of the region.
            is_inside.then(|| unsafe { region.start.add(offset) })
        };
        self.regions
            .iter()
            .find_map(within)
            .with_context(|| format!("{size} bytes at {address:#x} are not the program's"))
    }
}

/// What a program's functions have for themselves.
pub(super) struct Stack([u64; FRAMES * FRAME / 8]);

impl Stack {
    pub(super) const EMPTY: Self = Self([0; FRAMES * FRAME / 8]);
}
