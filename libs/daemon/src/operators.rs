//! The ways in for operators and monitoring that `[node]` names.

use crate::control::{ControlServer, Handler, group};
use crate::http::HttpServer;
use crate::sections::Node;

/// Control socket and HTTP port, open as long as this is kept.
#[derive(Debug)]
pub struct Operators {
    _control: Option<ControlServer>,
    _http: Option<HttpServer>,
}

impl Operators {
    /// Opens what `[node]` names.
    ///
    /// # Errors
    ///
    /// A socket cannot be opened: the key of `[node]` that names it, and the reason.
    pub fn open(node: &Node, handler: impl Handler + Clone) -> Result<Self, (&'static str, String)> {
        let group = node.control_group.as_deref().map(group::find).transpose();
        let group = group.map_err(|error| ("control_group", error))?;
        let control =
            node.control.as_deref().map(|path| ControlServer::start_for(group, path, handler.clone()));
        let _control = control.transpose().map_err(|error| ("control", error.to_string()))?;
        let http = node.http.map(|address| HttpServer::start(address, handler));
        let _http = http.transpose().map_err(|error| ("http", error.to_string()))?;
        Ok(Self { _control, _http })
    }
}
