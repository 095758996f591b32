//! Which roles may call which method.

use super::{Caller, Error, Role};

const ANY: &[Role] = &[Role::Reader, Role::Editor, Role::Consumer, Role::Admin, Role::Operator];
const READERS: &[Role] = &[Role::Reader, Role::Editor, Role::Admin];
const READERS_AND_CONSUMERS: &[Role] = &[Role::Reader, Role::Editor, Role::Admin, Role::Consumer];
const CONSUMERS: &[Role] = &[Role::Consumer];
const EDITORS: &[Role] = &[Role::Editor, Role::Admin];
const ADMINS: &[Role] = &[Role::Admin];
const OPERATORS: &[Role] = &[Role::Operator];
/// For what an account and the operators both have: access keys, and audit trails.
const ADMINS_AND_OPERATORS: &[Role] = &[Role::Admin, Role::Operator];

/// The roles that may call a method of certkeep's services. A method that the table lacks is closed to every role.
pub fn roles_of(method: &str) -> &'static [Role] {
    match method {
        "DescribeCACertificates"
        | "DescribeRegions"
        | "DescribeServerCertificates"
        | "GetCACertificate"
        | "GetServerCertificate"
        | "ListAccountFingerprints"
        | "ListServerCertificateVersions"
        | "ListTagResources"
        | "SearchServerCertificates" => READERS,
        "BindServerCertificate" | "ReleaseServerCertificate" | "RenewLeases" => CONSUMERS,
        "ListLeases" | "WatchServerCertificates" => READERS_AND_CONSUMERS,
        "CheckServerCertificate"
        | "DeleteCACertificate"
        | "DeleteServerCertificate"
        | "MoveResourceGroup"
        | "RenewServerCertificate"
        | "RollbackServerCertificate"
        | "SetCACertificateName"
        | "SetServerCertificateName"
        | "TagResources"
        | "UndeleteCACertificate"
        | "UndeleteServerCertificate"
        | "UntagResources"
        | "UploadCACertificate"
        | "UploadServerCertificate" => EDITORS,
        "CreateResourceGroup"
        | "DeleteResourceGroup"
        | "ListResourceGroups"
        | "PurgeCACertificate"
        | "PurgeServerCertificate"
        | "UpdateResourceGroup" => ADMINS,
        "DescribeKeyRing" | "RetireKeyEncryptionKey" | "RotateKeyRing" | "VerifyKeyRing" => OPERATORS,
        "CreateAccount"
        | "CreateAccountAdminKey"
        | "DescribeAccountQuotas"
        | "ListAccounts"
        | "UpdateAccount"
        | "UpdateQuota" => OPERATORS,
        "CreateAccessKey" | "DeleteAccessKey" | "DescribeQuotas" | "ListAccessKeys" | "UpdateAccessKey" => {
            ADMINS_AND_OPERATORS
        }
        "CreateClientIdentity" | "DeleteClientIdentity" | "ListClientIdentities" => OPERATORS,
        "ListAuditEvents" | "TailAuditEvents" | "VerifyAuditTrail" => ADMINS_AND_OPERATORS,
        "GetKeyPair" => CONSUMERS,
        // Envoy's SecretDiscoveryService.
        "DeltaSecrets" | "FetchSecrets" | "StreamSecrets" => CONSUMERS,
        "DescribeCaller" => ANY,
        _ => &[],
    }
}

impl Caller {
    /// Refuses a caller whose role may not call the method. A door asks before it decodes the request.
    pub fn may_call(&self, method: &str) -> Result<(), Error> {
        let allowed = roles_of(method);
        match allowed.contains(&self.role) {
            true => Ok(()),
            false => Err(Error::PermissionDenied { allowed }),
        }
    }
}
