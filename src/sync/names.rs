//! Names: which documents are at positions, and at which versions, for who wants to know and takes none.
//!
//! ```text
//! message  format (1), kind (1), and
//! 17 ask   set (u64), list of position (u64)
//! 18 told  how many positions (u32), list of: collection, key, version
//! version  list of heads (32)
//! list     how many (u32), each; so bytes and texts
//! ```
//!
//! An answer carries a mebibyte; what it leaves out is asked for again.

use super::{
    codec::{DecodeError, Reader, Writer},
    key::position,
    message::SetId,
    repair::{POSITIONS_MAX, REPAIR_BYTES_MAX},
};
use crate::ident::{Name, Version};
use std::collections::BTreeMap;

/// Which documents are at these positions?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesAsk {
    /// Of what.
    pub set: SetId,
    /// The positions, at most [`POSITIONS_MAX`].
    pub positions: Vec<u64>,
}

/// What is at positions, in the order in which they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesTold {
    /// Of how many positions this tells, from the first on.
    pub positions: u32,
    /// All documents there, and the version of each.
    pub documents: Vec<(Name, Version)>,
}

/// What is answered to a question, by what is held at the positions.
pub fn answer_names(held: &BTreeMap<u64, Vec<(Name, Version)>>, ask: &NamesAsk) -> NamesTold {
    let mut told = NamesTold { positions: 0, documents: Vec::new() };
    let mut bytes = 0;
    for position in ask.positions.iter().take(POSITIONS_MAX) {
        if REPAIR_BYTES_MAX <= bytes {
            break;
        }
        told.positions += 1;
        for (name, version) in held.get(position).into_iter().flatten() {
            let texts = name.collection().as_str().len() + name.key().as_str().len();
            bytes += texts + 32 * version.hashes().len();
            told.documents.push((name.clone(), version.clone()));
        }
    }
    told
}

impl NamesAsk {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(17);
        writer.u64(self.set.0);
        writer.list(&self.positions, |writer, position| writer.u64(*position));
        writer.end()
    }

    /// The question that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 17)?;
        let (set, positions) = (SetId(reader.u64()?), reader.list(8, Reader::u64)?);
        reader.end(Self { set, positions })
    }
}

impl NamesTold {
    /// Whether this can be an answer to a question: it tells of something, and of nothing else.
    pub fn answers(&self, ask: &NamesAsk) -> bool {
        let told = usize::try_from(self.positions).unwrap_or(usize::MAX);
        let asked = ask.positions.get(..told).unwrap_or_default();
        (0 < told || ask.positions.is_empty())
            && told <= ask.positions.len()
            && self.documents.iter().all(|(name, _)| asked.contains(&position(name.id())))
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(18);
        writer.u32(self.positions);
        writer.list(&self.documents, |writer, (name, version)| {
            writer.name(name);
            writer.version(version);
        });
        writer.end()
    }

    /// The answer that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 18)?;
        let positions = reader.u32()?;
        let documents = reader.list(12, |reader| Ok((reader.name()?, reader.version()?)))?;
        reader.end(Self { positions, documents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Hash;

    const SET: SetId = SetId(7);

    fn name(key: impl Into<String>) -> Name {
        Name::new("notes".parse().unwrap(), key.into().parse().unwrap()).unwrap()
    }

    fn version() -> Version {
        [[1; 32], [2; 32]].map(Hash::from_bytes).into_iter().collect()
    }

    fn at(name: &Name) -> u64 {
        position(name.id())
    }

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let ask = NamesAsk { set: SET, positions: vec![3, u64::MAX] };
        let golden =
            [&[1, 17, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..], &[0xff; 8]]
                .concat();
        assert_eq!(ask.encode(), golden);
        assert_eq!(NamesAsk::decode(&golden), Ok(ask));
        for length in 0..golden.len() {
            assert_eq!(NamesAsk::decode(&golden[..length]), Err(DecodeError::Short), "{length}");
        }
        let told = NamesTold { positions: 4, documents: vec![(name("5"), version())] };
        let golden = [
            &[1, 18, 4, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0][..],
            b"notes",
            &[1, 0, 0, 0],
            b"5",
            &[2, 0, 0, 0],
            &[1; 32],
            &[2; 32],
        ]
        .concat();
        assert_eq!(told.encode(), golden);
        assert_eq!(NamesTold::decode(&golden), Ok(told));
        for length in 0..golden.len() {
            assert_eq!(NamesTold::decode(&golden[..length]), Err(DecodeError::Short), "{length}");
        }
        let damaged = |at: usize, byte| {
            let mut damaged = golden.clone();
            damaged[at] = byte;
            NamesTold::decode(&damaged)
        };
        assert_eq!(damaged(0, 2), Err(DecodeError::Format(2)));
        assert_eq!(damaged(1, 9), Err(DecodeError::Kind(9)));
        assert_eq!(damaged(6, 0xff), Err(DecodeError::Short), "a count that lies");
        assert_eq!(damaged(14, b'/'), Err(DecodeError::Name));
        assert_eq!(damaged(28, 3), Err(DecodeError::Version), "heads are sorted");
        let long = [&golden[..], &[0]].concat();
        assert_eq!(NamesTold::decode(&long), Err(DecodeError::Long));
    }

    #[test]
    fn what_is_held_is_told_in_order_and_within_bounds() {
        let names: Vec<Name> = (0..3).map(|key| name(key.to_string())).collect();
        let held: BTreeMap<u64, Vec<(Name, Version)>> =
            names[..2].iter().map(|name| (at(name), vec![(name.clone(), version())])).collect();
        let positions = [2, 1, 0].map(|key| at(&names[key])).to_vec();
        let ask = NamesAsk { set: SET, positions };
        let told = answer_names(&held, &ask);
        let documents = [1, 0].map(|key| (names[key].clone(), version())).to_vec();
        assert_eq!(told, NamesTold { positions: 3, documents });
        assert!(told.answers(&ask));
        // More positions than one question has, and more bytes than one answer has.
        let ask = NamesAsk { set: SET, positions: vec![1; POSITIONS_MAX + 1] };
        assert_eq!(answer_names(&held, &ask).positions, 512);
        let heads: Version = (0..1000u32)
            .map(|n| std::array::from_fn(|at| n.to_le_bytes()[at % 4]))
            .map(Hash::from_bytes)
            .collect();
        let held = BTreeMap::from([(1, vec![(name("a"), heads)])]);
        assert_eq!(answer_names(&held, &ask).positions, 33, "of 32 KB each");
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let ask =
            NamesAsk { set: SET, positions: [1, 2].map(|key| at(&name(key.to_string()))).to_vec() };
        for (positions, keys, fits) in [
            (1, &["1"][..], true),
            (2, &["2", "1"], true),
            (2, &[], true),
            (0, &[], false),
            (3, &[], false),
            (1, &["2"], false),
            (2, &["3"], false),
        ] {
            let documents = keys.iter().map(|key| (name(*key), version())).collect();
            let told = NamesTold { positions, documents };
            assert_eq!(told.answers(&ask), fits, "{positions} {keys:?}");
        }
    }
}
