//! Roles of access keys.

/// The permissions of a caller in its account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Reads everything except private keys.
    Reader,
    /// Uploads, renames and deletes; reads.
    Editor,
    /// Receives key pairs to serve them.
    Consumer,
    /// Manages the account; edits and reads. It receives no key pairs.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Reader, Self::Editor, Self::Consumer, Self::Admin];

    /// The role's name in the database and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Editor => "editor",
            Self::Consumer => "consumer",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether this role has all permissions of `needed`. Admin includes editor, and editor includes reader. No role includes
    /// consumer, and consumer includes no other role.
    pub fn includes(self, needed: Self) -> bool {
        match needed {
            Self::Reader => self != Self::Consumer,
            Self::Editor => matches!(self, Self::Editor | Self::Admin),
            Self::Admin | Self::Consumer => self == needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_the_lesser_roles_and_consumer_stands_alone() {
        let roles = [Role::Reader, Role::Editor, Role::Admin, Role::Consumer];
        let table = roles.map(|role| roles.map(|needed| role.includes(needed)));
        assert_eq!(
            table,
            [
                [true, false, false, false],
                [true, true, false, false],
                [true, true, true, false],
                [false, false, false, true],
            ]
        );
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("Admin"), None);
    }
}
