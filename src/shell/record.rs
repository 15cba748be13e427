//! What commands answer: records, each with one definition for its JSON form, its schema and its documentation.
//!
//! Context: the observer. A command makes records; a record knows its line for eyes ([`Line`]) and, by [`record!`],
//! its JSON. So the two forms cannot say different things.

#![forbid(unsafe_code)]

/// A record as people read it.
pub trait Line {
    /// Appends its text, whole lines.
    fn line(&self, out: &mut Vec<u8>);
}

/// A record of an answer, of whatever kind.
pub trait Record: Line {
    /// Appends its JSON object.
    fn json(&self, out: &mut Vec<u8>);
}

/// Appends the JSON Schema of a kind of records.
pub type Schema = fn(&mut Vec<u8>);

/// Defines a struct whose fields are [`Field`](crate::shell::json::Field)s, and its JSON form: an object that begins
/// with `"kind"`. The comments of the fields become the descriptions of its schema.
#[macro_export]
macro_rules! record {
    ($(#[doc = $about:literal])* $view:vis struct $name:ident as $kind:literal {
        $($(#[doc = $text:literal])* $field:ident: $type:ty,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        $view struct $name {
            $($(#[doc = $text])* pub $field: $type,)*
        }

        impl $name {
            /// Appends the JSON Schema of its JSON form.
            pub fn schema(out: &mut Vec<u8>) {
                $crate::shell::json::begin_schema($kind, concat!($($about),*), out);
                $(
                    let schema = <$type as $crate::shell::json::Field>::schema;
                    $crate::shell::json::property(stringify!($field), concat!($($text),*), schema, out);
                )*
                $crate::shell::json::end_schema(&[$(stringify!($field)),*], out);
            }
        }

        impl $crate::shell::json::Field for $name {
            fn schema(out: &mut Vec<u8>) {
                // Without the braces, as every field's.
                let mut whole = Vec::new();
                $name::schema(&mut whole);
                out.extend_from_slice(whole.get(1..whole.len().saturating_sub(1)).unwrap_or_default());
            }

            fn json(&self, out: &mut Vec<u8>) {
                $crate::shell::json::begin_record($kind, out);
                $(
                    $crate::shell::json::member(stringify!($field), out);
                    $crate::shell::json::Field::json(&self.$field, out);
                )*
                out.push(b'}');
            }
        }

        impl $crate::shell::record::Record for $name {
            fn json(&self, out: &mut Vec<u8>) {
                $crate::shell::json::Field::json(self, out);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::json::{Bytes, Hex};

    record! {
        /// A thing to count.
        struct Thing as "thing" {
            /// Its number.
            number: u64,
            /// Where it lies.
            address: Hex,
            /// What it is called,
            /// by itself.
            name: Option<Bytes>,
            /// More.
            more: Vec<i32>,
        }
    }

    impl Line for Thing {
        fn line(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("{} {:#x}\n", self.number, self.address.0).as_bytes());
        }
    }

    #[test]
    fn one_definition_gives_object_and_schema() {
        let name = Some(Bytes(b"a\"\\\n\x01\xff".to_vec()));
        let thing = Thing { number: u64::MAX, address: Hex(0x7f00), name, more: vec![1, -2] };
        let mut json = Vec::new();
        Record::json(&thing, &mut json);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"kind":"thing","number":18446744073709551615,"address":"0x7f00","name":"a\"\\\n\u0001�","more":[1,-2]}"#
        );
        let mut schema = Vec::new();
        Thing::schema(&mut schema);
        let schema = String::from_utf8(schema).unwrap();
        assert!(
            schema.starts_with(r#"{"title":"thing","description":"A thing to count.","type":"object","#),
            "{schema}"
        );
        assert!(
            schema.contains(
                r#""name":{"anyOf":[{"type":"null"},{"type":"string"}],"description":"What it is called, by itself."}"#
            ),
            "{schema}"
        );
        assert!(schema.ends_with(r#""required":["kind","number","address","name","more"]}"#), "{schema}");
        let mut line = Vec::new();
        thing.line(&mut line);
        assert_eq!(line, b"18446744073709551615 0x7f00\n");
    }
}
