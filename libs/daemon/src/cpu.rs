//! The processor must have what the program was compiled for, or it would end by SIGILL without a word.

/// An error that names the missing feature. To be called before anything else.
pub fn check() -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    {
        // The difference of x86-64-v3 to v2 that compiled code uses.
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
                "this processor lacks {name}: fibcast is built for x86-64-v3 (Intel Haswell, AMD Zen and later)"
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
