//! The file's grammar as a JSON Schema, for editors: made from the key tables that the checker uses.
//!
//! It says what each value looks like and which keys belong together. What takes more than one look, such as a
//! duration of zero or two routes that hide each other, only `portolan check` can say.

use serde_json::{Map, Value, json};

use super::keys::{ALL, Form, Key, Keys, ROOT};

/// The schema, draft-07: the draft that TOML editors support most widely.
pub fn schema() -> Value {
    let mut root = object(&ROOT);
    root.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
    root.insert("title".into(), "portolan.toml".into());
    let definitions: Map<String, Value> = ALL
        .iter()
        .filter(|keys| keys.id != ROOT.id)
        .map(|keys| (keys.id.to_owned(), Value::Object(object(keys))))
        .collect();
    root.insert("definitions".into(), definitions.into());
    Value::Object(root)
}

fn object(keys: &Keys) -> Map<String, Value> {
    let properties: Map<String, Value> =
        keys.keys.iter().map(|key| (key.name.to_owned(), Value::Object(property(key)))).collect();
    let mut object = Map::new();
    object.insert("type".into(), "object".into());
    object.insert("properties".into(), properties.into());
    object.insert("additionalProperties".into(), false.into());
    if keys.never_empty {
        object.insert("minProperties".into(), 1.into());
    }
    if !keys.required.is_empty() {
        object.insert("required".into(), json!(keys.required));
    }
    if !keys.exactly_one.is_empty() {
        object.insert("oneOf".into(), any_required(keys.exactly_one));
    }
    let rules = rules(keys);
    if !rules.is_empty() {
        object.insert("allOf".into(), rules.into());
    }
    object
}

fn property(key: &Key) -> Map<String, Value> {
    let mut property = Map::new();
    let later = key.not_yet.map(|what| format!(" Not in this version: portolan {what}.")).unwrap_or_default();
    property.insert("description".into(), format!("{}{later}", key.doc).into());
    match form(&key.form) {
        // Draft-07 ignores whatever stands beside `$ref`, the description too.
        Value::Object(form) if form.contains_key("$ref") => {
            property.insert("allOf".into(), json!([form]));
        }
        Value::Object(form) => property.extend(form),
        _ => {}
    }
    if key.not_yet.is_some() {
        property.insert("not".into(), json!({}));
    }
    property
}

fn form(form: &Form) -> Value {
    match form {
        Form::Boolean => json!({ "type": "boolean" }),
        Form::False => json!({ "enum": [false] }),
        Form::Integer(low, i64::MAX) => json!({ "type": "integer", "minimum": low }),
        Form::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Form::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Form::Text("") => json!({ "type": "string" }),
        Form::Text(pattern) => json!({ "type": "string", "pattern": pattern }),
        Form::Texts(pattern, least) => {
            json!({ "type": "array", "items": self::form(&Form::Text(pattern)), "minItems": least })
        }
        Form::Word(words) => json!({ "enum": words }),
        Form::Code(codes) => json!({ "enum": codes }),
        Form::Table(keys) => json!({ "$ref": format!("#/definitions/{}", keys.id) }),
        Form::Named(values) => json!({ "type": "object", "additionalProperties": self::form(values) }),
        Form::Either(one, other) => json!({ "anyOf": [self::form(one), self::form(other)] }),
        Form::List(items) => json!({ "type": "array", "items": self::form(items), "minItems": 1 }),
        Form::Any => json!({}),
    }
}

fn rules(keys: &Keys) -> Vec<Value> {
    let mut rules = Vec::new();
    for group in keys.at_most_one {
        for (at, one) in group.iter().enumerate() {
            rules.extend(group[at + 1..].iter().map(|other| json!({ "not": { "required": [one, other] } })));
        }
    }
    for (name, needed) in keys.only_with {
        rules.push(json!({ "dependencies": { *name: { "anyOf": any_required(needed) } } }));
    }
    for (name, other) in keys.completed_by {
        rules.push(json!({ "dependencies": { *name: { "required": [other] } } }));
    }
    rules
}

