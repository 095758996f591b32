//! The mode and the owner of the files.

use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::cli::Failure;

/// The owner of the files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
}

impl Owner {
    /// Looks up `user:group`. Each is a name or a number.
    pub(super) async fn look_up(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "--owner {text}: use USER:GROUP, with an existing user and group"
            ))
        };
        let (user, group) = text.split_once(':').ok_or_else(wrong)?;
        // `id` and `getent` know every source of users, not only /etc/passwd.
        let user = match user.parse() {
            Ok(id) => Some(id),
            Err(_) => answer("id", &["-u", "--", user])
                .await
                .and_then(|id| id.trim().parse().ok()),
        };
        let group = match group.parse() {
            Ok(id) => Some(id),
            Err(_) => answer("getent", &["group", "--", group])
                .await
                .and_then(|line| line.split(':').nth(2)?.parse().ok()),
        };
        let (Some(user), Some(group)) = (user, group) else {
            return Err(wrong());
        };
        Ok(Self { user, group })
    }
}

async fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Output { status, stdout, .. } = output.await.ok()?;
    status.success().then(|| String::from_utf8_lossy(&stdout).into_owned())
}

/// A mode of files, in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o666 == 0 && mode & 0o400 != 0 => Ok(mode),
        _ => Err(
            "use a mode in octal that lets the owner read and has no other bits than read and write, such as 0640"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_lets_its_owner_read_and_nobody_execute() {
        assert_eq!(mode("0640"), Ok(0o640));
        assert_eq!(mode("400"), Ok(0o400));
        for wrong in ["0755", "0040", "8", "", "4640", "rw"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
