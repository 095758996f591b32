"""Watches the server certificates of an account, and prints each message as a line of JSON. Calls again with the last token whenever the
stream ends. Arguments: the addresses, one after the other, of the replicas to call in turn. WATCHER_KEY is the access key."""

import json
import os
import sys
import time

import grpc
from google.rpc import error_details_pb2, status_pb2

from certkeep.v1 import delivery_service_pb2 as pb
from certkeep.v1 import delivery_service_pb2_grpc as rpc


def reason(error):
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return error.code().name


def main():
    addresses = sys.argv[1:]
    metadata = [("authorization", "Bearer " + os.environ["WATCHER_KEY"])]
    token, call = "", 0
    while True:
        address = addresses[call % len(addresses)]
        call += 1
        with grpc.insecure_channel(address) as channel:
            watch = rpc.DeliveryServiceStub(channel).WatchServerCertificates
            try:
                for message in watch(pb.WatchServerCertificatesRequest(resume_token=token), metadata=metadata):
                    token = message.resume_token
                    kind = pb.CertificateEventKind.Name(message.kind).removeprefix("CERTIFICATE_EVENT_KIND_")
                    etag = message.server_certificate.etag
                    print(json.dumps([kind, message.event_id, message.server_certificate_id, etag]), flush=True)
            except grpc.RpcError as error:
                print(json.dumps(["ENDED", reason(error), "", ""]), flush=True)
        time.sleep(0.05)


main()
