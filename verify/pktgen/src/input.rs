//! Reads the table and the changes: MRT files, or lines of text.

use std::net::IpAddr;
use std::path::Path;

use fibcast_mrt::{Event, MrtError, Reader};
use fibcast_testbed::tablegen::text::{self, TextError};
use ipnet::IpNet;

use crate::plan::Update;

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Mrt(#[from] MrtError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("{file}: withdraws {prefix}: only changes of next hops can be checked")]
    Withdraw { file: String, prefix: IpNet },
}

/// Prefixes and next hops of a table.
pub fn table(file: &Path) -> Result<Vec<(IpNet, IpAddr)>, InputError> {
    if text::is_text(file) {
        return Ok(text::read_routes(file)?);
    }
    announcements(file)?
        .into_iter()
        .map(|route| route.map(|(_, prefix, next_hop)| (prefix, next_hop)))
        .collect()
}

/// Changes, the first due at `start_ns`, the others with the intervals of the file.
pub fn updates(file: &Path, start_ns: u64) -> Result<Vec<Update>, InputError> {
    let mut first = None;
    announcements(file)?
        .into_iter()
        .map(|route| {
            let (time_us, prefix, gateway) = route?;
            let after_us = time_us.saturating_sub(*first.get_or_insert(time_us));
            Ok(Update { due_ns: start_ns.saturating_add(after_us.saturating_mul(1000)), prefix, gateway })
        })
        .collect()
}

type Announcement = (u64, IpNet, IpAddr);

fn announcements(
    file: &Path,
) -> Result<impl IntoIterator<Item = Result<Announcement, InputError>>, InputError> {
    let name = file.display().to_string();
    Ok(Reader::open(file)?.map(move |route| {
        let route = route?;
        match route.event {
            Event::Announce { next_hop, .. } => Ok((route.time_us, route.prefix, next_hop)),
            Event::Withdraw => Err(InputError::Withdraw { file: name.clone(), prefix: route.prefix }),
        }
    }))
}
