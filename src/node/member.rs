//! One other node of the cluster, and what is agreed with it.

use super::{Direction, PeerOptions, replicate::Turns};
use crate::{
    ident::{Cursor, DocumentId},
    sync::{Hello, Scope, SketchKey},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Who has not asked for the feed for so long does not ask for it any more.
const ASKS_TIME: Duration = Duration::from_secs(45);

/// Most documents of which it is remembered that a member lacks some of what it has acknowledged.
const LACKS_MAX: usize = 1 << 16;

/// What is agreed with a peer, on this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) scope: Scope,
    pub(super) direction: Direction,
}

impl Terms {
    pub(super) fn of(options: &PeerOptions, key: &SketchKey) -> Self {
        let scope = options.collections.as_ref().map_or(Scope::All, |some| Scope::of(some, key));
        Self { scope, direction: options.direction }
    }

    /// Those with a node that is not configured: all is shared both ways with whoever knows the secret.
    pub(super) fn open() -> Self {
        Self { scope: Scope::All, direction: Direction::Both }
    }

    /// What both allow.
    #[must_use]
    pub(super) fn meet(self, other: &Self) -> Self {
        let direction = match (self.direction, other.direction) {
            (Direction::Both, direction) | (direction, Direction::Both) => direction,
            (one, two) if one == two => one,
            // Neither way.
            _ => return Self { scope: Scope::nothing(), direction: Direction::Both },
        };
        Self { scope: self.scope.meet(&other.scope), direction }
    }
}

/// A node that has said hello.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// What it said last.
    pub(super) hello: Hello,
    /// What both share.
    pub(super) scope: Scope,
    /// How far its feed has been taken in.
    pub(super) cursor: Option<Cursor>,
    /// The cursor that is stored.
    pub(super) kept: Option<Cursor>,
    /// It has acknowledged the feed of this node up to here,
    pub(super) acknowledged: u64,
    /// from here on: what lies before is left to the sketch,
    since: u64,
    /// but for these documents, at these seqs: not all of their changes are part of them there.
    lacks: Arc<BTreeMap<DocumentId, u64>>,
    /// Up to here it is known to hold all, since both summed up to the same.
    equal: u64,
    /// Up to here it is told more than is known to be new to it, since something was perhaps passed: of what
    /// it was told before it has acknowledged all that, nothing is known.
    doubted: u64,
    /// Up to here it is told documents whole,
    told_whole: u64,
    /// and up to here of its own feed it tells them so.
    pub(super) tells_whole: u64,
    /// This node pushes to it.
    pub(super) linked: bool,
    /// When it asked for this node's feed last, if it does so.
    asked: Option<Instant>,
    /// The batches of its feed that are being taken.
    pub(super) turns: Arc<Turns>,
}

impl Member {
    /// One that was not known. `kept`: the cursor that is stored of it.
    pub(super) fn new(hello: Hello, mine: &Scope, kept: Option<Cursor>) -> Self {
        Self {
            scope: mine.meet(&hello.scope),
            hello,
            cursor: kept,
            kept,
            acknowledged: 0,
            since: 0,
            lacks: Arc::default(),
            equal: 0,
            doubted: 0,
            told_whole: 0,
            tells_whole: 0,
            linked: false,
            asked: None,
            turns: Arc::default(),
        }
    }

    /// The same node, as it says hello again. Started again, it may be a backup: then it is not known to hold
    /// anything; nor what was told before something else was shared.
    #[must_use]
    pub(super) fn greeted(&self, hello: Hello, mine: &Scope) -> Self {
        let scope = mine.meet(&hello.scope);
        let renewed = self.hello.incarnation != hello.incarnation;
        let other = self.scope != scope;
        let mut member = Self { hello, scope, ..self.clone() };
        if renewed {
            member.tell_from(0, 0);
            member.tells_whole = 0;
        } else if other {
            member.tell_from(self.acknowledged, self.told_whole);
        }
        if renewed || other {
            member.equal = 0;
            member.asked = None;
        }
        member
    }

    /// It is told this node's feed from a seq on, up to another one by whole documents.
    pub(super) fn tell_from(&mut self, seq: u64, whole_until: u64) {
        (self.since, self.acknowledged, self.told_whole) = (seq, seq, whole_until);
        self.lacks = Arc::default();
    }

    /// What lies before where it is told next was passed, perhaps, and is found up to a seq.
    pub(super) fn doubt(&mut self, seq: u64) {
        self.doubted = self.doubted.max(seq);
    }

    /// Whether something that lies behind a seq was passed before, perhaps.
    pub(super) fn doubts(&self, seq: u64) -> bool {
        seq < self.doubted
    }

    /// It has taken in this node's feed up to a seq, but for what it lacks of that.
    pub(super) fn acknowledge(&mut self, seq: u64, lacks: &[DocumentId]) {
        self.acknowledged = self.acknowledged.max(seq);
        if LACKS_MAX < self.lacks.len().saturating_add(lacks.len()) {
            // Then of all of it nothing is known.
            self.since = self.acknowledged;
            self.lacks = Arc::default();
        } else {
            Arc::make_mut(&mut self.lacks).extend(lacks.iter().map(|id| (*id, seq)));
        }
    }

    /// It asks for this node's feed. Gives whether it did before.
    pub(super) fn ask(&mut self) -> bool {
        self.asked.replace(Instant::now()).is_some()
    }

    /// Takes note of whether the last push to it was taken. Gives whether that is news.
    pub(super) fn link(&mut self, linked: bool) -> bool {
        self.asked = self.asked.filter(|_| !linked);
        std::mem::replace(&mut self.linked, linked) != linked
    }

