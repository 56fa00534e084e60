//! What this process leaves of its secrets, and what it lets its environment change.
//!
//! In:    nothing. Out: names of variables that were ignored.
//! Holds: no core dump, no debugger of the same user; memory that is given back was overwritten first,
//!        whichever crate had it; no variable of a library can turn off what a connection asks for.
//! Not here: signals and panics (`process`), what a child inherits (`pg::tool`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::arch::asm;

/// Forbids core dumps, which would hold secrets, to this process and its children, and to others of
/// the same user to trace it or to read its memory and environment.
pub fn forbid_dumps() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read nothing but their arguments.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Variables by which a library would reach another server, verify less, or tell more. Connections
/// are complete without them. `HTTPS_PROXY` stays: what goes through it is encrypted from end to end;
/// so do `SSL_CERT_FILE` and `SSL_CERT_DIR`, which name the roots and turn nothing off.
const AMBIENT: &[&str] = &[
    // libpq; PostgreSQL manual, 32.15
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLNEGOTIATION",
    "PGSSLCOMPRESSION",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCERTMODE",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGREQUIREPEER",
    "PGGSSENCMODE",
    "PGKRBSRVNAME",
    "PGGSSLIB",
    "PGGSSDELEGATION",
    "PGCONNECT_TIMEOUT",
    "PGCLIENTENCODING",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
    "PGSYSCONFDIR",
    "PGLOCALEDIR",
    // Vault's own tools
    "VAULT_SKIP_VERIFY",
    "VAULT_TLS_SERVER_NAME",
    "VAULT_PROXY_ADDR",
    "VAULT_HTTP_PROXY",
    "VAULT_REDIRECT_ADDR",
    "VAULT_SRV_LOOKUP",
    "BAO_SKIP_VERIFY",
    // HTTP: a proxy would see requests in clear, those for a machine's own credentials among them
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    // What would be written down
    "SSLKEYLOGFILE",
    "RUST_LOG",
];

/// Takes variables that could weaken a connection out of this process; their names, to be told.
///
/// # Safety
/// No other thread may have been started.
pub unsafe fn drop_ambient() -> Vec<&'static str> {
    let set: Vec<_> = AMBIENT.iter().filter(|name| std::env::var_os(name).is_some()).copied().collect();
    for name in &set {
        // SAFETY: nobody else reads the environment, as the caller promises.
        unsafe { std::env::remove_var(name) };
    }
    set
}

/// What is longer is rows or parts of backups, never a secret, and would cost time.
const LONGEST: usize = 32 * 1024;

/// An allocator that overwrites what it is given back: passwords that a library has copied too.
///
/// Cost: one pass over what is freed, up to 32 KiB a piece; what is longer stays as it was.
#[derive(Debug, Default)]
pub struct Zeroing<A = System>(pub A);

// SAFETY: memory comes from and goes back to the inner allocator with the layout it was asked for; it
// is written only between, while nobody else has it.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Zeroing<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is handed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` is `layout.size()` bytes that the caller has given up.
        unsafe {
            if layout.size() <= LONGEST {
                memory.write_bytes(0, layout.size());
                // The compiler must believe that somebody looks: else nothing would be written.
                asm!("/* {0} */", in(reg) memory, options(nostack, preserves_flags));
            }
            self.0.dealloc(memory, layout);
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is handed on; a copy has the alignment of the first.
        unsafe {
            if layout.size() > LONGEST {
                return self.0.realloc(memory, layout, size);
            }
            let copy = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !copy.is_null() {
                copy.copy_from_nonoverlapping(memory, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            copy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts bytes that come back and are not zero.
    #[derive(Default)]
    struct Watching(AtomicUsize);

    // SAFETY: it hands on to `System`.
    unsafe impl GlobalAlloc for Watching {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
            self.0.fetch_add(bytes.iter().filter(|byte| **byte != 0).count(), Ordering::SeqCst);
            unsafe { System.dealloc(memory, layout) }
        }
    }

    #[test]
    fn memory_that_held_a_secret_is_zero_when_it_goes_back_and_when_it_moves() {
        let memory = Zeroing(Watching::default());
        for size in [1, 24, 4096, LONGEST] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: every layout is the one that the memory was last asked for.
            unsafe {
                let first = memory.alloc(layout);
                first.write_bytes(0x4d, size);
                let moved = memory.realloc(first, layout, 2 * size);
                assert!(
                    (0..size).all(|at| moved.add(at).read() == 0x4d),
                    "{size}: what it held moves with it"
                );
                moved.add(size).write_bytes(0x4d, size);
                let shrunk = memory.realloc(moved, Layout::from_size_align(2 * size, 8).unwrap(), size);
                memory.dealloc(shrunk, layout);
            }
        }
        // Only the one of 64 KiB was longer than what is overwritten.
        assert_eq!(memory.0.0.load(Ordering::SeqCst), 2 * LONGEST);
    }
}
