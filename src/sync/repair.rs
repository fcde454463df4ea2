//! Repair: what is known to differ is made equal, document by document.
//!
//! ```text
//! A                                           B
//! what I hold at these positions      ──→
//!                                     ←──     what B holds there, and the changes that A lacks
//! the changes that B lacks            ──→     applies them
//!                                     ←──     what became of them
//! ```
//!
//! An answer carries a mebibyte, or one document, or a part of a large one; what it leaves out is asked for
//! again. Who answers keeps nothing between messages.
//!
//! ```text
//! message  format (1), kind (1), and
//! 8 ask    set (u64), list of: position (u64), list of: id (16), version
//! 9 told   how many positions (u32), parcels
//! parcels  list of: collection, key, version, changes
//! version  list of heads (32)
//! list     how many (u32), each; so bytes and texts
//! ```

use super::{
    codec::{DecodeError, Reader, Writer},
    key::position,
    message::SetId,
};
use crate::ident::{DocumentId, Name, Version};
use std::collections::BTreeSet;

/// An answer ends behind the document with which it has as many bytes of changes.
pub const REPAIR_BYTES_MAX: usize = 1 << 20;
/// Most positions of one question.
pub const POSITIONS_MAX: usize = 512;

/// What a node holds at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The position.
    pub position: u64,
    /// Its documents there, nearly always one, and the version of each.
    pub documents: Vec<(DocumentId, Version)>,
}

/// What is at these positions?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairAsk {
    /// Of what.
    pub set: SetId,
    /// What who asks holds there.
    pub held: Vec<Held>,
}

/// A document on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Its name.
    pub name: Name,
    /// The version that its sender holds.
    pub version: Version,
    /// The changes that its receiver lacks, or the saved document where that is smaller. Empty: none.
    pub changes: Vec<u8>,
}

/// What is at positions, in the order in which they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairTold {
    /// Of how many positions this tells all, from the first on.
    pub positions: u32,
    /// All documents there, and those of the next position if of one of them a part is told.
    pub parcels: Vec<Parcel>,
}

/// Changes that somebody lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// The changes, or the saved document where that is smaller.
    pub changes: Vec<u8>,
    /// There are more, and whoever holds these as well holds this version: too many for one message.
    pub then: Option<Version>,
}

/// What a node holds, as repairs read it.
pub trait Holdings {
    /// Why it cannot be read.
    type Error;

    /// The documents of a set at a position, and their versions.
    ///
    /// # Errors
    /// As the holder has them.
    fn at(&self, set: SetId, position: u64) -> Result<Vec<(Name, Version)>, Self::Error>;

    /// The changes of a document that a version has not seen.
    ///
    /// # Errors
    /// As the holder has them.
    fn changes(&self, name: &Name, seen: &Version) -> Result<Lacking, Self::Error>;
}

/// What is answered to a question.
///
/// # Errors
/// As `held` has them.
pub fn answer_repair<H: Holdings>(held: &H, ask: &RepairAsk) -> Result<RepairTold, H::Error> {
    let mut told = RepairTold { positions: 0, parcels: Vec::new() };
    let (mut bytes, mut whole) = (0, true);
    for Held { position, documents } in ask.held.iter().take(POSITIONS_MAX) {
        if REPAIR_BYTES_MAX <= bytes {
            break;
        }
        for (name, version) in held.at(ask.set, *position)? {
            let theirs = documents.iter().find(|(id, _)| *id == name.id());
            let nothing = Version::empty();
            let seen = theirs.map_or(&nothing, |(_, seen)| seen);
            let lacking =
                if *seen == version { Lacking::default() } else { held.changes(&name, seen)? };
            let Lacking { changes, then } = lacking;
            bytes += changes.len();
            whole &= then.is_none();
            told.parcels.push(Parcel { name, version, changes });
        }
        if !whole {
            break;
        }
        told.positions += 1;
    }
    Ok(told)
}

