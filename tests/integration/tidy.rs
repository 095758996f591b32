//! The dependencies between modules, as ARCHITECTURE.md describes them.

use std::path::{Path, PathBuf};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// A module and the modules that it may name. Every module may also name the leaves.
const MODULES: [(&str, &[&str]); 19] = [
    ("cli", &["app", "grpc", "server", "store"]),
    (
        "server",
        &["app", "grpc", "inventory", "peer", "postgres", "seal", "slb", "store"],
    ),
    ("grpc", &["app", "peer"]),
    // It shares the memory of calls and the words of gRPC.
    ("slb", &["alibaba", "app", "grpc", "peer"]),
    (
        "app",
        &["account", "alibaba", "certificate", "inventory", "seal", "store"],
    ),
    ("store", &["account", "certificate", "inventory", "seal"]),
    ("inventory", &["account", "certificate"]),
    ("account", &[]),
    ("alibaba", &["http_client"]),
    ("certificate", &[]),
    ("seal", &["account", "certificate", "http_client", "inventory"]),
    ("postgres", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("digest", &[]),
    ("http_client", &[]),
    ("peer", &["certificate"]),
    ("secret", &[]),
    ("telemetry", &[]),
];

/// Modules that every module may name. They name no other module.
const LEAVES: [&str; 5] = ["clock", "config", "digest", "secret", "telemetry"];

/// A library or a part of a library, and the only modules that may name it.
const LIBRARIES: [(&str, &[&str]); 24] = [
    ("openssl", &["certificate", "seal", "digest", "store/connect"]),
    // This includes the provider of rustls with this name.
    ("ring", &["http_client", "server/tls"]),
    ("x509_parser", &["certificate"]),
    ("tokio_postgres", &["store"]),
    ("deadpool_postgres", &["store"]),
    ("postgres_openssl", &["store/connect", "store/hosts", "store/pooled"]),
    ("tonic", &["grpc", "server", "cli"]),
    ("prost", &["grpc", "cli"]),
    ("certkeep_client", &["grpc", "cli"]),
    ("cryptoki", &["seal/provider/pkcs11"]),
    ("reqwest", &["alibaba/cas", "http_client", "seal/provider/transit"]),
    ("indicatif", &["cli"]),
    ("axum", &["server", "slb"]),
    ("rustls", &["http_client", "server", "store"]),
    ("tokio_rustls", &["server", "store"]),
    ("rustls_native_certs", &["http_client", "store"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("SystemTime", &["clock"]),
    // postgres/binaries only splits and joins a given PATH.
    ("env", &["main", "cli", "postgres/binaries"]),
];

/// Uses of the library `metrics`. telemetry has a module with the same name.
const METRICS: [&str; 4] = ["use metrics", "counter!", "gauge!", "histogram!"];

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

/// Path relative to src without its extension, and the code without its comments.
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

fn module(name: &str) -> &str {
    name.split('/').next().unwrap()
}

/// Whether the code contains these words as whole words.
fn names(code: &str, words: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let goes_on = |c: Option<char>| c.is_some_and(is_letter);
    code.match_indices(words).any(|(at, _)| {
        let may_go_on = !words.ends_with(is_letter);
        !goes_on(code[..at].chars().next_back()) && (may_go_on || !goes_on(code[at + words.len()..].chars().next()))
    })
}

#[test]
fn a_module_names_only_the_modules_below_it() {
    let mut wrong = Vec::new();
    for (name, code) in code() {
        let Some((_, below)) = MODULES.iter().find(|(above, _)| *above == module(&name)) else {
            continue;
        };
        for (other, _) in MODULES
            .iter()
            .filter(|(other, _)| *other != module(&name))
            .filter(|(other, _)| LEAVES.contains(&module(&name)) || !LEAVES.contains(other))
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
fn a_library_is_named_only_in_its_modules() {
    let mut wrong = Vec::new();
    for (name, code) in code() {
        // Unit tests may use any library.
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        let is_inside = |places: &[&str]| {
            places
                .iter()
                .any(|place| name == *place || name.starts_with(&format!("{place}/")))
        };
        let libraries = LIBRARIES.into_iter().filter(|(library, allowed)| {
            !is_inside(allowed) && (names(code, &format!("{library}::")) || names(code, &format!("use {library}")))
        });
        wrong.extend(libraries.map(|(library, _)| format!("{name} names {library}")));
        let metrics = METRICS
            .into_iter()
            .filter(|words| !is_inside(&["telemetry"]) && names(code, words));
        wrong.extend(metrics.map(|words| format!("{name} says {words}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}
