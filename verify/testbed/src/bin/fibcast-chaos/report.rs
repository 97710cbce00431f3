//! Tables in Markdown, as `docs/failures.md` has them.

use std::fmt;

/// What was seen in one case.
#[derive(Debug)]
pub struct Row {
    pub cells: Vec<String>,
    pub as_expected: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cell in &self.cells {
            write!(f, "| {} ", cell.replace('|', "/").replace('\n', " "))?;
        }
        write!(f, "| {} |", if self.as_expected { "yes" } else { "NO" })
    }
}

/// The head of a table.
pub fn head(columns: &[&str]) -> String {
    let columns: Vec<&str> = columns.iter().copied().chain(["as expected"]).collect();
    format!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()))
}
