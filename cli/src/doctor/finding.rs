//! What a check found.

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    Fine,
    /// It works, but not as well as it could, or only without some features.
    Warning,
    /// Forwarding cannot work.
    Bad,
}

impl Grade {
    pub fn word(self) -> &'static str {
        match self {
            Grade::Fine => "ok",
            Grade::Warning => "warn",
            Grade::Bad => "BAD",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub grade: Grade,
    pub what: &'static str,
    pub found: String,
    /// What to do; empty where nothing has to be done.
    pub advice: String,
}

impl Finding {
    pub fn fine(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { grade: Grade::Fine, what, found: found.into(), advice: String::new() }
    }

    pub fn of(grade: Grade, what: &'static str, found: impl Into<String>, advice: &str) -> Finding {
        Finding { grade, what, found: found.into(), advice: advice.to_owned() }
    }
}
