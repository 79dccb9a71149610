//! Which module may know which. Tests and the simulator may know everything.

use crate::source::Source;

/// Module, and what it may import. `main.rs` and `lib.rs` stand above all.
const TABLE: &[(&str, &[&str])] = &[
    ("metrics", &[]),
    ("model", &[]),
    ("compress", &["model"]),
    ("rt", &["metrics"]),
    ("config", &["model"]),
    ("net", &["rt"]),
    ("manual", &[]),
    ("wire", &["model"]),
    ("log", &["model", "compress", "rt"]),
    ("cluster", &["model"]),
    ("partition", &["log", "model", "compress", "config", "rt"]),
    (
        "shard",
        &[
            "partition",
            "log",
            "compress",
            "cluster",
            "config",
            "model",
            "rt",
        ],
    ),
    (
        "server",
        &[
            "shard",
            "partition",
            "log",
            "wire",
            "cluster",
            "config",
            "net",
            "model",
            "rt",
            "metrics",
        ],
    ),
    (
        "node",
        &[
            "server", "shard", "log", "cluster", "config", "model", "rt", "metrics",
        ],
    ),
    ("client", &["wire", "net", "model", "compress", "rt"]),
    (
        "cli",
        &[
            "client",
            "node",
            "server",
            "shard",
            "partition",
            "log",
            "cluster",
            "config",
            "wire",
            "model",
            "compress",
            "rt",
        ],
    ),
];

/// The arrows of a file that are not in the table.
pub fn forbidden(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
        return vec![format!(
            "{}: module {module} is not in the table",
            source.path
        )];
    };
    let mut broken = Vec::new();
    for (line, target) in imports(source.production()) {
        if target != module && !allowed.contains(&target.as_str()) {
            broken.push(format!("{}:{line}: {module} imports {target}", source.path));
        }
    }
    broken
}

/// The module of a file; none for what stands above all and for the simulator.
fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    match below.split('/').next()?.trim_end_matches(".rs") {
        "lib" | "main" | "sim" => None,
        // The whole-log simulation stands beside the code that it drives, and is part of the simulator.
        "log" if below.starts_with("log/simulation/") => None,
        module => Some(module),
    }
}

/// Line and first word of each path that begins at the crate.
fn imports(code: &[String]) -> Vec<(usize, String)> {
    let text = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push((line, first_word(rest))),
            Some(list) => found.extend(first_words(list).into_iter().map(|word| (line, word))),
        }
    }
    // A macro's `$crate` stands where it is used: its paths are its own module's business.
    found.retain(|(_, word)| !word.is_empty());
    found
}

/// The first word of each entry of a list in braces, whose opening one is gone.
fn first_words(list: &str) -> Vec<String> {
    let (mut depth, mut begins, mut words) = (0, true, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                words.push(first_word(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    words
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
