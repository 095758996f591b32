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
    /// Manages the service: accounts, quotas, client identities, the key ring. It sees no certificate and no key.
    Operator,
}

impl Role {
    const ALL: [Self; 5] = [Self::Reader, Self::Editor, Self::Consumer, Self::Admin, Self::Operator];

    /// The role that has the permissions that both roles have. `None`: there is no such role.
    pub fn intersection(self, other: Self) -> Option<Self> {
        if self.includes(other) {
            Some(other)
        } else {
            other.includes(self).then_some(self)
        }
    }

    /// The role's name in the database and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Editor => "editor",
            Self::Consumer => "consumer",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether this role has all permissions of `needed`. Admin includes editor, and editor includes reader. Consumer and operator
    /// include no other role, and no other role includes them.
    pub fn includes(self, needed: Self) -> bool {
        match needed {
            Self::Reader => matches!(self, Self::Reader | Self::Editor | Self::Admin),
            Self::Editor => matches!(self, Self::Editor | Self::Admin),
            Self::Admin | Self::Consumer | Self::Operator => self == needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_the_lesser_roles_and_consumer_and_operator_stand_alone() {
        let roles = [Role::Reader, Role::Editor, Role::Admin, Role::Consumer, Role::Operator];
        let table = roles.map(|role| roles.map(|needed| role.includes(needed)));
        assert_eq!(
            table,
            [
                [true, false, false, false, false],
                [true, true, false, false, false],
                [true, true, true, false, false],
                [false, false, false, true, false],
                [false, false, false, false, true],
            ]
        );
    }

    #[test]
    fn the_intersection_of_two_roles_is_the_lesser_one() {
        assert_eq!(Role::Admin.intersection(Role::Reader), Some(Role::Reader));
        assert_eq!(Role::Reader.intersection(Role::Editor), Some(Role::Reader));
        assert_eq!(Role::Consumer.intersection(Role::Consumer), Some(Role::Consumer));
        assert_eq!(Role::Consumer.intersection(Role::Admin), None);
        assert_eq!(Role::Operator.intersection(Role::Admin), None);
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("Admin"), None);
    }
}