/// What the asking side sends back, once it has applied what it was told: of each document that it holds
/// at a position, the changes that the answer shows the peer to lack, or a part of them. The positions of
/// which the answer does not tell all are to be asked for again.
///
/// # Errors
/// As `held` has them.
pub fn give_back<H: Holdings>(
    held: &H,
    ask: &RepairAsk,
    told: &RepairTold,
) -> Result<Vec<Parcel>, H::Error> {
    let positions = usize::try_from(told.positions).unwrap_or(usize::MAX);
    let mut parcels = Vec::new();
    for Held { position, .. } in ask.held.iter().take(positions) {
        for (name, version) in held.at(ask.set, *position)? {
            let theirs = told.parcels.iter().find(|parcel| parcel.name == name);
            let nothing = Version::empty();
            let seen = theirs.map_or(&nothing, |parcel| &parcel.version);
            if *seen == version {
                continue;
            }
            let Lacking { changes, .. } = held.changes(&name, seen)?;
            if !changes.is_empty() {
                parcels.push(Parcel { name, version, changes });
            }
        }
    }
    Ok(parcels)
}

impl RepairTold {
    /// Whether this can be an answer to a question: it tells of something, and of nothing else.
    pub fn answers(&self, ask: &RepairAsk) -> bool {
        let told = usize::try_from(self.positions).unwrap_or(usize::MAX);
        let asked = ask.held.iter().take(told.saturating_add(1));
        let asked: BTreeSet<u64> = asked.map(|held| held.position).collect();
        let wanted = |parcel: &Parcel| asked.contains(&position(parcel.name.id()));
        let begun = self.parcels.iter().any(|parcel| !parcel.changes.is_empty());
        (0 < told || begun || ask.held.is_empty())
            && told <= ask.held.len()
            && self.parcels.iter().all(wanted)
    }
}

impl RepairAsk {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(8);
        writer.u64(self.set.0);
        writer.list(&self.held, |writer, held| {
            writer.u64(held.position);
            writer.list(&held.documents, |writer, (id, version)| {
                writer.id(*id);
                writer.version(version);
            });
        });
        writer.end()
    }

    /// The question that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 8)?;
        let set = SetId(reader.u64()?);
        let held = reader.list(12, |reader| {
            let position = reader.u64()?;
            let documents = reader.list(20, |reader| Ok((reader.id()?, reader.version()?)))?;
            Ok(Held { position, documents })
        })?;
        reader.end(Self { set, held })
    }
}

impl RepairTold {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(9);
        writer.u32(self.positions);
        write_parcels(&mut writer, &self.parcels);
        writer.end()
    }

    /// The answer that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 9)?;
        let positions = reader.u32()?;
        let parcels = read_parcels(&mut reader)?;
        reader.end(Self { positions, parcels })
    }
}

pub(super) fn write_parcels(writer: &mut Writer, parcels: &[Parcel]) {
    writer.list(parcels, |writer, Parcel { name, version, changes }| {
        writer.name(name);
        writer.version(version);
        writer.bytes(changes);
    });
}

