//! The examples and the exit codes in the long help of each command.

use clap::Command;

/// The maximum width of a help text.
pub(super) const MAX_WIDTH: usize = 100;

/// The help of a command beside its arguments.
struct Help {
    /// The command without `certkeep`, for example `ca upload`.
    command: &'static str,
    /// A line that says what an example is for, and its command line.
    examples: &'static [(&'static str, &'static str)],
    exit_codes: ExitCodes,
}

enum ExitCodes {
    /// Those of a call that reads.
    Reads,
    /// Those of a call that changes something.
    Changes,
    /// Those of a command that calls no service.
    Local,
    /// Others.
    Own(&'static str),
}

const READS: &str = "  0  done
  1  the service refused the call
  2  the command line is wrong
  3  the service cannot be reached or is busy; try again";
const CHANGES: &str = "  0  done
  1  the service refused the call; nothing was changed
  2  the command line is wrong
  3  the service cannot be reached or is busy; nothing was changed, try again
  4  there was no answer: look whether the change took effect before you repeat it";
const LOCAL: &str = "  0  done
  1  the command failed
  2  the command line or a setting is wrong";
const GET: &str = "  0  done
  1  the service refused the call
  2  the command line is wrong
  3  the service cannot be reached or is busy; try again
  6  --known-version is the present version, and nothing was written";
const CHECK: &str = "  0  nothing to worry about
  1  an upload would be refused
  2  the command line is wrong, or a file cannot be read
  3  the service cannot be reached or is busy (--online)
  5  there are warnings";
const EXPIRING: &str = "  0  no certificate expires in this time
  1  the service refused the call
  2  the command line is wrong
  3  the service cannot be reached or is busy; try again
  5  certificates are listed";
const IMPORT: &str = "  0  every pair is stored
  1  something was refused, cannot be read, or lacks its other half
  2  the command line is wrong
  3  the service cannot be reached or is busy
  130  interrupted
Repeat the command after an error: no pair is stored twice.";
const SYNC: &str = "  0  stopped by a signal; with --once: the folder is up to date, changed or not
  1  the service refused the access key; with --once: a certificate, a link or the
     command failed
  2  the command line is wrong
  3  with --once: the service cannot be reached or is busy";
const AUDIT_VERIFY: &str = "  0  the trails are whole
  1  a trail is broken, a head is missing, or the service refused the call
  2  the command line is wrong
  3  the service cannot be reached or is busy; try again";
const KEYRING_VERIFY: &str = "  0  no fault
  1  a fault, or the database, the key ring or the service cannot be used
  2  the command line or a setting is wrong";
const HEALTH: &str = "  0  the server serves
  2  the command line or a setting is wrong
  3  the server cannot be reached, or does not serve now";
const SERVE: &str = "  0  stopped by a signal
  1  the start failed
  2  a setting is wrong";

use ExitCodes::{Changes, Local, Own, Reads};

const HELP: &[Help] = &[
    Help {
        command: "serve",
        examples: &[
            ("Run with a private database, for this machine", "certkeep serve"),
            (
                "Check the settings and the files that they name",
                "certkeep serve --config /etc/certkeep/certkeep.toml --print-config",
            ),
        ],
        exit_codes: Own(SERVE),
    },
    Help {
        command: "migrate",
        examples: &[(
            "Migrate before the first replica of a new version starts",
            "certkeep migrate --database-owner-url-file owner-url --database-url-file url",
        )],
        exit_codes: Local,
    },
    Help {
        command: "bootstrap",
        examples: &[
            (
                "Create the first account in your own database",
                "certkeep bootstrap --database-url-file url --key-ring key-ring",
            ),
            (
                "Create an admin key of an account that lost its own",
                "certkeep bootstrap --recover --account shop --secret-file new.key",
            ),
        ],
        exit_codes: Local,
    },
    Help {
        command: "upload",
        examples: &[
            (
                "Upload a pair",
                "certkeep upload --cert fullchain.pem --key privkey.pem",
            ),
            (
                "Check it with the service and store nothing",
                "certkeep upload --cert fullchain.pem --key privkey.pem --validate-only",
            ),
            (
                "Give it a name and a tag",
                "certkeep upload --cert cert.pem --key key.pem --name shop --tag team=web",
            ),
        ],
        exit_codes: Changes,
    },
    Help {
        command: "import",
        examples: &[
            (
                "See what an import would do",
                "certkeep import /etc/letsencrypt/live --dry-run",
            ),
            (
                "Renew what is stored, and upload the rest",
                "certkeep import /etc/letsencrypt/live --renew",
            ),
        ],
        exit_codes: Own(IMPORT),
    },
    Help {
        command: "check",
        examples: &[
            ("Check a pair without a service", "certkeep check cert.pem key.pem"),
            (
                "Refuse what expires soon",
                "certkeep check cert.pem key.pem --policy default,EXPIRES_SOON=reject",
            ),
        ],
        exit_codes: Own(CHECK),
    },
    Help {
        command: "describe",
        examples: &[
            ("List all certificates", "certkeep describe"),
            (
                "List the deleted ones as YAML",
                "certkeep describe --deleted --output yaml",
            ),
            (
                "Choose the columns",
                "certkeep describe --columns name,common-name,expires,key",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "search",
        examples: &[
            (
                "Find what serves a host, also by a wildcard",
                "certkeep search --domain www.example.com --covered",
            ),
            (
                "Find a certificate by the fingerprint that a browser shows",
                "certkeep search --fingerprint 5E:0D:1F:3C:9A:42:7B:66:10:8E:D5:3F:77:21:C0:9B:4A:E8:12:6D",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "expiring",
        examples: &[
            ("What expires in the next 30 days", "certkeep expiring"),
            (
                "For cron: exit code 5 if something expires in two weeks",
                "certkeep expiring --within 2w",
            ),
        ],
        exit_codes: Own(EXPIRING),
    },
    Help {
        command: "get",
        examples: &[
            ("Show a certificate by its name", "certkeep get shop"),
            ("Print its chain", "certkeep get shop --output pem"),
            (
                "Write the chain and the private key to a directory",
                "certkeep get shop --with-key --out /etc/nginx/tls",
            ),
        ],
        exit_codes: Own(GET),
    },
    Help {
        command: "rename",
        examples: &[("Rename a certificate", "certkeep rename shop shop-2026")],
        exit_codes: Changes,
    },
    Help {
        command: "renew",
        examples: &[
            (
                "Give a certificate its new pair",
                "certkeep renew shop --cert fullchain.pem --key privkey.pem",
            ),
            (
                "Do so in every region that has the same pair",
                "certkeep renew shop --cert fullchain.pem --key privkey.pem --everywhere",
            ),
        ],
        exit_codes: Changes,
    },
    Help {
        command: "versions",
        examples: &[("List the versions of a certificate", "certkeep versions shop")],
        exit_codes: Reads,
    },
    Help {
        command: "rollback",
        examples: &[("Give it the pair of version 3 again", "certkeep rollback shop 3")],
        exit_codes: Changes,
    },
    Help {
        command: "delete",
        examples: &[
            ("Delete a certificate by its name", "certkeep delete shop"),
            ("Delete it although holders serve it", "certkeep delete shop --force"),
        ],
        exit_codes: Changes,
    },
    Help {
        command: "undelete",
        examples: &[
            ("Find the id", "certkeep describe --deleted"),
            (
                "Undelete the certificate",
                "certkeep undelete 1234567890123456_19ad1f0c3a2_-1203945811_778120394",
            ),
        ],
        exit_codes: Changes,
    },
    Help {
        command: "purge",
        examples: &[(
            "Purge a deleted certificate now",
            "certkeep purge 1234567890123456_19ad1f0c3a2_-1203945811_778120394",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "watch",
        examples: &[
            ("Print every change", "certkeep watch"),
            (
                "For a program: one JSON object in each line",
                "certkeep watch --output jsonl --name-prefix shop",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "sync",
        examples: &[
            (
                "Keep nginx's certificates up to date",
                "certkeep sync /etc/nginx/tls --tag use=nginx --exec 'nginx -s reload'",
            ),
            (
                "From cron",
                "certkeep sync /etc/haproxy/tls --name-prefix shop --once --exec 'systemctl reload haproxy'",
            ),
        ],
        exit_codes: Own(SYNC),
    },
    Help {
        command: "leases",
        examples: &[
            ("Who serves which certificate", "certkeep leases"),
            ("Who does not serve the present version", "certkeep leases --behind"),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "ca upload",
        examples: &[(
            "Upload a CA certificate",
            "certkeep ca upload root.pem --name corporate-root",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "ca describe",
        examples: &[("List the CA certificates", "certkeep ca describe")],
        exit_codes: Reads,
    },
    Help {
        command: "ca get",
        examples: &[("Print a CA certificate", "certkeep ca get corporate-root --output pem")],
        exit_codes: Reads,
    },
    Help {
        command: "ca rename",
        examples: &[("Rename a CA certificate", "certkeep ca rename corporate-root old-root")],
        exit_codes: Changes,
    },
    Help {
        command: "ca delete",
        examples: &[("Delete a CA certificate", "certkeep ca delete old-root")],
        exit_codes: Changes,
    },
    Help {
        command: "ca undelete",
        examples: &[(
            "Undelete a CA certificate",
            "certkeep ca undelete 1234567890123456_19ad1f0c3a2_-1203945811_778120394",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "ca purge",
        examples: &[(
            "Purge a deleted CA certificate now",
            "certkeep ca purge 1234567890123456_19ad1f0c3a2_-1203945811_778120394",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "tag",
        examples: &[(
            "Set two tags",
            "certkeep tag 1234567890123456_19ad1f0c3a2_-1203945811_778120394 --tag team=web --tag env=prod",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "untag",
        examples: &[(
            "Remove a tag",
            "certkeep untag 1234567890123456_19ad1f0c3a2_-1203945811_778120394 --key env",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "tags",
        examples: &[(
            "List the certificates of a team, with their tags",
            "certkeep tags --tag team=web",
        )],
        exit_codes: Reads,
    },
    Help {
        command: "resource-group create",
        examples: &[("Create a resource group", "certkeep resource-group create shop")],
        exit_codes: Changes,
    },
    Help {
        command: "resource-group list",
        examples: &[("List the resource groups", "certkeep resource-group list")],
        exit_codes: Reads,
    },
    Help {
        command: "resource-group rename",
        examples: &[(
            "Rename a resource group",
            "certkeep resource-group rename rg-015d6fcb45a3abababababababababab store",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "resource-group delete",
        examples: &[(
            "Delete an empty resource group",
            "certkeep resource-group delete rg-015d6fcb45a3abababababababababab",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "resource-group move",
        examples: &[(
            "Move a certificate to a group",
            "certkeep resource-group move 1234567890123456_19ad1f0c3a2_-1203945811_778120394 rg-015d6fcb45a3abababababababababab",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "access-key create",
        examples: &[
            (
                "A key for a proxy: it gets the pairs of one team",
                "certkeep access-key create --role consumer --scope-name-prefix shop --secret-file proxy.key",
            ),
            (
                "A key for a pipeline that ends by itself",
                "certkeep access-key create --role editor --expires-in 90d --secret-file ci.key",
            ),
        ],
        exit_codes: Changes,
    },
    Help {
        command: "access-key list",
        examples: &[
            ("List the keys", "certkeep access-key list"),
            (
                "Keys that nobody used for 90 days",
                "certkeep access-key list --unused 90",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "access-key update",
        examples: &[(
            "Let a key end in 30 days",
            "certkeep access-key update ck5f0e1d2c3b4a59687786 --expires-in 30d",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "access-key disable",
        examples: &[("Disable a key", "certkeep access-key disable ck5f0e1d2c3b4a59687786")],
        exit_codes: Changes,
    },
    Help {
        command: "access-key enable",
        examples: &[("Enable it again", "certkeep access-key enable ck5f0e1d2c3b4a59687786")],
        exit_codes: Changes,
    },
    Help {
        command: "access-key delete",
        examples: &[(
            "Delete a disabled key",
            "certkeep access-key delete ck5f0e1d2c3b4a59687786",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "account create",
        examples: &[(
            "Create an account and its first admin key",
            "certkeep account create shop --secret-file shop-admin.key",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "account list",
        examples: &[("List the accounts", "certkeep account list")],
        exit_codes: Reads,
    },
    Help {
        command: "account rename",
        examples: &[("Rename an account", "certkeep account rename 1234567890123456 store")],
        exit_codes: Changes,
    },
    Help {
        command: "account disable",
        examples: &[("Disable an account", "certkeep account disable 1234567890123456")],
        exit_codes: Changes,
    },
    Help {
        command: "account enable",
        examples: &[("Enable it again", "certkeep account enable 1234567890123456")],
        exit_codes: Changes,
    },
    Help {
        command: "account admin-key",
        examples: &[(
            "Create an admin key of an account that lost its own",
            "certkeep account admin-key 1234567890123456 --description 'ticket 4711' --secret-file new.key",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "quota list",
        examples: &[
            ("List the quotas of your account", "certkeep quota list"),
            (
                "List those of another account, as operator",
                "certkeep quota list --account 1234567890123456",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "quota set",
        examples: &[(
            "Allow 20,000 server certificates in each region",
            "certkeep quota set --account 1234567890123456 server-certificates 20000",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "quota reset",
        examples: &[(
            "Return to the default",
            "certkeep quota reset --account 1234567890123456 server-certificates",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "keyring list",
        examples: &[("List keys, replicas and the rotation", "certkeep keyring list")],
        exit_codes: Reads,
    },
    Help {
        command: "keyring add",
        examples: &[(
            "Add a key to the file of this host",
            "certkeep keyring add --key-ring key-ring",
        )],
        exit_codes: Local,
    },
    Help {
        command: "keyring rotate",
        examples: &[(
            "Rotate to a key that every replica has",
            "certkeep keyring rotate 0f1e2d3c4b5a6978",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "keyring retire",
        examples: &[("Retire the old key", "certkeep keyring retire 8796a5b4c3d2e1f0")],
        exit_codes: Changes,
    },
    Help {
        command: "keyring verify",
        examples: &[(
            "Verify a restored database",
            "certkeep keyring verify --database-url-file url --key-ring key-ring",
        )],
        exit_codes: Own(KEYRING_VERIFY),
    },
    Help {
        command: "keyring verify-remotely",
        examples: &[(
            "Verify 100 rows in a second",
            "certkeep keyring verify-remotely --rate 100",
        )],
        exit_codes: Own(KEYRING_VERIFY),
    },
    Help {
        command: "identity create",
        examples: &[(
            "Let a SPIFFE fleet get pairs without access keys",
            "certkeep identity create --spiffe-id 'spiffe://example.org/web/*' --account 1234567890123456 --role consumer",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "identity list",
        examples: &[("List the client identities", "certkeep identity list")],
        exit_codes: Reads,
    },
    Help {
        command: "identity delete",
        examples: &[(
            "Delete a client identity",
            "certkeep identity delete --dns-name web.example.org",
        )],
        exit_codes: Changes,
    },
    Help {
        command: "regions",
        examples: &[("List the regions", "certkeep regions")],
        exit_codes: Reads,
    },
    Help {
        command: "login",
        examples: &[
            (
                "Keep a server and its access key as the context prod",
                "certkeep login prod --endpoint https://certkeep.example:50051 --ca-file ca.pem",
            ),
            (
                "Read the access key from a file",
                "certkeep login --endpoint https://certkeep.example:50051 --access-key-file admin.key",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "context list",
        examples: &[("List the contexts", "certkeep context list")],
        exit_codes: Local,
    },
    Help {
        command: "context use",
        examples: &[("Use another server from now on", "certkeep context use prod")],
        exit_codes: Local,
    },
    Help {
        command: "context show",
        examples: &[("Show which server and key commands use", "certkeep context show")],
        exit_codes: Local,
    },
    Help {
        command: "context delete",
        examples: &[("Delete a context", "certkeep context delete prod")],
        exit_codes: Local,
    },
    Help {
        command: "audit",
        examples: &[
            (
                "Who deleted certificates since a day",
                "certkeep audit --method DeleteServerCertificate --from 2026-11-01",
            ),
            (
                "Send every event to a log collector",
                "certkeep audit --follow --token-file audit.token --output jsonl",
            ),
        ],
        exit_codes: Reads,
    },
    Help {
        command: "audit verify",
        examples: &[("Verify the audit trails", "certkeep audit verify")],
        exit_codes: Own(AUDIT_VERIFY),
    },
    Help {
        command: "whoami",
        examples: &[("Show your account, role and scope", "certkeep whoami")],
        exit_codes: Reads,
    },
    Help {
        command: "health",
        examples: &[
            ("Of the listener on this machine", "certkeep health"),
            (
                "Of another machine",
                "certkeep health --endpoint https://certkeep.example:50051 --ca-file ca.pem",
            ),
        ],
        exit_codes: Own(HEALTH),
    },
    Help {
        command: "completions",
        examples: &[
            (
                "bash: completes from the next shell on",
                "certkeep completions bash > ~/.local/share/bash-completion/completions/certkeep",
            ),
            (
                "zsh: the directory must be in fpath, before compinit",
                "certkeep completions zsh > ~/.zfunc/_certkeep",
            ),
            (
                "fish",
                "certkeep completions fish > ~/.config/fish/completions/certkeep.fish",
            ),
        ],
        exit_codes: Local,
    },
];

/// Adds the examples and the exit codes to the long help of a command and its subcommands.
pub(super) fn complete(command: Command) -> Command {
    extend(command, "")
}

fn extend(mut command: Command, path: &str) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let path = match path {
            "" => name.clone(),
            path => format!("{path} {name}"),
        };
        command = command.mut_subcommand(name, |sub| extend(sub, &path));
    }
    match HELP.iter().find(|help| help.command == path) {
        Some(help) => command.after_long_help(help.text()),
        None => command,
    }
}

impl Help {
    fn text(&self) -> String {
        let mut text = "Examples:\n".to_owned();
        for (purpose, line) in self.examples {
            text.push_str(&format!("  {purpose}:\n    {line}\n"));
        }
        let codes = match self.exit_codes {
            Reads => READS,
            Changes => CHANGES,
            Local => LOCAL,
            Own(codes) => codes,
        };
        format!("{text}\nExit codes:\n{codes}")
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::super::command;
    use super::*;

    /// The paths of the commands that can be run.
    fn commands(command: &Command, path: &str, found: &mut Vec<String>) {
        if !path.is_empty() && !command.is_subcommand_required_set() {
            found.push(path.to_owned());
        }
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            commands(sub, format!("{path} {}", sub.get_name()).trim(), found);
        }
    }

    /// The words of an example, up to a redirection.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" > ").next().unwrap();
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for c in line.chars() {
            match c {
                '\'' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut found = Vec::new();
        commands(&command(), "", &mut found);
        let explained: Vec<_> = HELP.iter().map(|help| help.command).collect();
        assert!(found.len() > 50, "{found:?}");
        for path in &found {
            assert!(explained.contains(&path.as_str()), "{path} has no example");
        }
        for help in HELP {
            assert!(
                found.contains(&help.command.to_owned()),
                "{} is no command",
                help.command
            );
            assert!(!help.examples.is_empty(), "{}", help.command);
            let mut is_shown = false;
            for (purpose, line) in help.examples {
                is_shown |= line.starts_with(&format!("certkeep {}", help.command));
                assert!(line.starts_with("certkeep "), "{line}");
                assert!(!purpose.ends_with(['.', ':']), "{purpose}");
                if let Err(error) = command().try_get_matches_from(words(line)) {
                    panic!("{line}: {error}");
                }
            }
            assert!(is_shown, "no example of {}", help.command);
        }
    }

    #[test]
    fn the_connection_comes_last_and_no_line_is_too_wide() {
        let mut found = Vec::new();
        commands(&command(), "", &mut found);
        for path in found {
            let args = [&["certkeep"], &path.split(' ').collect::<Vec<_>>()[..], &["--help"]].concat();
            let error = command().try_get_matches_from(args).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DisplayHelp);
            let help = error.to_string();
            // clap does not wrap the usage, and examples are not wrapped.
            let wrapped = help.lines().filter(|line| !line.starts_with("Usage: "));
            let widest = wrapped.map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= 118, "{path} has a line of {widest}:\n{help}");
            let headings = ["\nOptions:", "\nConnection:", "\nExamples:", "\nExit codes:"];
            let places: Vec<_> = headings.iter().filter_map(|heading| help.find(heading)).collect();
            assert!(places.len() >= 3 && places.is_sorted(), "{help}");
            let has_context = help.contains("--context <NAME>");
            assert!(
                !has_context || !["health", "login", "serve"].contains(&path.as_str()),
                "{help}"
            );
        }
    }
}
