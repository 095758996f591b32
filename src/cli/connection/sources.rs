//! Where the values of a connection come from: flags come first, then the environment, then the context, then the default.

use std::ffi::OsString;
use std::path::PathBuf;

use certkeep_client::is_same_server;
use zeroize::Zeroizing;

use super::super::contexts::{ClientCertificate, Context, Contexts};
use super::{AccessKey, Connection, ConnectionArgs, DEFAULT_ENDPOINT, Failure, Origin, Value};

/// The connection that the flags, the environment and the contexts give.
pub(super) fn resolve(
    flags: &ConnectionArgs,
    environment: &Environment,
    contexts: &Contexts,
    default_data_dir: Option<PathBuf>,
) -> Result<Connection, Failure> {
    let name = flags.context.as_ref().or(environment.context.as_ref());
    let named = match name.or(contexts.current.as_ref()) {
        Some(name) => Some((name.as_str(), contexts.find(name)?)),
        None => None,
    };
    let endpoint = Origin::first(
        &flags.endpoint,
        "--endpoint",
        &environment.endpoint,
        "CERTKEEP_ENDPOINT",
    );
    // A context counts for its own endpoint only: no other server gets its access key.
    let is_of = |context: &Context| {
        endpoint
            .as_ref()
            .is_none_or(|given| is_same_server(&given.value, &context.endpoint))
    };
    let context = named.filter(|(_, context)| is_of(context));
    match (named, context, &endpoint) {
        (Some((name, other)), None, Some(given)) if flags.context.is_some() && flags.endpoint.is_none() => {
            return Err(Failure::usage(format!(
                "--context {name} is for {}, but CERTKEEP_ENDPOINT is {}: unset it, or say --endpoint",
                other.endpoint, given.value
            )));
        }
        _ => {}
    }
    let sources = Sources {
        flags,
        environment,
        named,
        context,
    };
    let client_certificate = sources.client_certificate()?;
    let access_key = sources.access_key(client_certificate.as_ref(), default_data_dir)?;
    let ca_file = Origin::first(&flags.ca_file, "--ca-file", &environment.ca_file, "CERTKEEP_CA_FILE");
    let region = Origin::first(&None, "", &environment.region, "CERTKEEP_REGION");
    let default_endpoint = || Value::new(DEFAULT_ENDPOINT.to_owned(), Origin::Default);
    let endpoint = endpoint.or_else(|| sources.of_context(|context| Some(context.endpoint.clone())));
    let danger_plaintext = flags.danger_plaintext
        || environment.danger_plaintext
        || context.is_some_and(|(_, context)| context.danger_plaintext);
    Ok(Connection {
        danger_plaintext,
        context: context.map(|(name, _)| name.to_owned()),
        endpoint: endpoint.unwrap_or_else(default_endpoint),
        ca_file: ca_file.or_else(|| sources.of_context(|context| context.ca_file.clone())),
        client_certificate,
        access_key,
        region: region.or_else(|| sources.of_context(|context| context.region.clone())),
    })
}

/// Where the values of a connection can come from.
struct Sources<'a> {
    flags: &'a ConnectionArgs,
    environment: &'a Environment,
    /// The context that is named, or the current one.
    named: Option<(&'a str, &'a Context)>,
    /// The same context, if it is for the endpoint of the connection.
    context: Option<(&'a str, &'a Context)>,
}

