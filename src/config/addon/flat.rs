//! Typed reading of the app's flat options. `""` and `null` mean "not set"; what has the wrong type is a problem that
//! never shows the value, for it may be a secret.

use crate::config::problem::Findings;
use serde_json::{Map, Value};

/// The options and what was found in them so far.
pub(super) struct Flat<'a> {
    map: &'a Map<String, Value>,
    pub(super) found: Findings,
}

impl<'a> Flat<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            found: Findings::default(),
        }
    }

    pub(super) fn problem(
        &mut self,
        name: &str,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.found.problem(name, 0, fault, remedy);
    }

    pub(super) fn warning(&mut self, name: &str, text: impl Into<String>) {
        self.found.warning(name, 0, text);
    }

    /// The names that were typed.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a String> {
        self.map.keys()
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
        })
    }

    /// A text without the blanks around it.
    pub(super) fn text(&mut self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) => Some(text.trim()),
            other => {
                let remedy = match other {
                    Value::Bool(_) | Value::Number(_) => "put quotes around it",
                    _ => "type one text without dashes, brackets and braces",
                };
                self.problem(
                    name,
                    format!("this wants a text and is {}", kind(other)),
                    remedy,
                );
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        match self.value(name) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.problem(
                    name,
                    format!("this wants true or false and is {}", kind(other)),
                    "type true or false without quotes",
                );
                default
            }
        }
    }

    /// A port; `None`: what was typed cannot be read, and a problem says so.
    pub(super) fn port(&mut self, name: &str, default: u16) -> Option<u16> {
        match self.value(name) {
            None => Some(default),
            Some(_) => self.optional_port(name, default),
        }
    }

    /// A port that may be left out; `example` is one to type.
    pub(super) fn optional_port(&mut self, name: &str, example: u16) -> Option<u16> {
        let value = self.value(name)?;
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Array(_) | Value::Bool(_) | Value::Null | Value::Object(_) => None,
        };
        let port = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|port| *port > 0);
        if port.is_none() {
            let fault = match value {
                Value::Number(number) => format!("{number} is no port"),
                other => format!("this wants a port and is {}", kind(other)),
            };
            self.problem(
                name,
                fault,
                format!("type a number from 1 to 65535, such as {example}"),
            );
        }
        port
    }

    /// The texts of a list with their places (`turn_servers[0]`); empty ones are left out.
    pub(super) fn list(&mut self, name: &str) -> Vec<(String, &'a str)> {
        let items = match self.value(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.problem(
                    name,
                    format!("this wants a list and is {}", kind(other)),
                    "type each item on a line of its own after a dash and a blank",
                );
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = format!("{name}[{index}]");
            match item {
                Value::Null => {}
                Value::String(text) if text.trim().is_empty() => {}
                Value::String(text) => texts.push((place, text.trim())),
                other => self.problem(
                    &place,
                    format!("this wants a text and is {}", kind(other)),
                    "put quotes around it",
                ),
            }
        }
        texts
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Bool(_) => "true or false",
        Value::Null => "nothing",
        Value::Number(_) => "a number",
        Value::Object(_) => "a group of options",
        Value::String(_) => "a text",
    }
}
