"""Calls certkeep with Alibaba's SDKs for Python: aliyun-python-sdk-slb and alibabacloud-slb20140515.

Each line of the input is a list of calls, which run at the same time. Each line of the output is the list of their answers.
tests/integration/slb_clients/mod.rs describes both.
"""

import importlib
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from unittest import mock

from alibabacloud_slb20140515 import models
from alibabacloud_slb20140515.client import Client
from alibabacloud_tea_openapi import utils_models
from alibabacloud_tea_openapi.exceptions import ClientException as TeaClientException
from alibabacloud_tea_openapi.exceptions import ServerException as TeaServerException
from alibabacloud_tea_openapi.exceptions import ThrottlingException
from alibabacloud_tea_openapi.utils import Utils
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.utils import parameter_helper
from darabonba.runtime import RuntimeOptions


def core(call):
    """aliyun-python-sdk-slb: a class for each action, with a setter for each parameter."""
    host, port = call["endpoint"].split(":")
    client = AcsClient(call["access_key_id"], call["secret"], call["region"], auto_retry=False, port=int(port))
    action = call["action"]
    module = importlib.import_module(f"aliyunsdkslb.request.v20140515.{action}Request")
    request = getattr(module, f"{action}Request")()
    request.set_endpoint(host)
    for name, value in call["parameters"].items():
        if name == "RegionId":
            # It has no setter. The client adds its own region, unless the request has one.
            request.add_query_param(name, value)
        else:
            getattr(request, f"set_{name}s" if isinstance(value, list) else f"set_{name}")(value)
    request.set_method(call.get("method", request.get_method()))
    if call.get("format") == "XML":
        request.set_accept_format("XML")
        status, _, body, _ = client._implementation_of_do_action(request)
        return {"status": status, "xml": body.decode()}
    try:
        return {"answer": json.loads(client.do_action_with_exception(request))}
    except ServerException as error:
        return failure(error.error_code, error.message, error.http_status, error.request_id)


def tea(call, signature_algorithm):
    return Client(
        utils_models.Config(
            access_key_id=call["access_key_id"],
            access_key_secret=call["secret"],
            region_id=call["region"],
            endpoint=call["endpoint"],
            protocol="HTTP",
            signature_algorithm=call.get("signature_algorithm", signature_algorithm),
        )
    )


def tea_answer(ask):
    try:
        return {"answer": ask()["body"]}
    except (TeaClientException, TeaServerException, ThrottlingException) as error:
        # The SDK puts the status and the request id in front of the message.
        message = re.fullmatch(r"code: (\d+), (.*) request id: (\S+)", error.message, re.DOTALL)
        return failure(error.code, message[2], error.status_code, error.request_id)


def tea_query(signature_algorithm):
    """alibabacloud-slb20140515: a model for each action. Its parameters go into the query."""

    def run(call):
        client = tea(call, signature_algorithm)
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", call["action"]).lower()
        request = getattr(models, f"{call['action']}Request")().from_map(call["parameters"])
        return tea_answer(lambda: getattr(client, f"{name}_with_options")(request, RuntimeOptions()).to_map())

    return run


def tea_form(signature_algorithm):
    """alibabacloud-tea-openapi with a body: the parameters go into a form."""

    def run(call):
        client = tea(call, signature_algorithm)
        params = utils_models.Params(
            action=call["action"],
            version="2014-05-15",
            protocol="HTTP",
            pathname="/",
            method=call.get("method", "POST"),
            auth_type="AK",
            style="RPC",
            req_body_type="formData",
            body_type="json",
        )
        request = utils_models.OpenApiRequest(body=call["parameters"])
        return tea_answer(lambda: client.call_api(params, request, RuntimeOptions()))

    return run


STYLES = {
    "core": core,
    "acs3": tea_query(None),
    "v2": tea_query("v2"),
    "acs3-form": tea_form(None),
    "v2-form": tea_form("v2"),
}


def failure(code, message, status, request_id):
    return {"error": {"code": code, "message": message, "status": status, "request_id": request_id}}


def answer(call):
    try:
        return STYLES[call["style"]](call)
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"}


def answers(calls):
    """A call that tells the time or a nonce runs alone: the SDKs read both themselves."""
    if "time" not in calls[0] and "nonce" not in calls[0]:
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(answer, calls))
    [call] = calls
    time = call.get("time", datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
    nonce = call.get("nonce", Utils.get_nonce())
    with (
        mock.patch.object(parameter_helper, "get_iso_8061_date", lambda: time),
        mock.patch.object(parameter_helper, "get_uuid", lambda: nonce),
        mock.patch.object(Utils, "get_timestamp", lambda: time),
        mock.patch.object(Utils, "get_nonce", lambda: nonce),
    ):
        return [answer(call)]


for line in sys.stdin:
    print(json.dumps(answers(json.loads(line))), flush=True)
