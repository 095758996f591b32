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
    let mut files = compiler.file_descriptor_set();
    let mut envoy = files.clone();
    envoy.file.retain(|file| !file.package().starts_with("certkeep."));
    files.file.retain(|file| file.package().starts_with("certkeep."));
    // The client's crate has the messages and the clients of certkeep's own services.
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".certkeep.v1", "::certkeep_client::pb")
        .compile_fds(files)?;
    tonic_prost_build::configure()
        // Messages that carry a private key.
        .skip_debug([
            ".envoy.config.core.v3.DataSource",
            ".envoy.extensions.transport_sockets.tls.v3",
            ".envoy.service.discovery.v3.DeltaDiscoveryResponse",
            ".envoy.service.discovery.v3.DiscoveryResponse",
            ".envoy.service.discovery.v3.Resource",
        ])
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(envoy)?;
    Ok(())
}
