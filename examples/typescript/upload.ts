// Uploads a pair, tags it, searches for it by its fingerprint, and prints the details of an error.
//
// Generate the client first, in this folder (GOOGLEAPIS is a folder that contains google/rpc/error_details.proto):
//     npm ci && mkdir -p gen
//     protoc -I ../../proto -I GOOGLEAPIS --plugin=node_modules/.bin/protoc-gen-es \
//         --es_out=gen --es_opt=target=ts,import_extension=js \
//         certkeep/v1/reason.proto certkeep/v1/resources.proto certkeep/v1/certificate_service.proto google/rpc/error_details.proto
//     npm run build

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { CertificateService } from "./gen/certkeep/v1/certificate_service_pb.js";
import { KeyAlgorithm } from "./gen/certkeep/v1/resources_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RequestInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** Prints the reason, every wrong field, and the request id. The request id is also in the server's log. */
function show(error: ConnectError) {
  console.error(`${Code[error.code]}: ${error.rawMessage}`);
  for (const { reason } of error.findDetails(ErrorInfoSchema)) {
    console.error(`  reason ${reason}`);
  }
  for (const { field, description } of error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations)) {
    console.error(`  ${field}: ${description}`);
  }
  for (const { requestId } of error.findDetails(RequestInfoSchema)) {
    console.error(`  request id ${requestId}`);
  }
}

const { values } = parseArgs({
  options: {
    address: { type: "string", default: "127.0.0.1:50051" },
    "ca-file": { type: "string" }, // Use TLS and trust the CA certificates in this file.
    "access-key-file": { type: "string" },
    region: { type: "string" },
    cert: { type: "string" },
    key: { type: "string" },
  },
});

function required(name: "access-key-file" | "region" | "cert" | "key"): string {
  const value = values[name];
  if (value === undefined) {
    console.error(`--${name} is missing`);
    process.exit(2);
  }
  return value;
}

const read = (path: string) => readFileSync(path, "utf8");
const headers = { authorization: `Bearer ${read(required("access-key-file")).trim()}` };
const request = {
  regionId: required("region"),
  serverCertificate: read(required("cert")),
  privateKey: read(required("key")),
};
const ca = values["ca-file"] && read(values["ca-file"]);
const transport = createGrpcTransport({
  baseUrl: `${ca ? "https" : "http"}://${values.address}`,
  nodeOptions: ca ? { ca } : {},
  defaultTimeoutMs: 10_000,
});
const service = createClient(CertificateService, transport);
try {
  const uploaded = await service.uploadServerCertificate(request, { headers });
  const tagging = {
    regionId: uploaded.regionId,
    resourceType: "certificate",
    resourceIds: [uploaded.serverCertificateId],
    tags: [{ key: "example", value: "typescript" }],
  };
  await service.tagResources(tagging, { headers });
  const found = await service.searchServerCertificates({ fingerprint: uploaded.fingerprintSha256 }, { headers });
  for (const certificate of found.serverCertificates) {
    console.log(certificate.serverCertificateId, certificate.commonName, certificate.expireTime);
    console.log(KeyAlgorithm[certificate.keyAlgorithm], certificate.keySize, certificate.fingerprint);
  }
} catch (error) {
  show(ConnectError.from(error));
  process.exitCode = 1;
}
