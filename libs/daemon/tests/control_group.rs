//! The control socket of a group: who may use it.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use fibcast_control::{Answer, Request};
use fibcast_daemon::control::ControlServer;

fn handler(_: Request) -> Result<Answer, String> {
    Ok(Answer::Done("done".into()))
}

#[test]
fn the_socket_belongs_to_its_owner_and_to_the_group_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let group = std::fs::metadata(folder.path()).unwrap().gid();
    // Root can give it to any group, others to their own only.
    let group = if rustix::process::geteuid().is_root() { 4711 } else { group };
    let path = folder.path().join("run/a.sock");
    let server = ControlServer::start_for(Some(group), &path, handler).unwrap();
    let socket = std::fs::metadata(&path).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, group));
    let around = std::fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!((around.mode() & 0o777, around.gid()), (0o750, group), "a folder made for it");
    drop(server);
    // A folder that was there before stays as it is.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let path = folder.path().join("b.sock");
    let _server = ControlServer::start(&path, handler).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o711);
}
