//! Who is there: what a node says of itself when it meets another, and every few seconds after that.
//!
//! ```text
//! message  format (1), kind (1), and
//! 11 hello node (16), incarnation (16), key id (u64), scope, sends (flag), takes (flag),
//!          links: list of (node, scope), documents (u64), beat;
//!          at most LINKS_MAX links and LINK_COLLECTIONS_MAX collections in these
//! 12 beat  beat
//! beat     seq (u64), option of cursor: incarnation (16), seq (u64); told (u64), set (u64), cell 0, state (u64)
//! scope    option of list of u64
//! option   flag, and it
//! flag     0 or 1 (1)
//! ```

use super::{
    codec::{DecodeError, Reader, Writer},
    message::SetId,
    scope::Scope,
    sketch::Cell,
};
use crate::ident::{Cursor, IncarnationId, NodeId};

/// Most links of a node of which it tells. Of what it leaves out, others offer what they have twice.
pub const LINKS_MAX: usize = 1024;

/// Most collections in all of these links.
pub const LINK_COLLECTIONS_MAX: usize = 1 << 16;

/// A node to which another pushes what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// To whom.
    pub node: NodeId,
    /// Of which collections.
    pub scope: Scope,
}

impl Link {
    /// As many of these links, in order, as a hello may hold.
    pub fn told(links: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut collections = 0;
        let fits = |link: &Self| {
            collections += link.scope.count();
            collections <= LINK_COLLECTIONS_MAX
        };
        links.into_iter().take(LINKS_MAX).take_while(fits).collect()
    }
}

/// What a node says of itself to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The node.
    pub node: NodeId,
    /// This start of it.
    pub incarnation: IncarnationId,
    /// The id of the keys under which it sums up.
    pub key: u64,
    /// What it would share with this peer.
    pub scope: Scope,
    /// Whether it pushes what is written here to this peer.
    pub sends: bool,
    /// Whether it takes what this peer has.
    pub takes: bool,
    /// To whom else it pushes.
    pub links: Vec<Link>,
    /// How many documents it holds of that scope, deleted ones too.
    pub documents: u64,
    /// How it stands.
    pub beat: Beat,
}

/// How a node stands towards one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The end of its feed.
    pub seq: u64,
    /// How far it has taken in the peer's feed.
    pub cursor: Option<Cursor>,
    /// Up to where all of its own feed that concerns the peer was acknowledged.
    pub told: u64,
    /// What both share.
    pub set: SetId,
    /// The sum of all that it holds of it.
    pub root: Cell,
    /// Changes when it would say another hello.
    pub state: u64,
}

impl Hello {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(11);
        writer.node(self.node);
        writer.incarnation(self.incarnation);
        writer.u64(self.key);
        self.scope.write(&mut writer);
        writer.flag(self.sends);
        writer.flag(self.takes);
        writer.list(&self.links, |writer, link| {
            writer.node(link.node);
            link.scope.write(writer);
        });
        writer.u64(self.documents);
        self.beat.write(&mut writer);
        writer.end()
    }

    /// The hello that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 11)?;
        let hello = Self {
            node: reader.node()?,
            incarnation: reader.incarnation()?,
            key: reader.u64()?,
            scope: Scope::read(&mut reader)?,
            sends: reader.flag()?,
            takes: reader.flag()?,
            links: read_links(&mut reader)?,
            documents: reader.u64()?,
            beat: Beat::read(&mut reader)?,
        };
        reader.end(hello)
    }
}

fn read_links(reader: &mut Reader<'_>) -> Result<Vec<Link>, DecodeError> {
    let mut collections = 0;
    reader.short_list(17, LINKS_MAX, |reader| {
        let link = Link { node: reader.node()?, scope: Scope::read(reader)? };
        collections += link.scope.count();
        if LINK_COLLECTIONS_MAX < collections { Err(DecodeError::Many) } else { Ok(link) }
    })
}

