//! Answers that are kept for who asks again: rows of the family `kept`, and all of them in memory.
//!
//! A row is written in the batch of the write that it tells of, and so is the removal of others: the
//! oldest go when their time is over or there are too many, two at most for each that comes. No clock
//! is read: the newest row says how late it is.

use super::{
    codec::{Reader, Writer},
    engine::{Batch, Engine, Range},
    error::{Damaged, EngineError},
    frame::{self, Kind},
    key::{self, Family},
};
use crate::ident::Version;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How long an answer is kept, in seconds.
pub const KEPT_SECONDS: u64 = 24 * 60 * 60;
/// Most answers that are kept.
pub const KEPT_MAX: usize = 100_000;
/// Most answers that go for one that comes.
const GONE_PER_KEPT: usize = 2;

/// The kind of these rows among those of their family.
const ANSWER: u8 = 1;

/// Who asked for what: the hash of everything that makes a request the same one.
pub type KeptName = [u8; 32];

/// The answer to a write, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which request it was.
    pub name: KeptName,
    /// The hash of what it asked for.
    pub asked: [u8; 32],
    /// Seconds since 1970 until which it is kept.
    pub until_seconds: u64,
    /// The document's version after the write.
    pub version: Version,
    /// Conflicted places after it.
    pub conflicts: u32,
    /// Its base was not the document's version.
    pub merged: bool,
    /// It changed nothing.
    pub unchanged: bool,
    /// The document was not there before.
    pub created: bool,
    /// The document is deleted after it.
    pub deleted: bool,
}

impl Kept {
    fn key(&self) -> Vec<u8> {
        key::encode_answer(ANSWER, self.until_seconds, &self.name)
    }

    /// ```text
    /// name (32), asked (32), until u64, conflicts u32, flags u8, version (counted by a u32)
    /// ```
    /// Flags, from the lowest bit: merged, unchanged, created, deleted.
    fn encode(&self, key: &[u8]) -> Bytes {
        let mut out = Writer::new(Kind::Answer, 128);
        out.raw(&self.name);
        out.raw(&self.asked);
        out.u64(self.until_seconds);
        out.u32(self.conflicts);
        let flags = [self.merged, self.unchanged, self.created, self.deleted];
        out.u8(flags.iter().rev().fold(0, |sum, flag| sum << 1 | u8::from(*flag)));
        out.version(&self.version);
        out.finish(key)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damaged> {
        let mut fields = Reader::new(frame::open(Kind::Answer, key, value)?);
        let (name, asked) = (fields.array()?, fields.array()?);
        let (until_seconds, conflicts, flags) = (fields.u64()?, fields.u32()?, fields.u8()?);
        if 0b1111 < flags {
            return Err(Damaged("a kept answer has flags that nobody knows"));
        }
        let flag = |bit: u8| flags & 1 << bit != 0;
        let version = fields.version()?;
        fields.end()?;
        let (merged, unchanged, created, deleted) = (flag(0), flag(1), flag(2), flag(3));
        Ok(Self {
            name,
            asked,
            until_seconds,
            version,
            conflicts,
            merged,
            unchanged,
            created,
            deleted,
        })
    }
}

/// All kept answers. The committer alone changes it, after a batch is durable.
#[derive(Debug, Default)]
pub struct KeptAnswers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<KeptName, Kept>,
    /// By their end, the next one first.
    ends: BTreeMap<(u64, KeptName), ()>,
}

impl KeptAnswers {
    /// The answer to a request, if it is kept still.
    pub fn find(&self, name: &KeptName, now_seconds: u64) -> Option<Kept> {
        let found = self.lock().answers.get(name).cloned();
        found.filter(|kept| now_seconds < kept.until_seconds)
    }

    /// What a store holds. Damaged rows are left out: who asks again is no worse off than after a day.
    pub(super) fn read(engine: &dyn Engine) -> Result<Self, EngineError> {
        let answers = Self::default();
        let range = Range::prefix(&key::encode_kept(ANSWER, &[]));
        engine.scan(Family::Kept, &range, &mut |key, value| {
            if let Ok(kept) = Kept::decode(key, value) {
                answers.lock().insert(kept);
            }
            ControlFlow::Continue(())
        })?;
        Ok(answers)
    }

    /// Adds rows to a batch, and the removal of those for which there is no room or time; gives the
    /// latter for [`KeptAnswers::publish`].
    pub(super) fn prepare(&self, fresh: &[Kept], batch: &mut Batch) -> Vec<(u64, KeptName)> {
        let Some(newest) = fresh.iter().map(|kept| kept.until_seconds).max() else {
            return Vec::new();
        };
        let now = newest.saturating_sub(KEPT_SECONDS);
        let table = self.lock();
        let surplus = (table.answers.len() + fresh.len()).saturating_sub(KEPT_MAX);
        let ended =
            |(index, (until, _)): &(usize, (u64, KeptName))| *index < surplus || *until <= now;
        let ends = table.ends.keys().copied().enumerate();
        let ends = ends.take(GONE_PER_KEPT * fresh.len()).take_while(ended);
        let mut gone: Vec<_> = ends.map(|(_, end)| end).collect();
        for kept in fresh {
            // A request that is made again after its time leaves one row.
            let before =
                table.answers.get(&kept.name).map(|before| (before.until_seconds, kept.name));
            gone.extend(before.filter(|before| !gone.contains(before)));
        }
        drop(table);
        for (until, name) in &gone {
            batch.remove(Family::Kept, key::encode_answer(ANSWER, *until, name));
        }
        for kept in fresh {
            let key = kept.key();
            let value = kept.encode(&key);
            batch.put(Family::Kept, key, value);
        }
        gone
    }