pub(super) fn read_parcels(reader: &mut Reader<'_>) -> Result<Vec<Parcel>, DecodeError> {
    reader.list(16, |reader| {
        let (name, version) = (reader.name()?, reader.version()?);
        Ok(Parcel { name, version, changes: reader.bytes()?.to_vec() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ident::Hash,
        sync::{Next, Part, Round, Sketch, SketchKey, answer},
    };
    use std::{collections::BTreeMap, convert::Infallible};

    const SET: SetId = SetId(7);

    /// A node whose documents are sets of changes, each of which is its own head.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct World {
        documents: BTreeMap<Name, BTreeSet<[u8; 32]>>,
        /// Most changes of one document in one message.
        most: Option<usize>,
    }

    impl World {
        fn version(changes: &BTreeSet<[u8; 32]>) -> Version {
            changes.iter().copied().map(Hash::from_bytes).collect()
        }

        fn sketch(&self, key: &SketchKey) -> Sketch {
            let mut sketch = Sketch::new(1 << 10);
            for (name, changes) in &self.documents {
                let by = key.fingerprint(name, &Self::version(changes));
                sketch.change(key, position(name.id()), by);
            }
            sketch
        }

        fn held(&self, position: u64) -> Held {
            let Ok(documents) = self.at(SET, position);
            let documents = documents.into_iter().map(|(name, version)| (name.id(), version));
            Held { position, documents: documents.collect() }
        }

        fn apply(&mut self, parcels: &[Parcel]) {
            for Parcel { name, changes, .. } in parcels.iter().filter(|p| !p.changes.is_empty()) {
                let (changes, rest) = changes.as_chunks();
                assert!(rest.is_empty());
                self.documents.entry(name.clone()).or_default().extend(changes);
            }
        }
    }

    impl Holdings for World {
        type Error = Infallible;

        fn at(&self, _: SetId, wanted: u64) -> Result<Vec<(Name, Version)>, Infallible> {
            let there = self.documents.iter().filter(|(name, _)| position(name.id()) == wanted);
            Ok(there.map(|(name, changes)| (name.clone(), Self::version(changes))).collect())
        }

        fn changes(&self, name: &Name, seen: &Version) -> Result<Lacking, Infallible> {
            let mut seen: BTreeSet<_> = seen.hashes().iter().map(|head| head.to_bytes()).collect();
            let lacking: Vec<_> = self.documents[name].difference(&seen).copied().collect();
            let part = &lacking[..lacking.len().min(self.most.unwrap_or(usize::MAX))];
            seen.extend(part);
            let then = (part.len() < lacking.len()).then(|| Self::version(&seen));
            Ok(Lacking { changes: part.concat(), then })
        }
    }

    fn name(key: usize) -> Name {
        Name::new("notes".parse().unwrap(), format!("{key}").parse().unwrap()).unwrap()
    }

    /// What two nodes do until they are equal; gives how many repairs were asked for.
    fn reconcile(one: &mut World, two: &mut World, key: &SketchKey) -> usize {
        let (mut round, ask) =
            Round::begin(key.clone(), Part::whole(SET), one.sketch(key).cells().to_vec());
        let told = answer(Some(two.sketch(key).cells()), key, &ask);
        let Ok(Next::Differ(found)) = round.told(told) else { panic!("more than a sketch tells") };
        let mut left: Vec<u64> = found.iter().map(|difference| difference.position).collect();
        let mut asked = 0;
        while !left.is_empty() {
            let held = left.iter().map(|position| one.held(*position)).collect();
            let ask = RepairAsk { set: SET, held };
            let ask = RepairAsk::decode(&ask.encode()).unwrap();
            let Ok(told) = answer_repair(two, &ask);
            let told = RepairTold::decode(&told.encode()).unwrap();
            assert!(told.answers(&ask));
            one.apply(&told.parcels);
            let Ok(back) = give_back(one, &ask, &told);
            two.apply(&back);
            left.drain(..usize::try_from(told.positions).unwrap());
            asked += 1;
        }
        asked
    }

    #[test]
    fn two_nodes_become_equal_and_exchange_what_each_lacks() {
        let key = SketchKey::derived(b"a secret");
        let mut random = fastrand::Rng::with_seed(3);
        let mut change = || std::array::from_fn(|_| random.u8(..));
        let mut worlds = [World::default(), World::default()];
        let mut all = World::default();
        for document in 0..60 {
            // On both, on one, on both with what the other has not seen.
            for (holder, times) in [([0, 1], 2), ([0, 0], document % 2), ([1, 1], document % 3)] {
                for _ in 0..times {
                    let change = change();
                    let skipped = document % 7 == 0 && holder == [0, 1];
                    for world in holder.into_iter().filter(|_| !skipped) {
                        worlds[world].documents.entry(name(document)).or_default().insert(change);
                        all.documents.entry(name(document)).or_default().insert(change);
                    }
                }
            }
        }
        let [one, two] = &mut worlds;
        assert_ne!(one, two);
        assert_eq!(reconcile(one, two, &key), 1);
        assert_eq!((&*one, &*two), (&all, &all));
        assert_eq!(reconcile(one, two, &key), 0);
    }

    #[test]
    fn an_answer_ends_at_its_bound_and_the_rest_is_asked_for_again() {
        let key = SketchKey::derived(b"a secret");
        let large = |from: usize| -> BTreeSet<[u8; 32]> {
            let from = u8::try_from(from).unwrap();
            (0..20_000u32)
                .map(|n| std::array::from_fn(|at| n.to_le_bytes()[at % 4] ^ from))
                .collect()
        };
        let documents = (0..5).map(|key| (name(key), large(key))).collect();
        let mut two = World { documents, most: None };
        let mut one = World::default();
        assert_eq!(reconcile(&mut one, &mut two, &key), 3, "two of 640 KB in each");
        assert_eq!(one, two);
    }

    #[test]
    fn a_document_of_too_many_changes_for_a_message_is_told_in_parts() {
        let key = SketchKey::derived(b"a secret");
        let changes = |count: u8| (0..count).map(|change| [change; 32]).collect();
        let documents = [(name(1), changes(1)), (name(2), changes(7)), (name(3), changes(3))];
        let mut two = World { documents: documents.into(), most: Some(3) };
        let mut one = World::default();
        // Parts of 3, 3 and 1; of the others there is one each.
        let asked = reconcile(&mut one, &mut two, &key);
        assert!((3..=4).contains(&asked), "{asked}");
        assert_eq!(one.documents, two.documents);
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let held = |key| Held { position: position(name(key).id()), documents: Vec::new() };
        let ask = RepairAsk { set: SET, held: vec![held(1), held(2)] };
        let parcel = |key, changes: &[u8]| Parcel {
            name: name(key),
            version: Version::empty(),
            changes: changes.to_vec(),
        };
        for (positions, keys, fits) in [
            (1, &[1][..], true),
            (2, &[2, 1], true),
            (2, &[], true),
            (0, &[], false),
            (0, &[1], true),
            (0, &[2], false),
            (3, &[], false),
            (1, &[2], true),
            (2, &[3], false),
        ] {
            let parcels = keys.iter().map(|key| parcel(*key, b"x")).collect();
            assert_eq!(
                RepairTold { positions, parcels }.answers(&ask),
                fits,
                "{positions} {keys:?}"
            );
        }
        let nothing = RepairTold { positions: 0, parcels: vec![parcel(1, b"")] };
        assert!(!nothing.answers(&ask), "who asks again asks for the same");
    }

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let version: Version = [[1; 32], [2; 32]].map(Hash::from_bytes).into_iter().collect();
        let id = DocumentId::from_bytes([9; 16]);
        let held = Held { position: 3, documents: vec![(id, version.clone())] };
        let ask = RepairAsk { set: SET, held: vec![held] };
        let (head, one, two) = ([0x0b, 0x0c], [1; 32], [2; 32]);
        let golden = [
            &[1, 8, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0][..],
            &[9; 16],
            &[2, 0, 0, 0],
            &one,
            &two,
        ];
        assert_eq!(ask.encode(), golden.concat());
        assert_eq!(RepairAsk::decode(&ask.encode()), Ok(ask));
        let parcel = Parcel { name: name(5), version, changes: head.to_vec() };
        let body = [
            &[1, 0, 0, 0, 5, 0, 0, 0][..],
            b"notes",
            &[1, 0, 0, 0],
            b"5",
            &[2, 0, 0, 0],
            &one,
            &two,
            &[2, 0, 0, 0],
            &head,
        ];
        let told = RepairTold { positions: 4, parcels: vec![parcel] };
        assert_eq!(told.encode(), [&[1, 9, 4, 0, 0, 0][..], &body.concat()].concat());
        assert_eq!(RepairTold::decode(&told.encode()).as_ref(), Ok(&told));
        let whole = told.encode();
        for length in 0..whole.len() {
            assert_eq!(RepairTold::decode(&whole[..length]), Err(DecodeError::Short), "{length}");
        }
        let damaged = |at: usize, byte| {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            RepairTold::decode(&damaged)
        };
        assert_eq!(damaged(0, 2), Err(DecodeError::Format(2)));
        assert_eq!(damaged(1, 10), Err(DecodeError::Kind(10)));
        assert_eq!(damaged(14, b'/'), Err(DecodeError::Name));
        assert_eq!(damaged(14, 0xff), Err(DecodeError::Name));
        assert_eq!(damaged(28, 3), Err(DecodeError::Version), "heads are sorted");
        assert_eq!(damaged(6, 0xff), Err(DecodeError::Short), "a count that lies");
    }
}
