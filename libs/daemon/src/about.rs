//! What every daemon is asked alike: its version, its running configuration, and a reload of it.

use fibcast_control::about::Version;
use fibcast_control::{Answer, Request};

use crate::reload::Reload;

/// Answers for one daemon.
#[derive(Debug, Clone)]
pub struct About {
    program: &'static str,
    node: String,
    libraries: Vec<String>,
    reload: Reload,
}

impl About {
    /// That of `program` as the node of this name. `libraries` are linked at run time, each with its version.
    pub fn new(program: &'static str, node: &str, libraries: Vec<String>, reload: Reload) -> Self {
        Self { program, node: node.to_owned(), libraries, reload }
    }

    /// The answer to a request that all daemons answer alike; none for the others.
    pub fn answer(&self, request: &Request) -> Option<Result<Answer, String>> {
        match request {
            Request::Version => {
                let (node, libraries) = (Some(self.node.clone()), self.libraries.clone());
                Some(Ok(Answer::Version(Version { node, libraries, ..Version::of_this(self.program) })))
            }
            Request::Config => Some(Ok(Answer::Config(Box::new(self.reload.running())))),
            Request::Reload => Some(self.reload.run().map(Answer::Done)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_running_configuration_is_that_of_the_last_reload_and_not_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("a = 1 # secret\n");
        let reload = Reload::new(load::<toml::Table>(&path).unwrap(), |new, _| {
            match new.value.contains_key("wrong") {
                true => Err("wrong".to_owned()),
                false => Ok(Vec::new()),
            }
        });
        let about = About::new("fibcast-x", "x-1", vec!["DPDK 1".to_owned()], reload);
        let shown = || match about.answer(&Request::Config) {
            Some(Ok(Answer::Config(config))) => *config,
            other => panic!("{other:?}"),
        };
        write("a = 2\n");
        assert_eq!(shown().toml, "a = 1\n");
        assert_eq!(shown().config, serde_json::json!({"a": 1}));
        assert_eq!(shown().path, path.display().to_string());
        about.answer(&Request::Reload).unwrap().unwrap();
        assert_eq!(shown().toml, "a = 2\n");
        write("a = 3\nwrong = 1\n");
        about.answer(&Request::Reload).unwrap().unwrap_err();
        assert_eq!(shown().toml, "a = 2\n");
        assert_eq!(about.answer(&Request::Status), None);
        let Some(Ok(Answer::Version(version))) = about.answer(&Request::Version) else {
            panic!("no version")
        };
        assert_eq!((version.program.as_str(), version.node.as_deref()), ("fibcast-x", Some("x-1")));
        assert_eq!(version.libraries, ["DPDK 1"]);
    }
}