    /// Both summed up to the same, with all that was committed here up to a seq.
    pub(super) fn set_equal(&mut self, seq: u64) {
        self.equal = self.equal.max(seq);
        Arc::make_mut(&mut self.lacks).retain(|_, at| seq < *at);
    }

    /// Whether it holds a document as it was committed last, with a change of this node's `own`.
    ///
    /// What others made is not told to who is thought to hear it from them.
    pub(super) fn has(&self, id: DocumentId, seq: u64, own: bool) -> bool {
        let sure = self.doubted <= self.acknowledged;
        let told = self.since < seq && seq <= self.acknowledged && !self.lacks.contains_key(&id);
        (own && sure && told) || seq <= self.equal
    }

    /// Whether one of both is being told all that the other holds.
    pub(super) fn is_copied(&self) -> bool {
        let heard = self.cursor.map_or(0, |cursor| cursor.seq);
        self.acknowledged < self.told_whole || heard < self.tells_whole
    }

    /// Whether it hears what is written here: it is pushed to, or asks for the feed.
    pub(super) fn hears(&self) -> bool {
        let asks = self.asked.is_some_and(|asked| asked.elapsed() < ASKS_TIME);
        (self.linked || asks) && self.hello.takes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        ident::{IncarnationId, NodeId},
        sync::{Beat, Cell, SetId},
    };
    use std::collections::BTreeSet;

    /// What a node says of itself, at a start.
    pub(in crate::node) fn hello(incarnation: u8) -> Hello {
        let (root, set) = (Cell::default(), SetId(0));
        Hello {
            node: NodeId::from_bytes([1; 16]),
            incarnation: IncarnationId::from_bytes([incarnation; 16]),
            key: 0,
            scope: Scope::All,
            sends: true,
            takes: true,
            links: Vec::new(),
            documents: 0,
            beat: Beat { seq: 0, cursor: None, told: 0, set, root, state: 0 },
        }
    }

    #[test]
    fn a_member_is_known_to_hold_what_it_was_told_or_what_both_summed_up() {
        let mut member = Member::new(hello(1), &Scope::All, None);
        let [one, two] = [1, 2].map(|byte| DocumentId::from_bytes([byte; 16]));
        // The feed is told from 10 on; what lies before is left to the sketch.
        member.tell_from(10, 0);
        assert!(!member.has(one, 10, true));
        member.acknowledge(12, &[two]);
        let held =
            [(one, 10), (one, 12), (two, 12), (one, 13)].map(|(id, seq)| member.has(id, seq, true));
        assert_eq!(held, [false, true, false, false]);
        // Both summed up to the same, with all up to 11; and then up to 12.
        member.set_equal(11);
        let held = [(one, 10), (two, 11), (two, 12)].map(|(id, seq)| member.has(id, seq, true));
        assert_eq!(held, [true, true, false]);
        member.set_equal(12);
        member.acknowledge(20, &[]);
        assert!(member.has(two, 20, true));
        let many: Vec<DocumentId> =
            (0..=LACKS_MAX as u128).map(|n| DocumentId::from_bytes(n.to_be_bytes())).collect();
        member.acknowledge(30, &many);
        assert_eq!([30, 12, 13].map(|seq| member.has(one, seq, true)), [false, true, false]);
        // Something was passed, perhaps, until all is told behind which it may lie.
        member.doubt(42);
        member.acknowledge(41, &[]);
        assert_eq!([true, false], [41, 42].map(|seq| member.doubts(seq)));
        assert!(!member.has(one, 41, true));
        member.acknowledge(42, &[]);
        assert!(member.has(one, 41, true));
        // Started again, it may be a backup.
        let member = member.greeted(hello(2), &Scope::All);
        assert_eq!([10, 12, 1].map(|seq| member.has(one, seq, true)), [false; 3]);
    }

    #[test]
    fn what_others_made_or_what_was_told_before_more_is_shared_is_not_known_to_be_held() {
        let all = Member::new(hello(1), &Scope::All, None);
        let mut member = Member { scope: Scope::Some(BTreeSet::from([7])), ..all };
        let one = DocumentId::from_bytes([1; 16]);
        member.tell_from(5, 0);
        member.acknowledge(10, &[]);
        assert_eq!([true, false].map(|own| member.has(one, 10, own)), [true, false]);
        member.set_equal(9);
        assert_eq!([9, 10].map(|seq| member.has(one, seq, false)), [true, false]);
        let mut member = member.greeted(hello(1), &Scope::All);
        assert_eq!([9, 10].map(|seq| member.has(one, seq, true)), [false; 2]);
        assert!(!member.has(one, 11, true));
        member.acknowledge(11, &[]);
        assert!(member.has(one, 11, true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_pushed_to_or_has_asked_of_late_hears_what_is_written() {
        let mut member = Member::new(hello(1), &Scope::All, None);
        assert!(!member.hears());
        assert_eq!([true, true, false].map(|linked| member.link(linked)), [true, false, true]);
        assert!(!member.hears());
        assert_eq!([member.ask(), member.ask(), member.hears()], [false, true, true]);
        tokio::time::advance(ASKS_TIME).await;
        assert!(!member.hears());
        member.ask();
        assert!(!member.greeted(hello(2), &Scope::All).hears(), "a new start has not asked");
        // Who is pushed to asks no more, even if the push ends.
        member.link(true);
        assert!(member.hears());
        member.link(false);
        assert!(!member.hears());
    }
}
