//! Lifetime of DPDK's environment in this process: initialisation, threads, cleanup.

use std::collections::HashSet;
use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use dpdk_sys as sys;

use crate::error::{Error, Result, c_string};
use crate::log;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// DPDK's environment abstraction layer, initialised. Clones refer to the same environment.
///
/// Every pool, port, queue and registered thread holds such a handle. When the last handle is dropped, EAL
/// is cleaned up, if that is safe: on the thread that initialised it, and with every mbuf back in its pool.
/// Otherwise EAL stays up until the process ends, so that no [`Packet`](crate::Packet) can point to unmapped
/// memory.
#[derive(Clone)]
pub struct Eal {
    inner: Arc<Inner>,
}

struct Inner {
    initialiser: ThreadId,
    /// CPU affinity of the initialising thread before EAL pinned it.
    affinity: Option<libc::cpu_set_t>,
    open_ports: Mutex<HashSet<u16>>,
    pools: Mutex<Vec<PoolPointer>>,
    next_pool: AtomicU32,
}

struct PoolPointer(NonNull<sys::rte_mempool>);

// SAFETY: mempools may be used from every thread; the pointer is only handed to rte_mempool_* functions.
unsafe impl Send for PoolPointer {}

impl Eal {
    /// Initialises EAL with `arguments` (without a program name), for example
    /// `["--no-pci", "--in-memory", "-l", "0"]`.
    ///
    /// Possible once per process. EAL pins the calling thread to the first core of `-l`/`--lcores`;
    /// [`restore_affinity`](Self::restore_affinity) undoes that. Call it before other threads are started,
    /// because new threads inherit the mask.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if EAL was initialised before, an argument contains a NUL byte or is invalid, or EAL cannot start.
    pub fn init<I, S>(arguments: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut owned = vec![c_string("fibcast")?];
        for argument in arguments {
            owned.push(c_string(argument.as_ref())?);
        }
        let shown = shown(&owned);
        let count = i32::try_from(owned.len()).map_err(|_| Error::OutOfRange {
            subject: "EAL".into(),
            what: "number of arguments",
            found: owned.len() as u64,
            expected: "fewer".into(),
        })?;
        if INITIALISED.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyInitialised);
        }
        let affinity = current_affinity();
        // EAL reorders argv and keeps pointers into it: it stays for the life of the process.
        let mut argv: Vec<*mut c_char> = owned.into_iter().map(CString::into_raw).collect();
        argv.push(std::ptr::null_mut());
        let argv = argv.leak();
        log::start();
        log::forget();
        // SAFETY: no device is open yet, and no other thread initialises EAL.
        unsafe { sys::fc_no_defrag() };
        // SAFETY: argv holds `count` mutable NUL-terminated strings and a final NULL, never freed.
        let returned = unsafe { sys::fc_eal_init(count, argv.as_mut_ptr()) };
        if returned < 0 {
            return Err(Error::last("initialise EAL with", shown));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                initialiser: thread::current().id(),
                affinity,
                open_ports: Mutex::default(),
                pools: Mutex::default(),
                next_pool: AtomicU32::new(0),
            }),
        })
    }

    /// Restores the CPU affinity that the initialising thread had before [`init`](Self::init), for the calling thread.
    pub fn restore_affinity(&self) {
        if let Some(set) = &self.inner.affinity {
            // SAFETY: `set` is a whole cpu_set_t; pid 0 is the calling thread.
            unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
        }
    }

    /// Makes the calling thread known to EAL, which gives it a mempool cache (about 8 times faster
    /// allocation). The thread that called [`init`](Self::init) has one already.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if EAL has no free thread id.
    pub fn register_thread(&self) -> Result<RegisteredThread> {
        // SAFETY: EAL is initialised as long as `self` lives.
        if unsafe { sys::rte_thread_register() } < 0 {
            let name = thread::current().name().unwrap_or("unnamed").to_owned();
            return Err(Error::last("register thread", name));
        }
        Ok(RegisteredThread { _eal: self.clone(), _not_send: PhantomData })
    }

    /// Records that a port is open; false if it already was.
    pub(crate) fn claim_port(&self, port: u16) -> bool {
        lock(&self.inner.open_ports).insert(port)
    }

    pub(crate) fn release_port(&self, port: u16) {
        lock(&self.inner.open_ports).remove(&port);
    }

    /// A unique pool number.
    pub(crate) fn pool_number(&self) -> u32 {
        self.inner.next_pool.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn adopt_pool(&self, pool: NonNull<sys::rte_mempool>) {
        lock(&self.inner.pools).push(PoolPointer(pool));
    }
}

impl std::fmt::Debug for Eal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eal").field("initialiser", &self.inner.initialiser).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Another thread's cache cannot be read safely, and no mbuf may point to unmapped memory: in both cases EAL stays until the process
        // ends.
        if thread::current().id() != self.initialiser {
            return;
        }
        let pools = self.pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        let all_back = pools.iter().all(|pool| {
            // SAFETY: pools are never freed before cleanup. Registered threads and queues hold a handle, so
            // none of them is at work any more.
            unsafe { sys::rte_mempool_in_use_count(pool.0.as_ptr()) == 0 }
        });
        if all_back {
            // SAFETY: no handle is left, hence no port, queue or registered thread, and no mbuf is out.
            unsafe { sys::rte_eal_cleanup() };
        }
    }
}

/// While this exists, its thread is registered with EAL.
#[derive(Debug)]
pub struct RegisteredThread {
    _eal: Eal,
    /// Must be dropped on the same thread.
    _not_send: PhantomData<*const ()>,
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: made by rte_thread_register on this thread, which the type cannot leave.
        unsafe { sys::rte_thread_unregister() };
    }
}

fn current_affinity() -> Option<libc::cpu_set_t> {
    // SAFETY: cpu_set_t is a plain bit set, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a whole, writable cpu_set_t; pid 0 is the calling thread.
    let returned = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    (returned == 0).then_some(set)
}

fn shown(arguments: &[CString]) -> String {
    let words: Vec<_> = arguments.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    format!("\"{}\"", words.join(" "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
