//! Common parts of all fibcast daemons: configuration, logging, signals and exit codes.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | TOML files as types; errors name file, line, key and what was expected |
//! | [`sections`] | the sections that all daemons have |
//! | [`exit`] | exit codes and the final message |
//! | [`signals`] | SIGTERM and SIGINT stop a daemon, SIGHUP reloads its certificates |
//! | [`files`] | limit of open files |
//! | [`log`] | `tracing` to standard error |
//! | [`cpu`] | check of the CPU's features |

pub mod config;
pub mod cpu;
pub mod exit;
pub mod files;
pub mod log;
pub mod sections;
pub mod signals;
