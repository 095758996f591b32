//! The actions of the door.

/// An action of the API. Each is the method of the same name of certkeep's service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    DeleteCACertificate,
    DeleteServerCertificate,
    DescribeCACertificates,
    DescribeRegions,
    DescribeServerCertificates,
    ListTagResources,
    MoveResourceGroup,
    SetCACertificateName,
    SetServerCertificateName,
    TagResources,
    UntagResources,
    UploadCACertificate,
    UploadServerCertificate,
}

impl Action {
    const ALL: [Self; 13] = [
        Self::DeleteCACertificate,
        Self::DeleteServerCertificate,
        Self::DescribeCACertificates,
        Self::DescribeRegions,
        Self::DescribeServerCertificates,
        Self::ListTagResources,
        Self::MoveResourceGroup,
        Self::SetCACertificateName,
        Self::SetServerCertificateName,
        Self::TagResources,
        Self::UntagResources,
        Self::UploadCACertificate,
        Self::UploadServerCertificate,
    ];

    /// The action of this name. Any other text is the caller's, and must not be repeated.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DeleteCACertificate => "DeleteCACertificate",
            Self::DeleteServerCertificate => "DeleteServerCertificate",
            Self::DescribeCACertificates => "DescribeCACertificates",
            Self::DescribeRegions => "DescribeRegions",
            Self::DescribeServerCertificates => "DescribeServerCertificates",
            Self::ListTagResources => "ListTagResources",
            Self::MoveResourceGroup => "MoveResourceGroup",
            Self::SetCACertificateName => "SetCACertificateName",
            Self::SetServerCertificateName => "SetServerCertificateName",
            Self::TagResources => "TagResources",
            Self::UntagResources => "UntagResources",
            Self::UploadCACertificate => "UploadCACertificate",
            Self::UploadServerCertificate => "UploadServerCertificate",
        }
    }

    /// Whether the action can change something.
    pub(super) fn changes(self) -> bool {
        !matches!(
            self,
            Self::DescribeCACertificates
                | Self::DescribeRegions
                | Self::DescribeServerCertificates
                | Self::ListTagResources
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_roles() {
        for action in Action::ALL {
            assert!(!crate::app::roles_of(action.name()).is_empty(), "{action:?}");
            assert_eq!(Action::parse(action.name()), Some(action));
        }
    }
}
