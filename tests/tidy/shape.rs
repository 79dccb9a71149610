//! How much stands in one place: entries of a folder, files of a type, names of a module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source::Source;

/// Folders with more than `max` entries, with their number.
pub fn full_folders(sources: &[Source], max: usize) -> Vec<String> {
    let mut entries: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let mut at = source.path.as_str();
        while let Some((folder, entry)) = at.rsplit_once('/') {
            entries
                .entry(folder.into())
                .or_default()
                .insert(entry.into());
            at = folder;
        }
    }
    let full = entries
        .iter()
        .filter(|(folder, entries)| *folder != "src" && entries.len() > max);
    full.map(|(folder, entries)| format!("{folder}: {} entries", entries.len()))
        .collect()
}

/// Public type names that are defined more than once below one module.
pub fn twice_named(sources: &[Source]) -> Vec<String> {
    let mut places: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for source in sources {
        let Some(module) = module_of(&source.path) else {
            continue;
        };
        for name in source.production().iter().filter_map(|line| defined(line)) {
            places
                .entry((module.clone(), name))
                .or_default()
                .push(&source.path);
        }
    }
    let twice = places.iter().filter(|(_, files)| files.len() > 1);
    twice
        .map(|((_, name), files)| format!("{name}: {}", files.join(", ")))
        .collect()
}

/// Types whose own methods stand in more than `max` files.
pub fn scattered_types(sources: &[Source], max: usize) -> Vec<String> {
    let mut places: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        let Some(module) = module_of(&source.path) else {
            continue;
        };
        for name in source
            .production()
            .iter()
            .filter_map(|line| implemented(line))
        {
            places
                .entry((module.clone(), name))
                .or_default()
                .insert(&source.path);
        }
    }
    let scattered = places.iter().filter(|(_, files)| files.len() > max);
    scattered
        .map(|((module, name), files)| format!("{module}: {name} in {} files", files.len()))
        .collect()
}

/// A document at the root, as a source.
pub fn document(name: &str) -> Source {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(path).expect("a document");
    Source::new(name.into(), text)
}

/// Files and folders of the tree, from its root or from `src/`, that a text names between backticks and
/// that do not exist: `shard/mod.rs`, `shard/`. A folder that begins elsewhere is one of a user's.
pub fn missing_paths(source: &Source) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_there = |path: &str| {
        ["", "src"]
            .iter()
            .any(|from| root.join(from).join(path).exists())
    };
    let is_path = |word: &str| {
        word.chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
    };
    let is_ours = |word: &str| {
        let first = word.split('/').next().unwrap_or(word);
        word.ends_with(".rs") || (word.ends_with('/') && first.len() > 1 && is_there(first))
    };
    let quoted = source
        .text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let named = quoted.filter(|word| is_path(word) && is_ours(word));
    named
        .filter(|word| !is_there(word))
        .map(|word| format!("{}: {word}", source.path))
        .collect()
}

/// Dependencies of the manifest that no file names.
pub fn unused_dependencies(manifest: &str, sources: &[Source]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let text = fs::read_to_string(path).expect("a manifest");
    let names = listed_dependencies(&text);
    let is_used = |name: &String| {
        let word = name.replace('-', "_");
        sources
            .iter()
            .any(|source| source.text.contains(&format!("{word}::")))
    };
    names.into_iter().filter(|name| !is_used(name)).collect()
}

fn listed_dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| Some(line.split_once([' ', '.', '='])?.0.trim().to_string()))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

fn module_of(path: &str) -> Option<String> {
    let below = path.strip_prefix("src/")?;
    let module = below.split('/').next()?;
    (module != "sim").then(|| module.trim_end_matches(".rs").to_string())
}

/// The public type that a line defines.
fn defined(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let kind = words.next()?;
    ["struct", "enum", "trait", "union"]
        .contains(&kind)
        .then_some(())?;
    // A macro's own parameter is no name.
    Some(leading_word(words.next()?)).filter(|name| !name.is_empty())
}

/// The type whose own methods begin at a line.
fn implemented(line: &str) -> Option<String> {
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        Some(generic) => {
            let mut depth = 1;
            let end = generic.char_indices().find(|(_, c)| {
                depth += i32::from(*c == '<') - i32::from(*c == '>');
                depth == 0
            });
            &generic[end?.0 + 1..]
        }
        None => rest,
    };
    (!line.contains(" for ")).then(|| leading_word(rest.trim_start()))
}

fn leading_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Docs of one line that say nothing but the name of what stands below them: `path:line`.
pub fn repeating_docs(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let repeats = lines.windows(3).enumerate().filter(|(_, lines)| {
        let is_alone = !lines[0].trim_start().starts_with("///");
        let doc = lines[1].trim_start().strip_prefix("///");
        is_alone && doc.is_some_and(|doc| !doc.contains('`') && says_only_the_name(doc, lines[2]))
    });
    repeats
        .map(|(at, lines)| format!("{}:{}:{}", source.path, at + 2, lines[1].trim()))
        .collect()
}

fn says_only_the_name(doc: &str, item: &str) -> bool {
    const FILLERS: [&str; 14] = [
        "its", "the", "their", "a", "an", "of", "it", "this", "is", "has", "which", "new", "own",
        "s",
    ];
    let name = item
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .find(|word| {
            ![
                "", "pub", "crate", "fn", "async", "in", "super", "const", "self",
            ]
            .contains(word)
        });
    let Some(name) = name else {
        return false;
    };
    let snake = snake_case(name);
    let parts: Vec<&str> = snake.split('_').collect();
    let mut said = doc
        .split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty() && !FILLERS.contains(&word.as_str()))
        .peekable();
    said.peek().is_some() && said.all(|word| parts.iter().any(|part| *part == word))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
