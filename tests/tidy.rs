//! The house rules that no compiler checks: which module knows which, how long files and
//! functions are, what stands at the top of a file, and which words do not occur.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, sources};

/// Lines of a file without its tests: from here on it is told, ...
const FILE_LINES_TOLD: usize = 600;
/// ... and from here on refused. A machine, a type and its transitions, stands in one file.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, its signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;
/// Entries of a folder.
const FOLDER_ENTRIES_MAX: usize = 14;
/// Files in which the methods of a type stand.
const TYPE_FILES_MAX: usize = 3;

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
    if lines > FILE_LINES_TOLD {
        println!("{}: {lines} lines; is it one machine?", source.path);
    }
    (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
}

#[test]
fn functions_fit_on_a_screen() {
    report(
        "too long a function",
        &["src", "tests", "bench/src", "fuzz/fuzz_targets"]
            .map(sources)
            .concat()
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

#[test]
fn the_files_that_docs_name_are_there() {
    let documents = ["README.md", "CHANGELOG.md"].map(shape::document);
    let mut all = sources("src/manual");
    all.extend(
        sources("src")
            .into_iter()
            .filter(|source| source.path == "src/lib.rs"),
    );
    all.extend(documents);
    let gone: Vec<_> = all.iter().flat_map(shape::missing_paths).collect();
    report("a file that does not exist", &gone);
}

#[test]
fn docs_say_more_than_the_name() {
    // What clap shows as help has to be there.
    let all = ["src", "bench/src"].map(sources).concat();
    let said = all
        .iter()
        .filter(|source| !source.path.starts_with("src/cli/"));
    let repeating: Vec<_> = said.flat_map(shape::repeating_docs).collect();
    report("a doc that only repeats a name", &repeating);
}

#[test]
fn imports_go_one_way() {
    let circles = circles::circles(&sources("src"));
    let circles: Vec<_> = circles.iter().map(|circle| circle.join(", ")).collect();
    report("a circle of imports", &circles);
}

#[test]
fn folders_are_seen_at_a_glance() {
    let full = ["src", "bench/src"]
        .map(|folder| shape::full_folders(&sources(folder), FOLDER_ENTRIES_MAX));
    report("full folders", &full.concat());
}

#[test]
fn names_are_unique_below_a_module() {
    let twice = shape::twice_named(&sources("src"));
    report("type names defined twice", &twice);
}

#[test]
fn methods_of_a_type_stand_together() {
    let scattered = shape::scattered_types(&sources("src"), TYPE_FILES_MAX);
    report("methods of a type in many files", &scattered);
}

#[test]
fn every_dependency_is_used() {
    let unused = [("Cargo.toml", "src"), ("bench/Cargo.toml", "bench/src")]
        .map(|(manifest, folder)| shape::unused_dependencies(manifest, &sources(folder)));
    report("a dependency that nothing names", &unused.concat());
}

/// The control of what looks at many files at once.
#[test]
fn each_rule_of_many_files_can_fail() {
    let house = |files: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source::new(path.to_string(), text.to_string());
        files.iter().map(source).collect::<Vec<_>>()
    };
    let tied = house(&[
        ("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;"),
        ("src/a/b.rs", "use super::c::{self, C};\npub struct B;"),
        (
            "src/a/c.rs",
            "pub struct C;\nimpl C {}\nfn c() -> crate::a::B {}",
        ),
    ]);
    assert_eq!(circles::circles(&tied), [["src/a/b.rs", "src/a/c.rs"]]);
    let straight = house(&[
        (
            "src/a/mod.rs",
            "mod b;\nmod c;\npub use b::B;\npub use c::C;",
        ),
        ("src/a/b.rs", "use crate::a::C;\npub struct B;"),
        ("src/a/c.rs", "pub(in crate::a) struct C;\n// crate::a::B"),
    ]);
    assert!(circles::circles(&straight).is_empty());
    assert_eq!(shape::full_folders(&tied, 2), ["src/a: 3 entries"]);
    assert!(shape::twice_named(&tied).is_empty());
    let twice = house(&[
        ("src/a/b.rs", "pub struct C<T>;"),
        ("src/a/c.rs", "pub(crate) enum C {}"),
    ]);
    assert_eq!(shape::twice_named(&twice), ["C: src/a/b.rs, src/a/c.rs"]);
    let scattered = house(&[
        ("src/a/b.rs", "impl<R: Into<u8>> C<R> {"),
        ("src/a/c.rs", "impl C<u8> {"),
    ]);
    assert_eq!(shape::scattered_types(&scattered, 1), ["a: C in 2 files"]);
    let says = |doc: &str| {
        let text = format!("\n    /// {doc}\n    pub node_id: u32,\n");
        shape::repeating_docs(&Source::new("src/a.rs".into(), text)).len()
    };
    assert_eq!((says("The node's id."), says("Its id.")), (1, 1));
    assert_eq!((says("Unique in the cluster."), says("`node.id`.")), (0, 0));
    let named =
        |text: &str| shape::missing_paths(&Source::new("README.md".into(), text.into())).len();
    assert_eq!(
        named("`log/mod.rs`, `src/log/journal/`, `tests/tidy.rs`"),
        0
    );
    assert_eq!(named("`scan.rs` and\n`log/nowhere/`, `src/nowhere.rs`"), 3);
    assert_eq!(named("`shard-N/journal/` is on a disk"), 0);
    let nothing = house(&[("src/a.rs", "let uuids: u8;")]);
    assert!(shape::unused_dependencies("Cargo.toml", &nothing).contains(&"uuid".into()));
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
        forbidden("src/log/core.rs", "let x = crate::server::serve;"),
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
    assert!(too_long(&source("src/a.rs", &"x\n".repeat(801))).is_some());
    let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "y\n".repeat(900));
    assert!(too_long(&source("src/a.rs", &tested)).is_none());
    let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(70));
    assert_eq!(long_functions(&source("src/a.rs", &long)).len(), 1);
    assert!(sources("src").len() > 100, "the sources were not found");
}
