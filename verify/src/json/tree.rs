//! Reads and writes JSON as a tree that keeps the order of keys and refuses what could be read in
//! two ways.
//!
//! `serde_json::Value` sorts keys on the way out and takes the last of two equal keys on the way
//! in. Here keys come out in the order of the format, and an object with a key twice is refused,
//! so that two readers cannot see two documents in one text.
//!
//! Invariants
//! - Every error names the path of what is wrong.
//! - Depth is bounded by `serde_json`, length by the caller of [`parse`].

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A JSON value; objects keep the order of their keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Flag(bool),
    /// An integer.
    Int(i128),
    /// A number that is no integer.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

/// Why JSON is refused: where, and what about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The path of the value: `fields.vat_breakdown[0].rate`; empty for the text as a whole.
    pub path: String,
    /// What is wrong, to be read after the path.
    pub reason: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the JSON text" } else { &self.path };
        write!(f, "{path} {}", self.reason)
    }
}

impl core::error::Error for JsonError {}

/// A result of reading JSON.
pub(crate) type Result<T> = core::result::Result<T, JsonError>;

/// An error at the value itself; callers add the path on the way out.
pub(crate) fn wrong<T>(reason: impl Into<String>) -> Result<T> {
    Err(JsonError { path: String::new(), reason: reason.into() })
}

impl JsonError {
    /// The same error, seen from the object that has the value under `key`.
    pub(crate) fn under(self, key: &str) -> JsonError {
        let path = match self.path.as_str() {
            "" => key.to_string(),
            inner if inner.starts_with('[') => alloc::format!("{key}{inner}"),
            inner => alloc::format!("{key}.{inner}"),
        };
        JsonError { path, ..self }
    }

    /// The same error, seen from the array that has the value at `index`.
    pub(crate) fn at(self, index: usize) -> JsonError {
        self.under(&alloc::format!("[{index}]"))
    }
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn parse(text: &str, limit: usize) -> Result<Json> {
    if text.len() > limit {
        return wrong(alloc::format!("has {} bytes, above {limit}", text.len()));
    }
    serde_json::from_str(text).or_else(|error| wrong(alloc::format!("does not parse: {error}")))
}

/// An object whose keys are all known.
pub(crate) struct Object<'a>(&'a [(String, Json)]);

impl<'a> Object<'a> {
    /// The value under a key, or an error that says it is missing.
    pub(crate) fn need<T>(&self, key: &str, read: impl FnOnce(&'a Json) -> Result<T>) -> Result<T> {
        match self.maybe(key, read)? {
            Some(value) => Ok(value),
            None => wrong("is missing").map_err(|error: JsonError| error.under(key)),
        }
    }

    /// The value under a key, where there is one.
    pub(crate) fn maybe<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Json) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.0.iter().find(|(name, _)| name == key) {
            None => Ok(None),
            Some((_, value)) => read(value).map(Some).map_err(|error| error.under(key)),
        }
    }

    /// Whether there is a value under a key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Whether `format` is this one.
    pub(crate) fn expect_format(&self, format: &str) -> Result<()> {
        self.need("format", |value| match value.text()? {
            found if found == format => Ok(()),
            found => wrong(alloc::format!("is {found:?}, not {format:?}")),
        })
    }
}

impl Json {
    /// A string.
    pub(crate) fn of(text: impl Into<String>) -> Json {
        Json::Text(text.into())
    }

    /// Bytes in hex.
    pub(crate) fn hex(bytes: &[u8]) -> Json {
        Json::Text(hex::encode(bytes))
    }

    /// An array of byte strings in hex.
    pub(crate) fn hexes<B: AsRef<[u8]>>(items: &[B]) -> Json {
        Json::List(items.iter().map(|item| Json::hex(item.as_ref())).collect())
    }

    /// The members of an object, known or not.
    pub(crate) fn members(&self) -> Result<&[(String, Json)]> {
        match self {
            Json::Object(members) => Ok(members),
            _ => wrong("must be an object"),
        }
    }

