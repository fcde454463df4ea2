//! Which loaded documents stay in memory: two queues, by bytes.
//!
//! A document that is used for the first time is *young*; used again, it is *old*. The young have a
//! small share of the budget and what the old leave free, so that a million documents written once
//! push out nothing that is in use. Who left young and comes back within about a budget's worth of
//! documents is old at once. (2Q, after Johnson and Shasha 1994; there a second use moves nothing
//! while a document is young, since pages are used in bursts.)

use crate::ident::DocumentId;
use std::collections::{BTreeMap, HashMap};

/// The share of the budget that the old leave to the young: one in so many bytes.
const YOUNG_SHARE: usize = 16;
/// What a document holds that was written twice, at least: bounds how many departed are remembered.
const DOCUMENT_BYTES_MIN: usize = 16 << 10;

/// What is loaded, by document, with a budget in bytes.
#[derive(Debug)]
pub(super) struct Cache<T> {
    entries: HashMap<DocumentId, Entry<T>>,
    young: Queue,
    old: Queue,
    departed: Departed,
    clock: u64,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    used: u64,
    bytes: usize,
    age: Age,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Young,
    Old,
}

/// Documents by last use, oldest first, and what they hold.
#[derive(Debug, Default)]
struct Queue {
    uses: BTreeMap<u64, DocumentId>,
    bytes: usize,
}

impl<T> Cache<T> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            young: Queue::default(),
            old: Queue::default(),
            departed: Departed::new(bytes_max / DOCUMENT_BYTES_MIN),
            clock: 0,
            bytes_max,
        }
    }

    /// What is loaded of a document, now the most recently used.
    pub(super) fn touch(&mut self, id: DocumentId) -> Option<&mut T> {
        let entry = self.entries.get_mut(&id)?;
        let before = match entry.age {
            Age::Young => &mut self.young,
            Age::Old => &mut self.old,
        };
        before.uses.remove(&entry.used);
        before.bytes -= entry.bytes;
        self.clock += 1;
        self.old.uses.insert(self.clock, id);
        self.old.bytes += entry.bytes;
        entry.used = self.clock;
        entry.age = Age::Old;
        Some(&mut entry.value)
    }

    /// What is loaded of a document, without counting as a use.
    pub(super) fn peek(&mut self, id: DocumentId) -> Option<&mut T> {
        self.entries.get_mut(&id).map(|entry| &mut entry.value)
    }

    /// Adds a document, which must not be here.
    pub(super) fn insert(&mut self, id: DocumentId, value: T, bytes: usize) {
        self.clock += 1;
        let age = if self.departed.take(id) { Age::Old } else { Age::Young };
        let used = self.clock;
        let queue = self.queue(age);
        queue.bytes += bytes;
        queue.uses.insert(used, id);
        self.entries.insert(id, Entry { value, used, bytes, age });
    }

    /// Tells what a document holds now.
    pub(super) fn weigh(&mut self, id: DocumentId, bytes: usize) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.bytes, bytes);
        let age = entry.age;
        let queue = self.queue(age);
        queue.bytes = queue.bytes - before + bytes;
    }

    pub(super) fn remove(&mut self, id: DocumentId) -> Option<T> {
        let Entry { value, used, bytes, age } = self.entries.remove(&id)?;
        let queue = self.queue(age);
        queue.uses.remove(&used);
        queue.bytes -= bytes;
        Some(value)
    }

    /// Removes a document to make room, and remembers it if it was young.
    pub(super) fn evict(&mut self, id: DocumentId) {
        let young = self.entries.get(&id).is_some_and(|entry| entry.age == Age::Young);
        if self.remove(id).is_some() && young {
            self.clock += 1;
            self.departed.add(id, self.clock);
        }
    }

    /// How many documents are here.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether more is held than the budget allows.
    pub(super) fn is_over(&self) -> bool {
        self.bytes_max < self.bytes()
    }

    /// Now, in uses.
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// Documents that nobody has used since, at most `most` of them.
    pub(super) fn unused_since(&self, clock: u64, most: usize) -> Vec<DocumentId> {
        let before = |queue: &Queue| queue.uses.range(..=clock).map(|(_, id)| *id).collect();
        let (mut ids, old): (Vec<DocumentId>, Vec<DocumentId>) =
            (before(&self.young), before(&self.old));
        ids.extend(old);
        ids.truncate(most);
        ids
    }

    /// The documents in the order in which they should go, at most `most` of them: young ones over
    /// their share, then the old, then the rest of the young.
    pub(super) fn oldest(&self, most: usize) -> Vec<DocumentId> {
        let mut excess = self.young.bytes.saturating_sub(self.young_bytes_max());
        let is_excess = |id: &&DocumentId| {
            let first = 0 < excess;
            let bytes = self.entries.get(*id).map_or(0, |entry| entry.bytes);
            excess = excess.saturating_sub(bytes);
            first
        };
        let mut ids: Vec<DocumentId> =
            self.young.uses.values().take_while(is_excess).take(most).copied().collect();
        let rest = self.young.uses.values().skip(ids.len());
        let left = most - ids.len();
        ids.extend(self.old.uses.values().chain(rest).take(left));
        ids
    }

    /// What all documents here hold.
    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    /// The documents that are here, in no order.
    pub(super) fn ids(&self) -> impl Iterator<Item = DocumentId> + '_ {
        self.entries.keys().copied()
    }

    fn young_bytes_max(&self) -> usize {
        self.bytes_max / YOUNG_SHARE
    }

    fn queue(&mut self, age: Age) -> &mut Queue {
        match age {
            Age::Young => &mut self.young,
            Age::Old => &mut self.old,
        }
    }
}

