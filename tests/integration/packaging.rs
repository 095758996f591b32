//! What packaging/ ships fits the program. `make prove` builds and installs it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use certkeep::config::SETTINGS;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files and directories that the Dockerfile copies for the build.
fn copied() -> Vec<PathBuf> {
    let dockerfile = read("packaging/Dockerfile");
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let sources = lines.filter(|line| !line.starts_with("--")).flat_map(|line| {
        let mut words: Vec<_> = line.split_whitespace().collect();
        words.pop();
        words
    });
    sources.map(|source| Path::new(ROOT).join(source)).collect()
}

#[test]
fn the_image_has_every_file_that_the_build_reads() {
    let copied = copied();
    let is_copied = |path: &Path| copied.iter().any(|source| path.starts_with(source));
    for path in &copied {
        assert!(path.exists(), "{} is copied", path.display());
    }
    let mut sources = Vec::new();
    for path in copied.iter().filter(|path| path.is_dir()) {
        files_below(path, &mut sources);
    }
    let mut included = BTreeSet::new();
    for source in sources
        .iter()
        .filter(|path| path.extension().is_some_and(|of| of == "rs"))
    {
        let text = read(source);
        // The tests of a module come last, and nobody builds them here.
        let program = text.split("#[cfg(test)]").next().unwrap();
        for macro_name in ["include_str!(\"", "include_bytes!(\"", "include!(\""] {
            let paths = program
                .split(macro_name)
                .skip(1)
                .filter_map(|rest| rest.split('"').next());
            included.extend(paths.map(|path| source.parent().unwrap().join(path)));
        }
    }
    assert!(included.len() > 5, "{included:?}");
    for path in included {
        assert!(
            is_copied(&path.canonicalize().unwrap()),
            "{} is not copied",
            path.display()
        );
    }
    // Cargo refuses a package that lacks the root of a target.
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut roots: BTreeSet<_> = ["Cargo.toml", "Cargo.lock", "build.rs"].map(PathBuf::from).into();
    for (kind, directory) in [
        ("bin", "src"),
        ("test", "tests"),
        ("bench", "benches"),
        ("example", "examples"),
    ] {
        for target in manifest
            .get(kind)
            .and_then(|targets| targets.as_array())
            .into_iter()
            .flatten()
        {
            let name = target["name"].as_str().unwrap();
            let path = target.get("path").and_then(|path| path.as_str());
            roots.insert(path.map_or_else(|| format!("{directory}/{name}.rs").into(), PathBuf::from));
        }
    }
    assert!(roots.contains(Path::new("benches/instructions.rs")), "{roots:?}");
    for root in roots {
        assert!(
            is_copied(&Path::new(ROOT).join(&root)),
            "{} is not copied",
            root.display()
        );
    }
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn packages_set_only_settings_that_there_are() {
    // Of commands, not of the service.
    let mut known =
        BTreeSet::from(["CERTKEEP_ENDPOINT", "CERTKEEP_CA_FILE", "CERTKEEP_ACCESS_KEY_FILE"].map(str::to_owned));
    known.extend(SETTINGS.iter().map(|setting| setting.variable()));
    let mut files = Vec::new();
    files_below(&Path::new(ROOT).join("packaging"), &mut files);
    let mut variables = BTreeSet::new();
    for file in files {
        let text = read(&file);
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        variables.extend(words.filter(|word| word.starts_with("CERTKEEP_")).map(str::to_owned));
    }
    assert!(variables.contains("CERTKEEP_KEY_RING"), "{variables:?}");
    assert_eq!(variables.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}
