"""Uploads a pair, tags it, searches for it by its fingerprint, and prints the details of an error.

Generate the client first:
    python3 -m venv venv && venv/bin/pip install -r examples/python/requirements.txt
    venv/bin/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. \
        certkeep/v1/reason.proto certkeep/v1/resources.proto certkeep/v1/certificate_service.proto
"""

import argparse
import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from certkeep.v1 import certificate_service_pb2 as pb
from certkeep.v1 import certificate_service_pb2_grpc as services
from certkeep.v1 import resources_pb2 as resources


def show(error):
    """Prints the reason, every wrong field, and the request id. The request id is also in the server's log."""
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, fields, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
        if detail.Unpack(info):
            print(f"  reason {info.reason}", file=sys.stderr)
        elif detail.Unpack(fields):
            for violation in fields.field_violations:
                print(f"  {violation.field}: {violation.description}", file=sys.stderr)
        elif detail.Unpack(request):
            print(f"  request id {request.request_id}", file=sys.stderr)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--address", default="127.0.0.1:50051")
    arguments.add_argument("--ca-file", help="use TLS and trust the CA certificates in this file")
    for name in ("access-key-file", "region", "cert", "key"):
        arguments.add_argument(f"--{name}", required=True)
    arguments = arguments.parse_args()
    read = lambda path: pathlib.Path(path).read_text()

    if arguments.ca_file:
        channel = grpc.secure_channel(arguments.address, grpc.ssl_channel_credentials(read(arguments.ca_file).encode()))
    else:
        channel = grpc.insecure_channel(arguments.address)
    metadata = [("authorization", f"Bearer {read(arguments.access_key_file).strip()}")]
    with channel:
        service = services.CertificateServiceStub(channel)
        try:
            uploaded = service.UploadServerCertificate(
                pb.UploadServerCertificateRequest(
                    region_id=arguments.region,
                    server_certificate=read(arguments.cert),
                    private_key=read(arguments.key),
                ),
                metadata=metadata,
                timeout=10,
            )
            service.TagResources(
                pb.TagResourcesRequest(
                    region_id=uploaded.region_id,
                    resource_type="certificate",
                    resource_ids=[uploaded.server_certificate_id],
                    tags=[resources.Tag(key="example", value="python")],
                ),
                metadata=metadata,
                timeout=10,
            )
            request = pb.SearchServerCertificatesRequest(fingerprint=uploaded.fingerprint_sha256)
            found = service.SearchServerCertificates(request, metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            show(error)
            return 1
    for certificate in found.server_certificates:
        print(certificate.server_certificate_id, certificate.common_name, certificate.expire_time)
        print(resources.KeyAlgorithm.Name(certificate.key_algorithm), certificate.key_size, certificate.fingerprint)
    return 0


sys.exit(main())
