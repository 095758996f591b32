//! Compiles `proto/` with protox, which needs no protoc.

use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["certkeep/v1/certificate_service.proto"], ["proto"])?;
    let out_dir = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    tonic_prost_build::configure()
        // Messages that carry a private key.
        .skip_debug([".certkeep.v1.UploadServerCertificateRequest"])
        .file_descriptor_set_path(PathBuf::from(out_dir).join("certkeep.v1.bin"))
        .compile_fds(descriptors)?;
    Ok(())
}
