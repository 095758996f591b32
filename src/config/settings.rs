//! The table of all settings. It defines the flags, the environment variables and the keys of the file. A test compares
//! `docs/configuration.md` with it.

/// A setting. The file uses the key. The environment variable is `CERTKEEP_` and the key in upper case. The flag is `--` and the
/// key with dashes.
#[derive(Debug)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// The form of the value.
    pub shape: Shape,
    /// The default value.
    pub default: Option<&'static str>,
    /// The help text.
    pub help: &'static str,
    /// Whether `certkeep migrate` and `certkeep bootstrap` also have the flag.
    pub for_database: bool,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Text, with the name of the value in the help.
    Text(&'static str),
    /// Text that is never printed.
    Secret(&'static str),
    /// A whole number, with its unit.
    Number(&'static str),
    /// `true` or `false`. The flag takes no value, unless the default is `true`.
    Switch,
}

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("CERTKEEP_{}", self.key.to_uppercase())
    }

    /// Whether the flag takes no value.
    pub fn is_bare_flag(&self) -> bool {
        self.shape == Shape::Switch && self.default == Some("false")
    }

    /// The flag without its two dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }
}

/// All settings except the regions. Only the file can contain regions.
pub const SETTINGS: [Setting; 54] = [
    Setting {
        key: "listen",
        shape: Shape::Text("ADDRESS"),
        default: Some("127.0.0.1:50051"),
        help: "Address and port for gRPC",
        for_database: false,
    },
    Setting {
        key: "slb_listen",
        shape: Shape::Text("ADDRESS"),
        default: None,
        help: "Address and port for clients of Alibaba Cloud's SLB API, over HTTP or HTTPS, or none. Default: with the private Postgres, \
               127.0.0.1 and the port after that of listen, else none",
        for_database: false,
    },
    Setting {
        key: "tls_certificate",
        shape: Shape::Text("FILE"),
        default: None,
        help: "PEM file with the listeners' certificate and chain. Reloaded when it changes",
        for_database: false,
    },
    Setting {
        key: "tls_private_key",
        shape: Shape::Text("FILE"),
        default: None,
        help: "PEM file with the private key of tls_certificate. Reloaded when it changes",
        for_database: false,
    },
    Setting {
        key: "client_ca",
        shape: Shape::Text("FILE"),
        default: None,
        help: "PEM file with the CA certificates that issue client certificates. Reloaded when it changes. Default: clients are not \
               asked for a certificate",
        for_database: false,
    },
    Setting {
        key: "danger_plaintext",
        shape: Shape::Switch,
        default: Some("false"),
        help: "Serve without TLS on an address that is not loopback. Private keys then cross the network in plain text",
        for_database: false,
    },
    Setting {
        key: "max_connections",
        shape: Shape::Number("connections"),
        default: Some("16384"),
        help: "Client connections served at once. Further connections wait",
        for_database: false,
    },
    Setting {
        key: "max_connections_per_address",
        shape: Shape::Number("connections"),
        default: Some("0"),
        help: "Client connections at once from one IPv4 address or IPv6 /64 network. Further connections are closed. 0: no limit",
        for_database: false,
    },
    Setting {
        key: "max_streams",
        shape: Shape::Number("calls"),
        default: Some("1024"),
        help: "Calls at once on one connection. Further calls wait",
        for_database: false,
    },
    Setting {
        key: "call_memory_mib",
        shape: Shape::Number("MiB"),
        default: Some("192"),
        help: "Memory for requests and for answers that callers have not taken. One caller has a quarter of it, and all calls without \
               an access key another quarter",
        for_database: false,
    },
    Setting {
        key: "reflection",
        shape: Shape::Switch,
        default: Some("true"),
        help: "Serve the schema to everyone who can connect, for grpcurl: true or false",
        for_database: false,
    },
    Setting {
        key: "max_connection_age_seconds",
        shape: Shape::Number("seconds"),
        default: Some("1800"),
        help: "Age after which a connection accepts no new calls and is closed, so that clients spread over the replicas",
        for_database: false,
    },
    Setting {
        key: "keepalive_seconds",
        shape: Shape::Number("seconds"),
        default: Some("60"),
        help: "Interval between pings on a silent connection",
        for_database: false,
    },
    Setting {
        key: "drain_seconds",
        shape: Shape::Number("seconds"),
        default: Some("10"),
        help: "Time that running calls have to finish after SIGTERM",
        for_database: false,
    },
    Setting {
        key: "metrics_listen",
        shape: Shape::Text("ADDRESS"),
        default: None,
        help: "Address and port for Prometheus (/metrics) and health (/healthz, /readyz), over HTTP. Default: none",
        for_database: false,
    },
    Setting {
        key: "metrics_certificates",
        shape: Shape::Number("certificates"),
        default: Some("0"),
        help: "Certificates that expire next, of all accounts, that /metrics lists with their names, at most 100. 0 lists none",
        for_database: false,
    },
    Setting {
        key: "otlp_endpoint",
        shape: Shape::Text("URL"),
        default: None,
        help: "OTLP endpoint for traces, over gRPC, for example http://127.0.0.1:4317; https for TLS. Default: none",
        for_database: false,
    },
    Setting {
        key: "otlp_headers",
        shape: Shape::Secret("HEADERS"),
        default: None,
        help: "Headers for the OTLP endpoint, for example authorization=Bearer%20TOKEN,tenant=a. Other users can see flags: put \
               secrets into the file. Default: none",
        for_database: false,
    },
    Setting {
        key: "trace_sample_ratio",
        shape: Shape::Text("RATIO"),
        default: Some("1"),
        help: "Share of traces to export, from 0 to 1. A caller that sends traceparent decides for its own trace",
        for_database: false,
    },
    Setting {
        key: "policy",
        shape: Shape::Text("POLICY"),
        default: Some("default"),
        help: "Findings that refuse an upload: default, or strict for every warning, then exceptions, for example \
               strict,EXPIRES_SOON=report",
        for_database: false,
    },
    Setting {
        key: "key_blocklist",
        shape: Shape::Text("FILES"),
        default: None,
        help: "Files that list compromised keys, separated by commas: SHA-256 of SubjectPublicKeyInfo as text, or blocklist.dat of badkeys. \
               Reloaded when they change. Default: only the keys that certkeep knows",
        for_database: false,
    },
    Setting {
        key: "server_certificate_quota",
        shape: Shape::Number("certificates"),
        default: Some("10000"),
        help: "Live server certificates per account and region, for accounts without their own quota",
        for_database: false,
    },
    Setting {
        key: "ca_certificate_quota",
        shape: Shape::Number("certificates"),
        default: Some("1000"),
        help: "Live CA certificates per account and region, for accounts without their own quota",
        for_database: false,
    },
    Setting {
        key: "access_key_quota",
        shape: Shape::Number("access keys"),
        default: Some("1000"),
        help: "Access keys per account, for accounts without their own quota",
        for_database: false,
    },
    Setting {
        key: "access_key_rate",
        shape: Shape::Number("calls per second"),
        default: Some("1000"),
        help: "Calls per second of an access key or a client identity on a replica, for accounts without their own quota",
        for_database: false,
    },
    Setting {
        key: "account_rate",
        shape: Shape::Number("calls per second"),
        default: Some("5000"),
        help: "Calls per second of an account on a replica, for accounts without their own quota",
        for_database: false,
    },
    Setting {
        key: "delete_retention_days",
        shape: Shape::Number("days"),
        default: Some("7"),
        help: "Days during which a deleted certificate can be undeleted. 0 purges it at once",
        for_database: false,
    },
    Setting {
        key: "version_retention",
        shape: Shape::Number("versions"),
        default: Some("10"),
        help: "Earlier versions that a renewed certificate keeps, for a rollback. 0 keeps none",
        for_database: false,
    },
    Setting {
        key: "version_retention_days",
        shape: Shape::Number("days"),
        default: Some("90"),
        help: "Days for which an earlier version is kept. 0 keeps none",
        for_database: false,
    },
    Setting {
        key: "audit_retention_days",
        shape: Shape::Number("days"),
        default: Some("400"),
        help: "Days after which audit events are purged. 0 keeps them for ever",
        for_database: false,
    },
    Setting {
        key: "cas_credentials_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File with an access key of Alibaba Cloud, its id and its secret on two lines, with which certkeep fetches certificates \
               from Certificate Management Service. Only its owner may read it. Default: certkeep fetches none",
        for_database: false,
    },
    Setting {
        key: "cas_account",
        shape: Shape::Text("ID"),
        default: None,
        help: "The account of certkeep that may store and renew certificates from cas_endpoint",
        for_database: false,
    },
    Setting {
        key: "cas_endpoint",
        shape: Shape::Text("URL"),
        default: Some("https://cas.aliyuncs.com"),
        help: "Alibaba Cloud Certificate Management Service: https, or http on a loopback address",
        for_database: false,
    },
    Setting {
        key: "cas_ca_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "PEM file of CA certificates that verify cas_endpoint. Default: the system's",
        for_database: false,
    },
    Setting {
        key: "data_dir",
        shape: Shape::Text("DIR"),
        default: None,
        help: "Directory of certkeep's data. Default: /var/lib/certkeep for root, else certkeep in the user's data home",
        for_database: true,
    },
    Setting {
        key: "key_ring",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File of the key ring. Default: key-ring in the data directory",
        for_database: true,
    },
    Setting {
        key: "pkcs11_module",
        shape: Shape::Text("FILE"),
        default: None,
        help: "PKCS#11 module, a shared library, of the token that wraps keys of the key ring. Default: none",
        for_database: true,
    },
    Setting {
        key: "pkcs11_token",
        shape: Shape::Text("LABEL"),
        default: None,
        help: "Label of the PKCS#11 token",
        for_database: true,
    },
    Setting {
        key: "pkcs11_pin_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File that contains the PIN of the PKCS#11 token's user. Only its owner may read it",
        for_database: true,
    },
    Setting {
        key: "transit_url",
        shape: Shape::Text("URL"),
        default: None,
        help: "Vault or OpenBao whose transit engine wraps keys of the key ring: https, or http on a loopback \
               address. Default: none",
        for_database: true,
    },
    Setting {
        key: "transit_mount",
        shape: Shape::Text("PATH"),
        default: Some("transit"),
        help: "Path of the transit engine",
        for_database: true,
    },
    Setting {
        key: "transit_key",
        shape: Shape::Text("NAME"),
        default: None,
        help: "Name of the transit engine's key",
        for_database: true,
    },
    Setting {
        key: "transit_token_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File that contains the token for transit_url. Only its owner may read it",
        for_database: true,
    },
    Setting {
        key: "transit_ca_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "PEM file of CA certificates that verify transit_url. Default: the system's",
        for_database: true,
    },
    Setting {
        key: "admin_key",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File to which the first access key is written. Default: admin.key in the data directory",
        for_database: true,
    },
    Setting {
        key: "database_url",
        shape: Shape::Secret("URL"),
        default: None,
        help: "Your own Postgres, as a libpq URL. Other users can see flags: put a URL with a password into a file. Default: a \
               private Postgres in the data directory",
        for_database: true,
    },
    Setting {
        key: "database_url_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File that contains the database URL",
        for_database: true,
    },
    Setting {
        key: "database_owner_url",
        shape: Shape::Secret("URL"),
        default: None,
        help: "The same Postgres with another role: the owner of the tables. It migrates and purges audit events. Default: the role of \
               the database URL owns the tables, and audit events are never purged",
        for_database: true,
    },
    Setting {
        key: "database_owner_url_file",
        shape: Shape::Text("FILE"),
        default: None,
        help: "File that contains the URL with the owner of the tables",
        for_database: true,
    },
    Setting {
        key: "danger_unverified_database",
        shape: Shape::Switch,
        default: Some("false"),
        help: "Accept a database on another machine without verifying its certificate",
        for_database: true,
    },
    Setting {
        key: "database_connections",
        shape: Shape::Number("connections"),
        default: Some("16"),
        help: "Maximum number of connections to Postgres",
        for_database: true,
    },
    Setting {
        key: "postgres_bin",
        shape: Shape::Text("DIR"),
        default: None,
        help: "Directory of postgres and initdb for the private Postgres. Default: PATH, then the usual directories",
        for_database: true,
    },
    Setting {
        key: "postgres_user",
        shape: Shape::Text("USER"),
        default: None,
        help: "User that runs the private Postgres if certkeep runs as root. Default: postgres",
        for_database: true,
    },
    Setting {
        key: "log",
        shape: Shape::Text("FILTER"),
        default: Some("info"),
        help: "Log filter: a level or tracing directives, for example certkeep=debug",
        for_database: true,
    },
];
