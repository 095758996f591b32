//! The lines between the rooms, as ARCHITECTURE.md draws them.

use std::path::{Path, PathBuf};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// A room and the rooms that it may name. Whatever names no room here may be named by all: the leaves.
const ROOMS: [(&str, &[&str]); 9] = [
    ("cli", &["app", "grpc", "server", "store"]),
    ("server", &["app", "certificate", "grpc", "postgres", "seal", "store"]),
    ("grpc", &["app"]),
    ("app", &["certificate", "seal", "store"]),
    ("store", &["certificate"]),
    ("certificate", &[]),
    ("seal", &[]),
    ("postgres", &[]),
    ("clock", &[]),
];

/// A library and the only places that may name it.
const LIBRARIES: [(&str, &[&str]); 8] = [
    ("openssl", &["certificate", "seal", "digest", "store/connect"]),
    ("x509_parser", &["certificate"]),
    ("tokio_postgres", &["store"]),
    ("deadpool_postgres", &["store"]),
    ("postgres_openssl", &["store/connect"]),
    ("tonic", &["grpc", "server", "cli"]),
    ("prost", &["grpc", "cli"]),
    ("SystemTime", &["clock"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Path below src without its ending, and the code without its comments.
fn code() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    sources(Path::new(SRC), &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            let name = path.strip_prefix(SRC).unwrap().with_extension("").display().to_string();
            (name, code)
        })
        .collect()
}

fn room(name: &str) -> &str {
    name.split('/').next().unwrap()
}

fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        edge(code[..at].chars().next_back()) && edge(code[at + word.len()..].chars().next())
    })
}

#[test]
fn no_room_names_one_that_is_not_below_it() {
    let mut wrong = Vec::new();
    for (name, code) in code() {
        let Some((_, below)) = ROOMS.iter().find(|(above, _)| *above == room(&name)) else {
            continue;
        };
        for (other, _) in ROOMS
            .iter()
            .filter(|(other, _)| *other != room(&name) && *other != "clock")
        {
            let braced = code.contains("use crate::{")
                && code
                    .split("use crate::{")
                    .skip(1)
                    .any(|list| names(list.split('}').next().unwrap_or_default(), other));
            if (names(&code, &format!("crate::{other}")) || braced) && !below.contains(other) {
                wrong.push(format!("{name} names {other}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_library_is_named_outside_its_rooms() {
    let mut wrong = Vec::new();
    for (name, code) in code() {
        for (library, allowed) in LIBRARIES {
            // What a room's own tests need is their matter.
            let code = code.split("#[cfg(test)]").next().unwrap_or_default();
            let inside = allowed
                .iter()
                .any(|place| name == *place || name.starts_with(&format!("{place}/")));
            if !inside && (code.contains(&format!("{library}::")) || names(code, &format!("use {library}"))) {
                wrong.push(format!("{name} names {library}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_statement_begins_with_the_name_of_its_function_and_asks_for_the_account() {
    let mut wrong = Vec::new();
    for (name, code) in code().into_iter().filter(|(name, _)| name.starts_with("store/")) {
        let code = code.split("#[cfg(test)]").next().unwrap_or_default().to_lowercase();
        for table in ["server_certificate", "private_key", "server_certificate_tag", "event"] {
            for verb in ["from", "update", "delete from"] {
                let Some(at) = code
                    .find(&format!("{verb} {table}\n"))
                    .or_else(|| code.find(&format!("{verb} {table} ")))
                else {
                    continue;
                };
                let function = code[..at].rsplit("-- store::").next().unwrap_or_default();
                let named = function.lines().next().unwrap_or_default();
                if named.contains("all_accounts") {
                    continue;
                }
                let rest: String = code[at..].chars().take(400).collect();
                if !rest.contains("account_id = ") {
                    wrong.push(format!("{name}: {verb} {table}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
