//! Pairs as certkeep, OpenSSL and Python's cryptography see them: where they disagree, `docs/differential.md` says why.

mod cases;
mod der;
mod readers;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use cases::Case;
use readers::Verdict;

/// A row of the document: pairs about which the three disagree, and why.
struct Row {
    line: usize,
    /// Names, or `any`: of the input, of the place in it, and of the change.
    kinds: [Vec<String>; 3],
    /// `accepts`, or the reason of the refusal.
    certkeep: String,
    /// `accepts`, `refuses`, or `either` where that depends on the version.
    openssl: String,
    cryptography: String,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differential.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let Some(line) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            continue;
        };
        let cells: Vec<_> = line
            .split(" | ")
            .map(|cell| cell.replace('`', "").trim().to_owned())
            .collect();
        if cells[0] == "input" || cells[0] == "---" {
            continue;
        }
        let [input, place_in_it, change, certkeep, openssl, cryptography, why] = &cells[..] else {
            panic!("line {} has {} cells", place + 1, cells.len())
        };
        assert!(
            why.len() > 10 && why.ends_with('.'),
            "line {} explains nothing",
            place + 1
        );
        for verdict in [openssl, cryptography] {
            assert!(
                ["accepts", "refuses", "either"].contains(&verdict.as_str()),
                "line {}",
                place + 1
            );
        }
        rows.push(Row {
            line: place + 1,
            kinds: [input, place_in_it, change].map(|cell| cell.split(", ").map(str::to_owned).collect()),
            certkeep: certkeep.clone(),
            openssl: openssl.clone(),
            cryptography: cryptography.clone(),
        });
    }
    rows
}

impl Row {
    fn explains(&self, case: &Case, [certkeep, openssl, cryptography]: [&Verdict; 3]) -> bool {
        let is_named = |(names, kind): (&Vec<String>, &String)| names.contains(kind) || names[..] == ["any"];
        let is_told = |told: &str, verdict: &Verdict| told == "either" || (told == "accepts") == verdict.is_ok();
        let own = certkeep.as_ref().err().map_or("accepts", |reason| reason);
        self.kinds.iter().zip(&case.kind).all(is_named)
            && self.certkeep == own
            && is_told(&self.openssl, openssl)
            && is_told(&self.cryptography, cryptography)
    }
}

/// What the three say about each case.
fn verdicts(cases: &[Case]) -> Vec<[Verdict; 3]> {
    let (own, openssl, cryptography) = std::thread::scope(|scope| {
        let openssl = scope.spawn(|| readers::openssl(cases));
        let cryptography = scope.spawn(|| readers::cryptography(cases));
        let own: Vec<_> = cases.iter().map(readers::certkeep).collect();
        (own, openssl.join().unwrap(), cryptography.join().unwrap())
    });
    let others = openssl.into_iter().zip(cryptography);
    own.into_iter()
        .zip(others)
        .map(|(own, (openssl, cryptography))| [own, openssl, cryptography])
        .collect()
}

#[test]
fn every_disagreement_with_openssl_and_cryptography_is_explained_and_no_other() {
    let (rows, cases) = (rows(), cases::all());
    let mut uses = vec![0; rows.len()];
    let mut wrong = BTreeMap::new();
    for (case, verdicts) in cases.iter().zip(verdicts(&cases)) {
        let [own, openssl, cryptography] = &verdicts;
        let explaining = (0..rows.len()).filter(|&row| rows[row].explains(case, [own, openssl, cryptography]));
        let explaining: Vec<_> = explaining.collect();
        explaining.iter().for_each(|&row| uses[row] += 1);
        let disagrees = own.is_ok() != openssl.is_ok() || own.is_ok() != cryptography.is_ok();
        if explaining.len() > 1 || (disagrees && explaining.is_empty()) {
            let lines: Vec<_> = explaining.iter().map(|&row| rows[row].line).collect();
            let accepted = verdicts.each_ref().map(Verdict::is_ok);
            wrong
                .entry((case.kind.join(" | "), own.clone(), accepted))
                .or_insert((lines, verdicts.clone()));
        }
    }
    let mut told = String::new();
    for ((kind, ..), (lines, verdicts)) in wrong {
        writeln!(told, "{kind}: rows {lines:?}").unwrap();
        for (who, verdict) in ["certkeep", "OpenSSL", "cryptography"].iter().zip(verdicts) {
            writeln!(
                told,
                "    {who}: {}",
                verdict.map_or_else(|why| why, |()| "accepts".to_owned())
            )
            .unwrap();
        }
    }
    for (row, _) in rows.iter().zip(uses).filter(|(_, uses)| *uses == 0) {
        writeln!(told, "line {} of docs/differential.md: no pair shows it", row.line).unwrap();
    }
    assert!(told.is_empty(), "\n{told}");
}
