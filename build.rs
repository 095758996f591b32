//! Compiles `proto/` with protox, which needs no protoc.

use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script where to write in its environment"
)]
fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    // Comments too: reflection shows them, and they are the contract.
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files([
        "certkeep/v1/admin_service.proto",
        "certkeep/v1/certificate_service.proto",
        "certkeep/v1/delivery_service.proto",
        "certkeep/v1/operator_service.proto",
        "envoy/service/secret/v3/sds.proto",
        // Nothing imports it: each response has it as `Any`.
        "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    ])?;
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out_dir.join("certkeep.v1.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // Messages that carry a private key or the secret of an access key, or into which people paste one.
        .skip_debug([
            ".certkeep.v1.CheckServerCertificateRequest",
            ".certkeep.v1.CreateAccessKeyResponse",
            ".certkeep.v1.CreateAccountAdminKeyResponse",
            ".certkeep.v1.CreateAccountResponse",
            ".certkeep.v1.GetKeyPairRequest",
            ".certkeep.v1.GetKeyPairResponse",
            ".certkeep.v1.RenewServerCertificateRequest",
            ".certkeep.v1.UploadCaCertificateRequest",
            ".certkeep.v1.UploadServerCertificateRequest",
            ".envoy.config.core.v3.DataSource",
            ".envoy.extensions.transport_sockets.tls.v3",
            ".envoy.service.discovery.v3.DeltaDiscoveryResponse",
            ".envoy.service.discovery.v3.DiscoveryResponse",
            ".envoy.service.discovery.v3.Resource",
        ])
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
