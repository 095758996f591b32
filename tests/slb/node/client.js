// Calls certkeep with Alibaba's client for Node.js, @alicloud/pop-core. Each line of the input is a list of calls, which run at
// the same time. Each line of the output is the list of their answers. tests/integration/slb_clients/mod.rs describes both.
'use strict';

const readline = require('readline');
const { RPCClient } = require('@alicloud/pop-core');

async function answer(call) {
  const client = new RPCClient({
    endpoint: `http://${call.endpoint}`,
    apiVersion: '2014-05-15',
    accessKeyId: call.access_key_id,
    accessKeySecret: call.secret,
  });
  // A parameter replaces the client's own.
  const parameters = { ...call.parameters };
  for (const [name, value] of [['Timestamp', call.time], ['SignatureNonce', call.nonce], ['Format', call.format],
    ['SignatureMethod', call.signature_method]]) {
    if (value !== undefined) parameters[name] = value;
  }
  const method = call.method ?? (call.style === 'pop-post' ? 'POST' : 'GET');
  try {
    return { answer: await client.request(call.action, parameters, { method }) };
  } catch (error) {
    if (!error.data) return { failure: String(error) };
    // The client puts the URL after the message.
    const { Code: code, Message: message, RequestId: request_id } = error.data;
    return { error: { code, message, status: error.entry.response.statusCode, request_id } };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await Promise.all(JSON.parse(line).map(answer))));
  }
  process.exit(0);
})();
