//! Levels of the two families: which bits of an address each covers, and the kind of block that holds them.

/// How a node's slots are stored for lookups (the blocks are described in [`super::encode`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A handle for each slot.
    Dense,
    /// 64 slots as runs, values of 2 bytes.
    Narrow,
    /// 64 slots as runs, values of 4 bytes.
    Wide,
    /// 256 slots as runs, values of 4 bytes: for the few IPv4 prefixes that are longer than /24.
    Long,
    /// 65,536 slots as sorted starts.
    Deep,
}

/// One level of a trie.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) width: u8,
    pub(crate) kind: Kind,
}

/// The levels of a family, from the first bit on.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) levels: &'static [Level],
}

const fn level(width: u8, kind: Kind) -> Level {
    Level { width, kind }
}

/// IPv4: to /8, /18, /24, /32.
pub(crate) const V4: Shape = Shape {
    levels: &[level(8, Kind::Dense), level(10, Kind::Dense), level(6, Kind::Narrow), level(8, Kind::Long)],
};

/// IPv6: to /13, /26, /32, then 16 bits at a time.
pub(crate) const V6: Shape = Shape {
    levels: &[
        level(13, Kind::Dense),
        level(13, Kind::Dense),
        level(6, Kind::Wide),
        level(16, Kind::Deep),
        level(16, Kind::Deep),
        level(16, Kind::Deep),
        level(16, Kind::Deep),
        level(16, Kind::Deep),
        level(16, Kind::Deep),
    ],
};

impl Shape {
    pub(crate) fn width(&self, level: usize) -> u8 {
        self.levels.get(level).map_or(0, |level| level.width)
    }

    pub(crate) fn kind(&self, level: usize) -> Kind {
        self.levels.get(level).map_or(Kind::Deep, |level| level.kind)
    }
}
