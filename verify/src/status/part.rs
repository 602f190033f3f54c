//! Typed values and entries of a status document: from canonical bytes to Rust and back.
//!
//! A status is read and written by rules all the time, so its parts are structs; what they look
//! like in bytes is the one table of `fields`, and these macros keep to it.
//!
//! Invariants
//! - Writing what was read gives the same bytes; a value that is absent is not written.

use crate::document::Fields;
use crate::fields::Tag;
use crate::value::{self, Cause, Flaw, Members};
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// A calendar day as year × 10000 + month × 100 + day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

impl Day {
    /// The first millisecond of the day in UTC, counted from 1970.
    pub fn start_ms(self) -> i64 {
        value::days_since_1970(self.0 / 10_000, self.0 / 100 % 100, self.0 % 100) * 86_400_000
    }
}

/// A value of a field.
pub(super) trait Value: Sized {
    /// Canonical bytes; `None` where the field is absent.
    fn put(&self) -> Option<Vec<u8>>;
    /// The value in canonical bytes, or of an absent field.
    fn take(bytes: Option<&[u8]>) -> Result<Self, Flaw>;
}

/// The bytes of a field that must be there.
fn present(bytes: Option<&[u8]>) -> Result<&[u8], Flaw> {
    bytes.ok_or(Flaw::Malformed(Cause::Missing))
}

macro_rules! values {
    ($($kind:ty, |$v:ident| $put:expr, |$bytes:ident| $take:expr;)+) => {
        $(impl Value for $kind {
            fn put(&self) -> Option<Vec<u8>> {
                let $v = self;
                Some($put)
            }

            fn take(bytes: Option<&[u8]>) -> Result<Self, Flaw> {
                let $bytes = present(bytes)?;
                $take
            }
        })+
    };
}

values! {
    u64, |v| value::uint(*v), |bytes| value::uint_of(bytes);
    i64, |v| value::time(*v), |bytes| value::time_of(bytes);
    i128, |v| value::amount(*v), |bytes| value::amount_of(bytes);
    Digest, |v| v.to_vec(), |bytes| bytes.try_into().map_err(|_| Cause::Encoding.into());
    Day, |v| v.0.to_be_bytes().to_vec(), |bytes| {
        value::date_of(bytes).map(|(year, month, day)| Day(year * 10_000 + month * 100 + day))
    };
    ([u8; 3], u8), |v| value::currency(v.0, v.1), |bytes| value::currency_of(bytes);
    (i128, u8), |v| value::decimal(v.0, v.1), |bytes| value::decimal_of(bytes);
    String, |v| v.as_bytes().to_vec(), |bytes| {
        core::str::from_utf8(bytes).map(String::from).map_err(|_| Cause::Characters.into())
    };
}

impl Value for bool {
    fn put(&self) -> Option<Vec<u8>> {
        self.then(|| alloc::vec![1])
    }

    fn take(bytes: Option<&[u8]>) -> Result<Self, Flaw> {
        Ok(bytes.is_some())
    }
}

impl<T: Value> Value for Option<T> {
    fn put(&self) -> Option<Vec<u8>> {
        self.as_ref().and_then(T::put)
    }

    fn take(bytes: Option<&[u8]>) -> Result<Self, Flaw> {
        bytes.map(|bytes| T::take(Some(bytes))).transpose()
    }
}

/// One entry of a list.
pub(super) trait Part: Sized {
    /// Its members, tags ascending.
    fn members(&self) -> Vec<(Tag, Vec<u8>)>;
    /// The entry with these members.
    fn read(members: &Members<'_>) -> Result<Self, Flaw>;
}

impl<P: Part> Value for Vec<P> {
    fn put(&self) -> Option<Vec<u8>> {
        (!self.is_empty()).then(|| value::list(&self.iter().map(P::members).collect::<Vec<_>>()))
    }

    fn take(bytes: Option<&[u8]>) -> Result<Self, Flaw> {
        match bytes {
            None => Ok(Vec::new()),
            Some(bytes) => value::entries_of(bytes)?.iter().map(P::read).collect(),
        }
    }
}

/// A list of exactly one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct One<P>(pub(super) P);

impl<P: Part> Value for One<P> {
    fn put(&self) -> Option<Vec<u8>> {
        Some(value::list(&[self.0.members()]))
    }

    fn take(bytes: Option<&[u8]>) -> Result<Self, Flaw> {
        match value::entries_of(present(bytes)?)?.as_slice() {
            [entry] => P::read(entry).map(One),
            _ => Err(Cause::Range.into()),
        }
    }
}

/// Sets a field, or leaves it absent.
pub(super) fn set<V: Value>(fields: &mut Fields, tag: Tag, value: &V) {
    if let Some(bytes) = value.put() {
        fields.set(tag, bytes);
    }
}

/// Declares an entry: a struct whose fields are members under their tags, tags ascending.
macro_rules! part {
    ($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $field_doc:literal])+ $field:ident: $kind:ty = $tag:ident,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $kind,)+
        }

        impl $crate::status::part::Part for $name {
            fn members(&self) -> alloc::vec::Vec<($crate::fields::Tag, alloc::vec::Vec<u8>)> {
                let all = [$(($crate::fields::tag::$tag, self.$field.put()),)+];
                all.into_iter().filter_map(|(tag, bytes)| Some((tag, bytes?))).collect()
            }

            fn read(members: &$crate::value::Members<'_>) -> Result<Self, $crate::value::Flaw> {
                Ok($name {
                    $($field: $crate::status::part::Value::take(
                        $crate::document::find(members, $crate::fields::tag::$tag),
                    )?,)+
                })
            }
        }
    };
}

/// Declares states that are written as words.
macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $word_doc:literal])+ $word:ident = $text:literal,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $word,)+
        }

        impl $name {
            /// All of them, in the order of their numbers in leaves.
            pub const ALL: &'static [$name] = &[$($name::$word,)+];

            /// The word.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$word => $text,)+
                }
            }

            /// The one with this word.
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|word| word.name() == name)
            }

            /// The one with this number.
            pub fn from_code(code: u8) -> Option<$name> {
                $name::ALL.get(usize::from(code)).copied()
            }
        }

        impl $crate::status::part::Value for $name {
            fn put(&self) -> Option<alloc::vec::Vec<u8>> {
                Some(self.name().as_bytes().to_vec())
            }

            fn take(bytes: Option<&[u8]>) -> Result<Self, $crate::value::Flaw> {
                let bytes = bytes.ok_or($crate::value::Flaw::Malformed(
                    $crate::value::Cause::Missing,
                ))?;
                core::str::from_utf8(bytes)
                    .ok()
                    .and_then($name::from_name)
                    .ok_or($crate::value::Flaw::Malformed($crate::value::Cause::Range))
            }
        }
    };
}

pub(super) use {part, words};