fn any_required(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "required": [name] })).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::load::from_str;

    /// As much of draft-07 as the schema uses; any other word in it is a failure.
    fn valid(schema: &Value, root: &Value, value: &Value) -> bool {
        let Some(rules) = schema.as_object() else { return schema != &json!(false) };
        rules.iter().all(|(word, rule)| {
            let each =
                |rule: &Value| rule.as_array().expect("a list").iter().filter(|rule| valid(rule, root, value)).count();
            match word.as_str() {
                "$schema" | "title" | "description" | "definitions" | "properties" => true,
                "$ref" => {
                    let name = rule.as_str().and_then(|path| path.strip_prefix('#')).expect("a pointer");
                    valid(root.pointer(name).expect("a definition"), root, value)
                }
                "type" => has_type(rule.as_str().expect("a type"), value),
                "enum" => rule.as_array().expect("a list").contains(value),
                "pattern" => {
                    let pattern = regex::Regex::new(rule.as_str().expect("a pattern")).expect("compiles");
                    value.as_str().is_none_or(|text| pattern.is_match(text))
                }
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
                "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a size")),
                "minProperties" => value.as_object().is_none_or(|o| o.len() as u64 >= rule.as_u64().expect("a size")),
                "items" => value.as_array().is_none_or(|items| items.iter().all(|item| valid(rule, root, item))),
                "required" => value.as_object().is_none_or(|object| {
                    rule.as_array()
                        .expect("a list")
                        .iter()
                        .all(|name| object.contains_key(name.as_str().expect("a name")))
                }),
                "additionalProperties" => value.as_object().is_none_or(|object| {
                    object.iter().all(|(name, value)| {
                        let known = rules.get("properties").and_then(|properties| properties.get(name));
                        valid(known.unwrap_or(rule), root, value)
                    })
                }),
                "dependencies" => value.as_object().is_none_or(|object| {
                    let needed =
                        rule.as_object().expect("a table").iter().filter(|(name, _)| object.contains_key(*name));
                    needed.map(|(_, rule)| rule).all(|rule| valid(rule, root, value))
                }),
                "allOf" => each(rule) == rule.as_array().expect("a list").len(),
                "anyOf" => each(rule) > 0,
                "oneOf" => each(rule) == 1,
                "not" => !valid(rule, root, value),
                other => panic!("the schema has grown the word {other}"),
            }
        })
    }

    fn has_type(name: &str, value: &Value) -> bool {
        match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("the schema has grown the type {other}"),
        }
    }

    fn agrees(text: &str) -> bool {
        let value: toml::Table = toml::from_str(text).expect("TOML");
        let schema = schema();
        valid(&schema, &schema, &serde_json::to_value(value).expect("JSON"))
    }

    #[test]
    fn every_key_of_the_checker_is_in_the_schema_and_no_other() {
        let schema = schema();
        for keys in ALL {
            let place = if keys.id == ROOT.id { &schema } else { &schema["definitions"][keys.id] };
            let named: Vec<_> = place["properties"].as_object().expect("properties").keys().collect();
            let known: Vec<_> = keys.keys.iter().map(|key| key.name).collect();
            assert_eq!(named, known, "{}", keys.id);
        }
        assert_eq!(schema["definitions"].as_object().map(Map::len), Some(ALL.len() - 1));
    }

    #[test]
    fn every_rule_names_a_key_of_its_table() {
        for keys in ALL {
            let ruled = keys.required.iter().chain(keys.exactly_one);
            let ruled = ruled.chain(keys.at_most_one.iter().copied().flatten());
            let ruled =
                ruled.chain(keys.only_with.iter().flat_map(|(name, needed)| std::iter::once(name).chain(*needed)));
            let ruled = ruled.chain(keys.completed_by.iter().flat_map(|(name, other)| [name, other]));
            for name in ruled {
                assert!(keys.keys.iter().any(|key| key.name == *name), "{} has no {name}", keys.id);
            }
        }
    }

    #[test]
    fn what_the_checker_takes_the_schema_takes() {
        let mut good = vec![fs::read_to_string("config/reference.toml").expect("the reference")];
        good.extend(include_str!("../../tests/config/shapes/good.txt").split("# ---\n").map(str::to_owned));
        for text in &good {
            let loaded = from_str("good.toml", text, None);
            assert!(loaded.config.is_some(), "{}", crate::diagnostic::render(&loaded.diagnostics, false));
            assert!(agrees(text), "the schema refuses\n{text}");
        }
    }

    #[test]
    fn what_has_the_wrong_shape_neither_takes() {
        for text in include_str!("../../tests/config/shapes/bad.txt").lines().filter(|line| !line.is_empty()) {
            let text = text.strip_prefix('!').map_or_else(
                || {
                    format!(
                        "[routes]
x = {text}"
                    )
                },
                str::to_owned,
            );
            assert!(from_str("bad.toml", &text, None).config.is_none(), "the checker takes\n{text}");
            assert!(!agrees(&text), "the schema takes\n{text}");
        }
    }
}
