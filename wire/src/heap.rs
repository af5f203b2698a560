//! Keeps the allocator from handing freed memory back to the system with every burst of bytes.
//!
//! Chunks of a transfer are allocated and freed some hundred KiB at a time. glibc's allocator returns free memory at
//! the top of a heap as soon as it is more than 128 KiB, and faults it in again for the next burst: a quarter of the
//! gateway's CPU time in a transfer. The bound is twice the largest mapped block that was ever freed (mallopt(3),
//! `M_MMAP_THRESHOLD`), so one block allocated and freed at the start sets it to 2 MiB. Other allocators lose nothing.

use std::sync::Once;

/// Sets the bound, once.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK))));
}

/// Half of what the allocator then keeps free at the top of a heap.
const BLOCK: usize = 1024 * 1024;
