//! libpq's TLS parameters in a connection string. tokio-postgres reads all other parameters. It supports only three values of
//! `sslmode`, and no certificate files.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::connect::SettingsError;

/// libpq's `sslmode`. `allow` is read as `prefer`, because `prefer` is at least as strong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum SslMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct TlsParameters {
    pub(super) mode: SslMode,
    pub(super) root_certificate: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

impl TlsParameters {
    /// Reads the parameter if it is a TLS parameter. Returns whether it is.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, SettingsError> {
        match name {
            "sslmode" => {
                self.mode = match value {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => return Err(SettingsError::SslMode),
                }
            }
            // libpq's value for the system's roots. It implies the strictest mode, `verify-full`.
            "sslrootcert" if value == "system" => self.mode = SslMode::VerifyFull,
            "sslrootcert" => self.root_certificate = Some(PathBuf::from(value)),
            "sslcert" => self.certificate = Some(PathBuf::from(value)),
            "sslkey" => self.key = Some(PathBuf::from(value)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads a connection string of either form. The TLS parameters are returned separately.
pub(super) fn parse(text: &str) -> Result<(tokio_postgres::Config, TlsParameters), SettingsError> {
    let mut tls = TlsParameters::default();
    let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        without_query_parameters(text, &mut tls)?
    } else {
        without_keywords(text, &mut tls)?
    };
    let config = rest
        .parse()
        .map_err(|_| SettingsError::Malformed("see PostgreSQL's documentation, 34.1.1"))?;
    Ok((config, tls))
}

/// Whether a connection string can be read. The error never repeats a part of it.
pub fn check_database_url(text: &str) -> Result<(), SettingsError> {
    parse(text).map(drop)
}

fn without_query_parameters(text: &str, tls: &mut TlsParameters) -> Result<String, SettingsError> {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    check_credentials(address, query)?;
    if query.is_empty() {
        return Ok(address.to_owned());
    }
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or(SettingsError::Malformed("a parameter has no value"))?;
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| SettingsError::Malformed("a value is not UTF-8"))?;
        if !tls.take(name, &value)? {
            kept.push(pair);
        }
    }
    Ok(format!("{address}?{}", kept.join("&")))
}

/// Refuses a character in the user name or password that ends them too early: libpq would look for another host.
fn check_credentials(address: &str, query: &str) -> Result<(), SettingsError> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.matches('@').count() > 1 {
        return Err(SettingsError::Unencoded("@", "%40"));
    }
    if path.contains('@') {
        return Err(SettingsError::Unencoded("/", "%2F"));
    }
    // A parameter's value can contain `@`, but its name cannot.
    if query
        .split('&')
        .any(|pair| pair.split('=').next().is_some_and(|name| name.contains('@')))
    {
        return Err(SettingsError::Unencoded("?", "%3F"));
    }
    Ok(())
}

/// `name = value` pairs. A value may be in single quotes. A backslash escapes one character.
fn without_keywords(text: &str, tls: &mut TlsParameters) -> Result<String, SettingsError> {
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or(SettingsError::Malformed("a keyword has no value"))?;
        let after = after.trim_start();
        let quoted = after.starts_with('\'');
        let mut value = String::new();
        let mut end = None;
        let mut characters = after.char_indices().skip(usize::from(quoted));
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, character)| character)),
                '\'' if quoted => {
                    end = Some(at + 1);
                    break;
                }
                space if !quoted && space.is_whitespace() => {
                    end = Some(at);
                    break;
                }
                other => value.push(other),
            }
        }
        let end = match end {
            Some(end) => end,
            None if quoted => return Err(SettingsError::Malformed("a quote is not closed")),
            None => after.len(),
        };
        let (raw, remaining) = after.split_at(end);
        if !tls.take(name.trim(), &value)? {
            kept.push_str(&format!("{}={raw} ", name.trim()));
        }
        rest = remaining.trim_start();
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    #[test]
    fn takes_the_tls_parameters_out_of_a_url() {
        let (config, tls) =
            parse("postgres://u:p%40ss@h1:5433,h2/db?sslmode=verify-full&target_session_attrs=read-write&sslrootcert=%2Fca.pem")
                .unwrap();
        assert_eq!(tls.mode, SslMode::VerifyFull);
        assert_eq!(tls.root_certificate, Some(PathBuf::from("/ca.pem")));
        assert_eq!(config.get_hosts(), [Host::Tcp("h1".into()), Host::Tcp("h2".into())]);
        assert_eq!(config.get_password(), Some(b"p@ss".as_slice()));
        assert_eq!(
            config.get_target_session_attrs(),
            tokio_postgres::config::TargetSessionAttrs::ReadWrite
        );
    }

    #[test]
    fn takes_the_tls_parameters_out_of_keywords() {
        let (config, tls) = parse(r"host=db sslmode = 'verify-ca'  password='it\'s = x' sslcert=/a\ b").unwrap();
        assert_eq!(tls.mode, SslMode::VerifyCa);
        assert_eq!(tls.certificate, Some(PathBuf::from("/a b")));
        assert_eq!(config.get_password(), Some(b"it's = x".as_slice()));
    }

    #[test]
    fn says_how_to_write_a_character_of_a_password() {
        let secret = "hunter2";
        for (character, encoded) in [("@", "%40"), ("/", "%2F"), ("?", "%3F")] {
            for query in ["", "?sslmode=disable"] {
                let text = format!("postgres://u:{secret}{character}{secret}@h/db{query}");
                let error = parse(&text).unwrap_err();
                let is_told =
                    matches!(error, SettingsError::Unencoded(found, told) if (found, told) == (character, encoded));
                assert!(is_told, "{text}: {error:?}");
                assert!(!error.to_string().contains(secret));
            }
            let (config, _) = parse(&format!("postgres://u:{secret}{encoded}{secret}@h/db")).unwrap();
            let password = format!("{secret}{character}{secret}");
            assert_eq!(config.get_password(), Some(password.as_bytes()));
            parse(&format!("host=h user=u dbname=db password={password}")).unwrap();
        }
        parse("postgres://u:p@h/db?sslrootcert=/a@b&options=-c%20a=b").unwrap();
        parse("postgres://u:p@h,h2/db").unwrap();
    }

    #[test]
    fn refuses_what_libpq_would() {
        for text in ["postgres://h/db?sslmode=verify_full", "host=h sslmode=on"] {
            assert!(matches!(parse(text), Err(SettingsError::SslMode)), "{text}");
        }
        for text in [
            "postgres://h/db?sslmode",
            "host='h",
            "host",
            "postgres://h/db?nonsense=1",
            "mysql://h/db",
        ] {
            assert!(matches!(parse(text), Err(SettingsError::Malformed(_))), "{text}");
        }
    }
}
