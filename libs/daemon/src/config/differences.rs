//! The keys in which two versions of a configuration file differ, with the lines of the newer one.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use toml::Value;

use super::{Loaded, Step, line_of};

/// A key whose value is another one than before, or that is new or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key in dotted form, `source[1].distance`.
    pub key: String,
    /// File and line in the newer version, `FILE:LINE`; for a key that is gone, of what it was in.
    pub place: String,
}

impl Difference {
    /// Whether the key is this one or one below it, `tls` or `source[1]`.
    pub fn is_within(&self, key: &str) -> bool {
        self.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.key)
    }
}

impl<T: DeserializeOwned> Loaded<T> {
    /// The keys in which this version of the file differs from an earlier one, in order.
    pub fn differences(&self, before: &Loaded<T>) -> Vec<Difference> {
        let read = |loaded: &Loaded<T>| toml::from_str::<Value>(&loaded.text).ok();
        let mut found = Vec::new();
        if let (Some(old), Some(new)) = (read(before), read(self)) {
            compare(Some(&old), Some(&new), &mut Vec::new(), &mut |key| {
                let line = self.offset_of(key).map_or(1, |offset| line_of(&self.text, offset));
                let place = format!("{}:{line}", self.path.display());
                found.push(Difference { key: super::dotted(key), place });
            });
        }
        found
    }
}

/// Calls `differs` with the path of each value that is not the same in both; lists of tables are compared place by place.
fn compare<'v>(
    old: Option<&'v Value>,
    new: Option<&'v Value>,
    path: &mut Vec<Step<'v>>,
    differs: &mut impl FnMut(&[Step<'v>]),
) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Table(old)), Some(Value::Table(new))) => {
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                path.push(Step::Key(key));
                compare(old.get(key), new.get(key), path, differs);
                path.pop();
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.iter().chain(new).all(Value::is_table) => {
            for at in 0..old.len().max(new.len()) {
                path.push(Step::At(at));
                compare(old.get(at), new.get(at), path, differs);
                path.pop();
            }
        }
        _ => differs(path),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn differences(old: &str, new: &str) -> Vec<String> {
        let read = |text: &str| parse::<toml::Value>("x.toml".as_ref(), text.to_owned()).unwrap();
        read(new).differences(&read(old)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_that_differ_are_named_with_their_lines() {
        let old =
            "[node]\nname = \"a\"\nlisten = [1, 2]\n[[source]]\norigin = \"x\"\n[[source]]\norigin = \"y\"\n";
        assert!(differences(old, &format!("# a remark\n{old}")).is_empty());
        let new = "[node]\nname = \"b\"\nlisten = [1]\n\n[[source]]\norigin = \"x\"\ndistance = 7\n";
        assert_eq!(
            differences(old, new),
            [
                "x.toml:3: node.listen",
                "x.toml:2: node.name",
                "x.toml:7: source[0].distance",
                "x.toml:5: source[1]"
            ]
        );
    }

    #[test]
    fn a_key_is_within_its_section_and_not_within_another_that_begins_alike() {
        let within = |key: &str, section: &str| {
            super::Difference { key: key.into(), place: String::new() }.is_within(section)
        };
        assert!(within("tls", "tls") && within("tls.clients[0].name", "tls") && within("port[1]", "port"));
        assert!(!within("tlsx.key", "tls") && !within("source[10].path", "source[1]"));
    }
}
