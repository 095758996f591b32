"""Uploads a pair, tags it, and lists all certificates with its fingerprint. docs/clients.md explains each part.

    python3 -m venv venv && venv/bin/pip install -r examples/python/requirements.txt
    venv/bin/python -m grpc_tools.protoc -I proto --python_out=examples/python --grpc_python_out=examples/python \
        certkeep/v1/reason.proto certkeep/v1/resources.proto certkeep/v1/certificate_service.proto
    venv/bin/python examples/python/upload.py --region cn-hangzhou --access-key-file ~/.local/share/certkeep/admin.key \
        --cert cert.pem --key key.pem

Exit code 1: certkeep refused a call. 2: wrong usage. 4: it is unknown whether a call took effect.
"""

import argparse
import ipaddress
import pathlib
import ssl
import sys
import urllib.parse
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from certkeep.v1 import certificate_service_pb2 as pb
from certkeep.v1 import certificate_service_pb2_grpc as services
from certkeep.v1 import resources_pb2 as resources

SERVICE_CONFIG = pathlib.Path(__file__).parents[2] / "proto/service_config.json"


def is_loopback(host):
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def system_roots():
    """The system's CA certificates. Without them, gRPC for Python trusts a list of its own."""
    paths = ssl.get_default_verify_paths()
    files = [pathlib.Path(paths.cafile)] if paths.cafile else sorted(pathlib.Path(paths.capath).glob("*.[0-9]"))
    return b"\n".join(file.read_bytes() for file in files)


class Certkeep:
    """One channel. Share it between all threads of a process: it opens its connection again when it breaks."""

    def __init__(self, endpoint, access_key, ca_file=None):
        url = urllib.parse.urlsplit(endpoint)
        # The deadline and the retry policy of each method.
        options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
        if url.scheme == "https":
            roots = pathlib.Path(ca_file).read_bytes() if ca_file else system_roots()
            # Call credentials are sent over TLS only.
            credentials = grpc.composite_channel_credentials(
                grpc.ssl_channel_credentials(roots), grpc.access_token_call_credentials(access_key)
            )
            self.channel = grpc.secure_channel(url.netloc, credentials, options)
            self.metadata = []
        elif url.scheme == "http" and is_loopback(url.hostname):
            # A proxy would read the access key.
            self.channel = grpc.insecure_channel(url.netloc, [*options, ("grpc.enable_http_proxy", 0)])
            self.metadata = [("authorization", f"Bearer {access_key}")]
        else:
            raise ValueError(f"{endpoint} would get the access key in plain text over the network: use https")
        self.service = services.CertificateServiceStub(self.channel)

    def call(self, method, request):
        return getattr(self.service, method)(request, metadata=self.metadata)

    def search(self, **criteria):
        """The certificates of all pages."""
        request = pb.SearchServerCertificatesRequest(**criteria)
        while True:
            page = self.call("SearchServerCertificates", request)
            yield from page.server_certificates
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def show_findings(findings):
    for finding in findings:
        severity = resources.Severity.Name(finding.severity).removeprefix("SEVERITY_").lower()
        code = resources.FindingCode.Name(finding.code).removeprefix("FINDING_CODE_")
        print(f"{severity} {code}: {finding.message}; {finding.remedy}".removesuffix("; "), file=sys.stderr)


def show(error):
    """Prints the reason, every wrong field, the findings and the request id, which is also in the log of the service."""
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, fields, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
        findings = resources.Findings()
        if detail.Unpack(info):
            print(f"  reason {info.reason}", file=sys.stderr)
        elif detail.Unpack(fields):
            for violation in fields.field_violations:
                print(f"  {violation.field}: {violation.description}", file=sys.stderr)
        elif detail.Unpack(findings):
            show_findings(findings.findings)
        elif detail.Unpack(request):
            print(f"  request id {request.request_id}", file=sys.stderr)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--endpoint", default="http://127.0.0.1:50051")
    arguments.add_argument("--ca-file", help="trust the CA certificates in this file instead of the system's")
    arguments.add_argument("--client-token", default=uuid.uuid4().hex, help="the token of an earlier upload, to repeat that upload")
    for name in ("access-key-file", "region", "cert", "key"):
        arguments.add_argument(f"--{name}", required=True)
    arguments = arguments.parse_args()
    read = lambda path: pathlib.Path(path).read_text()
    try:
        certkeep = Certkeep(arguments.endpoint, read(arguments.access_key_file).strip(), arguments.ca_file)
        request = pb.UploadServerCertificateRequest(
            region_id=arguments.region,
            server_certificate=read(arguments.cert),
            private_key=read(arguments.key),
            # However often the call is repeated, the pair is stored once.
            client_token=arguments.client_token,
        )
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        uploaded = certkeep.call("UploadServerCertificate", request)
        show_findings(uploaded.findings)
        tags = pb.TagResourcesRequest(
            region_id=uploaded.region_id,
            resource_type="certificate",
            resource_ids=[uploaded.server_certificate_id],
            tags=[resources.Tag(key="example", value="python")],
        )
        certkeep.call("TagResources", tags)
        for certificate in certkeep.search(fingerprint=uploaded.fingerprint_sha256):
            print(certificate.server_certificate_id, certificate.common_name, certificate.expire_time)
    except grpc.RpcError as error:
        show(error)
        # The reason OUTCOME_UNKNOWN, or no answer.
        if error.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            token = arguments.client_token
            print(f"It is unknown whether the call took effect. Repeat the command with --client-token {token}", file=sys.stderr)
            return 4
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