    /// Takes note that a batch is durable.
    pub(super) fn publish(&self, fresh: Vec<Kept>, gone: &[(u64, KeptName)]) {
        if fresh.is_empty() {
            return;
        }
        let mut table = self.lock();
        for end in gone {
            table.ends.remove(end);
            table.answers.remove(&end.1);
        }
        for kept in fresh {
            table.insert(kept);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in it panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, kept: Kept) {
        let name = kept.name;
        let end = (kept.until_seconds, name);
        if let Some(before) = self.answers.insert(name, kept) {
            self.ends.remove(&(before.until_seconds, name));
        }
        self.ends.insert(end, ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryEngine;

    fn kept(byte: u8, until_seconds: u64) -> Kept {
        Kept {
            name: [byte; 32],
            asked: [9; 32],
            until_seconds,
            version: "ab".repeat(32).parse().unwrap(),
            conflicts: 2,
            merged: false,
            unchanged: true,
            created: false,
            deleted: true,
        }
    }

    fn write(answers: &KeptAnswers, engine: &MemoryEngine, fresh: Vec<Kept>) {
        let mut batch = Batch::default();
        let gone = answers.prepare(&fresh, &mut batch);
        engine.commit(batch, crate::store::Durability::Sync).unwrap();
        answers.publish(fresh, &gone);
    }

    fn rows(engine: &MemoryEngine) -> usize {
        let mut count = 0;
        let visit = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        engine.scan(Family::Kept, &Range::all(), visit).unwrap();
        count
    }

    #[test]
    fn a_kept_answer_has_golden_bytes_and_reads_back() {
        let kept = kept(7, 0x0102);
        let key = kept.key();
        assert_eq!(key, [&[1, 0, 0, 0, 0, 0, 0, 1, 2][..], &[7; 32]].concat());
        let value = kept.encode(&key);
        let payload = [
            &[7; 32][..],
            &[9; 32],
            &[2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0b1010, 1, 0, 0, 0],
            &[0xab; 32],
        ];
        assert_eq!(value[frame::HEADER_BYTES..], payload.concat());
        assert_eq!(value[..6], [1, 5, 113, 0, 0, 0]);
        assert_eq!(Kept::decode(&key, &value), Ok(kept));
    }

    #[test]
    fn answers_are_found_until_their_time_is_over_and_after_a_start() {
        let engine = MemoryEngine::new();
        let answers = KeptAnswers::default();
        write(&answers, &engine, vec![kept(1, 100), kept(2, 200)]);
        let again = KeptAnswers::read(&engine).unwrap();
        for answers in [&answers, &again] {
            assert_eq!(answers.find(&[1; 32], 99), Some(kept(1, 100)));
            assert_eq!(answers.find(&[1; 32], 100), None);
            assert_eq!(answers.find(&[3; 32], 0), None);
        }
    }

    #[test]
    fn what_has_ended_goes_when_others_come() {
        let engine = MemoryEngine::new();
        let answers = KeptAnswers::default();
        write(&answers, &engine, (1..=5).map(|byte| kept(byte, u64::from(byte))).collect());
        for (byte, left) in [(11, 4), (12, 3), (13, 3)] {
            write(&answers, &engine, vec![kept(byte, KEPT_SECONDS + 5)]);
            assert_eq!((rows(&engine), answers.lock().answers.len()), (left, left), "two for one");
            assert_eq!(answers.lock().ends.len(), left);
        }
        // Made again after its time, it stands once.
        write(&answers, &engine, vec![kept(11, KEPT_SECONDS + 9)]);
        assert_eq!((rows(&engine), answers.lock().ends.len()), (3, 3));
        assert_eq!(KeptAnswers::read(&engine).unwrap().lock().answers.len(), 3);
    }

    #[test]
    fn there_are_never_more_than_the_bound() {
        let engine = MemoryEngine::new();
        let answers = KeptAnswers::default();
        let many = (0..KEPT_MAX as u64).map(|n| {
            let mut kept = kept(0, KEPT_SECONDS + n);
            kept.name[..8].copy_from_slice(&n.to_be_bytes());
            kept
        });
        write(&answers, &engine, many.collect());
        write(
            &answers,
            &engine,
            vec![kept(1, 3 * KEPT_SECONDS / 2), kept(2, 3 * KEPT_SECONDS / 2)],
        );
        assert_eq!(answers.lock().answers.len(), KEPT_MAX);
        assert!(answers.find(&[1; 32], 0).is_some());
    }
}