    /// An object that has no keys but these.
    pub(crate) fn object(&self, known: &[&str]) -> Result<Object<'_>> {
        let members = self.members()?;
        match members.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(Object(members)),
            Some((key, _)) => wrong(alloc::format!("is unknown here; known are {known:?}"))
                .map_err(|error: JsonError| error.under(key)),
        }
    }

    /// An array of at most `limit` items, each read by `read`.
    pub(crate) fn list<T>(&self, limit: u64, read: impl Fn(&Json) -> Result<T>) -> Result<Vec<T>> {
        let Json::List(items) = self else { return wrong("must be an array") };
        if items.len() as u64 > limit {
            return wrong(alloc::format!("has {} items, above {limit}", items.len()));
        }
        items.iter().enumerate().map(|(i, item)| read(item).map_err(|e| e.at(i))).collect()
    }

    /// A string.
    pub(crate) fn text(&self) -> Result<&str> {
        match self {
            Json::Text(text) => Ok(text),
            _ => wrong("must be a string"),
        }
    }

    /// An integer that fits.
    pub(crate) fn int<T: TryFrom<i128>>(&self) -> Result<T> {
        match self {
            Json::Int(n) => T::try_from(*n).or_else(|_| wrong("is out of range")),
            _ => wrong("must be an integer"),
        }
    }

    /// Bytes in lower-case hex.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let text = self.text()?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return wrong("must be lower-case hex");
        }
        hex::decode(text).or_else(|_| wrong("must be hex"))
    }

    /// A fixed number of bytes in lower-case hex.
    pub(crate) fn array<const N: usize>(&self) -> Result<[u8; N]> {
        let bytes = self.bytes()?;
        bytes.try_into().or_else(|_| wrong(alloc::format!("must be {N} bytes in hex")))
    }

    /// Indented text, for files that people open.
    pub fn pretty(&self) -> String {
        // Keys are strings and no type is foreign: nothing in the tree cannot be written.
        serde_json::to_string_pretty(self).expect("every tree can be written")
    }
}

/// One line.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// An object from keys and values, in this order.
pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Flag(flag) => serializer.serialize_bool(*flag),
            Json::Int(n) => serializer.serialize_i128(*n),
            Json::Float(n) => serializer.serialize_f64(*n),
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Json::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Json, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> core::result::Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> core::result::Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_u64<E>(self, n: u64) -> core::result::Result<Json, E> {
        Ok(Json::Int(n.into()))
    }

    fn visit_i64<E>(self, n: i64) -> core::result::Result<Json, E> {
        Ok(Json::Int(n.into()))
    }

    fn visit_f64<E>(self, n: f64) -> core::result::Result<Json, E> {
        Ok(Json::Float(n))
    }

    fn visit_str<E>(self, text: &str) -> core::result::Result<Json, E> {
        Ok(Json::of(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> core::result::Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<Json, A::Error> {
        let mut members = Vec::new();
        let mut seen = alloc::collections::BTreeSet::new();
        while let Some((key, value)) = map.next_entry::<String, Json>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(alloc::format!("the key {key:?} stands twice")));
            }
            members.push((key, value));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_double_keys_are_refused() {
        let text = r#"{"b":1,"a":[true,null,"x",-5,1.5],"c":{}}"#;
        assert_eq!(parse(text, 100).unwrap().to_string(), text);
        let error = parse(r#"{"a":{"b":1,"b":2}}"#, 100).unwrap_err();
        assert!(error.to_string().contains("\"b\" stands twice"), "{error}");
        assert!(parse(text, 10).is_err());
        assert!(parse(&"[".repeat(500), 1_000).is_err(), "depth is bounded");
        assert!(parse("{} {}", 100).is_err());
    }

    #[test]
    fn errors_name_the_path() {
        let json = parse(r#"{"a":{"b":[1,"x"]}}"#, 100).unwrap();
        let read = || {
            let a = json.object(&["a"])?;
            a.need("a", |a| a.object(&["b"])?.need("b", |b| b.list(2, |item| item.int::<u8>())))
        };
        assert_eq!(read().unwrap_err().to_string(), "a.b[1] must be an integer");
        assert_eq!(json.object(&["z"]).err().map(|error| error.path), Some("a".into()));
    }
}
