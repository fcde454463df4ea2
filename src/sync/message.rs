//! What two nodes say to each other in a round.
//!
//! ```text
//! message  format (1), kind (1), and
//! 1 what   part, end (u32), cells, probes
//! 2 more   part, how many cells (u32)
//! part     set (u64), slice, option of salt (16)
//! slice    list of bytes, at most 2
//! 3 equal
//! 4 found  list of: position (u64), by (u64)
//! 5 cells  cells
//! 6 many   about how many (u32)
//! 7 other
//! cells    list of: a (u64), b (u64), c (u32)
//! probes   list of bytes
//! list     how many (u32), each
//! option   flag, and it
//! ```

use super::{
    codec::{DecodeError, Reader, Writer},
    sketch::Cell,
};

/// The collections that two peers share, as a keyed hash of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u64);

/// The documents whose ids begin so: what is compared where more differ than a sketch tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice(Vec<u8>);

impl Slice {
    /// Most bytes with which a slice begins.
    pub const FIRST_MAX: usize = 2;

    /// All documents.
    pub fn whole() -> Self {
        Self::default()
    }

    /// Whether these are all documents.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// What their ids begin with.
    pub fn first(&self) -> &[u8] {
        &self.0
    }

    /// The slices that make this one, in order; none where it is as small as may be.
    pub fn parts(&self) -> impl Iterator<Item = Self> + use<> {
        let first = self.0.clone();
        let count = if first.len() < Self::FIRST_MAX { 256 } else { 0 };
        (0..=u8::MAX).take(count).map(move |next| Self([&first[..], &[next]].concat()))
    }

    /// Whether a position is in it.
    pub fn holds(&self, position: u64) -> bool {
        position.to_le_bytes().starts_with(&self.0)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let first = reader.bytes()?;
        if first.len() <= Self::FIRST_MAX {
            Ok(Self(first.to_vec()))
        } else {
            Err(DecodeError::Slice)
        }
    }
}

/// What goes into keys of their own, for one comparison.
pub type Salt = [u8; 16];

/// What is summed up: which documents, and under which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of which collections.
    pub set: SetId,
    /// Which of their documents.
    pub slice: Slice,
    /// Keys that are used just once, where it is audited; none: those of the cluster.
    pub salt: Option<Salt>,
}

impl Part {
    /// All of a set, as it is kept.
    pub fn whole(set: SetId) -> Self {
        Self { set, slice: Slice::whole(), salt: None }
    }

    fn write(&self, writer: &mut Writer) {
        writer.u64(self.set.0);
        writer.bytes(self.slice.first());
        writer.option(self.salt, |writer, salt| writer.salt(&salt));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            set: SetId(reader.u64()?),
            slice: Slice::read(reader)?,
            salt: reader.option(Reader::salt)?,
        })
    }
}

/// A position whose value differs, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Difference {
    /// The position.
    pub position: u64,
    /// The sum of both values.
    pub by: u64,
}

/// What is asked of a sketch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// What differs?
    What {
        /// Of what.
        part: Part,
        /// How many cells the sketch has of who asks, up to which it is probed.
        end: u32,
        /// The first of them.
        cells: Vec<Cell>,
        /// Probes of others, at the places that [`probed`](super::probed) gives.
        probes: Vec<u8>,
    },
    /// The first cells.
    More {
        /// Of what.
        part: Part,
        /// How many.
        cells: u32,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nothing differs.
    Equal,
    /// These positions differ, and no others.
    Found(Vec<Difference>),
    /// The first cells, of which whoever asked can read it.
    Cells(Vec<Cell>),
    /// More differ than can be read of a sketch.
    Many {
        /// How many, about.
        about: u32,
    },
    /// This set is not shared with who asks.
    Other,
}

impl Ask {
    /// Of what it asks.
    pub fn part(&self) -> &Part {
        match self {
            Self::What { part, .. } | Self::More { part, .. } => part,
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer;
        match self {
            Self::What { part, end, cells, probes } => {
                writer = Writer::new(1);
                part.write(&mut writer);
                writer.u32(*end);
                writer.cells(cells);
                writer.bytes(probes);
            }
            Self::More { part, cells } => {
                writer = Writer::new(2);
                part.write(&mut writer);
                writer.u32(*cells);
            }
        }
        writer.end()
    }

    /// The question that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::new(bytes)?;
        let ask = match kind {
            1 => Self::What {
                part: Part::read(&mut reader)?,
                end: reader.u32()?,
                cells: reader.cells()?,
                probes: reader.bytes()?.to_vec(),
            },
            2 => Self::More { part: Part::read(&mut reader)?, cells: reader.u32()? },
            other => return Err(DecodeError::Kind(other)),
        };
        reader.end(ask)
    }
}

