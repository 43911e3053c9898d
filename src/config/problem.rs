//! What is wrong with the user's options: told all at once, each with what to type instead.

use std::fmt;

/// One option that cannot be followed. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option: `rtc.tcp_port`, `--bind`, `keys.APIx`.
    pub path: String,
    /// The line of the file; `None` when it was not a file that said it.
    pub line: Option<u32>,
    /// What is wrong, a clause in lower case without a period.
    pub fault: String,
    /// What to type, a clause in lower case without a period.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            fault,
            remedy,
        } = self;
        match line {
            Some(line) => write!(f, "{path} (line {line}): {fault}; {remedy}"),
            None => write!(f, "{path}: {fault}; {remedy}"),
        }
    }
}

/// An option that is followed otherwise than its author may think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The option.
    pub path: String,
    /// The line of the file; `None` when it was not a file that said it.
    pub line: Option<u32>,
    /// What happens instead, a clause in lower case without a period.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, text } = self;
        match line {
            Some(line) => write!(f, "{path} (line {line}): {text}"),
            None => write!(f, "{path}: {text}"),
        }
    }
}

/// Where the readers of the sections put what they find.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
}

impl Findings {
    /// `line` 0 stands for none.
    pub(crate) fn problem(
        &mut self,
        path: &str,
        line: u32,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let problem = Problem {
            path: path.to_owned(),
            line: (line > 0).then_some(line),
            fault: fault.into(),
            remedy: remedy.into(),
        };
        // An option that is looked at twice is wrong only once.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// `line` 0 stands for none.
    pub(crate) fn warning(&mut self, path: &str, line: u32, text: impl Into<String>) {
        self.warnings.push(Warning {
            path: path.to_owned(),
            line: (line > 0).then_some(line),
            text: text.into(),
        });
    }
}
