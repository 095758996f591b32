//! The key ring, its rotation and its verification as protobuf.

use super::timestamp;
use crate::app::{
    DescribedKeyRing, Fault, KeyEncryptionKey, KeyEncryptionKeyId, KeyState, Replica, RequestId, Rotation, RowFault,
    SealError, StoredPairError, VerifiedCounts, VerifiedRows,
};
use crate::grpc::pb;

/// The key ring, the replicas and the rotation.
pub(in crate::grpc) fn key_ring(request_id: RequestId, described: DescribedKeyRing) -> pb::DescribeKeyRingResponse {
    let key = |key: KeyEncryptionKey| pb::KeyEncryptionKey {
        key_encryption_key_id: key.id.to_string(),
        state: match key.state {
            KeyState::Prepared => pb::KeyEncryptionKeyState::Prepared,
            KeyState::Sealing => pb::KeyEncryptionKeyState::Sealing,
            KeyState::Opening => pb::KeyEncryptionKeyState::Opening,
            KeyState::Retired => pb::KeyEncryptionKeyState::Retired,
        }
        .into(),
        first_seen_time: Some(timestamp(key.first_seen)),
        sealing_time: key.sealing_since.map(timestamp),
        retire_time: key.retired.map(timestamp),
    };
    let ids = |ids: Vec<KeyEncryptionKeyId>| ids.iter().map(ToString::to_string).collect();
    let replica = |replica: Replica| pb::Replica {
        replica_id: replica.id.to_string(),
        host: replica.host,
        version: replica.version,
        start_time: Some(timestamp(replica.started)),
        last_seen_time: Some(timestamp(replica.seen)),
        key_encryption_key_ids: ids(replica.key_ids),
        sealing_key_encryption_key_ids: ids(replica.sealing_ids),
    };
    pb::DescribeKeyRingResponse {
        request_id: request_id.to_string(),
        keys: described.keys.into_iter().map(key).collect(),
        replicas: described.replicas.into_iter().map(replica).collect(),
        rotation: described.rotation.map(key_rotation),
    }
}

pub(in crate::grpc) fn key_rotation(rotation: Rotation) -> pb::KeyRotation {
    pb::KeyRotation {
        key_encryption_key_id: rotation.key.to_string(),
        start_time: Some(timestamp(rotation.started)),
        end_time: rotation.ended.map(timestamp),
        passed: rotation.passed,
        total: rotation.total,
        failed: rotation.failed,
        failed_rows: rotation.failures,
        idle_seconds: rotation.idle_secs,
    }
}

/// A step of a verification of the key ring.
pub(in crate::grpc) fn verified_rows(request_id: RequestId, step: VerifiedRows) -> pb::VerifyKeyRingResponse {
    pb::VerifyKeyRingResponse {
        request_id: request_id.to_string(),
        faults: step.faults.into_iter().map(verification_fault).collect(),
        resume_token: step.resume_token,
        ..verified_counts(step.counts)
    }
}

/// The numbers of a verification.
pub fn verified_counts(counts: VerifiedCounts) -> pb::VerifyKeyRingResponse {
    pb::VerifyKeyRingResponse {
        service_keys: counts.service_keys,
        access_keys: counts.access_keys,
        server_certificates: counts.server_certificates,
        ca_certificates: counts.ca_certificates,
        earlier_versions: counts.earlier_versions,
        private_keys: counts.private_keys,
        fault_count: counts.faults,
        ..Default::default()
    }
}

/// A row with a fault.
pub fn verification_fault(row: RowFault) -> pb::VerificationFault {
    use pb::VerificationCause as Cause;
    let (mut key_encryption_key_id, mut columns) = (String::new(), Vec::new());
    let cause = match row.fault {
        Fault::Sealed(SealError::KeyMissing(key)) => {
            key_encryption_key_id = key.to_string();
            Cause::KeyEncryptionKeyMissing
        }
        Fault::Sealed(SealError::Unreadable) => Cause::SealedValueUnreadable,
        Fault::Sealed(SealError::Library(_) | SealError::Random(_)) => Cause::Internal,
        Fault::KeyAbsent => Cause::PrivateKeyAbsent,
        Fault::KeyUnused => Cause::PrivateKeyUnused,
        Fault::Pair(StoredPairError::PrivateKey) => Cause::PrivateKeyUnreadable,
        Fault::Pair(StoredPairError::Mismatch) => Cause::PrivateKeyMismatch,
        Fault::Pair(StoredPairError::Fingerprint) => Cause::FingerprintMismatch,
        Fault::Pair(StoredPairError::Leaf) => Cause::CertificateUnreadable,
        Fault::Facts(names) => {
            columns = names.into_iter().map(str::to_owned).collect();
            Cause::FactsDiffer
        }
    };
    let (certificate, version) = row.certificate.unzip();
    pb::VerificationFault {
        row: row.row,
        cause: cause.into(),
        key_encryption_key_id,
        account_id: certificate.map(|id| id.account.to_string()).unwrap_or_default(),
        certificate_id: certificate.map(|id| id.to_string()).unwrap_or_default(),
        version: version.unwrap_or_default(),
        columns,
    }
}
