//! An allocator that overwrites memory with zeros before it frees it, for Rust and for OpenSSL.
//!
//! Private keys pass through buffers that no type of certkeep owns: those of the HTTP/2 transport, of the protobuf decoder and of
//! OpenSSL. Their bytes would stay in freed memory until the memory is used again. The memory itself comes from mimalloc.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{Ordering, compiler_fence};

use libmimalloc_sys::{mi_expand, mi_free, mi_malloc, mi_malloc_aligned, mi_usable_size, mi_zalloc_aligned};

/// The global allocator: `#[global_allocator] static ALLOCATOR: WipingAllocator = WipingAllocator;`
#[derive(Debug)]
pub struct WipingAllocator;

/// Overwrites `len` bytes with zeros.
///
/// # Safety
/// `start` points to `len` bytes that can be written.
unsafe fn wipe(start: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(0, len) };
    // The memory goes to a function that the compiler cannot see into, so the write stays. This also keeps its order.
    compiler_fence(Ordering::SeqCst);
}

// SAFETY: the memory is mimalloc's. `realloc` keeps the bytes that both sizes have.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and any alignment of a layout is allowed.
        unsafe { mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller says that `memory` has this layout, and does not use it any more.
        unsafe {
            wipe(memory, layout.size());
            mi_free(memory.cast());
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let old_size = layout.size();
        let stays = if new_size > old_size {
            // SAFETY: `memory` is a block of mimalloc. `mi_expand` never moves it.
            unsafe { !mi_expand(memory.cast(), new_size).is_null() }
        } else {
            new_size >= old_size / 2
        };
        if stays {
            if new_size < old_size {
                // SAFETY: the bytes from the new size to the old size belong to the block.
                unsafe { wipe(memory.add(new_size), old_size - new_size) };
            }
            return memory;
        }
        // SAFETY: the caller says that the new size is valid for this alignment.
        let moved = unsafe { mi_malloc_aligned(new_size, layout.align()) }.cast::<u8>();
        if !moved.is_null() {
            // SAFETY: both blocks have at least the smaller size, and a new block overlaps no other.
            unsafe {
                moved.copy_from_nonoverlapping(memory, old_size.min(new_size));
                self.dealloc(memory, layout);
            }
        }
        moved
    }
}

type Malloc = unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *const c_char, c_int);

// openssl-sys links libcrypto and does not declare this function.
use openssl_sys as _;
unsafe extern "C" {
    fn CRYPTO_set_mem_functions(malloc: Malloc, realloc: Realloc, free: Free) -> c_int;
}

/// OpenSSL was used before [`wipe_openssl`], so it keeps its allocator.
#[derive(Debug)]
pub struct TooLate;

impl std::fmt::Display for TooLate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenSSL has already allocated memory, so its memory would not be wiped")
    }
}

impl std::error::Error for TooLate {}

/// Makes OpenSSL take its memory from mimalloc and overwrite it before it is freed. Must be called before anything else of OpenSSL.
pub fn wipe_openssl() -> Result<(), TooLate> {
    // SAFETY: the three functions are a whole allocator. OpenSSL refuses them after its first allocation.
    match unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) } {
        1 => Ok(()),
        _ => Err(TooLate),
    }
}

unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: any size is allowed.
    unsafe { mi_malloc(size) }
}

unsafe extern "C" fn realloc(memory: *mut c_void, new_size: usize, file: *const c_char, line: c_int) -> *mut c_void {
    // SAFETY: OpenSSL gives a block of these functions or null.
    unsafe {
        if memory.is_null() {
            return malloc(new_size, file, line);
        }
        if new_size == 0 {
            free(memory, file, line);
            return std::ptr::null_mut();
        }
        if !mi_expand(memory, new_size).is_null() {
            return memory;
        }
        let moved = mi_malloc(new_size);
        if !moved.is_null() {
            let kept = mi_usable_size(memory).min(new_size);
            moved.cast::<u8>().copy_from_nonoverlapping(memory.cast(), kept);
            free(memory, file, line);
        }
        moved
    }
}

unsafe extern "C" fn free(memory: *mut c_void, _: *const c_char, _: c_int) {
    if memory.is_null() {
        return;
    }
    // SAFETY: OpenSSL gives a block of these functions, and does not use it any more.
    unsafe {
        wipe(memory.cast(), mi_usable_size(memory));
        mi_free(memory);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::ptr::null;

    use super::*;

    const LEN: usize = 5000;

    /// How many bytes of the filling are at this address, which may be free memory.
    fn filled(address: usize, len: usize) -> usize {
        let mut bytes = vec![0; len];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, address as u64).unwrap();
        bytes.iter().filter(|byte| **byte == 0xa5).count()
    }

    fn block() -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(LEN, 8).unwrap();
        // SAFETY: the block has LEN bytes.
        let block = unsafe {
            let block = WipingAllocator.alloc(layout);
            block.write_bytes(0xa5, LEN);
            block
        };
        assert_eq!(filled(block as usize, LEN), LEN);
        (block, layout)
    }

    #[test]
    fn a_freed_block_is_wiped() {
        let (block, layout) = block();
        // SAFETY: the block has this layout.
        unsafe { WipingAllocator.dealloc(block, layout) };
        // mimalloc may use some bytes of the block for itself.
        assert!(filled(block as usize, LEN) < 32);
    }

    #[test]
    fn a_block_that_moves_or_shrinks_leaves_nothing() {
        for new_size in [10 * LEN, LEN - 100, 100] {
            let (block, layout) = block();
            // SAFETY: the block has this layout, and then the new size.
            unsafe {
                let moved = WipingAllocator.realloc(block, layout, new_size);
                assert_eq!(filled(moved as usize, new_size.min(LEN)), new_size.min(LEN));
                let kept = if moved == block { new_size.min(LEN) } else { 0 };
                assert!(filled(block as usize + kept, LEN - kept) < 32, "{new_size}");
                WipingAllocator.dealloc(moved, Layout::from_size_align(new_size, 8).unwrap());
            }
        }
    }

    #[test]
    fn openssls_blocks_are_wiped() {
        // SAFETY: the block has LEN bytes, and then the new size.
        unsafe {
            let block = malloc(LEN, null(), 0);
            block.cast::<u8>().write_bytes(0xa5, LEN);
            let moved = realloc(block, 10 * LEN, null(), 0);
            assert_eq!(filled(moved as usize, LEN), LEN);
            assert!(moved != block && filled(block as usize, LEN) < 32);
            free(moved, null(), 0);
            assert!(filled(moved as usize, LEN) < 32);
        }
    }
}
