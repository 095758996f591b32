//! The documents agree with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use certkeep::account::Role;
use certkeep::app::roles_of;
use certkeep::certificate::FindingCode;
use certkeep::config::{SETTINGS, Shape, TlsFiles};
use certkeep::grpc::DESCRIPTORS;
use prost_reflect::DescriptorPool;

use crate::external::run;
use crate::harness::{REGION, TestServer, temp_dir};
use crate::process::{CERTKEEP, certkeep, stderr, stdout};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of each row of the document's tables, without the backquotes around them.
fn rows(document: &str) -> Vec<Vec<String>> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(cell).collect())
        .collect()
}

#[test]
fn every_setting_stands_in_its_table() {
    let rows = rows(&read("docs/configuration.md"));
    for setting in &SETTINGS {
        let wanted = [
            setting.key.to_owned(),
            setting.variable(),
            format!("--{}", setting.flag()),
        ];
        let found: Vec<_> = rows.iter().filter(|row| row[0] == setting.key).collect();
        let [row] = found.as_slice() else {
            panic!("{} has {} rows", setting.key, found.len())
        };
        assert_eq!(row[..3], wanted);
        match setting.default {
            Some(default) => assert_eq!(row[3], default, "{}", setting.key),
            None => assert!(!row[3].is_empty(), "{} has no default", setting.key),
        }
        assert!(row[4].len() > 10, "{} has no meaning", setting.key);
    }
    let explained = rows
        .iter()
        .filter(|row| row.len() == 5 && row[1].starts_with("CERTKEEP_"));
    assert_eq!(explained.count(), SETTINGS.len(), "a setting that is none is explained");
}

/// The parser of the settings file reads every settings file that the documents show.
#[test]
fn the_example_files_are_files_of_settings() {
    let document = read("docs/configuration.md");
    let shown = document
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap_or_default().to_owned());
    let shipped = read("packaging/certkeep.toml");
    // This includes commented settings. A setting in a comment is a line `# key = value`.
    let is_setting = |line: &str| {
        SETTINGS
            .iter()
            .any(|setting| line.starts_with(&format!("{} = ", setting.key)))
    };
    let uncommented: Vec<_> = shipped
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .collect();
    for text in shown.chain([shipped.clone(), uncommented.join("\n")]) {
        let table: toml::Table = text.parse().unwrap();
        for (key, value) in table {
            if key == "regions" {
                let known = ["id", "en_us", "zh_cn", "ja"];
                let regions = value
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|region| region.as_table().unwrap());
                let mut keys = regions.flat_map(|region| region.keys());
                assert!(keys.all(|key| known.contains(&key.as_str())), "{text}");
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                panic!("{key} is no setting")
            };
            let fits = match setting.shape {
                Shape::Text(_) | Shape::Secret(_) => value.is_str(),
                Shape::Number(_) => value.is_integer(),
                Shape::Switch => value.is_bool(),
            };
            assert!(fits, "{key} = {value}");
        }
    }
}

