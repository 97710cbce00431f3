//! What every fibcast daemon shares, so that all of them read a configuration, log and end in one way.
//!
//! * [`config`]: a TOML file into types; an error names file, line, key and what was expected;
//! * [`sections`]: the sections that all daemons have;
//! * [`exit`]: exit codes and the one line in which a daemon says why it ends;
//! * [`signals`]: SIGTERM and SIGINT ask it to stop, SIGHUP to read its certificates again;
//! * [`files`]: how many files may be open;
//! * [`log`]: `tracing` to standard error;
//! * [`cpu`]: the processor is one that the program was built for.

pub mod config;
pub mod cpu;
pub mod exit;
pub mod files;
pub mod log;
pub mod sections;
pub mod signals;
