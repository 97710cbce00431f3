//! DPDK releases that the tests run with. The build script and the daemons use this list.

/// Long-term support releases, oldest first; `make test-dpdk` runs the tests with each.
pub const TESTED: &[&str] = &["22.11", "24.11", "25.11"];

/// Whether `version`, in the form of `pkg-config` or `rte_version` (`24.11.2`, `DPDK 24.11.2`), belongs to a tested release. A release
/// candidate does not.
pub fn is_tested(version: &str) -> bool {
    let number = version.strip_prefix("DPDK ").unwrap_or(version);
    TESTED.iter().any(|release| {
        number.strip_prefix(release).is_some_and(|patch| {
            patch.is_empty()
                || patch.strip_prefix('.').is_some_and(|digits| {
                    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
                })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_of_a_tested_release_are_tested() {
        for version in ["22.11", "22.11.11", "DPDK 24.11.2", "DPDK 25.11.0"] {
            assert!(is_tested(version), "{version}");
        }
    }

    #[test]
    fn other_releases_and_candidates_are_not_tested() {
        for version in ["23.11.0", "24.1", "24.110", "24.11.", "DPDK 25.11.0-rc1", "2.11", "DPDK ", ""] {
            assert!(!is_tested(version), "{version}");
        }
    }
}