impl Sources<'_> {
    fn of_context<T>(&self, value: impl Fn(&Context) -> Option<T>) -> Option<Value<T>> {
        let (name, context) = self.context?;
        Some(Value::new(value(context)?, Origin::Context(name.to_owned())))
    }

    fn client_certificate(&self) -> Result<Option<Value<ClientCertificate>>, Failure> {
        let (flags, environment) = (self.flags, self.environment);
        let certificate = Origin::first(
            &flags.client_cert,
            "--client-cert",
            &environment.client_cert,
            "CERTKEEP_CLIENT_CERT",
        );
        let key = flags.client_key.as_ref().or(environment.client_key.as_ref());
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Value::new(
                ClientCertificate {
                    certificate: certificate.value,
                    private_key: key.clone(),
                },
                certificate.origin,
            ))),
            (None, None) => Ok(self.of_context(|context| context.client_certificate.clone())),
            _ => Err(Failure::usage(
                "--client-cert and --client-key belong together: say both",
            )),
        }
    }

    fn access_key(
        &self,
        client_certificate: Option<&Value<ClientCertificate>>,
        default_data_dir: Option<PathBuf>,
    ) -> Result<AccessKey, Failure> {
        let (flags, environment) = (self.flags, self.environment);
        let file = |path: &PathBuf, origin| AccessKey::File(Value::new(path.clone(), origin));
        if let Some(path) = &flags.access_key_file {
            return Ok(file(path, Origin::Flag("--access-key-file")));
        }
        match (&environment.access_key, &environment.access_key_file) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "CERTKEEP_ACCESS_KEY and CERTKEEP_ACCESS_KEY_FILE are both set: unset one",
                ));
            }
            (Some(key), None) => {
                let origin = Origin::Variable("CERTKEEP_ACCESS_KEY");
                return Ok(AccessKey::Text(Value::new(key.clone(), origin)));
            }
            (None, Some(path)) => return Ok(file(path, Origin::Variable("CERTKEEP_ACCESS_KEY_FILE"))),
            (None, None) => {}
        }
        let has_own_certificate =
            client_certificate.is_some_and(|certificate| !matches!(certificate.origin, Origin::Context(_)));
        if has_own_certificate {
            return Ok(AccessKey::None);
        }
        if let Some((name, _)) = self.context {
            if flags.data_dir.is_some() {
                return Err(Failure::usage(format!(
                    "context {name} has its own access key, and --data-dir names another: use --access-key-file"
                )));
            }
            let key = self.of_context(|context| context.access_key_file.clone());
            return Ok(key.map_or(AccessKey::None, AccessKey::File));
        }
        let data_dir = Origin::first(
            &flags.data_dir,
            "--data-dir",
            &environment.data_dir,
            "CERTKEEP_DATA_DIR",
        );
        Ok(match (data_dir, self.named, default_data_dir) {
            (Some(dir), _, _) => file(&dir.value.join("admin.key"), dir.origin),
            (None, Some((name, context)), _) => AccessKey::OfOtherEndpoint {
                context: name.to_owned(),
                endpoint: context.endpoint.clone(),
            },
            (None, None, Some(dir)) => file(&dir.join("admin.key"), Origin::Default),
            (None, None, None) => AccessKey::None,
        })
    }
}

/// The variable CERTKEEP_DANGER_PLAINTEXT.
pub(in crate::cli) fn danger_plaintext(variable: impl Fn(&str) -> Option<OsString>) -> Result<bool, Failure> {
    match variable("CERTKEEP_DANGER_PLAINTEXT") {
        None => Ok(false),
        Some(value) if value == "false" => Ok(false),
        Some(value) if value == "true" => Ok(true),
        Some(_) => Err(Failure::usage("CERTKEEP_DANGER_PLAINTEXT must be true or false")),
    }
}

/// The variables of the client commands. An empty variable counts as not set.
#[derive(Default)]
pub(super) struct Environment {
    context: Option<String>,
    endpoint: Option<String>,
    danger_plaintext: bool,
    access_key: Option<Zeroizing<String>>,
    access_key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    region: Option<String>,
}

