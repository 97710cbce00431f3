//! Checks that the CPU has the features that the program was compiled for; otherwise it would die of SIGILL without a message.

/// Call it before anything else.
///
/// # Errors
/// The text for the operator with the missing feature.
pub fn check() -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    {
        // The features of x86-64-v3 beyond v2 that compiled code uses.
        let features = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("bmi1", std::arch::is_x86_feature_detected!("bmi1")),
            ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
            ("lzcnt", std::arch::is_x86_feature_detected!("lzcnt")),
            ("popcnt", std::arch::is_x86_feature_detected!("popcnt")),
            ("movbe", std::arch::is_x86_feature_detected!("movbe")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
        ];
        if let Some((name, _)) = features.iter().find(|(_, present)| !present) {
            return Err(format!(
                "this CPU lacks {name}: fibcast is built for x86-64-v3 (Intel Haswell, AMD Zen and later)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_that_runs_the_tests_is_fit() {
        super::check().unwrap();
    }
}
