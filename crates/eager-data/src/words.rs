//! What serde says of a file or a request that it refuses, for people who do not read Rust.

/// serde's words without Rust's types, for JSON, TOML and the query of an address alike:
/// `invalid type: map, expected a sequence` becomes `found keys with values, expected a list`.
///
/// Give it what `serde_json::Error` displays, whose ` at line 3 column 9` stays at the end, or `toml::de::Error::message`, which
/// unlike its display has no drawing of the line. Words that it does not know come back as they are.
#[must_use]
pub fn plain_words(words: &str) -> String {
    let (fault, place) = with_place(words.trim_end());
    format!("{}{place}", plain(fault))
}

/// What a JSON object and a TOML table have in common.
const KEYS: &str = "keys with values";

/// The words, and the place that serde_json puts after them.
fn with_place(words: &str) -> (&str, &str) {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_place = |place: &str| {
        let numbers = place.strip_prefix(" at line ");
        let numbers = numbers.and_then(|numbers| numbers.split_once(" column "));
        numbers.is_some_and(|(line, column)| is_number(line) && is_number(column))
    };
    match words.rfind(" at line ") {
        Some(at) if is_place(&words[at..]) => words.split_at(at),
        _ => (words, ""),
    }
}

fn plain(fault: &str) -> String {
    for (start, end) in [
        ("missing field `", "is missing"),
        ("duplicate field `", "is there twice"),
    ] {
        let field = fault.strip_prefix(start);
        if let Some(field) = field.and_then(|field| field.strip_suffix('`')) {
            return format!("{field} {end}");
        }
    }
    if fault.starts_with("data did not match any variant of ") {
        return "has none of the forms that it may have".to_owned();
    }
    if let Some((found, expected)) = fault.rsplit_once(", expected ") {
        let out_of_range = found.starts_with("invalid value: ");
        let expected = plain_expected(expected, out_of_range);
        return format!("{}, expected {expected}", plain_found(found));
    }
    match fault {
        // Rust itself reads the values of a query.
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "expected a whole number from 0 up"
        }
        "number would be zero for non-zero type" => "expected a whole number from 1 up",
        "invalid float literal" | "cannot parse float from empty string" => "expected a number",
        "provided string was not `true` or `false`" => "expected true or false",
        "number too large to fit in target type"
        | "integer number overflowed"
        | "floating-point number overflowed" => "the number is too large",
        "number too small to fit in target type" => "the number is too small",
        // Of TOML, in the place of a name.
        "wanted string or table" => "expected a string, or keys with values",
        other => other,
    }
    .to_owned()
}

/// What stands before `, expected`.
fn plain_found(found: &str) -> String {
    if let Some(name) = found.strip_prefix("unknown variant ") {
        return format!("there is no {name}");
    }
    if let Some(length) = found.strip_prefix("invalid length ") {
        return format!("found a list of {length}");
    }
    let value = found.strip_prefix("invalid type: ");
    let Some(value) = value.or_else(|| found.strip_prefix("invalid value: ")) else {
        return found.to_owned();
    };
    let value = match value {
        "map" => KEYS,
        "sequence" => "a list",
        "unit value" => "nothing",
        "unit variant" => "a name",
        "newtype variant" | "tuple variant" | "struct variant" | "enum" => "a name with values",
        value => match value.strip_prefix("floating point ") {
            Some(number) => return format!("found number {number}"),
            None => value,
        },
    };
    format!("found {value}")
}

