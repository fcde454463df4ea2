//! What can be read of a document whose bytes are not all whole.

use super::{Actor, Document};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Document {
    /// The document that is left of stored chunks, in stored order, of which some may be damaged or
    /// missing; and how many of these chunks it is without. Changes that rest on what is missing are
    /// among those.
    pub fn salvage(chunks: &[impl AsRef<[u8]>], actor: Actor) -> (Self, usize) {
        let bytes = |chunk| AsRef::<[u8]>::as_ref(chunk);
        if let Some(whole) = guarded(|| Self::recover(chunks.iter().map(bytes), actor).ok()) {
            return (whole, 0);
        }
        let (document, left_out) = Self::new(actor).regain(chunks, actor);
        (document, left_out.len())
    }

    /// The document with whatever can be had of these chunks as well, in whatever order that is, and the
    /// places of those of which nothing could be had.
    pub fn regain(self, chunks: &[impl AsRef<[u8]>], actor: Actor) -> (Self, Vec<usize>) {
        let mut document = self;
        let mut open: Vec<usize> = (0..chunks.len()).collect();
        loop {
            let before = open.len();
            open.retain(|place| {
                let taken = guarded(|| document.with(chunks[*place].as_ref(), actor));
                let is_taken = taken.is_some();
                document = taken.unwrap_or_else(|| document.clone());
                !is_taken
            });
            if open.len() == before {
                return (document, open);
            }
        }
    }

    /// The document with one more chunk, if that is to be had.
    fn with(&self, chunk: &[u8], actor: Actor) -> Option<Self> {
        if self.version().is_empty()
            && let Ok(whole) = Self::recover([chunk], actor)
            && !whole.version().is_empty()
        {
            return Some(whole);
        }
        let mut more = self.clone();
        more.merge([chunk]).ok()?;
        Some(more)
    }
}

fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Edit, Form, Limits, Stamp, parse};

    fn chunks() -> Vec<Vec<u8>> {
        let mut document = Document::new(Actor([1; 16]));
        (0..4)
            .map(|n| {
                let json = format!(r#"{{"k{n}":{n}}}"#);
                let value = parse(json.as_bytes(), Form::Plain, &Limits::default()).unwrap();
                let edit = Edit::MergePatch(value);
                let delta = document.edit(&edit, None, &Stamp::default(), &Limits::default());
                let made = delta.unwrap().changes.concat();
                // The second chunk is a snapshot of all before it.
                if n == 1 { document.save() } else { made }
            })
            .collect()
    }

    fn json(document: &Document) -> String {
        let rendering = document.render(Form::Plain, None).unwrap();
        String::from_utf8(rendering.json.unwrap_or_default()).unwrap()
    }

    #[test]
    fn what_is_whole_is_left_and_what_rests_on_damage_is_not() {
        let actor = Actor([2; 16]);
        let whole = chunks().split_off(1);
        let (document, without) = Document::salvage(&whole, actor);
        assert_eq!((json(&document).as_str(), without), (r#"{"k0":0,"k1":1,"k2":2,"k3":3}"#, 0));

        for (damaged, left, lost) in
            [(2, r#"{"k0":0,"k1":1,"k2":2}"#, 1), (1, r#"{"k0":0,"k1":1}"#, 2), (0, "", 3)]
        {
            let mut chunks = whole.clone();
            chunks[damaged][9] ^= 1;
            let (document, without) = Document::salvage(&chunks, actor);
            assert_eq!((json(&document).as_str(), without), (left, lost), "{damaged}");
        }
        let none: [Vec<u8>; 0] = [];
        assert!(Document::salvage(&none, actor).0.version().is_empty());
    }
}