/// Who was young and left, and has not come back: the last so many.
#[derive(Debug)]
struct Departed {
    when: HashMap<DocumentId, u64>,
    order: BTreeMap<u64, DocumentId>,
    count_max: usize,
}

impl Departed {
    fn new(count_max: usize) -> Self {
        Self { when: HashMap::new(), order: BTreeMap::new(), count_max }
    }

    /// Remembers a document that leaves, at a time later than every one before.
    fn add(&mut self, id: DocumentId, time: u64) {
        if let Some(before) = self.when.insert(id, time) {
            self.order.remove(&before);
        }
        self.order.insert(time, id);
        if self.count_max < self.order.len()
            && let Some((_, first)) = self.order.pop_first()
        {
            self.when.remove(&first);
        }
    }

    /// Forgets a document; whether it was remembered.
    fn take(&mut self, id: DocumentId) -> bool {
        let when = self.when.remove(&id);
        when.is_some_and(|when| self.order.remove(&when).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn id(number: u64) -> DocumentId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        DocumentId::from_bytes(bytes)
    }

    /// Uses a document as a shard does: what is over the budget goes.
    fn use_one(cache: &mut Cache<()>, number: u64) {
        if cache.touch(id(number)).is_none() {
            cache.insert(id(number), (), 16 * KIB);
        }
        for id in cache.oldest(100) {
            if !cache.is_over() {
                break;
            }
            cache.evict(id);
        }
    }

    fn count(cache: &mut Cache<()>, numbers: std::ops::Range<u64>) -> usize {
        numbers.filter(|number| cache.peek(id(*number)).is_some()).count()
    }

    #[test]
    fn documents_used_once_push_out_nothing_that_is_in_use() {
        let mut cache = Cache::new(1600 * KIB);
        for number in (0..50).chain(0..50).chain(0..50) {
            use_one(&mut cache, number);
        }
        assert_eq!(count(&mut cache, 0..50), 50, "known again after they left");
        for number in 1000..100_000 {
            use_one(&mut cache, number);
        }
        assert_eq!(count(&mut cache, 0..50), 50);
        assert_eq!(count(&mut cache, 1000..100_000), 50, "what those in use leave free");
        assert!(cache.bytes() <= 1600 * KIB);
        assert!(cache.departed.when.len() <= 100 && cache.departed.order.len() <= 100);
    }

    #[test]
    fn documents_used_once_have_their_share_of_a_full_memory() {
        let mut cache = Cache::new(1600 * KIB);
        for _ in 0..2 {
            for number in 0..100 {
                use_one(&mut cache, number);
            }
        }
        assert_eq!(count(&mut cache, 0..100), 100, "as many as there is room for");
        for number in 1000..1100 {
            use_one(&mut cache, number);
        }
        assert_eq!(count(&mut cache, 0..100), 94);
        assert_eq!(count(&mut cache, 1000..1100), 6, "a sixteenth of a hundred");
    }

    #[test]
    fn what_is_in_use_fills_the_budget_and_then_the_least_recently_used_goes() {
        let mut cache = Cache::new(1600 * KIB);
        for _ in 0..4 {
            for number in 0..90 {
                use_one(&mut cache, number);
            }
        }
        assert_eq!(count(&mut cache, 0..90), 90);
        for _ in 0..4 {
            for number in 90..120 {
                use_one(&mut cache, number);
            }
        }
        assert_eq!(count(&mut cache, 90..120), 30);
        assert_eq!(count(&mut cache, 0..20), 0);
        assert!(!cache.is_over());
    }

    #[test]
    fn what_nobody_has_used_since_is_known() {
        let mut cache = Cache::new(1600 * KIB);
        for number in [1, 2, 3, 1] {
            use_one(&mut cache, number);
        }
        let then = cache.clock();
        for number in [2, 4] {
            use_one(&mut cache, number);
        }
        let mut unused = cache.unused_since(then, 10);
        unused.sort_unstable();
        assert_eq!(unused, [id(1), id(3)]);
        assert_eq!(cache.unused_since(then, 1).len(), 1);
    }

    #[test]
    fn bytes_are_those_of_what_is_here() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut cache = Cache::new(64 * KIB);
        let mut model: HashMap<DocumentId, usize> = HashMap::new();
        for _ in 0..20_000 {
            let (id, bytes) = (id(random.u64(..40)), random.usize(..32 * KIB));
            match random.u8(..5) {
                4 => {
                    cache.evict(id);
                    model.remove(&id);
                }
                0 => assert_eq!(cache.remove(id).is_some(), model.remove(&id).is_some()),
                1 => assert_eq!(cache.touch(id).is_some(), model.contains_key(&id)),
                2 => {
                    cache.weigh(id, bytes);
                    model.entry(id).and_modify(|held| *held = bytes);
                }
                _ if !model.contains_key(&id) => {
                    cache.insert(id, (), bytes);
                    model.insert(id, bytes);
                }
                _ => {}
            }
            assert_eq!(cache.bytes(), model.values().sum::<usize>());
            assert_eq!(cache.unused_since(cache.clock(), usize::MAX).len(), model.len());
            let mut listed = cache.oldest(usize::MAX);
            listed.sort_unstable();
            let mut held: Vec<DocumentId> = model.keys().copied().collect();
            held.sort_unstable();
            assert_eq!(listed, held);
        }
    }
}
