//! What the broker costs when idle, how it starts and stops, a full disk, a damaged one, wrong settings, and what
//! each dynamic key changes, which records are taken.

#![expect(clippy::disallowed_methods, reason = "real processes and real time")]

mod common;
#[path = "limits/damage.rs"]
mod damage;
#[path = "limits/disk_full.rs"]
mod disk_full;
#[path = "limits/dynamic.rs"]
mod dynamic;
#[path = "limits/dynamic_effects.rs"]
mod dynamic_effects;
#[path = "limits/life.rs"]
mod life;
#[path = "limits/readers.rs"]
mod readers;
#[path = "limits/records.rs"]
mod records;
#[path = "limits/settings.rs"]
mod settings;
