//! What is asked for: addresses inside prefixes, with and without locality, and outside of all.

use std::collections::HashSet;

use ip_network_table_deps_treebitmap::IpLookupTable;

use super::{Family, Random, Table};

/// Addresses of one set; large enough that neither side's caches hold its answers.
pub const ADDRESSES: usize = 1 << 20;

/// Distinct addresses, each within a prefix drawn from the table.
pub fn inside<F: Family>(table: &Table) -> Vec<F> {
    let prefixes: Vec<(F, u8)> = table.of::<F>().map(|(prefix, _)| prefix).collect();
    let mut random = Random(2);
    let mut seen = HashSet::with_capacity(ADDRESSES);
    let mut found = Vec::with_capacity(ADDRESSES);
    // A small table may not have as many addresses.
    for _ in 0..8 * ADDRESSES {
        if prefixes.is_empty() || found.len() == ADDRESSES {
            break;
        }
        let address = F::within(prefixes[random.below(prefixes.len())], &mut random);
        if seen.insert(address) {
            found.push(address);
        }
    }
    found
}

/// Draws from `inside` by Zipf's law with exponent 1, as traffic has it: the address of rank r comes 1/r times as often as the first.
pub fn zipf<F: Family>(inside: &[F]) -> Vec<F> {
    let mut random = Random(3);
    let draw = |random: &mut Random| {
        let even = random.next() as f64 / u64::MAX as f64;
        // The inverse of the distribution's continuous form.
        let rank = (inside.len() as f64).powf(even) as usize;
        inside[rank.clamp(1, inside.len()) - 1]
    };
    (0..inside.len()).map(|_| draw(&mut random)).collect()
}

/// As `inside`, but every third address is in no prefix.
pub fn third_outside<F: Family>(inside: &[F], oracle: &IpLookupTable<F::Ip, u32>) -> Vec<F> {
    let mut random = Random(4);
    let mut outside = || {
        // A table with a default route has no outside.
        let mut draws = std::iter::repeat_with(|| F::anywhere(&mut random)).take(10_000);
        draws.find(|address| oracle.longest_match(address.ip()).is_none())
    };
    let keep = inside.iter().enumerate();
    keep.map(|(at, &address)| if at % 3 == 0 { outside().unwrap_or(address) } else { address }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::table::small as table;

    #[test]
    fn addresses_inside_are_distinct_and_have_a_route() {
        let (table, addresses) = (table(), inside::<u32>(&table()));
        let oracle = table.oracle::<u32>();
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), ADDRESSES);
        assert!(addresses.iter().all(|address| oracle.longest_match(address.ip()).is_some()));
    }

    #[test]
    fn a_third_is_outside() {
        let table = table();
        let oracle = table.oracle::<u128>();
        let addresses = third_outside(&inside::<u128>(&table), &oracle);
        let outside = addresses.iter().filter(|address| oracle.longest_match(address.ip()).is_none()).count();
        assert_eq!(outside, ADDRESSES.div_ceil(3));
    }

    #[test]
    fn few_addresses_make_up_much_of_a_zipf_set() {
        let addresses: Vec<u32> = (0..1 << 16).collect();
        let frequent = zipf(&addresses).iter().filter(|&&address| address < 256).count();
        assert!((1 << 14..1 << 16).contains(&frequent), "{frequent}");
    }
}
