//! Source files, as far as the rules must understand them.

use std::fs;
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Source {
    /// From the root of the tree, such as `src/log/core.rs`.
    pub path: String,
    pub text: String,
    /// It holds tests, or what only tests need.
    is_test: bool,
    /// The lines, each without comments and without what strings say.
    code: Vec<String>,
}

/// Every Rust file below a folder of the tree.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(root, &root.join(folder), &mut found);
    found.sort_by(|a: &Source, b| a.path.cmp(&b.path));
    let tests: Vec<String> = found.iter().flat_map(Source::test_modules).collect();
    for source in &mut found {
        let below = |module: &String| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.is_test = tests.iter().any(below);
    }
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let relative = path.strip_prefix(root).expect("below the root");
            found.push(Source::new(relative.display().to_string(), text));
        }
    }
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let code = text.lines().map(bare).collect();
        let is_test = path.ends_with("/tests.rs");
        Self {
            path,
            text,
            is_test,
            code,
        }
    }

    /// Paths without `.rs` of the modules that this file declares for tests or for the simulator.
    fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_string(),
            _ => self.path.trim_end_matches(".rs").to_string(),
        };
        let declared = self.code.windows(2).filter(|lines| {
            let attribute = lines[0].trim();
            attribute == "#[cfg(test)]" || attribute.starts_with("#[cfg(any(test, feature")
        });
        let names = declared.filter_map(|lines| {
            let (_, name) = lines[1].split_once("mod ")?;
            name.strip_suffix(';')
        });
        names.map(|name| format!("{folder}/{name}")).collect()
    }

    /// The lines before the module of tests that ends the file.
    pub fn production(&self) -> &[String] {
        if self.is_test {
            return &[];
        }
        let is_tests = |at: usize| {
            self.code[at].trim() == "#[cfg(test)]"
                && self
                    .code
                    .get(at + 1)
                    .is_some_and(|next| next.contains("mod ") && next.contains('{'))
        };
        let end = (0..self.code.len()).find(|at| is_tests(*at));
        &self.code[..end.unwrap_or(self.code.len())]
    }

    pub fn production_lines(&self) -> usize {
        self.production().len()
    }

    /// `path:line` of each line of production code for which a rule says so.
    pub fn lines_with(&self, rule: impl Fn(&str) -> bool) -> Vec<String> {
        let numbered = self.code.iter().enumerate();
        let broken = numbered.filter(|(_, code)| rule(code));
        broken
            .map(|(at, code)| format!("{}:{}: {}", self.path, at + 1, code.trim()))
            .collect()
    }

    /// Name, first line and number of lines of each function, as rustfmt lays them out: the closing
    /// brace stands under the first word.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let lines = &self.code;
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let closing = format!("{}}}", " ".repeat(indent));
            let end = lines[at..].iter().position(|line| *line == closing);
            // A function of one line, or without a body, ends before.
            let next = lines[at + 1..]
                .iter()
                .position(|line| function_name(line).is_some());
            match (end, next) {
                (Some(end), Some(next)) if is_one_line(line) && next < end => {}
                (Some(end), _) if !is_one_line(line) => found.push((name, at + 1, end + 1)),
                _ => {}
            }
        }
        found
    }
}

fn is_one_line(line: &str) -> bool {
    line.ends_with('}') || line.ends_with(';')
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub")
            || [
                "async", "const", "unsafe", "extern", "in", "crate)", "super)",
            ]
            .contains(word)
    });
    if words.next()? != "fn" {
        return None;
    }
    // What a macro takes a name for is none.
    let name = words.next().filter(|name| !name.starts_with('$'))?;
    name.split(['(', '<']).next().map(str::to_string)
}

/// A line without its comment and without the content of its strings.
fn bare(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            // Characters such as '"' are no strings.
            '\'' if !in_string && chars.peek() == Some(&'"') => drop((chars.next(), chars.next())),
            c if !in_string => out.push(c),
            _ => {}
        }
    }
    out.trim_end().to_string()
}
