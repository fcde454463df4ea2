//! What was written, on its way to another node along the order of its sender's feed.
//!
//! ```text
//! message    format (1), kind (1), and
//! 13 batch   from (u64), to (u64), begins (flag), end (flag), whole until (u64), made: parcels,
//!            relayed: parcels, offers: list of id (16), fingerprint (u64)
//! 14 taken   acknowledged (u64), window (u32), wants: list of id (16), version; lacks: list of id
//! 15 pull    option of cursor: incarnation (16), seq (u64); whole until (u64); wait in milliseconds (u32);
//!            option of taken (u64), lacks: list of id
//! ```

use super::{
    codec::{DecodeError, Reader, Writer},
    repair::{Parcel, read_parcels, write_parcels},
};
use crate::ident::{Cursor, DocumentId, Version};

/// A document at a version that its sender holds, without the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The document.
    pub id: DocumentId,
    /// The fingerprint of the version.
    pub fingerprint: u64,
}

/// A stretch of a node's feed, as it is told to one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Behind this seq of the sender's.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
    /// Whatever the receiver knows: what lies before `from` is left to the sketch.
    pub begins: bool,
    /// Whether nothing lies behind it now.
    pub end: bool,
    /// Up to here documents go whole, since the receiver holds next to nothing.
    pub whole_until: u64,
    /// Changes that were made at the sender.
    pub made: Vec<Parcel>,
    /// Changes that were made elsewhere.
    pub relayed: Vec<Parcel>,
    /// What else was committed, in case the receiver lacks it.
    pub offers: Vec<Offer>,
}

/// Changes of a document that the receiver of an offer lacks: all that this version has not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The document.
    pub id: DocumentId,
    /// What is held of it.
    pub seen: Version,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// All of the sender's feed up to here is durable, but for what it `lacks`.
    pub acknowledged: u64,
    /// Bytes of changes that the next batch may hold.
    pub window: u32,
    /// What is wanted of what was offered.
    pub wants: Vec<Want>,
    /// Documents of which not all has become part that came: it was refused, or waits for what it rests on.
    pub lacks: Vec<DocumentId>,
}

/// What was written since?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Where to go on; none: wherever the sender thinks best.
    pub after: Option<Cursor>,
    /// What the batch before said of that: with it a first copy goes on where it stopped.
    pub whole_until: u64,
    /// How long to wait for something, in milliseconds.
    pub wait_ms: u32,
    /// Up to where all that was told since the first question is held durably; none: nothing that is known.
    pub taken: Option<u64>,
    /// But for these documents, of what was told since the last question.
    pub lacks: Vec<DocumentId>,
}

impl Batch {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(13);
        writer.u64(self.from);
        writer.u64(self.to);
        writer.flag(self.begins);
        writer.flag(self.end);
        writer.u64(self.whole_until);
        write_parcels(&mut writer, &self.made);
        write_parcels(&mut writer, &self.relayed);
        writer.list(&self.offers, |writer, offer| {
            writer.id(offer.id);
            writer.u64(offer.fingerprint);
        });
        writer.end()
    }

    /// The batch that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 13)?;
        let batch = Self {
            from: reader.u64()?,
            to: reader.u64()?,
            begins: reader.flag()?,
            end: reader.flag()?,
            whole_until: reader.u64()?,
            made: read_parcels(&mut reader)?,
            relayed: read_parcels(&mut reader)?,
            offers: reader
                .list(24, |reader| Ok(Offer { id: reader.id()?, fingerprint: reader.u64()? }))?,
        };
        reader.end(batch)
    }

    /// Whether it tells of no document.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty() && self.relayed.is_empty() && self.offers.is_empty()
    }
}

impl Taken {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(14);
        writer.u64(self.acknowledged);
        writer.u32(self.window);
        writer.list(&self.wants, |writer, want| {
            writer.id(want.id);
            writer.version(&want.seen);
        });
        writer.list(&self.lacks, |writer, id| writer.id(*id));
        writer.end()
    }

    /// The answer that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 14)?;
        let taken = Self {
            acknowledged: reader.u64()?,
            window: reader.u32()?,
            wants: reader
                .list(20, |reader| Ok(Want { id: reader.id()?, seen: reader.version()? }))?,
            lacks: reader.list(16, Reader::id)?,
        };
        reader.end(taken)
    }
}

impl Pull {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(15);
        writer.option(self.after, Writer::cursor);
        writer.u64(self.whole_until);
        writer.u32(self.wait_ms);
        writer.option(self.taken, Writer::u64);
        writer.list(&self.lacks, |writer, id| writer.id(*id));
        writer.end()
    }

    /// The question that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 15)?;
        let pull = Self {
            after: reader.option(Reader::cursor)?,
            whole_until: reader.u64()?,
            wait_ms: reader.u32()?,
            taken: reader.option(Reader::u64)?,
            lacks: reader.list(16, Reader::id)?,
        };
        reader.end(pull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::{Hash, IncarnationId, Name};

    fn id(byte: u8) -> DocumentId {
        DocumentId::from_bytes([byte; 16])
    }

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let name = Name::new("n".parse().unwrap(), "k".parse().unwrap()).unwrap();
        let version: Version = [Hash::from_bytes([3; 32])].into_iter().collect();
        let parcel = Parcel { name, version: version.clone(), changes: vec![9] };
        let parcels = [
            &[1, 0, 0, 0, 1, 0, 0, 0, b'n', 1, 0, 0, 0, b'k', 1, 0, 0, 0][..],
            &[3; 32],
            &[1, 0, 0, 0, 9],
        ]
        .concat();
        let batch = Batch {
            from: 4,
            to: 5,
            begins: true,
            end: false,
            whole_until: 8,
            made: vec![parcel.clone()],
            relayed: Vec::new(),
            offers: vec![Offer { id: id(6), fingerprint: 7 }],
        };
        let golden = [
            &[1, 13, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0][..],
            &[8, 0, 0, 0, 0, 0, 0, 0],
            &parcels,
            &[0, 0, 0, 0, 1, 0, 0, 0],
            &[6; 16],
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(batch.encode(), golden);
        assert_eq!(Batch::decode(&golden), Ok(batch));
        for length in 0..golden.len() {
            assert_eq!(Batch::decode(&golden[..length]), Err(DecodeError::Short), "{length}");
        }
        let wants = vec![Want { id: id(6), seen: version }];
        let taken = Taken { acknowledged: 8, window: 9, wants, lacks: vec![id(5)] };
        let golden = [
            &[1, 14, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0][..],
            &[6; 16],
            &[1, 0, 0, 0],
            &[3; 32],
            &[1, 0, 0, 0],
            &[5; 16],
        ]
        .concat();
        assert_eq!(taken.encode(), golden);
        assert_eq!(Taken::decode(&golden), Ok(taken));
        let cursor = Cursor { incarnation: IncarnationId::from_bytes([2; 16]), seq: 3 };
        let pull = Pull {
            after: Some(cursor),
            whole_until: 5,
            wait_ms: 4,
            taken: Some(6),
            lacks: vec![id(7)],
        };
        let golden = [
            &[1, 15, 1][..],
            &[2; 16],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0],
            &[4, 0, 0, 0],
            &[1, 6, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0],
            &[7; 16],
        ]
        .concat();
        assert_eq!(pull.encode(), golden);
        assert_eq!(Pull::decode(&golden), Ok(pull));
    }
}
