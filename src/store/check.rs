//! Checking: what is wrong with the rows of a store, taken one by one and together.
//!
//! Whether chunks make the document that its head tells of is for the room that knows documents;
//! it is handed each of them on the way.

use super::{
    engine::Engine,
    error::{Damaged, ReadError},
    frame,
    key::{self, Family},
    read::Store,
    row::{FeedRow, Head, View},
    walk::{Gap, walk},
};
use crate::ident::{DocumentId, Name};
use std::{cell::RefCell, fmt, ops::ControlFlow};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where: a family and a row, or a document.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.what)
    }
}

/// How many rows were read, and documents found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Documents, deleted ones too.
    pub documents: u64,
    /// Documents whose damaged bytes are kept aside.
    pub quarantined: u64,
    /// Rows of all families.
    pub rows: u64,
}

/// What a check calls.
pub struct Listener<'a> {
    /// With everything that is wrong, as it is found.
    pub found: &'a mut dyn FnMut(Finding),
    /// With each document whose chunks have to be checked, by whoever knows documents.
    pub document: &'a mut dyn FnMut(Name, Head),
    /// With the count so far, now and then.
    pub progress: &'a mut dyn FnMut(Checked),
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Listener").finish_non_exhaustive()
    }
}

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;

impl Store {
    /// Reads every row, and checks that it is whole and fits the others. Streams; what is held in
    /// memory grows with what is wrong, and with nothing else.
    pub fn check<'a>(&'a self, listener: Listener<'a>) -> Checked {
        let check = Check {
            store: self,
            engine: &*self.engine,
            listener: RefCell::new(listener),
            checked: RefCell::new(Checked::default()),
            gaps: RefCell::new(Vec::new()),
        };
        check.heads();
        check.feed();
        check.views();
        check.chunks();
        check.rest(Family::Orphan);
        check.rest(Family::Kept);
        check.sys();
        check.checked.into_inner()
    }
}

struct Check<'a> {
    store: &'a Store,
    engine: &'a dyn Engine,
    listener: RefCell<Listener<'a>>,
    checked: RefCell<Checked>,
    /// What of the heads could not be walked over: from behind one id to another.
    gaps: RefCell<Vec<(Option<DocumentId>, Option<DocumentId>)>>,
}

