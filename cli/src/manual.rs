//! What a shell and `man` need to know of this command, generated from the command line's own definition.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Prints completions for a shell: `source <(fibcast completion bash)`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

/// Writes the manual pages into a folder; for those who build packages.
#[derive(Debug, Args)]
pub struct Manual {
    /// The folder, which must exist.
    folder: PathBuf,
}

/// The completions of the command `A`.
pub fn completion<A: CommandFactory>(arguments: &Completion) -> String {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut A::command(), "fibcast", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes `fibcast.1` and a page for each subcommand.
pub fn pages<A: CommandFactory>(arguments: &Manual) -> Result<(), String> {
    clap_mangen::generate_to(A::command(), &arguments.folder)
        .map_err(|error| format!("{}: {error}", arguments.folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_of_each_shell_know_the_subcommands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completion::<crate::Arguments>(&Completion { shell });
            for word in ["neighbor", "reload", "doctor"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn each_subcommand_has_a_page_and_hidden_ones_have_none() {
        let folder = tempfile::tempdir().unwrap();
        pages::<crate::Arguments>(&Manual { folder: folder.path().into() }).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name));
        assert!(page("fibcast.1").unwrap().contains("capture"));
        assert!(page("fibcast-show-routes.1").is_ok() && page("fibcast-pki-init.1").is_ok());
        assert!(page("fibcast-manual.1").is_err());
        let missing = pages::<crate::Arguments>(&Manual { folder: folder.path().join("no") }).unwrap_err();
        assert!(missing.contains("/no: "), "{missing}");
    }
}
