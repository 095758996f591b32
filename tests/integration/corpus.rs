//! Replays every input of the fuzz targets' corpora.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bodies::{self, TARGETS};

/// The maximum growth of memory during the replay, in KiB. The largest input has 320 KiB.
const MAX_GROWTH: usize = 32 * 1024;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_its_target() {
    let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name);
    let names = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().display().to_string());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(name, _)| name);
    assert_eq!(names(folder("corpus")), targets);
    let mut sources = names(folder("fuzz_targets"));
    sources.retain(|name| name != "mutator" && name != "values");
    assert_eq!(sources, targets);
    for target in targets {
        assert!(corpus(target).len() > 3, "the corpus of {target} is empty");
    }
}

/// The replay runs in its own process, because the kernel reports the peak memory of a process. Other tests would change it.
#[test]
fn no_input_breaks_a_promise() {
    let replay = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "corpus::replay", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = [replay.stdout, replay.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(replay.status.success(), "{}", said.concat());
    assert!(said[0].contains("1 passed"), "{}", said.concat());
}

#[test]
#[ignore = "in a process of its own, by no_input_breaks_a_promise"]
#[expect(clippy::print_stdout, reason = "the last file is the one that failed")]
fn replay() {
    let before = most_memory();
    for (target, _) in TARGETS {
        for file in corpus(target) {
            println!("{}", file.display());
            bodies::run(target, &std::fs::read(&file).unwrap());
        }
    }
    if let (Some(before), Some(after)) = (before, most_memory()) {
        println!("memory grew by {} KiB", after - before);
        assert!(after - before < MAX_GROWTH);
    }
}

/// The peak memory of this process in KiB, if the kernel reports it.
fn most_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
