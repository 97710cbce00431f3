//! `[saved_routes]`: routes that operators add with `fibcast route add --save`, in a file of their own.
//!
//! The configuration belongs to the operator and is never written by the daemon. The file here belongs to the daemon: each change writes a whole new one
//! under another name, which replaces it once it is on the disk. It has `[[static_route]]` sections like the configuration, so one can be moved
//! from one to the other.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use fibcast_daemon::config::{ConfigError, Loaded, load};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Config, Route};
use crate::control::own_routes::StaticRoute;

/// Set by systemd: the folder of `StateDirectory=` (systemd.exec(5)); the first one, if there are several.
const STATE_FOLDER: &str = "STATE_DIRECTORY";

const HEAD: &str = "\
# Routes of this host that operators have saved with `fibcast route add --save`. They count before those of the configuration.
# Written by fibcast-dataplane; edit it while the daemon does not run, or use `fibcast route del PREFIX --save`.
";

/// `[saved_routes]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedRoutesKeys {
    /// The file; default: `NAME.routes.toml` in systemd's state folder, `/var/lib/fibcast`.
    pub file: Option<PathBuf>,
}

/// Content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    #[serde(default, rename = "static_route")]
    routes: Vec<Route>,
}

/// The saved routes, as they are on the disk.
#[derive(Debug, Clone, Default)]
pub struct SavedRoutes {
    file: Option<PathBuf>,
    saved: Saved,
}

impl SavedRoutes {
    /// Reads the file of a configuration that is checked. One that does not exist has no routes.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of what is wrong in it.
    pub fn load(loaded: &Loaded<Config>) -> Result<Self, ConfigError> {
        let config = &loaded.value;
        let state = std::env::var_os(STATE_FOLDER);
        let file =
            config.saved_routes.file.clone().or_else(|| default_file(state.as_deref()?, &config.node.name));
        let Some(file) = file else { return Ok(Self::default()) };
        // Anything but a missing file is told by reading it.
        if let Err(error) = std::fs::metadata(&file)
            && error.kind() == ErrorKind::NotFound
        {
            return Ok(Self { file: Some(file), saved: Saved::default() });
        }
        let read: Loaded<Saved> = load(&file)?;
        check_all(&read.value.routes, config, |index, key, reason| {
            read.error(&["static_route".into(), index.into(), key.into()], reason)
        })?;
        Ok(Self { file: Some(file), saved: read.value })
    }

    /// The file; none: routes cannot be saved.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// All of them.
    pub fn routes(&self) -> &[Route] {
        &self.saved.routes
    }

    /// Whether there is one to this destination.
    pub fn contains(&self, vrf: u32, prefix: IpNet) -> bool {
        self.saved.routes.iter().any(|route| (route.vrf, route.prefix) == (vrf, prefix))
    }

    /// In the form of the control side.
    pub fn static_routes(&self, config: &Config) -> Vec<StaticRoute> {
        self.saved.routes.iter().filter_map(|route| config.route(route).ok()).collect()
    }

    /// Saves a route, in the place of one to the same destination. It is on the disk when this returns.
    ///
    /// # Errors
    /// The text for the operator; the file is as before.
    pub fn put(&mut self, route: Route) -> Result<(), String> {
        let mut new = self.saved.clone();
        match new.routes.iter_mut().find(|old| (old.vrf, old.prefix) == (route.vrf, route.prefix)) {
            Some(old) => *old = route,
            None => new.routes.push(route),
        }
        self.replace(new)
    }

    /// Forgets a route. False: none was saved.
    ///
    /// # Errors
    /// The text for the operator; the file is as before.
    pub fn remove(&mut self, vrf: u32, prefix: IpNet) -> Result<bool, String> {
        let mut new = self.saved.clone();
        new.routes.retain(|route| (route.vrf, route.prefix) != (vrf, prefix));
        let found = new != self.saved;
        if found {
            self.replace(new)?;
        }
        Ok(found)
    }

    fn replace(&mut self, new: Saved) -> Result<(), String> {
        let Some(file) = &self.file else {
            let expected = "file = \"/var/lib/fibcast/NAME.routes.toml\"";
            return Err(format!(
                "nothing is saved: the configuration names no file: expected [saved_routes] {expected}"
            ));
        };
        let failed = |error: String| format!("{}: nothing is saved: {error}", file.display());
        let text = toml::to_string(&new).map_err(|error| failed(error.to_string()))?;
        write(file, &format!("{HEAD}\n{text}")).map_err(|error| failed(error.to_string()))?;
        self.saved = new;
        Ok(())
    }
}

fn default_file(folders: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    let first = folders.to_str()?.split(':').next().filter(|folder| !folder.is_empty())?;
    Some(Path::new(first).join(format!("{name}.routes.toml")))
}