/// What stands behind `, expected`; `out_of_range`: a number was found that is none of the type's.
fn plain_expected(expected: &str, out_of_range: bool) -> String {
    if let Some(number) = whole_number(expected, out_of_range) {
        return number;
    }
    let length = expected.strip_prefix("a tuple of size ");
    if let Some(n) = length.or_else(|| expected.strip_prefix("an array of length ")) {
        return format!("a list of {n}");
    }
    match expected {
        "a boolean" | "bool" => "true or false",
        "a sequence" => "a list",
        "a map" | "map" => KEYS,
        "a borrowed string" | "path string" | "string" => "a string",
        "string or map" => "a string, or keys with values",
        "f32" | "f64" => "a number",
        "unit" | "unit variant" | "variant identifier" | "field identifier" => "a name",
        "newtype variant" => "a name with a value",
        "tuple variant" => "a name with a list",
        "struct variant" => "a name with keys and values",
        other => match other.split_once(' ') {
            // `struct X`, `struct X with 2 elements`, `struct variant X::Y`
            Some(("struct", _)) => KEYS,
            Some(("tuple", _)) => "a list",
            Some(("enum", _)) => "a name",
            Some(("internally" | "adjacently", of)) if of.starts_with("tagged enum ") => KEYS,
            _ => other,
        },
    }
    .to_owned()
}

