//! Import circles: files of which each needs the next and the last needs the first.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

/// Each circle as the sorted paths of its files; the sorted list of them all.
///
/// An arrow leads from a file that names an item to the file that defines it: a re-export (`pub use`)
/// is followed to where it leads, and is no need of its own. What a `mod.rs` declares is no arrow.
pub fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let house = House::new(sources);
    let arrows: BTreeMap<&str, BTreeSet<&str>> = house
        .modules
        .values()
        .map(|module| {
            let needs = module.needs.iter().filter_map(|item| house.file_of(item));
            let needs = needs.filter(|file| *file != module.file);
            (module.file, needs.collect())
        })
        .collect();
    tied(&arrows)
}

/// Sets of two or more files that reach each other.
fn tied(arrows: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows
        .keys()
        .map(|file| (*file, reached_from(file, arrows)))
        .collect();
    let mut circles = BTreeSet::new();
    for (file, reached) in &reach {
        let circle: Vec<String> = reached
            .iter()
            .filter(|other| reach.get(**other).is_some_and(|back| back.contains(file)))
            .map(|other| other.to_string())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'a>(
    file: &'a str,
    arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![file];
    while let Some(at) = next.pop() {
        for to in arrows.get(at).into_iter().flatten() {
            if reached.insert(*to) {
                next.push(to);
            }
        }
    }
    reached
}

/// Modules by path, such as `["log", "shard"]`.
struct House<'a> {
    modules: BTreeMap<Vec<String>, Module<'a>>,
}

struct Module<'a> {
    file: &'a str,
    /// Full paths of what its code names.
    needs: Vec<Vec<String>>,
    /// Name here, full path of what it stands for.
    exports: BTreeMap<String, Vec<String>>,
}

impl<'a> House<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let mut modules = BTreeMap::new();
        for source in sources {
            let production = source.production();
            if production.is_empty() {
                continue;
            }
            let Some(path) = module_path(&source.path) else {
                continue;
            };
            let text = production.join("\n");
            let (exported, rest) = split_exports(&text);
            let exports = exported
                .iter()
                .flat_map(|list| expand(list))
                .filter_map(|item| Some((item.last()?.clone(), absolute(&path, &item, true)?)))
                .collect();
            let needs = named(&rest)
                .iter()
                .filter_map(|item| absolute(&path, item, false))
                .collect();
            let file = source.path.as_str();
            modules.insert(
                path,
                Module {
                    file,
                    needs,
                    exports,
                },
            );
        }
        Self { modules }
    }

    /// The file that defines what a path names.
    fn file_of(&self, item: &[String]) -> Option<&'a str> {
        let mut item = item.to_vec();
        // A re-export of a re-export, and so on; more steps than that are a circle of their own.
        for _ in 0..8 {
            let depth = (0..=item.len())
                .rev()
                .find(|depth| self.modules.contains_key(&item[..*depth]))?;
            let module = &self.modules[&item[..depth]];
            let Some(target) = item.get(depth).and_then(|name| module.exports.get(name)) else {
                return Some(module.file);
            };
            item = target.iter().chain(&item[depth + 1..]).cloned().collect();
        }
        None
    }
}

fn module_path(file: &str) -> Option<Vec<String>> {
    let below = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut path: Vec<String> = below.split('/').map(str::to_string).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    (path != ["lib"] && path != ["main"]).then_some(path)
}

/// The trees of `pub use` (and `pub(…) use`), and the text without them.
fn split_exports(text: &str) -> (Vec<String>, String) {
    let (mut exports, mut rest) = (Vec::new(), String::new());
    let mut left = text;
    while let Some(at) = left.find("use ") {
        let before = &left[..at];
        let line = before.rsplit('\n').next().unwrap_or("").trim();
        let end = left[at..].find(';').map_or(left.len(), |end| at + end);
        if line.starts_with("pub") && !line.contains(['(', ' '])
            || line.starts_with("pub(") && line.ends_with(')')
        {
            exports.push(left[at + "use ".len()..end].to_string());
            rest.push_str(before);
        } else {
            rest.push_str(&left[..end]);
        }
        left = &left[end..];
    }
    rest.push_str(left);
    (exports, rest)
}

/// Every path that begins at the crate, or at a parent, in the text, trees of `use` expanded.
fn named(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            found.extend(expand(&tree_at(&text[at..])));
        }
    }
    // What a module uses of its own children, `use child::Item;`, has no root.
    for line in text.split(';') {
        let line = line.trim_start_matches(|c: char| c != 'u' || c.is_whitespace());
        if let Some(tree) = line.trim().strip_prefix("use ")
            && !tree.starts_with("crate")
            && !tree.starts_with("super")
            && !tree.starts_with("self")
        {
            found.extend(expand(&format!("self::{}", tree.trim())));
        }
    }
    found
}

/// The path or tree of paths at the beginning of a text.
fn tree_at(text: &str) -> String {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        let in_tree = c.is_alphanumeric() || matches!(c, '_' | ':' | '{' | '*');
        depth < 0 || (depth == 0 && !in_tree && *c != '}')
    });
    text[..end.map_or(text.len(), |(at, _)| at)].to_string()
}

/// The paths of a tree such as `a::{b, c::{d, e as f}}`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((head, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or("");
        let parts = path.split("::").map(|part| part.trim().to_string());
        return vec![
            parts
                .filter(|part| !part.is_empty() && part != "*")
                .collect(),
        ];
    };
    let head: Vec<String> = expand(head).remove(0);
    let list = list.strip_suffix('}').unwrap_or(list);
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    let ends = list.char_indices().filter(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0 && *c == ','
    });
    for end in ends
        .map(|(at, _)| at)
        .chain([list.len()])
        .collect::<Vec<_>>()
    {
        for rest in expand(&list[from..end]) {
            if !rest.is_empty() {
                let rest = rest.into_iter().filter(|part| part != "self");
                found.push(head.iter().cloned().chain(rest).collect());
            }
        }
        from = (end + 1).min(list.len());
    }
    found
}

/// A path from the crate's root; none for what belongs to another crate.
fn absolute(module: &[String], item: &[String], may_be_child: bool) -> Option<Vec<String>> {
    let mut at = module.to_vec();
    let mut rest = item;
    match item.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &item[1..];
        }
        "self" => rest = &item[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop()?;
                rest = &rest[1..];
            }
        }
        _ if may_be_child => {}
        _ => return None,
    }
    at.extend(rest.iter().cloned());
    Some(at)
}