fn check_all(
    routes: &[Route],
    config: &Config,
    wrong: impl Fn(usize, &'static str, String) -> ConfigError,
) -> Result<(), ConfigError> {
    for (index, route) in routes.iter().enumerate() {
        let same = |other: &Route| (other.vrf, other.prefix) == (route.vrf, route.prefix);
        if routes.iter().take(index).any(same) {
            return Err(wrong(index, "prefix", format!("{} is in this file twice", route.prefix)));
        }
        config.route(route).map_err(|(key, reason)| wrong(index, key, reason))?;
    }
    Ok(())
}

/// Replaces a file as a whole: after a crash there is the old one or the new one.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&new, file)?;
    // The name is in the folder, which is written by itself.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_daemon::config::parse;

    fn config(file: &Path) -> Loaded<Config> {
        let text = format!(
            "[node]\nname = \"nh-1\"\n[workers]\ncores = [0]\n[saved_routes]\nfile = {file:?}\n\
             [[port]]\nname = \"p0\"\ndevice = \"net_null0\"\naddresses = [\"192.0.2.1/24\"]\n"
        );
        parse("x.toml".as_ref(), text).unwrap()
    }

    fn route(text: &str) -> Route {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_saved_is_read_again_whatever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nh-1.routes.toml");
        let config = config(&file);
        let load = || SavedRoutes::load(&config).unwrap();
        let mut saved = load();
        assert_eq!((saved.file(), saved.routes().len()), (Some(file.as_path()), 0));
        let routes = [
            "prefix = \"10.0.0.0/8\"\nvia = [\"192.0.2.7\", \"192.0.2.8\"]\nweights = [1, 3]",
            "prefix = \"11.0.0.0/8\"\nvrf = 7\nvia = \"192.0.2.7\"\nport = \"p0\"\nonlink = true",
            "prefix = \"2001:db8::/32\"\nblackhole = true",
            "prefix = \"12.0.0.0/8\"\nport = \"p0\"",
        ]
        .map(route);
        for route in &routes {
            saved.put(route.clone()).unwrap();
        }
        assert_eq!(load().routes(), routes);
        assert_eq!(load().static_routes(&config.value).len(), 4);
        // A second one to the same destination replaces the first.
        let other = route("prefix = \"10.0.0.0/8\"\nprohibit = true");
        saved.put(other.clone()).unwrap();
        assert_eq!(load().routes()[0], other);
        let prefix = "10.0.0.0/8".parse().unwrap();
        assert!(saved.contains(0, prefix) && !saved.contains(7, prefix));
        assert_eq!(saved.remove(7, prefix), Ok(false));
        assert_eq!(saved.remove(0, prefix), Ok(true));
        assert_eq!(load().routes(), &routes[1..]);
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["nh-1.routes.toml"], "no other file is left behind");
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml");
        let config = config(&file);
        for (text, expected) in [
            (
                "# a\n[[static_route]]\nprefix = \"10.0.0.0/8\"\nvia = \"nowhere\"\n",
                "r.toml:4: static_route[0].via: ",
            ),
            (
                "[[static_route]]\nprefix = \"10.0.0.1/8\"\nblackhole = true\n",
                "r.toml:2: static_route[0].prefix: expected 10.0.0.0/8",
            ),
            (
                "[[static_route]]\nprefix = \"10.0.0.0/8\"\n\nport = \"p9\"\n",
                "r.toml:4: static_route[0].port: expected the name",
            ),
            (
                "[[static_route]]\nprefix = \"10.0.0.0/8\"\nblackhole = true\n[[static_route]]\nprefix = \"10.0.0.0/8\"\nprohibit = true\n",
                "r.toml:5: static_route[1].prefix: 10.0.0.0/8 is in this file twice",
            ),
            ("[[static_route]\n", "r.toml:1: "),
            ("[[port]]\n", "r.toml:1: port: unknown field"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = SavedRoutes::load(&config).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(SavedRoutes::load(&config).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn a_file_that_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("missing/r.toml"));
        let mut saved = SavedRoutes::load(&config).unwrap();
        let error = saved.put(route("prefix = \"10.0.0.0/8\"\nblackhole = true")).unwrap_err();
        assert!(error.contains("missing/r.toml: nothing is saved: No such file"), "{error}");
        assert!(saved.routes().is_empty());
        let error =
            SavedRoutes::default().put(route("prefix = \"10.0.0.0/8\"\nblackhole = true")).unwrap_err();
        assert!(error.contains("expected [saved_routes] file"), "{error}");
    }

    #[test]
    fn the_file_is_in_the_first_state_folder_of_systemd() {
        let default = |folders: &str| default_file(folders.as_ref(), "nh-1");
        assert_eq!(default("/var/lib/fibcast"), Some("/var/lib/fibcast/nh-1.routes.toml".into()));
        assert_eq!(default("/var/lib/a:/var/lib/b"), Some("/var/lib/a/nh-1.routes.toml".into()));
        assert_eq!(default(""), None);
    }
}
