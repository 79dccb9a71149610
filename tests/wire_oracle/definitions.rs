//! The definitions of `src/wire/messages`, read as samples.

#[path = "../../src/wire/messages"]
#[expect(unused_imports, reason = "a sample has a value, but no name")]
mod messages {
    mod cluster;
    mod common;
    mod configs;
    mod records;
    mod topics;
}
