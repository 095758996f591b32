//! Generates the messages and the clients from `proto/`.

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PROTO: &str = "../../proto";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed={PROTO}");
    let mut compiler = protox::Compiler::new([PROTO])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files([
        "certkeep/v1/admin_service.proto",
        "certkeep/v1/certificate_service.proto",
        "certkeep/v1/delivery_service.proto",
        "certkeep/v1/operator_service.proto",
    ])?;
    tonic_prost_build::configure()
        .build_server(false)
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
        ])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
