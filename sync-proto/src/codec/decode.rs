//! Decodes `Records` frames into changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    BACKWARDS, GONE, GROUP, GROUP_GONE, OPAQUE, OPAQUE_GONE, ORIGIN, ORIGIN_GONE, RIB, RUN_V4, RUN_V6,
    SAME_LABEL,
};
use crate::change::{ChangeRef, Path};
use crate::record::{GroupValue, HopValue, Label, OriginId, OriginValue};
use crate::wire::{MAX_HOPS, MAX_NAME, MAX_OPAQUE, ProtocolError, Reader};

/// Most labels of one batch.
const MAX_LABELS: usize = 1 << 22;

/// Decodes the `Records` frames of one batch.
#[derive(Debug, Default)]
pub struct Decoder {
    labels: Vec<Label>,
}

impl Decoder {
    /// A decoder for a new batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory of its dictionary.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.labels.capacity() * size_of::<Label>()
    }

    /// Passes each change of a frame's body to `take`, in order. Several bodies of one batch may be passed as one.
    ///
    /// # Errors
    /// [`ProtocolError`] with the field that cannot be decoded, or the error of `take`. Changes before it were passed to `take`.
    pub fn decode<E: From<ProtocolError>>(
        &mut self,
        body: &[u8],
        mut take: impl FnMut(ChangeRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let r = &mut Reader::new("Records", body);
        while !r.is_empty() {
            let tag = r.u8("tag")?;
            match tag {
                GROUP => {
                    let label = Label(r.u64("label")?);
                    take(ChangeRef::Group { label, value: Some(&group(r)?) })?;
                }
                GROUP_GONE => take(ChangeRef::Group { label: Label(r.u64("label")?), value: None })?,
                ORIGIN => {
                    let id = OriginId(r.u64("origin")?);
                    take(ChangeRef::Origin { id, value: Some(&origin(r)?) })?;
                }
                ORIGIN_GONE => take(ChangeRef::Origin { id: OriginId(r.u64("origin")?), value: None })?,
                OPAQUE => {
                    let key = r.blob("key", MAX_OPAQUE)?;
                    take(ChangeRef::Opaque { key, value: Some(r.blob("value", MAX_OPAQUE)?) })?;
                }
                OPAQUE_GONE => take(ChangeRef::Opaque { key: r.blob("key", MAX_OPAQUE)?, value: None })?,
                _ if tag & !(RIB | GONE) == RUN_V4 => self.run(r, tag, 32, &mut take)?,
                _ if tag & !(RIB | GONE) == RUN_V6 => self.run(r, tag, 128, &mut take)?,
                other => {
                    let text = format!("expected a known record type, found {other}");
                    return Err(r.invalid("tag", text).into());
                }
            }
        }
        Ok(())
    }

    fn run<E: From<ProtocolError>>(
        &mut self,
        r: &mut Reader<'_>,
        tag: u8,
        width: u8,
        take: &mut impl FnMut(ChangeRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let vrf = r.limited("vrf", u64::from(u32::MAX))? as u32;
        let origin = if tag & RIB != 0 { Some(OriginId(r.u64("origin")?)) } else { None };
        let gone = tag & GONE != 0;
        let (distance, metric) = if origin.is_some() && !gone {
            (r.u8("distance")?, r.limited("metric", u64::from(u32::MAX))? as u32)
        } else {
            (0, 0)
        };
        let n = u16::from_be_bytes(r.array("routes")?);
        let mut address = 0u128;
        let mut label: Option<Label> = None;
        for _ in 0..n {
            let first = r.u8("prefix length")?;
            let (flags, len) =
                if width == 32 { (first, first & 0x3f) } else { (first, r.u8("prefix length")?) };
            if len > width {
                let text = format!("expected at most {width}, found {len}");
                return Err(r.invalid("prefix length", text).into());
            }
            let shift = u32::from(width - len);
            let before = address.checked_shr(shift).unwrap_or(0);
            let by = r.wide("prefix")?;
            let now = if flags & BACKWARDS != 0 { before.checked_sub(by) } else { before.checked_add(by) };
            let prefix = now
                .filter(|now| len == 128 || *now >> len == 0)
                .and_then(|now| net(width, now.checked_shl(shift).unwrap_or(0), len))
                .ok_or_else(|| r.invalid("prefix", "expected an address of the family"))?;
            address = match &prefix {
                IpNet::V4(p) => u128::from(u32::from(p.addr())),
                IpNet::V6(p) => u128::from(p.addr()),
            };
            if !gone && flags & SAME_LABEL == 0 {
                label = Some(self.label(r)?);
            }
            if !gone && label.is_none() {
                return Err(r.invalid("label", "expected one for the first route of a run").into());
            }
            take(match origin {
                None => ChangeRef::Route { vrf, prefix, label },
                Some(origin) => {
                    let path = label.map(|label| Path { label, distance, metric });
                    ChangeRef::RibRoute { origin, vrf, prefix, path }
                }
            })?;
        }
        Ok(())
    }

    fn label(&mut self, r: &mut Reader<'_>) -> Result<Label, ProtocolError> {
        let index = r.limited("label", self.labels.len().min(MAX_LABELS) as u64)? as usize;
        if let Some(&label) = self.labels.get(index) {
            return Ok(label);
        }
        let label = Label(r.u64("label")?);
        self.labels.push(label);
        Ok(label)
    }
}

fn net(width: u8, bits: u128, len: u8) -> Option<IpNet> {
    if width == 32 {
        Ipv4Net::new(Ipv4Addr::from(bits as u32), len).ok().map(IpNet::V4)
    } else {
        Ipv6Net::new(Ipv6Addr::from(bits), len).ok().map(IpNet::V6)
    }
}

fn origin(r: &mut Reader<'_>) -> Result<OriginValue, ProtocolError> {
    Ok(OriginValue {
        name: r.text("name", MAX_NAME)?,
        server: r.text("server", MAX_NAME)?,
        epoch: r.u64("epoch")?,
        sequence: r.varint("sequence")?,
        ready: r.u8("ready")? != 0,
        lease_ms: r.limited("lease", u64::from(u32::MAX))? as u32,
        stale: r.u8("stale")? != 0,
    })
}

fn group(r: &mut Reader<'_>) -> Result<GroupValue, ProtocolError> {
    Ok(match r.u8("group")? {
        0 => {
            let n = r.limited("hops", MAX_HOPS as u64)?;
            GroupValue::Hops((0..n).map(|_| hop(r)).collect::<Result<_, _>>()?)
        }
        1 => GroupValue::Blackhole,
        2 => GroupValue::Unreachable,
        3 => GroupValue::Prohibit,
        4 => GroupValue::Local,
        other => return Err(r.invalid("group", format!("expected 0 to 4, found {other}"))),
    })
}

fn hop(r: &mut Reader<'_>) -> Result<HopValue, ProtocolError> {
    let gateway = match r.u8("gateway")? {
        0 => None,
        4 => Some(IpAddr::from(r.array::<4>("gateway")?)),
        6 => Some(IpAddr::from(r.array::<16>("gateway")?)),
        other => return Err(r.invalid("gateway", format!("expected family 0, 4 or 6, found {other}"))),
    };
    let port = Some(r.text("port", MAX_NAME)?).filter(|p| !p.is_empty());
    let weight = r.limited("weight", u64::from(u16::MAX))? as u16;
    Ok(HopValue { gateway, port, weight })
}
