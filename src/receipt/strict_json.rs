//! JSON in which nothing can be said twice: no duplicate keys, no floats, no integer beyond `i64`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads strict JSON.
///
/// # Errors
///
/// What `serde_json` says of anything else.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(bytes).map(|Strict(value)| value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, a list, a text, a truth value or an integer")
    }

    fn visit_bool<E: de::Error>(self, it: bool) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_i64<E: de::Error>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E: de::Error>(self, it: u64) -> Result<Value, E> {
        i64::try_from(it).map(Value::from).map_err(|_| E::custom("an integer beyond 64 bits"))
    }

    fn visit_str<E: de::Error>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("a key stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        assert!(parse(br#"{"a":[1,"x",true,-5],"b":{"a":1}}"#).is_ok());
        let bad: [&[u8]; 8] = [
            br#"{"a":1,"a":1}"#,
            br#"{"b":[{"a":1,"\u0061":1}]}"#,
            br#"{"a":1.0}"#,
            br#"{"a":1e3}"#,
            br#"{"a":9223372036854775808}"#,
            br#"{"a":null}"#,
            br#"{"a":1} "x""#,
            b"{\"a\":\"\xff\"}",
        ];
        for bytes in bad {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(parse("[".repeat(4000).as_bytes()).is_err());
    }
}
