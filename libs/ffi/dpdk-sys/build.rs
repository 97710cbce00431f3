//! Finds the installed DPDK, generates the bindings that `dpdk` uses and compiles the shim.

use std::env;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, exit};

#[path = "src/releases.rs"]
mod releases;

const INSTALL: &str = "apt-get install libdpdk-dev libclang-dev clang pkg-config";

/// Functions that `dpdk` calls. Nothing else is bound, so that a DPDK release breaks as little as possible.
const FUNCTIONS: &[&str] = &[
    "fc_.*",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eal_cleanup",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_set_link_down",
    "rte_eth_dev_set_link_up",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_find_next",
    "rte_eth_allmulticast_(enable|disable|get)",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_(enable|disable|get)",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_fib6?_(add|delete|free|lookup_bulk|select_lookup)",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_free_bulk",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
];

const TYPES: &[&str] =
    &["rte_mbuf", "rte_mempool", "rte_eth_conf", "rte_eth_dev_info", "rte_eth_stats", "rte_ether_addr"];

/// Only used by pointer: Rust does not see their fields. `mbuf_fields.h` has the offsets of an mbuf's fields.
const OPAQUE: &[&str] =
    &["rte_mbuf", "rte_device", "rte_mempool", "rte_eth_dev", "rte_flow.*", "rte_devargs"];

const CONSTANTS: &[&str] =
    &["FC_.*", "RTE_PKTMBUF_HEADROOM", "RTE_MAX_ETHPORTS", "RTE_MEMPOOL_CACHE_MAX_SIZE"];

/// Libraries with these functions. One may be part of another in some releases (`rte_log` was part of `rte_eal` until 23.11).
const LIBRARIES: &[&str] =
    &["rte_fib", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal", "rte_log"];

fn main() {
    for file in ["shim.c", "shim.h", "mbuf_fields.h", "log.c", "log.h", "fanout.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");

    let cflags = cflags();
    let dpdk = find();

    let mut shim = cc::Build::new();
    // DPDK's headers have warnings; only the shim's own code is checked.
    shim.files(["shim.c", "log.c", "fanout.c"]).opt_level(3).warnings(false);
    for flag in &cflags {
        shim.flag(flag);
    }
    if let Err(error) = shim.try_compile("fibcast_dpdk_shim") {
        stop(&format!("the C shim over DPDK's headers does not compile: {error}"));
    }
    // After the shim, which uses symbols of DPDK.
    for library in LIBRARIES.iter().filter(|name| dpdk.libs.iter().any(|known| known == *name)) {
        println!("cargo:rustc-link-lib=dylib={library}");
    }

    bindings(&cflags);
}

/// The complete `pkg-config --cflags`: it also contains `-include rte_config.h` and `-march`, without which the structure layout differs
/// from that of the installed libraries.
fn cflags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = match Command::new(&tool).args(["--cflags", "libdpdk"]).output() {
        Ok(output) => output,
        Err(error) => stop(&format!("cannot run {tool}: {error}")),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        stop(words.lines().next().unwrap_or("pkg-config does not know libdpdk"));
    }
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// The release, and the library path; EAL loads the drivers from its plug-in directory at run time.
fn find() -> pkg_config::Library {
    let library = match pkg_config::Config::new()
        .atleast_version(releases::TESTED[0])
        .cargo_metadata(false)
        .probe("libdpdk")
    {
        Ok(library) => library,
        Err(error) => stop(&format!("DPDK {} or later is needed: {error}", releases::TESTED[0])),
    };
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    // Another release has other offsets. Its files may be older than this build, its folders are not.
    for path in library.include_paths.iter().filter(|path| path.join("rte_config.h").exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    if !releases::is_tested(&library.version) {
        println!(
            "cargo:warning=DPDK {} has not been tested with fibcast ({}): run the tests before using it",
            library.version,
            releases::TESTED.join(", ")
        );
    }
    println!("cargo:version={}", library.version);
    library
}

fn bindings(cflags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(cflags)
        .layout_tests(true)
        .generate_comments(false)
        .derive_default(true)
        .use_core()
        .prepend_enum_name(false);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let out = match env::var_os("OUT_DIR") {
        Some(out) => PathBuf::from(out).join("bindings.rs"),
        None => stop("OUT_DIR is not set: run this build script through cargo"),
    };
    // bindgen panics where libclang is missing.
    std::panic::set_hook(Box::new(|_| ()));
    let generated = std::panic::catch_unwind(AssertUnwindSafe(|| builder.generate()));
    let _ = std::panic::take_hook();
    let Ok(generated) = generated else { stop("libclang, which bindgen needs, cannot be loaded") };
    match generated {
        Ok(bindings) => {
            if let Err(error) = bindings.write_to_file(&out) {
                stop(&format!("cannot write {}: {error}", out.display()));
            }
        }
        Err(error) => stop(&format!("bindgen cannot read DPDK's headers: {error}")),
    }
}

fn stop(reason: &str) -> ! {
    eprintln!("fibcast needs the DPDK development files on this machine to build this crate.");
    eprintln!("  found:  {reason}");
    eprintln!("  to fix: {INSTALL}");
    exit(1)
}