/// Rust's name of an integer, in words; with its ends where they are what is wrong.
fn whole_number(of: &str, out_of_range: bool) -> Option<String> {
    const ANY: i128 = u64::MAX as i128;
    const KINDS: [(&str, i128, i128); 10] = [
        ("u8", 0, u8::MAX as i128),
        ("u16", 0, u16::MAX as i128),
        ("u32", 0, u32::MAX as i128),
        ("u64", 0, ANY),
        ("usize", 0, ANY),
        ("i8", i8::MIN as i128, i8::MAX as i128),
        ("i16", i16::MIN as i128, i16::MAX as i128),
        ("i32", i32::MIN as i128, i32::MAX as i128),
        ("i64", i64::MIN as i128, i64::MAX as i128),
        ("isize", isize::MIN as i128, isize::MAX as i128),
    ];
    let nonzero = of.strip_prefix("a nonzero ");
    let name = nonzero.unwrap_or(of);
    let &(_, least, most) = KINDS.iter().find(|(kind, ..)| *kind == name)?;
    let least = match least {
        0 if nonzero.is_some() => 1,
        least => least,
    };
    Some(if out_of_range && most < ANY {
        format!("a whole number from {least} to {most}")
    } else if least < 0 {
        "a whole number".to_owned()
    } else {
        format!("a whole number from {least} up")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroUsize;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        #[default]
        First,
        Second,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Form {
        Bare,
        One(#[allow(dead_code)] u32),
        Keyed {
            #[allow(dead_code)]
            share: f64,
        },
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code)] // what is read is not looked at
    struct Example {
        flag: bool,
        list: Vec<String>,
        name: String,
        choice: Choice,
        form: Option<Form>,
        size: usize,
        least: Option<NonZeroUsize>,
        byte: u8,
        shift: i64,
        share: f32,
        pair: (u32, u32),
        map: BTreeMap<String, u32>,
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        a: u32,
        b: u32,
    }

    fn of_json(text: &str) -> String {
        let error = serde_json::from_str::<Example>(text).unwrap_err();
        plain_words(&error.to_string())
    }

    fn of_toml(text: &str) -> String {
        let error = toml::from_str::<Example>(text).unwrap_err();
        plain_words(error.message())
    }

    #[test]
    fn json_and_toml_alike_without_a_word_of_rust() {
        // Key, value as JSON and as TOML, what is said of both.
        for (key, json, toml, expected) in [
            (
                "flag",
                "7",
                "7",
                "found integer `7`, expected true or false",
            ),
            (
                "list",
                "{}",
                "{}",
                "found keys with values, expected a list",
            ),
            ("name", "[]", "[]", "found a list, expected a string"),
            (
                "choice",
                "\"third\"",
                "\"third\"",
                "there is no `third`, expected `first` or `second`",
            ),
            (
                "size",
                "-1",
                "-1",
                "found integer `-1`, expected a whole number from 0 up",
            ),
            (
                "size",
                "1.5",
                "1.5",
                "found number `1.5`, expected a whole number from 0 up",
            ),
            (
                "least",
                "0",
                "0",
                "found integer `0`, expected a whole number from 1 up",
            ),
            (
                "byte",
                "300",
                "300",
                "found integer `300`, expected a whole number from 0 to 255",
            ),
            (
                "shift",
                "\"x\"",
                "\"x\"",
                "found string \"x\", expected a whole number",
            ),
            (
                "share",
                "true",
                "true",
                "found boolean `true`, expected a number",
            ),
            (
                "pair",
                "[1]",
                "[1]",
                "found a list of 1, expected a list of 2",
            ),
            ("map", "[]", "[]", "found a list, expected keys with values"),
            (
                "inner",
                "7",
                "7",
                "found integer `7`, expected keys with values",
            ),
            ("inner", "{\"a\": 1}", "{ a = 1 }", "b is missing"),
        ] {
            let found = of_json(&format!("{{\"{key}\": {json}}}"));
            let (found, place) = with_place(&found);
            assert_eq!(found, expected, "{key}: {json}");
            assert!(place.starts_with(" at line 1 column "), "{place:?}");
            let found = of_toml(&format!("{key} = {toml}"));
            assert_eq!(found, expected, "{key} = {toml}");
        }
    }

    #[test]
    fn what_json_alone_may_say() {
        let said = |text: &str| with_place(&of_json(text)).0.to_owned();
        assert_eq!(said("{\"size\": 1, \"size\": 2}"), "size is there twice");
        assert_eq!(
            said("{\"name\": null}"),
            "found null, expected a string",
            "JSON's own word"
        );
        // An object may stand for the name of a choice.
        assert_eq!(
            said("{\"choice\": {\"first\": 1}}"),
            "found integer `1`, expected a name"
        );
        assert_eq!(
            said("{\"inner\": [1]}"),
            "found a list of 1, expected keys with values"
        );
        assert_eq!(
            said("{\"form\": \"one\"}"),
            "found a name, expected a name with a value"
        );
        assert_eq!(
            said("{\"form\": \"keyed\"}"),
            "found a name, expected a name with keys and values"
        );
        assert_eq!(
            said("{\"form\": {\"keyed\": 5}}"),
            "found integer `5`, expected keys with values"
        );
        let bare: Form = serde_json::from_str("\"bare\"").unwrap();
        assert!(matches!(bare, Form::Bare));
    }

    #[test]
    fn words_as_they_come() {
        for (words, expected) in [
            (
                "invalid type: map, expected a sequence at line 3 column 9",
                "found keys with values, expected a list at line 3 column 9",
            ),
            (
                "missing field `history` at line 1 column 2",
                "history is missing at line 1 column 2",
            ),
            (
                "invalid type: string \"a, expected b\", expected usize",
                "found string \"a, expected b\", expected a whole number from 0 up",
            ),
            (
                "invalid length 1, expected struct Example with 2 elements\n",
                "found a list of 1, expected keys with values",
            ),
            (
                "invalid value: integer `18446744073709551615`, expected i64",
                "found integer `18446744073709551615`, expected a whole number from -9223372036854775808 to 9223372036854775807",
            ),
            (
                "invalid value: integer `0`, expected a nonzero u32",
                "found integer `0`, expected a whole number from 1 to 4294967295",
            ),
            (
                "invalid type: string \"x\", expected a nonzero i32",
                "found string \"x\", expected a whole number",
            ),
            (
                "data did not match any variant of untagged enum Columns",
                "has none of the forms that it may have",
            ),
            (
                "invalid digit found in string",
                "expected a whole number from 0 up",
            ),
            (
                "number too large to fit in target type",
                "the number is too large",
            ),
            (
                "provided string was not `true` or `false`",
                "expected true or false",
            ),
            (
                "unknown field `x`, expected `a` or `b`",
                "unknown field `x`, expected `a` or `b`",
            ),
            (
                "expected value at line 1 column 2",
                "expected value at line 1 column 2",
            ),
            (
                "turn left at line x column 2",
                "turn left at line x column 2",
            ),
            ("", ""),
        ] {
            assert_eq!(plain_words(words), expected);
        }
    }
}
