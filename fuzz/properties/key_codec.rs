//! Keys: what is encoded is decoded, the order of bytes is the order of meaning, and bytes that no
//! encoder makes are no key.

use arbitrary::{Result, Unstructured};
use std::fmt::Debug;
use tombolo::{
    ident::{Collection, DocumentId, Hash, Key},
    store::key::{self, ChunkAt, SysKey},
};

/// Holds for all data, or panics.
pub fn property(data: &[u8]) {
    // Too little data ends the run early.
    let _ = pairs(&mut Unstructured::new(data));
    strange(data);
}

/// Two keys of each family, often alike.
fn pairs(input: &mut Unstructured<'_>) -> Result<()> {
    let (a, b) = (view(input)?, view(input)?);
    ordered(&a, &b, |(collection, key)| key::encode_view(*collection, key), key::decode_view);
    let (a, b) = (id(input)?, id(input)?);
    ordered(&a, &b, |id| key::encode_head(*id).to_vec(), key::decode_head);
    let (a, b) = ((id(input)?, at(input)?), (id(input)?, at(input)?));
    ordered(&a, &b, |(id, at)| key::encode_chunk(*id, *at).to_vec(), key::decode_chunk);
    let (a, b) = (number(input)?, number(input)?);
    ordered(&a, &b, |seq| key::encode_feed(*seq).to_vec(), key::decode_feed);
    let (a, b) = ((id(input)?, hash(input)?), (id(input)?, hash(input)?));
    ordered(&a, &b, |(id, change)| key::encode_orphan(*id, *change).to_vec(), key::decode_orphan);
    let (a, b): ((u8, Vec<u8>), (u8, Vec<u8>)) = (input.arbitrary()?, input.arbitrary()?);
    let decode = |bytes: &[u8]| key::decode_kept(bytes).map(|(kind, name)| (kind, name.to_vec()));
    ordered(&a, &b, |(kind, name)| key::encode_kept(*kind, name), decode);
    let (a, b) = (sys(input)?, sys(input)?);
    ordered(&a, &b, key::encode_sys, key::decode_sys);
    Ok(())
}

fn ordered<K: Ord + Debug>(
    a: &K,
    b: &K,
    encode: impl Fn(&K) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Option<K>,
) {
    for key in [a, b] {
        assert_eq!(decode(&encode(key)).as_ref(), Some(key));
    }
    assert_eq!(encode(a).cmp(&encode(b)), a.cmp(b), "{a:?} and {b:?}");
}

/// Whatever the bytes are, they are decoded to what encodes to them, or to nothing.
fn strange(bytes: &[u8]) {
    if let Some((collection, key)) = key::decode_view(bytes) {
        assert_eq!(key::encode_view(collection, &key), bytes);
    }
    if let Some(id) = key::decode_head(bytes) {
        assert_eq!(key::encode_head(id), bytes);
    }
    if let Some((id, at)) = key::decode_chunk(bytes) {
        assert_eq!(key::encode_chunk(id, at), bytes);
    }
    if let Some(seq) = key::decode_feed(bytes) {
        assert_eq!(key::encode_feed(seq), bytes);
    }
    if let Some((id, change)) = key::decode_orphan(bytes) {
        assert_eq!(key::encode_orphan(id, change), bytes);
    }
    if let Some((kind, name)) = key::decode_kept(bytes) {
        assert_eq!(key::encode_kept(kind, name), bytes);
    }
    if let Some(key) = key::decode_sys(bytes) {
        assert_eq!(key::encode_sys(&key), bytes);
    }
}

fn view(input: &mut Unstructured<'_>) -> Result<(u32, Key)> {
    let text: String = match input.int_in_range(0..=3)? {
        0 => input.arbitrary()?,
        _ => (*input.choose(&["a", "ab", "b", "a\u{10ffff}", "é", "~"])?).into(),
    };
    // Where the text is no key, any will do.
    let key = text.parse().unwrap_or_else(|_| "k".parse().unwrap());
    Ok((u32::try_from(number(input)?).unwrap_or(u32::MAX), key))
}

/// Numbers around every carry.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    let near = 1_u64 << input.int_in_range(0..=63)?;
    Ok(near.wrapping_add(input.int_in_range(0..=2)?).wrapping_sub(1))
}

fn id(input: &mut Unstructured<'_>) -> Result<DocumentId> {
    let mut bytes = [7; 16];
    bytes[input.int_in_range(0..=15)?] = input.arbitrary()?;
    Ok(DocumentId::from_bytes(bytes))
}

fn hash(input: &mut Unstructured<'_>) -> Result<Hash> {
    let mut bytes = [7; 32];
    bytes[input.int_in_range(0..=31)?] = input.arbitrary()?;
    Ok(Hash::from_bytes(bytes))
}

fn at(input: &mut Unstructured<'_>) -> Result<ChunkAt> {
    Ok(ChunkAt { seq: number(input)?, n: u32::try_from(number(input)?).unwrap_or(u32::MAX) })
}

fn sys(input: &mut Unstructured<'_>) -> Result<SysKey> {
    Ok(match input.int_in_range(0..=4)? {
        0 => {
            let name: &Collection = &input.choose(&["a", "a-b", "a_b", "z"])?.parse().unwrap();
            SysKey::Collection(name.clone())
        }
        1 => SysKey::Format,
        2 => SysKey::Incarnation(u32::try_from(number(input)?).unwrap_or(u32::MAX)),
        3 => SysKey::Peer(input.choose(&["a", "a:1", "a-b", "[::1]:1"])?.parse().unwrap()),
        _ => SysKey::Node,
    })
}