impl Check<'_> {
    fn found(&self, place: impl fmt::Display, what: impl fmt::Display) {
        let finding = Finding { place: place.to_string(), what: what.to_string() };
        (self.listener.borrow_mut().found)(finding);
    }

    fn counted(&self) {
        let mut checked = self.checked.borrow_mut();
        checked.rows += 1;
        if checked.rows.is_multiple_of(PROGRESS_ROWS) {
            (self.listener.borrow_mut().progress)(*checked);
        }
    }

    /// Walks over a family, and tells of what cannot be read.
    fn walk(&self, family: Family, visit: &mut dyn FnMut(&[u8], &[u8])) {
        let mut row = |key: &[u8], value: &[u8]| {
            self.counted();
            visit(key, value);
            ControlFlow::Continue(())
        };
        walk(self.engine, family, &mut row, &mut |Gap { after, why }| {
            let behind = after.map_or_else(|| "the start".to_owned(), |key| place(family, &key));
            self.found(format_args!("{}, behind {behind}", family.name()), why);
        });
    }

    fn heads(&self) {
        // After a gap the first id tells how far it went.
        let mut last = None;
        let mut row = |key: &[u8], value: &[u8]| {
            self.counted();
            let Some(id) = key::decode_head(key) else {
                self.found(place(Family::Head, key), "the key is none");
                return ControlFlow::Continue(());
            };
            if let Some(gap) = self.gaps.borrow_mut().last_mut()
                && gap.1.is_none()
            {
                gap.1 = Some(id);
            }
            last = Some(id);
            self.head(id, Head::decode(key, value));
            ControlFlow::Continue(())
        };
        walk(self.engine, Family::Head, &mut row, &mut |Gap { after, why }| {
            let after = after.and_then(|key| key::decode_head(&key));
            let behind = after.map_or_else(|| "the start".to_owned(), |id| id.to_string());
            self.found(format_args!("head, behind {behind}"), why);
            self.gaps.borrow_mut().push((after, None));
        });
    }

    fn head(&self, id: DocumentId, head: Result<Head, Damaged>) {
        let named = head.and_then(|head| {
            let name = self.store.name(id, head.collection, &head.key)?;
            Ok((name, head))
        });
        match named {
            Ok((name, head)) => self.document(name, head),
            Err(why) => self.found(format_args!("head {id}"), why),
        }
    }

    /// A document whose head is well: its feed row, its view, and its chunks in other hands.
    fn document(&self, name: Name, head: Head) {
        self.checked.borrow_mut().documents += 1;
        let at = format!("{}/{}", name.collection(), name.key());
        match self.feed_row(head.seq) {
            Ok(Some(row)) if is_of(&row, name.id(), &head) => {}
            Ok(Some(_)) => self.found(&at, "its feed row is that of something else"),
            Ok(None) => self.found(&at, format_args!("the feed has no row at {}", head.seq)),
            Err(why) => self.found(&at, format_args!("its feed row: {why}")),
        }
        if head.quarantined {
            self.checked.borrow_mut().quarantined += 1;
            return;
        }
        match self.store.view(&name) {
            Ok(None) if head.deleted => {}
            Ok(None) => self.found(&at, "it has no view"),
            Ok(Some(_)) if head.deleted => self.found(&at, "it is deleted, and has a view"),
            Ok(Some(View { version, json, .. })) => {
                if version != head.version {
                    self.found(&at, "its view is of another version");
                }
                if json.is_none() != head.view_stale {
                    self.found(&at, "its head and its view tell apart whether the view is made");
                }
            }
            Err(why) => self.found(&at, format_args!("its view: {why}")),
        }
        (self.listener.borrow_mut().document)(name, head);
    }

    fn feed_row(&self, seq: u64) -> Result<Option<FeedRow>, ReadError> {
        let key = key::encode_feed(seq);
        let value = self.engine.get(Family::Feed, &key)?;
        let row = value.map(|value| FeedRow::decode(&key, &value)).transpose();
        row.map_err(|why| ReadError::Damaged(why.to_string()))
    }

    fn feed(&self) {
        self.walk(Family::Feed, &mut |key, value| {
            let at = place(Family::Feed, key);
            let Some(seq) = key::decode_feed(key) else { return self.found(at, "the key is none") };
            match FeedRow::decode(key, value) {
                // What a readable head has to say of it was said there.
                Err(why) => self.found(at, why),
                Ok(row) => match self.store.head(row.id) {
                    Ok(Some((name, head))) if head.seq == seq => {
                        if self.is_in_a_gap(row.id) {
                            self.document(name, head);
                        }
                    }
                    Ok(Some(_)) => self.found(at, "its document's last commit is another"),
                    Ok(None) => self.found(at, format_args!("there is no head of {}", row.id)),
                    Err(why) => self.found(at, why),
                },
            }
        });
    }

    /// Whether the walk over the heads leapt over this one.
    fn is_in_a_gap(&self, id: DocumentId) -> bool {
        let inside = |(after, before): &(Option<DocumentId>, Option<DocumentId>)| {
            after.is_none_or(|after| after < id) && before.is_none_or(|before| id < before)
        };
        self.gaps.borrow().iter().any(inside)
    }

    fn views(&self) {
        self.walk(Family::View, &mut |key, value| {
            let at = place(Family::View, key);
            let name = key::decode_view(key).and_then(|(collection, key)| {
                Name::new(self.store.catalog.name(collection)?, key).ok()
            });
            let Some(name) = name else { return self.found(at, "its key names no document") };
            match self.store.head(name.id()) {
                Ok(Some((there, _))) if there == name => {}
                Ok(_) => self.found(&at, "there is no head of its document"),
                // Told already.
                Err(_) => {}
            }
            if let Err(why) = View::borrow(key, value) {
                self.found(at, why);
            }
        });
    }

    fn chunks(&self) {
        let mut last = None;
        self.walk(Family::Chunk, &mut |key, value| {
            let at = place(Family::Chunk, key);
            let Some((id, _)) = key::decode_chunk(key) else {
                return self.found(at, "the key is none");
            };
            if last != Some(id) {
                last = Some(id);
                if let Ok(None) = self.engine.get(Family::Head, &key::encode_head(id)) {
                    self.found(&at, "there is no head of its document");
                }
            }
            if let Err(why) = frame::verify(key, value) {
                self.found(at, why);
            }
        });
    }

    /// A family of which only the frames are known here.
    fn rest(&self, family: Family) {
        self.walk(family, &mut |key, value| {
            if let Err(why) = frame::verify(key, value) {
                self.found(place(family, key), why);
            }
        });
    }

    /// Opening read and checked what of these rows it knows.
    fn sys(&self) {
        self.rest(Family::Sys);
        self.walk(Family::Sys, &mut |key, _| {
            if key::decode_sys(key).is_none() {
                self.found(place(Family::Sys, key), "nobody knows this row");
            }
        });
        let starts = self.store.incarnations.iter().map(|start| start.start_seq);
        if !starts.is_sorted() {
            self.found("sys", "an incarnation begins before the one before it");
        }
    }
}

/// Whether a feed row is the one of which a head tells.
fn is_of(row: &FeedRow, id: DocumentId, head: &Head) -> bool {
    let of_head = (id, head.collection, &head.key, &head.version, head.deleted, head.own_seq);
    of_head == (row.id, row.collection, &row.key, &row.version, row.deleted, row.own_seq)
}

/// A row, as people read it.
pub(super) fn place(family: Family, key: &[u8]) -> String {
    let text = match family {
        Family::View => key::decode_view(key).map(|(id, key)| format!("{key} of collection {id}")),
        Family::Head => key::decode_head(key).map(|id| id.to_string()),
        Family::Chunk => key::decode_chunk(key).map(|(id, at)| format!("{id} {}.{}", at.seq, at.n)),
        Family::Feed => key::decode_feed(key).map(|seq| seq.to_string()),
        Family::Orphan => key::decode_orphan(key).map(|(id, hash)| format!("{id} {hash}")),
        Family::Kept => None,
        Family::Sys => std::str::from_utf8(key).ok().map(str::to_owned),
    };
    let text = text.unwrap_or_else(|| key.iter().map(|byte| format!("{byte:02x}")).collect());
    format!("{} {text}", family.name())
}
