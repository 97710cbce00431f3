//! `users`: users of this host that may connect as zebra.

use std::path::Path;

use serde::Deserialize;

/// A user by id or name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum UserKey {
    /// By id.
    Id(u32),
    /// By name in `/etc/passwd`.
    Name(String),
}

/// The user that the packages of FRR make for its daemons.
const FRR: &str = "frr";

/// Ids of the users; without the key root, the user of this process, and `frr` if there is one.
///
/// # Errors
/// The name that nobody has.
pub(super) fn ids(keys: Option<&[UserKey]>) -> Result<Vec<u32>, String> {
    // A list of users elsewhere (LDAP) is known by ids only.
    let passwd = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    let Some(keys) = keys else {
        let own = [0, rustix::process::geteuid().as_raw()];
        return Ok(own.into_iter().chain(id(&passwd, FRR)).collect());
    };
    let one = |key: &UserKey| match key {
        UserKey::Id(id) => Ok(*id),
        UserKey::Name(name) => id(&passwd, name)
            .ok_or_else(|| format!("expected a user in /etc/passwd or an id, found {name:?}")),
    };
    keys.iter().map(one).collect()
}

/// Id of a user, `NAME:x:ID:…` (passwd(5)).
fn id(passwd: &str, name: &str) -> Option<u32> {
    let mut users = passwd.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_the_id_of_its_line() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nfrr:x:104:105::/nonexistent:/bin/false\nbad:x\n";
        assert_eq!(
            ["root", "frr", "bad", "fr"].map(|name| id(passwd, name)),
            [Some(0), Some(104), None, None]
        );
    }

    #[test]
    fn without_the_key_root_and_the_own_user_may_connect() {
        let ids = ids(None).unwrap();
        assert!(ids.contains(&0) && ids.contains(&rustix::process::geteuid().as_raw()));
    }
}
