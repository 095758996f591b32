//! The table of all settings: from it come the flags, the environment's names, the file's keys, and `docs/configuration.md`'s
//! completeness is tested against it.

/// A setting. Its key is its name in the file; `CERTKEEP_` and the key in upper case its name in the environment; `--` and the
/// key with dashes its flag.
#[derive(Debug)]
pub struct Setting {
    /// Its key.
    pub key: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Its value where nothing sets it.
    pub default: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
    /// Whether `certkeep migrate` and `certkeep bootstrap` have it too.
    pub for_database: bool,
}

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Text, named so in the help.
    Text(&'static str),
    /// Text that is never shown.
    Secret(&'static str),
    /// A whole number of so many.
    Number(&'static str),
    /// `true` or `false`; its flag has no value.
    Switch,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("CERTKEEP_{}", self.key.to_uppercase())
    }

    /// Its flag, without the two dashes before it.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }
}

/// Every setting but the regions, which only the file can hold.
pub const SETTINGS: [Setting; 25] = [
    Setting {
        key: "listen",
        shape: Shape::Text("ADDRESS"),
        default: Some("127.0.0.1:50051"),
        help: "Where to listen for gRPC",
        for_database: false,
    },
    Setting {
        key: "tls_certificate",
        shape: Shape::Text("FILE"),
        default: None,
        help: "The certificate and chain, in PEM, that the listener proves itself with; read again when it changes",
        for_database: false,
    },
    Setting {
        key: "tls_private_key",
        shape: Shape::Text("FILE"),
        default: None,
        help: "The private key of tls_certificate, in PEM",
        for_database: false,
    },
    Setting {
        key: "danger_plaintext",
        shape: Shape::Switch,
        default: Some("false"),
        help: "Serve without TLS on an address that is not loopback: private keys cross the network in plain text",
        for_database: false,
    },
    Setting {
        key: "max_connections",
        shape: Shape::Number("connections"),
        default: Some("1024"),
        help: "How many connections of callers are served at once; others wait",
        for_database: false,
    },
    Setting {
        key: "max_streams",
        shape: Shape::Number("calls"),
        default: Some("256"),
        help: "How many calls a connection carries at once; others wait",
        for_database: false,
    },
    Setting {
        key: "max_connection_age_seconds",
        shape: Shape::Number("seconds"),
        default: Some("1800"),
        help: "After how long a connection takes no new calls and is closed, so that callers spread over replicas again",
        for_database: false,
    },
    Setting {
        key: "keepalive_seconds",
        shape: Shape::Number("seconds"),
        default: Some("60"),
        help: "How often a silent connection is asked whether its caller is still there",
        for_database: false,
    },
    Setting {
        key: "drain_seconds",
        shape: Shape::Number("seconds"),
        default: Some("10"),
        help: "How long calls under way may take to finish after SIGTERM",
        for_database: false,
    },
    Setting {
        key: "metrics_listen",
        shape: Shape::Text("ADDRESS"),
        default: None,
        help: "Where to listen for Prometheus (/metrics) and for health (/healthz, /readyz), over HTTP. Default: nowhere",
        for_database: false,
    },
    Setting {
        key: "otlp_endpoint",
        shape: Shape::Text("URL"),
        default: None,
        help: "Where to send traces, over OTLP and gRPC, such as http://127.0.0.1:4317; https for TLS. Default: nowhere",
        for_database: false,
    },
    Setting {
        key: "policy",
        shape: Shape::Text("POLICY"),
        default: Some("default"),
        help: "Which findings an upload is refused for: default, or strict for every warning, and behind it exceptions such as \
               ,EXPIRES_SOON=report",
        for_database: false,
    },
    Setting {
        key: "server_certificate_quota",
        shape: Shape::Number("certificates"),
        default: Some("10000"),
        help: "How many server certificates an account may have in a region, if it has no quota of its own",
        for_database: false,
    },
    Setting {
        key: "ca_certificate_quota",
        shape: Shape::Number("certificates"),
        default: Some("1000"),
        help: "How many CA certificates an account may have in a region, if it has no quota of its own",
        for_database: false,
    },
    Setting {
        key: "delete_retention_days",
        shape: Shape::Number("days"),
        default: Some("7"),
        help: "For how many days a deleted certificate can be undeleted; 0: it is removed at once",
        for_database: false,
    },
    Setting {
        key: "data_dir",
        shape: Shape::Text("DIR"),
        default: None,
        help: "Where certkeep keeps its data. Default: /var/lib/certkeep for root, else certkeep in the user's data home",
        for_database: true,
    },
    Setting {
        key: "key_ring",
        shape: Shape::Text("FILE"),
        default: None,
        help: "The key ring's file. Default: key-ring in the data directory",
        for_database: true,
    },
    Setting {
        key: "admin_key",
        shape: Shape::Text("FILE"),
        default: None,
        help: "Where the first access key is written to. Default: admin.key in the data directory",
        for_database: true,
    },
    Setting {
        key: "database_url",
        shape: Shape::Secret("URL"),
        default: None,
        help: "A Postgres of your own, as a URL that libpq reads; one with a password does not belong into a flag, which others can \
               see. Without it certkeep runs a private one in the data directory",
        for_database: true,
    },
    Setting {
        key: "database_url_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "A file that holds the database URL",
        for_database: true,
    },
    Setting {
        key: "danger_unverified_database",
        shape: Shape::Switch,
        default: Some("false"),
        help: "Accept a database on another machine whose certificate is not verified",
        for_database: true,
    },
    Setting {
        key: "database_connections",
        shape: Shape::Number("connections"),
        default: Some("16"),
        help: "How many connections to Postgres are kept at most",
        for_database: true,
    },
    Setting {
        key: "postgres_bin",
        shape: Shape::Text("DIR"),
        default: None,
        help: "The directory of the private Postgres's programs. Default: PATH, then the usual places",
        for_database: true,
    },
    Setting {
        key: "postgres_user",
        shape: Shape::Text("USER"),
        default: None,
        help: "The operating system's user that runs the private Postgres when certkeep is root. Default: postgres",
        for_database: true,
    },
    Setting {
        key: "log",
        shape: Shape::Text("FILTER"),
        default: Some("info"),
        help: "What to log: a level or tracing directives, such as certkeep=debug",
        for_database: true,
    },
];
