//! What an operator can ask a fibcast daemon: control protocol, unix socket and HTTP.
