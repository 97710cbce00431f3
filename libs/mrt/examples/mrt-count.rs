//! Counts the routes of MRT files and says how fast they were read.

use std::collections::HashSet;
use std::time::Instant;

use fibcast_mrt::{Event, MrtError, Reader};

fn main() -> Result<(), MrtError> {
    for file in std::env::args_os().skip(1) {
        let started = Instant::now();
        let mut reader = Reader::open(&file)?;
        let (mut announced, mut withdrawn, mut next_hops) = (0u64, 0u64, HashSet::new());
        for route in &mut reader {
            match route?.event {
                Event::Announce { next_hop, .. } => {
                    announced += 1;
                    next_hops.insert(next_hop);
                }
                Event::Withdraw => withdrawn += 1,
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{}: {} records, {announced} announced, {withdrawn} withdrawn, {} next hops, {:.0} routes/s",
            file.display(),
            reader.counts().records,
            next_hops.len(),
            (announced + withdrawn) as f64 / seconds,
        );
    }
    Ok(())
}
