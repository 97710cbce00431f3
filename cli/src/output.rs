//! Standard output or the pager, whose reader may have seen enough.

use crate::pager;

/// Prints text.
pub fn say(text: &str) -> Result<(), String> {
    say_bytes(text.as_bytes()).map(|_| ())
}

/// Prints bytes. False: the reader has seen enough (`| head`).
pub fn say_bytes(bytes: &[u8]) -> Result<bool, String> {
    match pager::write(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        outcome => outcome.map(|()| true).map_err(|error| error.to_string()),
    }
}