#[test]
fn the_shipped_file_is_accepted() {
    let path = Path::new(ROOT).join("packaging/certkeep.toml");
    let shown = certkeep(&["serve", "--print-config", "--config", path.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    assert!(stdout(&shown).contains("data_dir = \"/var/lib/certkeep\"  # file"));
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut found = Vec::new();
    for directory in [root.to_owned(), root.join("docs"), root.join("docs/decisions")] {
        let entries = std::fs::read_dir(directory).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found
}

#[test]
fn links_between_files_lead_to_files_and_to_their_headings() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let is_found = target.exists() && (heading.is_empty() || anchors(&target).contains(&heading.to_owned()));
            if !is_found {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The anchors of a document's headings, for links.
fn anchors(document: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(document).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The names of metrics in a text. The suffixes of a histogram's series are removed.
fn metrics_in(text: &str, histograms: &[String]) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let series = |word: &str| {
        let metric = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| word.strip_suffix(end))?;
        histograms.iter().find(|name| *name == metric).cloned()
    };
    words
        .filter(|word| word.starts_with("certkeep_"))
        .map(|word| series(word).unwrap_or_else(|| word.to_owned()))
        .collect()
}

#[test]
fn document_alerts_and_dashboard_name_the_metrics_that_there_are() {
    let rows = rows(&read("docs/operations.md"));
    let metrics = rows.iter().filter(|row| row[0].starts_with("certkeep_"));
    let histograms: Vec<_> = metrics
        .clone()
        .filter(|row| row[1] == "histogram")
        .map(|row| row[0].clone())
        .collect();
    let known: BTreeSet<_> = metrics.map(|row| row[0].clone()).collect();

    let mut there_are = metrics_in(&read("src/telemetry/metrics.rs"), &histograms);
    there_are.extend(metrics_in(&read("src/telemetry/rankings.rs"), &histograms));
    assert_eq!(there_are, known);
    let alerts = read("packaging/prometheus/alerts.yml");
    for file in [&alerts, &read("packaging/prometheus/alerts_test.yml")] {
        let unknown: Vec<_> = metrics_in(file, &histograms).difference(&known).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new());
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("packaging/grafana/certkeep.json")).unwrap();
    assert_eq!(metrics_in(&dashboard.to_string(), &histograms), known);

    let named: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let explained: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
    let explained: Vec<_> = explained
        .into_iter()
        .filter(|name| name.starts_with("Certkeep"))
        .collect();
    assert_eq!(named, explained);
}

#[test]
fn every_finding_is_explained() {
    let rows = rows(&read("docs/findings.md"));
    let explained: Vec<_> = rows.iter().filter(|row| row.len() == 6 && row[0] != "code").collect();
    for code in FindingCode::all() {
        let found: Vec<_> = explained.iter().filter(|row| row[0] == code.as_str()).collect();
        let [row] = found.as_slice() else {
            panic!("{code} has {} rows", found.len())
        };
        let severity = format!("{:?}", code.severity()).to_lowercase();
        assert_eq!(
            (row[1].as_str(), row[5].as_str()),
            (severity.as_str(), code.rule()),
            "{code}"
        );
        assert!(row[2..5].iter().all(|text| text.ends_with('.')), "{code}");
    }
    assert_eq!(
        explained.iter().filter(|row| row[0] != "---").count(),
        FindingCode::all().count(),
        "a code that is none is explained"
    );
}

#[test]
fn the_table_of_roles_is_that_of_the_service() {
    const HEADING: &str = "| call | reader | editor | admin | consumer | operator |";
    let roles = [Role::Reader, Role::Editor, Role::Admin, Role::Consumer, Role::Operator];
    let document = read("docs/access.md");
    let table = document.lines().skip_while(|line| *line != HEADING).skip(2);
    let mut told = BTreeMap::new();
    for row in table.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        for method in cells[0].split(['`', ' ']).filter(|method| !method.is_empty()) {
            let is_told: Vec<_> = cells[1..].iter().map(|cell| *cell == "y").collect();
            assert_eq!(told.insert(method.to_owned(), is_told), None, "{method} is there twice");
        }
    }
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let services: Vec<_> = pool.services().collect();
    let methods = services.iter().flat_map(|service| service.methods());
    let allowed = |method: &str| {
        roles
            .iter()
            .map(|role| roles_of(method).contains(role))
            .collect::<Vec<_>>()
    };
    let expected: BTreeMap<_, _> = methods
        .map(|method| (method.name().to_owned(), allowed(method.name())))
        .collect();
    assert_eq!(told, expected, "docs/access.md has the roles of every call");
}

/// `ps` shows the arguments of a command to every user of the machine.
#[test]
fn no_command_of_the_documents_has_an_access_key_as_an_argument() {
    let mut files = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        files.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    for file in files {
        for line in read(&file).lines() {
            let is_argument = line.contains("Bearer $(") || line.contains("Bearer $ADMIN") || line.contains("-H \"$");
            assert!(!is_argument, "{file}: {line}");
        }
    }
}

/// A pair for an upload, and one for the listener: `openssl` makes them as README says, and they have no warning and pass rustls.
#[tokio::test(flavor = "multi_thread")]
async fn the_pairs_of_the_readme_can_be_uploaded_and_served() {
    let dir = temp_dir();
    let readme = read("README.md");
    let commands: Vec<_> = readme
        .match_indices("    openssl req ")
        .map(|(at, _)| &readme[at..])
        .collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let command = command.split("\n\n").next().unwrap();
        let made = Command::new("sh")
            .args(["-ec", command])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
    }
    let [certificate, private_key] = ["tls.pem", "tls-key.pem"].map(|name| dir.path().join(name));
    let tls = TlsFiles {
        certificate,
        private_key,
        client_ca: None,
    };
    let server = TestServer::start_with(|config| config.tls = Some(tls)).await;
    let mut upload = Command::new(CERTKEEP);
    upload
        .args([
            "upload",
            "--cert",
            "cert.pem",
            "--key",
            "key.pem",
            "--ca-file",
            "tls.pem",
            "--region",
            REGION,
        ])
        .args([
            "--endpoint",
            &format!("https://localhost:{}", server.address().port()),
            "--access-key-file",
        ])
        .arg(server.admin_key_file())
        .current_dir(dir.path());
    let uploaded = run(upload).await;
    assert!(uploaded.status.success(), "{}", stderr(&uploaded));
    assert!(!stderr(&uploaded).contains("warning"), "{}", stderr(&uploaded));
    server.stop().await;
}

/// Every service has a deadline, streams have none, and calls are repeated whose repetition changes nothing.
#[test]
fn the_service_config_of_clients_fits_the_methods() {
    let config: serde_json::Value = read("proto/service_config.json").parse().unwrap();
    let names = |entry: &serde_json::Value| {
        let names = entry["name"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        names
            .map(|name| (text(&name["service"]), text(&name["method"])))
            .collect::<BTreeSet<_>>()
    };
    let entries = config["methodConfig"].as_array().unwrap();
    let deadlines: Vec<_> = entries.iter().map(|entry| entry["timeout"].as_str()).collect();
    assert_eq!(deadlines, [Some("35s"), None, Some("35s")]);
    let (mut all, mut streams, mut repeatable) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    for service in pool
        .services()
        .filter(|service| service.package_name() == "certkeep.v1")
    {
        all.insert((service.full_name().to_owned(), String::new()));
        for method in service.methods() {
            let repeats_itself = method.input().get_field_by_name("client_token").is_some()
                || ["Check", "Describe", "Get", "List", "Search"]
                    .iter()
                    .any(|verb| method.name().starts_with(verb))
                || ["TagResources", "UntagResources", "BindServerCertificate", "RenewLeases"].contains(&method.name());
            let name = (service.full_name().to_owned(), method.name().to_owned());
            if method.is_server_streaming() {
                streams.insert(name);
            } else if repeats_itself {
                repeatable.insert(name);
            }
        }
    }
    assert_eq!(
        [&entries[0], &entries[1], &entries[2]].map(names),
        [all, streams, repeatable]
    );
}