impl Beat {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(12);
        self.write(&mut writer);
        writer.end()
    }

    /// The beat that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 12)?;
        let beat = Self::read(&mut reader)?;
        reader.end(beat)
    }

    fn write(&self, writer: &mut Writer) {
        writer.u64(self.seq);
        writer.option(self.cursor, Writer::cursor);
        writer.u64(self.told);
        writer.u64(self.set.0);
        writer.cell(self.root);
        writer.u64(self.state);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seq: reader.u64()?,
            cursor: reader.option(Reader::cursor)?,
            told: reader.u64()?,
            set: SetId(reader.u64()?),
            root: reader.cell()?,
            state: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::COLLECTIONS_MAX;
    use std::collections::BTreeSet;

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let incarnation = IncarnationId::from_bytes([2; 16]);
        let root: Vec<u8> = (1..=20).collect();
        let beat = Beat {
            seq: 5,
            cursor: Some(Cursor { incarnation, seq: 6 }),
            told: 11,
            set: SetId(7),
            root: Cell::decode(root.clone().try_into().unwrap()),
            state: 8,
        };
        let tail = [
            &5u64.to_le_bytes()[..],
            &[1],
            &[2; 16],
            &6u64.to_le_bytes(),
            &11u64.to_le_bytes(),
            &7u64.to_le_bytes(),
            &root,
            &8u64.to_le_bytes(),
        ]
        .concat();
        assert_eq!(beat.encode(), [&[1, 12][..], &tail].concat());
        assert_eq!(Beat::decode(&beat.encode()), Ok(beat.clone()));
        assert!(beat.encode().len() < 150, "two of them are under 300 bytes");
        let scope = Scope::Some(BTreeSet::from([3, 4]));
        let hello = Hello {
            node: NodeId::from_bytes([1; 16]),
            incarnation,
            key: 9,
            scope: scope.clone(),
            sends: true,
            takes: false,
            links: vec![Link { node: NodeId::from_bytes([4; 16]), scope: Scope::All }],
            documents: 10,
            beat,
        };
        let golden = [
            &[1, 11][..],
            &[1; 16],
            &[2; 16],
            &9u64.to_le_bytes(),
            &[1, 2, 0, 0, 0],
            &3u64.to_le_bytes(),
            &4u64.to_le_bytes(),
            &[1, 0],
            &[1, 0, 0, 0],
            &[4; 16],
            &[0],
            &10u64.to_le_bytes(),
            &tail,
        ]
        .concat();
        assert_eq!(hello.encode(), golden);
        assert_eq!(Hello::decode(&golden), Ok(hello));
        for length in 0..golden.len() {
            assert_eq!(Hello::decode(&golden[..length]), Err(DecodeError::Short), "{length}");
        }
        let damaged = |at: usize, byte| {
            let mut damaged = golden.clone();
            damaged[at] = byte;
            Hello::decode(&damaged)
        };
        assert_eq!(damaged(42, 2), Err(DecodeError::Flag));
        assert_eq!(damaged(47, 9), Err(DecodeError::Scope), "collections are sorted");
        assert_eq!(damaged(46, 0xff), Err(DecodeError::Short), "a count that lies");
    }

    #[test]
    fn a_hello_lists_no_more_than_its_bounds_and_one_that_does_is_none() {
        let set = SetId(0);
        let beat = Beat { seq: 0, cursor: None, told: 0, set, root: Cell::default(), state: 0 };
        let hello = |links: Vec<Link>, scope| Hello {
            node: NodeId::from_bytes([1; 16]),
            incarnation: IncarnationId::from_bytes([2; 16]),
            key: 0,
            scope,
            sends: true,
            takes: true,
            links,
            documents: 0,
            beat: beat.clone(),
        };
        let some = |count: usize| Scope::Some((0..count as u64).collect());
        let link = |scope| Link { node: NodeId::from_bytes([4; 16]), scope };
        let links = |count, scope| vec![link(scope); count];
        let wide = COLLECTIONS_MAX;
        let wide_links = LINK_COLLECTIONS_MAX / wide;
        for (hello, fine) in [
            (hello(links(LINKS_MAX, Scope::All), Scope::All), true),
            (hello(links(LINKS_MAX + 1, Scope::All), Scope::All), false),
            (hello(vec![], some(wide)), true),
            (hello(vec![], some(wide + 1)), false),
            (hello(links(wide_links, some(wide)), Scope::All), true),
            (hello(links(wide_links + 1, some(wide)), Scope::All), false),
        ] {
            let decoded = Hello::decode(&hello.encode());
            assert_eq!(decoded, if fine { Ok(hello) } else { Err(DecodeError::Many) });
        }
        assert_eq!(Link::told(links(LINKS_MAX + 9, Scope::All)).len(), LINKS_MAX);
        assert_eq!(Link::told(links(wide_links + 9, some(wide))).len(), wide_links);
    }
}
