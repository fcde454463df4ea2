//! What is configured of single collections.

use super::failure::Failure;
use crate::ident::Collection;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Settings by the names of collections.
pub(crate) type Collections = BTreeMap<String, Settings>;

/// What is configured of one collection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// What strings become that REST writes where none stands.
    #[serde(default)]
    strings: Strings,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strings {
    #[default]
    Value,
    Text,
}

/// The collections whose new strings are texts.
pub(crate) fn texts(collections: &Collections) -> Result<BTreeSet<Collection>, Failure> {
    let mut texts = BTreeSet::new();
    for (name, settings) in collections {
        let wrong = |error| Failure::Usage(format!("`collection.{name}`: {error}"));
        let collection = name.parse().map_err(wrong)?;
        if settings.strings == Strings::Text {
            texts.insert(collection);
        }
    }
    Ok(texts)
}
