//! What every fibcast daemon shares: configuration files, signals, log, exit codes.
