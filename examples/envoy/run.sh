#!/bin/sh
# Runs an Envoy that serves the certificate for a host name from the certkeep on 127.0.0.1:50051, until Ctrl-C:
#
#     make run                                       # in the first terminal
#     examples/envoy/run.sh www.shop.example.com     # in the second one
#
# If certkeep has no certificate for the name, it uploads a self-signed one. CERTKEEP and ENVOY choose other programs.
set -eu
host=${1:?'say which host name to serve: examples/envoy/run.sh www.shop.example.com'}
cd "$(dirname "$0")/../.."
certkeep=${CERTKEEP:-target/debug/certkeep}
envoy=${ENVOY:-target/tools/bin/envoy-1.40.0}
[ -x "$envoy" ] || make --no-print-directory "$envoy"
umask 077
dir=$(mktemp -d)
access_key='' server=''
stop() {
  set +e
  [ -z "$server" ] || kill "$server" 2>/dev/null
  [ -z "$access_key" ] || for verb in disable delete; do "$certkeep" access-key "$verb" "$access_key" >/dev/null; done
  rm -rf "$dir"
}
trap stop EXIT
trap exit INT TERM

found=$("$certkeep" search --domain "$host" --covered --output json)
if ! echo "$found" | grep -q '"serverCertificateId"'; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=$host" \
    -addext "subjectAltName=DNS:$host" -addext basicConstraints=critical,CA:FALSE -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
  "$certkeep" upload --region "${CERTKEEP_REGION:-cn-hangzhou}" --cert "$dir/cert.pem" --key "$dir/key.pem"
fi
# An access key for this run, which gets nothing but certificates.
"$certkeep" access-key create --role consumer --description 'examples/envoy' --secret-file "$dir/consumer.key" >/dev/null
access_key=$(cut -d. -f1 "$dir/consumer.key")
sed -e "s/HOST/$host/" -e "s/KEY/$(cat "$dir/consumer.key")/" examples/envoy/envoy.yaml >"$dir/envoy.yaml"
echo "Try: curl --insecure --resolve $host:8443:127.0.0.1 https://$host:8443/" >&2
"$envoy" --log-level warn --config-path "$dir/envoy.yaml" &
server=$!
wait "$server"
