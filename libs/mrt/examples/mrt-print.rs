//! Prints the routes of MRT files, one a line: `A` (announced) or `W` (withdrawn), peer, path identifier, prefix, next hop, metric and
//! length of the AS path. Records that cannot be decoded are skipped and counted on standard error.

use std::io::Write;

use fibcast_mrt::{BadRecords, Event, Reader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for file in std::env::args_os().skip(1) {
        let mut reader = Reader::open(&file)?.bad_records(BadRecords::Skip);
        for route in &mut reader {
            let route = route?;
            let (peer, prefix) = (route.peer, route.prefix);
            let id = route.path_id.map_or("-".to_owned(), |id| id.to_string());
            match route.event {
                Event::Announce { next_hop, metric, as_path_len } => {
                    writeln!(out, "A {peer} {id} {prefix} {next_hop} {metric} {as_path_len}")?;
                }
                Event::Withdraw => writeln!(out, "W {peer} {id} {prefix}")?,
            }
        }
        eprintln!("{}: {:?}", file.display(), reader.counts());
        if let Some(error) = reader.first_bad() {
            eprintln!("{error}");
        }
    }
    Ok(())
}
