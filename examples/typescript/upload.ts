// Uploads a pair, tags it, and lists all certificates with its fingerprint. docs/clients.md explains each part.
//
//     npm --prefix examples/typescript ci
//     mkdir -p examples/typescript/gen && cp proto/service_config.json examples/typescript/gen
//     protoc -I proto -I examples/typescript --plugin=examples/typescript/node_modules/.bin/protoc-gen-es \
//         --es_out=examples/typescript/gen --es_opt=target=ts,import_extension=js certkeep/v1/reason.proto \
//         certkeep/v1/resources.proto certkeep/v1/certificate_service.proto google/rpc/status.proto error_details.proto
//     npm --prefix examples/typescript run build
//     node examples/typescript/dist/upload.js --region cn-hangzhou --access-key-file ~/.local/share/certkeep/admin.key \
//         --cert cert.pem --key key.pem
//
// Exit code 1: certkeep refused a call. 2: wrong usage. 4: it is unknown whether a call took effect.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { parseArgs } from "node:util";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";

import { CertificateService } from "./gen/certkeep/v1/certificate_service_pb.js";
import { type Finding, FindingCode, FindingsSchema, Severity } from "./gen/certkeep/v1/resources_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RequestInfoSchema } from "./gen/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

const SERVICE_CONFIG = new URL("gen/service_config.json", import.meta.url);

// The system's CA certificates: Debian, Ubuntu and Alpine keep them in this file. Node.js trusts a list of its own.
const SYSTEM_ROOTS = process.env.SSL_CERT_FILE || "/etc/ssl/certs/ca-certificates.crt";

const methods = CertificateService.method;

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."));
}

/** One channel. Share it between all parts of a process: it opens its connection again when it breaks. */
class Certkeep {
  private readonly channel: Client;
  private readonly metadata = new Metadata();

  constructor(endpoint: string, accessKey: string, caFile?: string) {
    const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
    // The deadline and the retry policy of each method.
    const options = { "grpc.service_config": readFileSync(SERVICE_CONFIG, "utf8") };
    const authorization = new Metadata();
    authorization.set("authorization", `Bearer ${accessKey}`);
    if (url?.protocol === "https:") {
      const tls = credentials.createSsl(readFileSync(caFile ?? SYSTEM_ROOTS));
      // Call credentials are sent over TLS only.
      const bearer = credentials.createFromMetadataGenerator((_, done) => done(null, authorization));
      this.channel = new Client(url.host, credentials.combineChannelCredentials(tls, bearer), options);
    } else if (url?.protocol === "http:" && isLoopback(url.hostname)) {
      // A proxy would read the access key.
      const direct = { ...options, "grpc.enable_http_proxy": 0 };
      this.channel = new Client(`${url.hostname}:${url.port || 80}`, credentials.createInsecure(), direct);
      this.metadata = authorization;
    } else {
      throw new Error(`${endpoint} would get the access key in plain text over the network: use https`);
    }
  }

  call<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, request: MessageInitShape<I>) {
    return new Promise<MessageShape<O>>((resolve, reject) =>
      this.channel.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        this.metadata,
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      ),
    );
  }

  /** The certificates of all pages. */
  async *search(criteria: MessageInitShape<typeof methods.searchServerCertificates.input>) {
    let pageToken = "";
    do {
      const page = await this.call(methods.searchServerCertificates, { ...criteria, pageToken });
      yield* page.serverCertificates;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }
}

function showFindings(findings: Finding[]) {
  for (const { severity, code, message, remedy } of findings) {
    console.error(`${Severity[severity].toLowerCase()} ${FindingCode[code]}: ${message}${remedy && `; ${remedy}`}`);
  }
}

/** Prints the reason, every wrong field, the findings and the request id, which is also in the log of the service. */
function show(error: ServiceError) {
  console.error(`${status[error.code]}: ${error.details}`);
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  for (const detail of bytes ? fromBinary(StatusSchema, bytes as Buffer).details : []) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info) console.error(`  reason ${info.reason}`);
    for (const { field, description } of anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? []) {
      console.error(`  ${field}: ${description}`);
    }
    showFindings(anyUnpack(detail, FindingsSchema)?.findings ?? []);
    const request = anyUnpack(detail, RequestInfoSchema);
    if (request) console.error(`  request id ${request.requestId}`);
  }
}

function prepare() {
  const { values } = parseArgs({
    options: {
      endpoint: { type: "string", default: "http://127.0.0.1:50051" },
      "ca-file": { type: "string" }, // Trust the CA certificates in this file instead of the system's.
      "client-token": { type: "string", default: randomUUID() }, // The token of an earlier upload, to repeat that upload.
      "access-key-file": { type: "string" },
      region: { type: "string" },
      cert: { type: "string" },
      key: { type: "string" },
    },
  });
  const required = (name: "access-key-file" | "region" | "cert" | "key") => {
    if (!values[name]) throw new Error(`--${name} is missing`);
    return values[name];
  };
  const read = (name: "access-key-file" | "cert" | "key") => readFileSync(required(name), "utf8");
  const request = {
    regionId: required("region"),
    serverCertificate: read("cert"),
    privateKey: read("key"),
    // However often the call is repeated, the pair is stored once.
    clientToken: values["client-token"],
  };
  return { certkeep: new Certkeep(values.endpoint, read("access-key-file").trim(), values["ca-file"]), request };
}

async function main() {
  let prepared;
  try {
    prepared = prepare();
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  }
  const { certkeep, request } = prepared;
  try {
    const uploaded = await certkeep.call(methods.uploadServerCertificate, request);
    showFindings(uploaded.findings);
    await certkeep.call(methods.tagResources, {
      regionId: uploaded.regionId,
      resourceType: "certificate",
      resourceIds: [uploaded.serverCertificateId],
      tags: [{ key: "example", value: "typescript" }],
    });
    for await (const certificate of certkeep.search({ fingerprint: uploaded.fingerprintSha256 })) {
      console.log(certificate.serverCertificateId, certificate.commonName, certificate.expireTime);
    }
    return 0;
  } catch (caught) {
    const error = caught as ServiceError;
    show(error);
    // The reason OUTCOME_UNKNOWN, or no answer.
    if ([status.UNKNOWN, status.UNAVAILABLE, status.DEADLINE_EXCEEDED].includes(error.code)) {
      console.error(`It is unknown whether the call took effect. Repeat the command with --client-token ${request.clientToken}`);
      return 4;
    }
    return 1;
  }
}

process.exitCode = await main();