impl Told {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer;
        match self {
            Self::Equal => writer = Writer::new(3),
            Self::Found(differences) => {
                writer = Writer::new(4);
                writer.list(differences, |writer, difference| {
                    writer.u64(difference.position);
                    writer.u64(difference.by);
                });
            }
            Self::Cells(cells) => {
                writer = Writer::new(5);
                writer.cells(cells);
            }
            Self::Many { about } => {
                writer = Writer::new(6);
                writer.u32(*about);
            }
            Self::Other => writer = Writer::new(7),
        }
        writer.end()
    }

    /// The answer that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::new(bytes)?;
        let told = match kind {
            3 => Self::Equal,
            4 => Self::Found(reader.list(16, |reader| {
                Ok(Difference { position: reader.u64()?, by: reader.u64()? })
            })?),
            5 => Self::Cells(reader.cells()?),
            6 => Self::Many { about: reader.u32()? },
            7 => Self::Other,
            other => return Err(DecodeError::Kind(other)),
        };
        reader.end(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn cell() -> Cell {
        let bytes: Vec<u8> = (1..=20).collect();
        Cell::decode(bytes.try_into().unwrap())
    }

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let set = SetId(0x0807_0605_0403_0201);
        let what = Ask::What {
            part: Part::whole(set),
            end: 64,
            cells: vec![cell()],
            probes: vec![1, 0xfe],
        };
        let asks = [
            (
                what,
                "0101 0102030405060708 00000000 00 40000000 01000000 0102030405060708090a0b0c0d0e0f1011121314 02000000 01 fe",
            ),
            (
                Ask::More {
                    part: Part { set, slice: Slice(vec![7, 8]), salt: Some([9; 16]) },
                    cells: 258,
                },
                "0102 0102030405060708 02000000 0708 01 09090909090909090909090909090909 02010000",
            ),
        ];
        for (ask, golden) in asks {
            let bytes = ask.encode();
            assert_eq!(hex(&bytes), golden.replace(' ', ""));
            assert_eq!(Ask::decode(&bytes), Ok(ask));
            assert_every_part_is_refused(&bytes, |bytes| Ask::decode(bytes).err());
        }
        let found = vec![Difference { position: 1, by: u64::MAX }];
        let tolds = [
            (Told::Equal, "0103"),
            (Told::Found(found), "0104 01000000 0100000000000000 ffffffffffffffff"),
            (Told::Cells(vec![cell()]), "0105 01000000 0102030405060708090a0b0c0d0e0f1011121314"),
            (Told::Many { about: 70_000 }, "0106 70110100"),
            (Told::Other, "0107"),
        ];
        for (told, golden) in tolds {
            let bytes = told.encode();
            assert_eq!(hex(&bytes), golden.replace(' ', ""));
            assert_eq!(Told::decode(&bytes), Ok(told));
            assert_every_part_is_refused(&bytes, |bytes| Told::decode(bytes).err());
        }
    }

    fn assert_every_part_is_refused(bytes: &[u8], refusal: impl Fn(&[u8]) -> Option<DecodeError>) {
        for length in 0..bytes.len() {
            assert_eq!(refusal(&bytes[..length]), Some(DecodeError::Short), "{length}");
        }
        assert_eq!(refusal(&[bytes, &[0]].concat()), Some(DecodeError::Long));
        assert_eq!(refusal(&[&[2], &bytes[1..]].concat()), Some(DecodeError::Format(2)));
        assert_eq!(refusal(&[1, 99]), Some(DecodeError::Kind(99)));
    }

    #[test]
    fn a_slice_is_made_of_its_parts() {
        let parts: Vec<Slice> = Slice::whole().parts().collect();
        assert_eq!((parts.len(), parts[3].first()), (256, &[3][..]));
        let part = parts[3].parts().nth(9).unwrap();
        assert_eq!((part.first(), part.parts().count()), (&[3, 9][..], 0));
        let id =
            crate::ident::DocumentId::from_bytes([3, 9, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let position = crate::sync::position(id);
        assert!([&Slice::whole(), &parts[3], &part].iter().all(|slice| slice.holds(position)));
        assert!(!parts[9].holds(position));
        let long = [&[1, 2][..], &[0; 8], &[3, 0, 0, 0, 1, 2, 3], &[0; 4]].concat();
        assert_eq!(Ask::decode(&long), Err(DecodeError::Slice));
    }

    #[test]
    fn a_count_that_lies_is_refused_before_anything_is_set_aside() {
        for kind in [4, 5] {
            let bytes = [&[1, kind][..], &u32::MAX.to_le_bytes(), &[0; 40]].concat();
            assert_eq!(Told::decode(&bytes), Err(DecodeError::Short));
        }
    }
}
