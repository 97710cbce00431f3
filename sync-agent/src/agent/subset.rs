//! `[sync.subset]`: the requested subset of the table in configuration syntax.

use fibcast_sync_proto::subset::{Family, MAX_RANGES, MAX_VRFS, PrefixRange, Subset};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    vrfs: Vec<u32>,
    family: Option<Name>,
    #[serde(default)]
    prefixes: Vec<Range>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Ipv4,
    Ipv6,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Range(PrefixRange);

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("expected a prefix, or one with lengths as in \"10.0.0.0/8 16-24\", found {text:?}");
        let mut words = text.split_whitespace();
        let prefix: IpNet = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
        let range = match (words.next(), words.next()) {
            (None, _) => PrefixRange::within(prefix),
            (Some(lengths), None) => {
                let (min, max) = lengths.split_once('-').ok_or_else(wrong)?;
                let (min, max) = (min.parse().map_err(|_| wrong())?, max.parse().map_err(|_| wrong())?);
                PrefixRange::new(prefix, min, max).ok_or_else(|| format!("no prefix can be {text:?}"))?
            }
            _ => return Err(wrong()),
        };
        Ok(Self(range))
    }
}

/// Deserializes the section.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Subset, D::Error> {
    let Keys { vrfs, family, prefixes } = Keys::deserialize(from)?;
    for (what, found, most) in [("vrfs", vrfs.len(), MAX_VRFS), ("prefixes", prefixes.len(), MAX_RANGES)] {
        if found > most {
            return Err(serde::de::Error::custom(format!("expected at most {most} {what}, found {found}")));
        }
    }
    let family = family.map(|name| match name {
        Name::Ipv4 => Family::V4,
        Name::Ipv6 => Family::V6,
    });
    Ok(Subset::new(vrfs, family, prefixes.into_iter().map(|range| range.0).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(default, deserialize_with = "read")]
        subset: Subset,
    }

    fn parse(text: &str) -> Result<Subset, String> {
        toml::from_str::<File>(text).map(|file| file.subset).map_err(|e| e.to_string())
    }

    #[test]
    fn parts_are_named_by_vrf_family_and_prefixes() {
        assert!(parse("").unwrap().is_all());
        let text = "[subset]\nvrfs = [7, 0]\nfamily = \"ipv4\"\nprefixes = [\"10.0.0.0/8 16-24\", \"192.0.2.0/24\"]\n";
        assert_eq!(parse(text).unwrap().to_string(), "vrf 0,7; ipv4; 10.0.0.0/8 16-24; 192.0.2.0/24 24-32");
    }

    #[test]
    fn what_is_no_part_is_refused_with_what_was_expected() {
        let error = |text: &str| parse(text).unwrap_err();
        assert!(error("[subset]\nprefixes = [\"10.0.0.0\"]\n").contains("expected a prefix"));
        assert!(error("[subset]\nprefixes = [\"10.0.0.0/8 24-16\"]\n").contains("no prefix can be"));
        assert!(error("[subset]\nfamily = \"ipx\"\n").contains("expected `ipv4` or `ipv6`"));
        assert!(error("[subset]\ncolour = 1\n").contains("unknown field `colour`"));
    }
}