impl Environment {
    pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let text = |name: &str| {
            let value = variable(name).map(OsString::into_string).transpose();
            value.map_err(|_| Failure::usage(format!("{name} is not valid UTF-8")))
        };
        let path = |name: &str| variable(name).map(PathBuf::from);
        Ok(Self {
            context: text("CERTKEEP_CONTEXT")?,
            endpoint: text("CERTKEEP_ENDPOINT")?,
            danger_plaintext: danger_plaintext(&variable)?,
            access_key: text("CERTKEEP_ACCESS_KEY")?.map(Zeroizing::new),
            access_key_file: path("CERTKEEP_ACCESS_KEY_FILE"),
            ca_file: path("CERTKEEP_CA_FILE"),
            client_cert: path("CERTKEEP_CLIENT_CERT"),
            client_key: path("CERTKEEP_CLIENT_KEY"),
            data_dir: path("CERTKEEP_DATA_DIR"),
            region: text("CERTKEEP_REGION")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "https://a.example:50051";
    const B: &str = "https://b.example:50051";

    /// Two contexts; the current one is `a`.
    fn contexts() -> Contexts {
        let context = |name: &str, endpoint: &str| Context {
            endpoint: endpoint.to_owned(),
            access_key_file: Some(format!("/{name}.key").into()),
            client_certificate: None,
            danger_plaintext: false,
            ca_file: Some(format!("/{name}.pem").into()),
            region: Some(format!("{name}-1")),
        };
        Contexts {
            current: Some("a".to_owned()),
            by_name: [("a", A), ("b", B)]
                .map(|(name, url)| (name.to_owned(), context(name, url)))
                .into(),
        }
    }

    fn flags(pairs: &[(&str, &str)]) -> ConnectionArgs {
        let value = |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        ConnectionArgs {
            context: value("context"),
            endpoint: value("endpoint"),
            danger_plaintext: false,
            access_key_file: value("access-key-file").map(PathBuf::from),
            ca_file: value("ca-file").map(PathBuf::from),
            client_cert: value("client-cert").map(PathBuf::from),
            client_key: value("client-key").map(PathBuf::from),
            data_dir: value("data-dir").map(PathBuf::from),
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let value = |name: &str| {
            let name = name.strip_prefix("CERTKEEP_").unwrap();
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Environment::read(value).ok().unwrap()
    }

    /// Endpoint, access key, CA file and region; or the error.
    fn resolved(
        given: &[(&str, &str)],
        variables: &[(&str, &str)],
        contexts: &Contexts,
    ) -> Result<[String; 4], String> {
        let connection = resolve(&flags(given), &environment(variables), contexts, Some("/data".into()));
        let connection = connection.map_err(|failure| failure.text)?;
        let none = || "none".to_owned();
        let key = match &connection.access_key {
            AccessKey::Text(text) => text.value.to_string(),
            other => other.to_string(),
        };
        Ok([
            format!("{} ({})", connection.endpoint.value, connection.endpoint.origin),
            key,
            connection
                .ca_file
                .map_or_else(none, |file| format!("{} ({})", file.value.display(), file.origin)),
            connection
                .region
                .map_or_else(none, |region| format!("{} ({})", region.value, region.origin)),
        ])
    }

    #[test]
    fn flags_come_before_the_environment_then_the_context_then_the_default() {
        let default = [
            "http://127.0.0.1:50051 (default)",
            "/data/admin.key (default)",
            "none",
            "none",
        ];
        assert_eq!(resolved(&[], &[], &Contexts::default()).unwrap(), default);
        let of_a = [
            "https://a.example:50051 (context a)",
            "/a.key (context a)",
            "/a.pem (context a)",
            "a-1 (context a)",
        ];
        assert_eq!(resolved(&[], &[], &contexts()).unwrap(), of_a);
        let of_b = of_a.map(|value| {
            value
                .replace("context a", "context b")
                .replace("a.", "b.")
                .replace("a-", "b-")
        });
        assert_eq!(resolved(&[], &[("CONTEXT", "b")], &contexts()).unwrap(), of_b);
        assert_eq!(
            resolved(&[("context", "b")], &[("CONTEXT", "a")], &contexts()).unwrap(),
            of_b
        );
        let variables = [
            ("ENDPOINT", "https://A.example:50051/"),
            ("ACCESS_KEY_FILE", "/env.key"),
            ("CA_FILE", "/env.pem"),
            ("REGION", "env-1"),
        ];
        let of_variables = [
            "https://A.example:50051/ (CERTKEEP_ENDPOINT)",
            "/env.key (CERTKEEP_ACCESS_KEY_FILE)",
            "/env.pem (CERTKEEP_CA_FILE)",
            "env-1 (CERTKEEP_REGION)",
        ];
        assert_eq!(resolved(&[], &variables, &contexts()).unwrap(), of_variables);
        let given = [
            ("endpoint", A),
            ("access-key-file", "/flag.key"),
            ("ca-file", "/flag.pem"),
        ];
        let of_flags = [
            "https://a.example:50051 (--endpoint)",
            "/flag.key (--access-key-file)",
            "/flag.pem (--ca-file)",
            "env-1 (CERTKEEP_REGION)",
        ];
        assert_eq!(resolved(&given, &variables, &contexts()).unwrap(), of_flags);
        let key = [("ACCESS_KEY", "ck1.secret")];
        assert_eq!(resolved(&[], &key, &contexts()).unwrap()[1], "ck1.secret");
        assert_eq!(
            resolved(&given, &key, &contexts()).unwrap()[1],
            "/flag.key (--access-key-file)"
        );
    }

    #[test]
    fn a_context_counts_for_its_own_endpoint_only() {
        let other = [
            "https://b.example:50051 (--endpoint)",
            "none: the access key of context a is only for https://a.example:50051",
            "none",
            "none",
        ];
        assert_eq!(resolved(&[("endpoint", B)], &[], &contexts()).unwrap(), other);
        let key = |given: &[(&str, &str)], variables: &[(&str, &str)]| {
            resolved(given, variables, &contexts()).unwrap()[1].clone()
        };
        assert!(key(&[], &[("ENDPOINT", B)]).starts_with("none: "));
        assert!(key(&[], &[("ENDPOINT", DEFAULT_ENDPOINT)]).starts_with("none: "));
        assert!(key(&[("context", "b"), ("endpoint", A)], &[]).starts_with("none: "));
        // The data directory must be named: the default one belongs to no context.
        let named = [("endpoint", DEFAULT_ENDPOINT), ("data-dir", "/d")];
        assert_eq!(key(&named, &[]), "/d/admin.key (--data-dir)");
        assert_eq!(
            key(&named[..1], &[("DATA_DIR", "/e")]),
            "/e/admin.key (CERTKEEP_DATA_DIR)"
        );
        // It never replaces the key of a context.
        assert_eq!(key(&[], &[("DATA_DIR", "/e")]), "/a.key (context a)");
    }

    #[test]
    fn a_client_certificate_does_without_an_access_key() {
        let mut contexts = contexts();
        let client = ClientCertificate {
            certificate: "/a-client.pem".into(),
            private_key: "/a-client-key.pem".into(),
        };
        let context = contexts.by_name.get_mut("a").unwrap();
        (context.client_certificate, context.access_key_file) = (Some(client), None);
        let resolve = |given: &[(&str, &str)]| {
            let connection = super::resolve(&flags(given), &Environment::default(), &contexts, Some("/data".into()));
            let connection = connection.ok().unwrap();
            let client = connection
                .client_certificate
                .map(|client| client.value.certificate.display().to_string());
            (client.unwrap_or_default(), connection.access_key.to_string())
        };
        let text = |client: &str, key: &str| (client.to_owned(), key.to_owned());
        assert_eq!(resolve(&[]), text("/a-client.pem", "none"));
        let key = [("access-key-file", "/k")];
        assert_eq!(resolve(&key), text("/a-client.pem", "/k (--access-key-file)"));
        let own = [
            ("context", "b"),
            ("client-cert", "/c.pem"),
            ("client-key", "/c-key.pem"),
        ];
        assert_eq!(resolve(&own), text("/c.pem", "none"));
        // Another server gets neither.
        assert_eq!(resolve(&[("endpoint", B)]).0, "");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (given, variables, expected) in [
            (
                &[("context", "c")][..],
                &[][..],
                "no context is named \"c\"; the contexts are: a, b",
            ),
            (
                &[],
                &[("CONTEXT", "c")],
                "no context is named \"c\"; the contexts are: a, b",
            ),
            (
                &[("context", "a")],
                &[("ENDPOINT", B)],
                "--context a is for https://a.example:50051, but CERTKEEP_ENDPOINT is https://b.example:50051: ",
            ),
            (
                &[],
                &[("ACCESS_KEY", "ck1.s"), ("ACCESS_KEY_FILE", "/k")],
                "CERTKEEP_ACCESS_KEY and CERTKEEP_ACCESS_KEY_FILE are both set: unset one",
            ),
            (
                &[("client-cert", "/c")],
                &[],
                "--client-cert and --client-key belong together",
            ),
            (
                &[("data-dir", "/d")],
                &[],
                "context a has its own access key, and --data-dir names another: ",
            ),
        ] {
            let error = resolved(given, variables, &contexts()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
