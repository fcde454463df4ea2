//! What clients of one node say to those of another, and nobody keeps: each is a message of the clients'
//! protocol, and may be lost.
//!
//! ```text
//! message   format (1), kind (1), and
//! 19 ask    option of u64: behind what the asker wants to hear, said
//! 20 told   u64: behind what to ask next, said
//! said      list of bytes
//! ```

use super::codec::{DecodeError, Reader, Writer};

/// Most that is said in one message.
pub const SAID_MAX: usize = 256;

/// A node says what its clients said, or asks what those of the other did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overhear {
    /// Behind what the asker wants to hear, as it was told last. `None`: from now on.
    pub since: Option<u64>,
    /// What was said.
    pub said: Vec<Vec<u8>>,
}

/// What the other node's clients said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overheard {
    /// Behind what to ask next.
    pub next: u64,
    /// What was said.
    pub said: Vec<Vec<u8>>,
}

impl Overhear {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(19);
        writer.flag(self.since.is_some());
        self.since.into_iter().for_each(|since| writer.u64(since));
        write(&mut writer, &self.said);
        writer.end()
    }

    /// The message that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 19)?;
        let since = if reader.flag()? { Some(reader.u64()?) } else { None };
        let said = read(&mut reader)?;
        reader.end(Self { since, said })
    }
}

impl Overheard {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(20);
        writer.u64(self.next);
        write(&mut writer, &self.said);
        writer.end()
    }

    /// The message that was encoded so.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::of(bytes, 20)?;
        let (next, said) = (reader.u64()?, read(&mut reader)?);
        reader.end(Self { next, said })
    }
}

fn write(writer: &mut Writer, said: &[Vec<u8>]) {
    writer.list(said, |writer, one| writer.bytes(one));
}

fn read(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, DecodeError> {
    reader.short_list(4, SAID_MAX, |reader| Ok(reader.bytes()?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: what nodes of other releases have to understand.
    #[test]
    fn messages_are_these_bytes() {
        let ask = Overhear { since: Some(5), said: vec![vec![7]] };
        let bytes = [1, 19, 1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];
        assert_eq!(ask.encode(), bytes);
        assert_eq!(Overhear::decode(&bytes), Ok(ask));
        let ask = Overhear { since: None, said: Vec::new() };
        assert_eq!(ask.encode(), [1, 19, 0, 0, 0, 0, 0]);
        assert_eq!(Overhear::decode(&ask.encode()), Ok(ask));
        let told = Overheard { next: 9, said: vec![Vec::new()] };
        let bytes = [1, 20, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(told.encode(), bytes);
        assert_eq!(Overheard::decode(&bytes), Ok(told));
        let many = Overheard { next: 0, said: vec![Vec::new(); SAID_MAX + 1] };
        assert_eq!(Overheard::decode(&many.encode()), Err(DecodeError::Many));
    }
}
