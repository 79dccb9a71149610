//! The house rules that no compiler checks: which module knows which, how long files and
//! functions are, what stands at the top of a file, and which words do not occur.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, sources};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 450;
/// Lines of a function, its signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;
const BANNED: [&str; 4] = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"];

/// Prints what breaks a rule, and fails if anything does.
fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn modules_know_only_what_lies_below_them() {
    let broken: Vec<_> = sources("src").iter().flat_map(imports::forbidden).collect();
    report("an arrow that is not in the import table", &broken);
}

#[test]
fn unsafe_stands_in_rt_alone() {
    report(
        "unsafe outside src/rt",
        &sources("src")
            .iter()
            .flat_map(unsafe_lines)
            .collect::<Vec<_>>(),
    );
}

fn unsafe_lines(source: &Source) -> Vec<String> {
    if source.path.starts_with("src/rt/") {
        return Vec::new();
    }
    source.lines_with(|code| words(code).any(|word| word == "unsafe"))
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[test]
fn nothing_is_left_for_later() {
    let mut all = sources("src");
    all.extend(
        sources("tests")
            .into_iter()
            .filter(|source| source.path != "tests/tidy.rs"),
    );
    report(
        "banned words",
        &all.iter().flat_map(banned_lines).collect::<Vec<_>>(),
    );
}

fn banned_lines(source: &Source) -> Vec<String> {
    source.lines_with(|code| BANNED.iter().any(|word| code.contains(word)))
}

#[test]
fn files_are_short() {
    report(
        "too long a file",
        &sources("src")
            .iter()
            .filter_map(too_long)
            .collect::<Vec<_>>(),
    );
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.production_lines();
    (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
}

#[test]
fn functions_fit_on_a_screen() {
    report(
        "too long a function",
        &sources("src")
            .iter()
            .flat_map(long_functions)
            .collect::<Vec<_>>(),
    );
}

fn long_functions(source: &Source) -> Vec<String> {
    let too_long = |(name, line, lines): (String, usize, usize)| {
        (lines > FUNCTION_LINES_MAX)
            .then(|| format!("{}:{line}: {name}, {lines} lines", source.path))
    };
    source
        .functions()
        .into_iter()
        .filter_map(too_long)
        .collect()
}

#[test]
fn every_file_says_what_it_is() {
    // What is included elsewhere cannot have a doc of its own.
    let opening = |path: &str| {
        if path.starts_with("fuzz/") {
            "//"
        } else {
            "//!"
        }
    };
    let silent = |source: &Source| {
        (!source.text.starts_with(opening(&source.path))).then(|| source.path.clone())
    };
    let all = ["src", "tests", "bench/src", "fuzz/fuzz_targets"]
        .map(sources)
        .concat();
    report(
        "no module doc at the top",
        &all.iter().filter_map(silent).collect::<Vec<_>>(),
    );
}

/// The control: each rule sees what breaks it.
#[test]
fn each_rule_can_fail() {
    let source = |path: &str, text: &str| Source::new(path.into(), text.into());
    let forbidden = |path: &str, text: &str| imports::forbidden(&source(path, text)).len();
    assert_eq!(forbidden("src/model/ids.rs", "use crate::wire::Str;"), 1);
    assert_eq!(
        forbidden("src/model/ids.rs", "use super::batch::Header;"),
        0
    );
    assert_eq!(
        forbidden("src/log/core.rs", "let x = crate::server::run_node;"),
        1
    );
    assert_eq!(forbidden("src/log/core.rs", "use crate::{model, wire};"), 1);
    assert_eq!(
        forbidden(
            "src/log/core.rs",
            "use crate::{\n    model::Offset,\n    shard::Shard,\n};"
        ),
        1
    );
    assert_eq!(
        forbidden(
            "src/log/core.rs",
            "// use crate::wire;\nuse crate::rt::Buf;"
        ),
        0
    );
    assert_eq!(
        forbidden(
            "src/log/core.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::sim::Sim;\n}\n"
        ),
        0
    );
    assert_eq!(forbidden("src/log/tests.rs", "use crate::sim::Sim;"), 0);
    assert_eq!(
        unsafe_lines(&source("src/log/a.rs", "unsafe { x }")).len(),
        1
    );
    assert_eq!(
        unsafe_lines(&source(
            "src/log/a.rs",
            "// unsafe\nlet unsafely = \"unsafe\";"
        ))
        .len(),
        0
    );
    assert_eq!(
        banned_lines(&source("src/a.rs", "fn a() { todo!() }")).len(),
        1
    );
    assert!(too_long(&source("src/a.rs", &"x\n".repeat(451))).is_some());
    let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "y\n".repeat(500));
    assert!(too_long(&source("src/a.rs", &tested)).is_none());
    let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(70));
    assert_eq!(long_functions(&source("src/a.rs", &long)).len(), 1);
    assert!(sources("src").len() > 100, "the sources were not found");
}
