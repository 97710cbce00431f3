//! What the generator tells.
//!
//! | module | output |
//! |---|---|
//! | `figures` | counters while it runs: control socket, `--json` of a test of traffic |
//! | `outcome` | everything that a test found, as data: JSON |
//! | `table` | the same for people, and CSV |
//! | `html` | the same with plots, one file without references to others |

mod figures;
pub mod html;
pub mod outcome;
pub mod table;

pub use figures::{FAULTS_SHOWN, Figures, Phase, QueueFigures};
