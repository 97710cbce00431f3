//! What every fibcast daemon shares, so that all of them read a configuration, log, answer operators and end in one way.
//!
//! * [`config`]: a TOML file into types; an error names file, line, key and what was expected;
//! * [`sections`]: the sections that all daemons have; [`budgets`]: memory that peers may use;
//! * [`exit`]: exit codes and the one line in which a daemon says why it ends;
//! * [`signals`]: SIGTERM and SIGINT ask it to stop, SIGHUP to reload; [`reload`]: one reload for SIGHUP and the operator's command;
//! * [`operators`]: opens what `[node]` names of [`control`], the unix socket on which operators ask by the protocol of `fibcast-control`, and
//!   of [`http`], the port that monitoring reads (`metrics` is its text for Prometheus, `health` the rule of `/healthz`);
//! * [`listener`]: admission of connections and bounds, for everything that accepts some;
//! * [`threads`]: every thread's heartbeat, and the monitor that tells a stall, or ends the process; [`systemd`] hears of it;
//! * [`process`]: what a daemon can say of itself, whatever it does; [`about`]: its version and running configuration;
//! * [`files`]: how many files may be open;
//! * [`routes`]: pages of a table of routes for operators;
//! * [`scrub`]: counts and reports differences between what forwards and the table;
//! * [`log`]: `tracing` to standard error, journald or a file, `[log]`;
//! * [`cpu`]: the processor is one that the program was built for.

pub mod about;
pub mod budgets;
pub mod config;
pub mod control;
pub mod cpu;
pub mod exit;
pub mod files;
mod health;
pub mod http;
pub mod listener;
pub mod log;
mod metrics;
pub mod operators;
pub mod process;
pub mod reload;
pub mod routes;
pub mod scrub;
pub mod sections;
pub mod signals;
pub mod systemd;
pub mod threads;
