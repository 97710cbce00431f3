//! The group that may use the control socket, `[node] control_group`.
//!
//! Names come from `/etc/group`, then from `getent`, which also asks the other sources of nsswitch.conf(5). This takes place at the start and
//! at a reload, on no protocol thread.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// The number of a group, by its name or its number.
///
/// # Errors
/// What is wrong and what to do.
pub fn find(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let local = std::fs::read_to_string("/etc/group").unwrap_or_default();
    number_in(&local, name).or_else(|| number_in(&getent(name), name)).ok_or_else(|| {
        format!(
            "no group {name:?} on this machine: create it with `groupadd --system {name}`, or name another"
        )
    })
}

/// The line of a group, from all sources of nsswitch.conf(5); empty if there is none.
fn getent(name: &str) -> String {
    // A name is no option.
    let asked = Command::new("getent").args(["group", "--", name]).stdin(Stdio::null()).output();
    asked.map_or_else(|_| String::new(), |answer| String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// The number in lines of group(5), `name:password:number:members`.
fn number_in(lines: &str, name: &str) -> Option<u32> {
    let of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    };
    lines.lines().find_map(of)
}

/// Lets the owner, and a group if there is one, use `path`: `owner` and `group` are their permissions.
///
/// # Errors
/// The system's error; without privileges, a user can give a file only to a group that it is in.
pub(super) fn admit(path: &Path, group: Option<u32>, owner: u32, with_group: u32) -> io::Result<()> {
    let mode = match group {
        None => owner,
        Some(number) => {
            // First the group, then its permissions: never those of another group.
            chown(path, None, Some(number)).map_err(|error| {
                let reason = format!(
                    "cannot give it to group {number}: {error}; the user of the daemon must be in that group"
                );
                io::Error::new(error.kind(), reason)
            })?;
            with_group
        }
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_and_number_and_an_unknown_one_is_named() {
        assert_eq!(find("root").unwrap(), 0);
        assert_eq!(find("4711").unwrap(), 4711);
        let error = find("no-such-group").unwrap_err();
        assert!(error.contains("no group \"no-such-group\"") && error.contains("groupadd"), "{error}");
    }

    #[test]
    fn a_name_is_the_whole_first_field() {
        let lines = "fib:x:7:\nfibcast:x:990:a,b\nbroken\n";
        assert_eq!(number_in(lines, "fibcast"), Some(990));
        assert_eq!(number_in(lines, "broken"), None);
        assert_eq!(number_in(lines, "x"), None);
    }
}
