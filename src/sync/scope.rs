//! Which collections two nodes share.

use super::{
    codec::{DecodeError, Reader, Writer},
    key::SketchKey,
    message::SetId,
};
use crate::ident::Collection;
use std::collections::BTreeSet;

/// Most collections that a scope names: as many as a node has at most.
pub const COLLECTIONS_MAX: usize = 10_000;

/// Collections, by the numbers that [`SketchKey::collection`] gives them: a node learns of no name that it
/// does not have itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All that there are, and all that there will be.
    All,
    /// These.
    Some(BTreeSet<u64>),
}

impl Scope {
    /// These collections.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a Collection>, key: &SketchKey) -> Self {
        Self::Some(names.into_iter().map(|name| key.collection(name)).collect())
    }

    /// No collection.
    pub fn nothing() -> Self {
        Self::Some(BTreeSet::new())
    }

    /// What both have.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, other) => other.clone(),
            (this, Self::All) => this.clone(),
            (Self::Some(these), Self::Some(those)) => Self::Some(these & those),
        }
    }

    /// Whether a collection, by its number, is in it.
    pub fn holds(&self, collection: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some(these) => these.contains(&collection),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::nothing()
    }

    /// How many collections it names.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Some(these) => these.len(),
        }
    }

    /// The name of its sketch.
    pub fn set(&self, key: &SketchKey) -> SetId {
        SetId(key.set(match self {
            Self::All => None,
            Self::Some(these) => Some(these),
        }))
    }

    /// All: a flag. Some: their numbers, in order.
    pub(super) fn write(&self, writer: &mut Writer) {
        let some = match self {
            Self::All => None,
            Self::Some(these) => Some(these.iter().copied().collect::<Vec<_>>()),
        };
        writer.option(some, |writer, these| {
            writer.list(&these, |writer, collection| writer.u64(*collection));
        });
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let some = reader.option(|reader| reader.short_list(8, COLLECTIONS_MAX, Reader::u64))?;
        match some {
            None => Ok(Self::All),
            Some(these) if these.is_sorted_by(|one, next| one < next) => {
                Ok(Self::Some(these.into_iter().collect()))
            }
            Some(_) => Err(DecodeError::Scope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_share_is_what_both_have_and_has_one_name() {
        let key = SketchKey::derived(b"a secret");
        let name = |name: &str| name.parse::<Collection>().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(name);
        let (ab, bc) = (Scope::of([&a, &b], &key), Scope::of([&c, &b], &key));
        assert_eq!(ab.meet(&bc), Scope::of([&b], &key));
        assert_eq!(ab.meet(&bc).set(&key), bc.meet(&ab).set(&key));
        assert_eq!(ab.meet(&Scope::All), ab);
        assert_eq!(Scope::All.meet(&ab), ab);
        assert_ne!(ab.set(&key), bc.set(&key));
        assert_ne!(Scope::All.set(&key), Scope::Some(BTreeSet::new()).set(&key));
        assert!(ab.holds(key.collection(&a)) && !ab.holds(key.collection(&c)));
        assert!(ab.meet(&Scope::of([&c], &key)).is_empty());
    }
}
