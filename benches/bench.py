"""Measures certkeep beside PostgreSQL's own pgbench, in turn, on one machine: `make bench`.

Each figure is a ratio of two measurements of the same run. The load on certkeep comes from ghz (uploads) and from h2load (reads, which
repeat one request). The load on PostgreSQL comes from pgbench: one lean statement that writes or reads the same rows. The statements and
the stored certificates are made from the rows of one real upload, so that they follow the schema by themselves.

The PostgreSQL server is a scratch one with durable settings, in a temporary directory (TMPDIR chooses the disk). Nothing else should run.
"""

import argparse
import atexit
import base64
import contextlib
import copy
import datetime
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ACCOUNTS, PER_ACCOUNT, FIRST_ACCOUNT = 200, 100, 2_000_000_000_000_000
CALLERS, CLIENTS = 64, 16
SECRET = "s" * 43
REGION = "cn-hangzhou"
SERVICE = "certkeep.v1.CertificateService"
POSTGRES = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "4GB",
            "checkpoint_timeout": "15min", "max_connections": "200", "listen_addresses": "''"}
# The columns in which stored certificates differ, of certificate n of accounts with `per` certificates each. pgbench's own uploads
# take n from a random number.
VARIED = {
    "account_id": "sample.account_id + n / per",
    "created_ms": "1700000000000 + n * 10",
    "random": "hashint8extended(n, 1)",
    "key_id": "md5(n::text)::uuid",
    "request_id": "gen_random_uuid()",
    "position": "n % per + 1",
    "name": "'h' || lpad(n::text, 12, '0') || '.bench.example.com'",
    "common_name": "'h' || lpad(n::text, 12, '0') || '.bench.example.com'",
    "subject_alternative_names": "array['h' || lpad(n::text, 12, '0') || '.bench.example.com', 'www.h' || lpad(n::text, 12, '0') || '.bench.example.com']",
    "searchable_names": "array['com.example.bench.h' || lpad(n::text, 12, '0'), 'com.example.bench.h' || lpad(n::text, 12, '0') || '.www']",
    "searchable_name": "'com.example.bench.h' || lpad(n::text, 12, '0') || coalesce(substring(sample.searchable_name from '[.]www$'), '')",
    "serial_number": "encode(substring(sha256(int8send(n)) for 15), 'hex')",
    "fingerprint": "substring(sha256(int8send(n)) for 20)",
    "fingerprint_sha256": "sha256(int8send(-n))",
    "spki_sha256": "sha256(int8send(~n))",
}
ROWS = ["certificate", "private_key", "event", "searchable_name"]
COUNTERS = ["certificate_count", "stream"]


def say(text):
    print(f"{time.monotonic() - BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def program(name, hint):
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))), None)
    return found or sys.exit(f"{name} is missing: {hint}")


def cpu(pid, with_children=False):
    """The processor seconds of a process. With children: of those that live and of those that ended, too."""
    def fields(process):
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    own = fields(pid)
    ticks = int(own[11]) + int(own[12])
    if with_children:
        ticks += int(own[13]) + int(own[14])
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError, IndexError):
                if entry.isdigit() and fields(entry)[1] == str(pid):
                    ticks += sum(int(field) for field in fields(entry)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(rf"{name}:\s+(\d+) kB", file.read()).group(1)) / 1024


class Postgres:
    """The scratch PostgreSQL server. As root it runs as the user postgres."""

    def __init__(self, directory):
        self.directory = directory
        self.bin = os.path.dirname(os.path.realpath(program("initdb", "apt-get install postgresql")))
        self.pgbench = program("pgbench", "apt-get install postgresql-contrib")
        data, self.user = f"{directory}/data", "postgres" if os.getuid() == 0 else None
        self.prefix = ["runuser", "-u", "postgres", "--"] if self.user else []
        os.chmod(directory, 0o755)
        os.mkdir(data, 0o700)
        if self.user:
            shutil.chown(data, "postgres")
        run(*self.prefix, f"{self.bin}/initdb", "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-k", cwd="/")
        arguments = [argument for name, value in POSTGRES.items() for argument in ("-c", f"{name}={value.strip(chr(39))}")]
        self.server = subprocess.Popen([*self.prefix, f"{self.bin}/postgres", "-D", data, "-k", data, *arguments],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        self.socket = data
        for _ in range(100):
            if subprocess.run([f"{self.bin}/pg_isready", "-q", "-h", data], check=False).returncode == 0:
                break
            time.sleep(0.1)
        with open(f"{data}/postmaster.pid") as file:
            self.pid = int(file.readline())

    def sql(self, database, text):
        return run(f"{self.bin}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-U", "bench", "-d", database, input=text).strip()

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)
        self.server.wait(30)


class Certkeep:
    """A certkeep process on a database of its own, with access keys for the accounts."""

    def __init__(self, binary, postgres, database, accounts):
        self.binary, self.postgres, self.database, self.accounts = binary, postgres, database, accounts
        self.directory = f"{postgres.directory}/{database}"
        os.mkdir(self.directory, 0o700)
        self.url = f"host={postgres.socket} user=bench dbname={database}"
        postgres.sql("postgres", f"create database {database}")
        self.command = [binary, "--data-dir", self.directory, "--database-url", self.url]
        run(binary, "bootstrap", *self.command[1:])
        digest = hashlib.sha256(SECRET.encode()).hexdigest()
        postgres.sql(database, f"""
            insert into account (account_id, name) select {FIRST_ACCOUNT} + n, 'bench ' || n from generate_series(0, {accounts} - 1) as n;
            insert into access_key (account_id, access_key_id, secret_sha256, role)
            select {FIRST_ACCOUNT} + n, 'ckbench' || lpad(n::text, 9, '0'), '\\x{digest}', 'editor' from generate_series(0, {accounts} - 1) as n""")
        self.start()

    def start(self):
        log = open(f"{self.directory}/log", "a")
        self.server = subprocess.Popen(
            [self.binary, "serve", *self.command[1:], "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--drain-seconds", "1",
             "--server-certificate-quota", "1000000", "--access-key-rate", "1000000", "--account-rate", "1000000"], stdout=subprocess.PIPE, stderr=log, text=True)
        atexit.register(self.server.kill)
        first = self.server.stdout.readline()
        match = re.search(r"(127\.0\.0\.1:\d+)\s*$", first) or sys.exit(f"certkeep did not start: {open(log.name).read()[-2000:]}")
        self.address = match.group(1)
        self.metrics = self.listening() - {int(self.address.rsplit(":", 1)[1])}

    def listening(self):
        """The ports on which the process listens."""
        inodes = set()
        for descriptor in os.listdir(f"/proc/{self.server.pid}/fd"):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(f"/proc/{self.server.pid}/fd/{descriptor}"))
        with open("/proc/net/tcp") as file:
            lines = [line.split() for line in file.readlines()[1:]]
        return {int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes}

    def answered(self, method):
        """How many calls of a method were answered with OK."""
        with urllib.request.urlopen(f"http://127.0.0.1:{next(iter(self.metrics))}/metrics") as answer:
            text = answer.read().decode()
        pattern = rf'^certkeep_calls_total{{(?=[^}}]*method="[^"]*{method}")(?=[^}}]*code="OK")[^}}]*}} (\d+)'
        return sum(int(count) for count in re.findall(pattern, text, re.M))

    def sql(self, text):
        return self.postgres.sql(self.database, text)

    def stop(self):
        self.server.terminate()
        self.server.wait(30)


class Measured:
    def __init__(self, operations, seconds, latency_ms, certkeep_us, postgres_us):
        self.operations, self.rate, self.latency_ms = operations, operations / seconds, latency_ms
        self.certkeep_us, self.postgres_us = certkeep_us / operations, postgres_us / operations


def metered(postgres, pid, work):
    """Runs `work`, which answers operations, seconds and milliseconds of one operation, and adds the processor time that it took."""
    before = cpu(pid) if pid else 0, cpu(postgres.pid, True)
    operations, seconds, latency = work()
    after = cpu(pid) if pid else 0, cpu(postgres.pid, True)
    return Measured(operations, seconds, latency, *[(now - then) * 1e6 for now, then in zip(after, before)])


def ghz(certkeep, messages, callers, limit, accounts=None):
    """Uploads of the messages in this file, in turn. The answer's latency is the median."""
    key = f'Bearer ckbench{{{{printf `%09d` (mod .RequestNumber {accounts or certkeep.accounts})}}}}.{SECRET}'
    def work():
        out = json.loads(run(GHZ, "--insecure", "--call", f"{SERVICE}/UploadServerCertificate", "--data-file", messages, "--metadata",
                             json.dumps({"authorization": key}), "-c", callers, "--connections", min(callers, 4), *limit, "-O", "json",
                             certkeep.address))
        failed = {name: count for name, count in (out.get("statusCodeDistribution") or {}).items() if name != "OK"}
        if failed or out.get("errorDistribution"):
            sys.exit(f"uploads failed: {failed} {out.get('errorDistribution')}")
        median = next(entry["latency"] for entry in out["latencyDistribution"] if entry["percentage"] == 50)
        return out["count"], out["total"] / 1e9, median / 1e6
    certkeep.sql("checkpoint")
    stored = lambda: int(certkeep.sql("select count(*) from private_key"))
    before = stored()
    measured = metered(certkeep.postgres, certkeep.server.pid, work)
    if stored() - before != measured.operations:
        sys.exit(f"{measured.operations} uploads were answered, and {stored() - before} are stored")
    return measured


def h2load(certkeep, message, seconds, callers=CALLERS):
    """Repeats one DescribeServerCertificates. The answer's latency is the mean."""
    frame = f"{certkeep.directory}/frame"
    with open(frame, "wb") as file:
        file.write(struct.pack(">BI", 0, len(message)) + message)
    def work():
        before = certkeep.answered("DescribeServerCertificates")
        out = run(H2LOAD, "-D", seconds, "-c", min(callers, 4), "-m", max(1, callers // 4), "-d", frame, "-H", "content-type: application/grpc",
                  "-H", "te: trailers", "-H", f"authorization: Bearer ckbench{0:09d}.{SECRET}",
                  f"http://{certkeep.address}/{SERVICE}/DescribeServerCertificates")
        operations = certkeep.answered("DescribeServerCertificates") - before
        sent = int(re.search(r"(\d+) succeeded", out).group(1))
        if operations < 0.98 * sent:
            sys.exit(f"only {operations} of {sent} calls were answered with OK")
        return operations, seconds, callers * 1000 * seconds / operations
    return metered(certkeep.postgres, certkeep.server.pid, work)


def pgbench(certkeep, script, clients, seconds):
    path = f"{certkeep.directory}/script.sql"
    with open(path, "w") as file:
        file.write(script)
    def work():
        out = run(certkeep.postgres.pgbench, "-n", "-M", "prepared", "-f", path, "-c", clients, "-j", min(clients, 2), "-T", seconds,
                  "-h", certkeep.postgres.socket, "-U", "bench", certkeep.database)
        count = int(re.search(r"actually processed: (\d+)", out).group(1))
        rate = float(re.search(r"tps = ([\d.]+)", out).group(1))
        return count, count / rate, 1000 * clients / rate
    return metered(certkeep.postgres, None, work)


class Schema:
    """The tables of a certkeep's database, and one uploaded certificate whose rows are the sample of all others."""

    def __init__(self, certkeep, upload):
        self.certkeep = certkeep
        ghz(certkeep, upload, 1, ["-n", 1], accounts=1)
        for table in ROWS:
            certkeep.sql(f"create table sample_{table} as select * from {table} where account_id = {FIRST_ACCOUNT}")

    def columns(self, table):
        names = self.certkeep.sql(f"select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped")
        return names.split()

    def insert(self, table, source, varied=VARIED):
        columns = self.columns(table)
        values = ", ".join(varied.get(column, f"sample.{column}") for column in columns)
        return f"insert into {table} ({', '.join(columns)}) select {values} from sample_{table} as sample {source}"

    def fill(self, accounts, certificates):
        """Replaces all certificates by this many, spread over the accounts."""
        per, tables = certificates // accounts, [*ROWS, *COUNTERS]
        indexes = self.certkeep.sql(f"""select pg_get_indexdef(indexrelid) || ';' || indexrelid::regclass from pg_index
            where indrelid = any('{{{', '.join(tables)}}}'::regclass[]) and not exists (select from pg_constraint where conindid = indexrelid)""").splitlines()
        source = f", (select {per}::bigint as per, n::bigint from generate_series(0, {certificates} - 1) as n) as numbered"
        of_accounts = f"{FIRST_ACCOUNT} + n, %s from generate_series(0, {accounts} - 1) as n;"
        self.certkeep.sql(f"set session_replication_role = replica; set maintenance_work_mem = '512MB'; truncate {', '.join(tables)} cascade; "
                          + "".join(f"drop index {line.rsplit(';', 1)[1]};" for line in indexes)
                          + "".join(f"{self.insert(table, source)};" for table in ROWS)
                          + "insert into certificate_count (account_id, kind, region_id, live, granted) select " + of_accounts % f"'server', '{REGION}', {per}, 1"
                          + "insert into stream (account_id, name, position) select " + of_accounts % f"'certificates', {per}"
                          + "".join(f"{line.rsplit(';', 1)[0]};" for line in indexes))
        self.certkeep.sql(f"vacuum (analyze) {', '.join(tables)}")
        self.certkeep.sql("checkpoint")

    def upload_script(self, accounts):
        """One lean statement for the rows of an upload."""
        own = {"account_id": "(:account)::bigint", "created_ms": "given.created_ms", "random": "(:n)::bigint",
               "key_id": "lpad(to_hex((:n)::bigint), 32, '0')::uuid", "position": "taken.position"}
        varied = {**{column: re.sub(r"\bn\b(?!')", "(:n)::bigint", value) for column, value in VARIED.items()}, **own}
        parts = ["given as materialized (select (extract(epoch from clock_timestamp()) * 1000)::bigint as created_ms)",
                 "counted as (insert into certificate_count as counter (account_id, kind, region_id, live, granted) "
                 f"values ((:account)::bigint, 'server', '{REGION}', 1, 1) on conflict (account_id, kind, region_id) do update set live = counter.live + 1)",
                 "taken as (insert into stream as s (account_id, name, position) values ((:account)::bigint, 'certificates', 1) "
                 "on conflict (account_id, name) do update set position = s.position + 1 returning position)",
                 *(f"row_of_{table} as ({self.insert(table, ', given, taken', varied)})" for table in ROWS)]
        return f"\\set account {FIRST_ACCOUNT} + random(0, {accounts} - 1)\n\\set n random(1, 9223372036854775806)\nwith {', '.join(parts)} select 1;\n"

    def page_script(self, rows):
        columns = ", ".join(column for column in self.columns("certificate") if column != "chain")
        return f"""\\set account {FIRST_ACCOUNT} + random(0, {ACCOUNTS} - 1)
select {columns} from certificate where account_id = :account and deleted_at is null order by created_ms, random limit {rows + 1};
"""

    def describe_script(self, certificates, per):
        columns = ", ".join(column for column in self.columns("certificate") if column != "chain")
        return f"""\\set n random(0, {certificates} - 1)
select {columns} from certificate where account_id = {FIRST_ACCOUNT} + :n / {per} and created_ms = 1700000000000 + :n * 10 and random = hashint8extended(:n, 1);
"""

    def first_id(self):
        return self.first_id_of(self.certkeep)

    @staticmethod
    def first_id_of(certkeep):
        row = certkeep.sql(f"select created_ms, random from certificate where account_id = {FIRST_ACCOUNT} order by created_ms limit 1")
        created, random = (int(part) for part in row.split("|"))
        first, second = struct.unpack(">ii", struct.pack(">q", random))
        return f"{FIRST_ACCOUNT}_{created:x}_{first}_{second}"


def text(number, value):
    """A text field of a protobuf message."""
    def varint(value):
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)
    encoded = value.encode()
    return varint(number << 3 | 2) + varint(len(encoded)) + encoded


def pairs(path, count, rsa):
    """Writes upload messages for distinct leaves of one intermediate, as JSON."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa as rsa_keys
    make = (lambda: rsa_keys.generate_private_key(65537, 2048)) if rsa else (lambda: ec.generate_private_key(ec.SECP256R1()))
    name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
    now = datetime.datetime.now(datetime.timezone.utc)
    root, issuer = make(), make()
    pem = serialization.Encoding.PEM

    def certificate(subject, key, issuer_name, signer, extensions):
        builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer_name)).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(90)))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256()).public_bytes(pem).decode()

    usage = lambda signs: x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)
    above = certificate("Bench Intermediate", issuer, "Bench Root", root, [
        (x509.BasicConstraints(True, 0), True), (usage(True), True), (x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()), False)])
    keys = [make() for _ in range(32)] if rsa else None
    messages = []
    for number in range(count):
        key, host = keys[number % 32] if rsa else make(), f"h{number:012}.bench.example.com"
        leaf = certificate(host, key, "Bench Intermediate", issuer, [
            (x509.BasicConstraints(False, None), True), (usage(False), True),
            (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectAlternativeName([x509.DNSName(host), x509.DNSName("www." + host)]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)])
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        messages.append({"region_id": REGION, "server_certificate": leaf + above, "private_key": secret, "omit_account_fingerprints": True})
    with open(path, "w") as file:
        json.dump(messages, file)
    return messages


class Envoy:
    """An Envoy that serves one certificate of a certkeep, and a client that connects to it all the time."""

    def __init__(self, program, certkeep, secret):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        certkeep.sql(f"""insert into access_key (account_id, access_key_id, secret_sha256, role)
            values ({FIRST_ACCOUNT}, 'ckenvoy', '\\x{hashlib.sha256(SECRET.encode()).hexdigest()}', 'consumer') on conflict do nothing""")
        with open(f"{os.path.dirname(__file__)}/../examples/envoy/envoy.yaml") as file:
            config = file.read()
        for word, value in {"port_value: 50051": f"port_value: {certkeep.address.rsplit(':', 1)[1]}", "port_value: 8443": f"port_value: {self.port}",
                            "HOST": secret, "KEY": f"ckenvoy.{SECRET}"}.items():
            config = config.replace(word, value)
        path = f"{certkeep.directory}/envoy.yaml"
        with open(path, "w") as file:
            file.write(config)
        self.server = subprocess.Popen([program, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "-c", path])
        atexit.register(self.server.kill)
        # When the first handshake with each certificate ended.
        self.first, self.stopped = {}, False
        self.client = threading.Thread(target=self.connect, daemon=True)
        self.client.start()

    def connect(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        while not self.stopped:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as tcp, context.wrap_socket(tcp) as tls:
                self.first.setdefault(hashlib.sha256(tls.getpeercert(True)).hexdigest(), time.time())

    def until_served(self, fingerprint):
        for _ in range(2000):
            if fingerprint in self.first:
                return self.first[fingerprint]
            time.sleep(0.005)
        sys.exit("Envoy does not serve the certificate")

    def stop(self):
        self.stopped = True
        self.client.join()
        self.server.kill()
        self.server.wait()


class Bench:
    def __init__(self, options, postgres):
        self.options, self.postgres, self.rows = options, postgres, []
        self.binaries = {"certkeep": options.certkeep} | ({"before": options.before} if options.before else {})
        self.databases = 0

    def sites(self, accounts=ACCOUNTS):
        """A certkeep for each binary, with its schema."""
        for name, binary in self.binaries.items():
            self.databases += 1
            certkeep = Certkeep(binary, self.postgres, f"{name}_{self.databases}", accounts)
            yield name, certkeep, Schema(certkeep, self.uploads)

    @property
    def uploads(self):
        path = f"{self.postgres.directory}/p256.json"
        if not os.path.exists(path):
            say("makes P-256 pairs")
            messages = pairs(path, 6000, rsa=False)
            with open(f"{self.postgres.directory}/lone.json", "w") as file:
                json.dump([{**message, "omit_account_fingerprints": False} for message in messages[:200]], file)
        return path

    def compare(self, figure, sides, of="rate", better="more"):
        """Measures the sides in turn; the first is the subject, each other one a ceiling. The ratio is above 1 where the subject is better."""
        say(figure)
        measured = {name: [] for name, _ in sides}
        for _ in range(self.options.repeats):
            for name, work in sides:
                measured[name].append(work())
        value = lambda name: [getattr(one, of) for one in measured[name]]
        subject = sides[0][0]
        for name, _ in sides:
            ratios = [ours / theirs if better == "more" else theirs / ours for ours, theirs in zip(value(subject), value(name))]
            middle = lambda attribute: statistics.median(getattr(one, attribute) for one in measured[name])
            row = [figure, name, f"{middle('rate'):.0f}", f"{middle('latency_ms'):.2f}", f"{middle('certkeep_us'):.0f}", f"{middle('postgres_us'):.0f}",
                   "" if name == subject else f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
            self.rows.append(row)
            say(" | ".join(row))

    def upload_figure(self, figure, messages, callers, clients, accounts=ACCOUNTS, sites=None):
        limit, sides = ["-z", f"{self.options.seconds}s", "--duration-stop", "wait"], []
        sites = sites or list(self.open_sites())
        for name, certkeep, schema in sites:
            sides.append((name, lambda certkeep=certkeep: ghz(certkeep, messages, callers, limit, accounts)))
        certkeep, schema = sites[0][1:]
        script = schema.upload_script(accounts)
        sides.append(("pgbench", lambda: pgbench(certkeep, script, clients, self.options.seconds)))
        self.compare(figure, sides)

    def open_sites(self):
        if not hasattr(self, "opened"):
            self.opened = list(self.sites())
            for _, _, schema in self.opened:
                schema.fill(ACCOUNTS, ACCOUNTS * PER_ACCOUNT)
        return self.opened

    def upload(self):
        self.upload_figure("uploads, P-256", self.uploads, CALLERS, CLIENTS)

    def rsa(self):
        path = f"{self.postgres.directory}/rsa.json"
        say("makes RSA-2048 pairs")
        pairs(path, 4000, rsa=True)
        self.upload_figure("uploads, RSA-2048", path, CALLERS, CLIENTS)

    def one_account(self):
        self.upload_figure("uploads, one account", self.uploads, CALLERS, CLIENTS, accounts=1)

    def one_caller(self):
        self.upload_figure("uploads, one caller", self.uploads, 1, 1)

    def lone(self):
        """An upload into an account with 10,000 certificates whose answer holds all fingerprints."""
        self.uploads
        sites = list(self.sites(1))
        for _, _, schema in sites:
            schema.fill(1, 10_000)
        aggregate = f"""select octet_length(string_agg(fingerprint, ''::bytea)) from (select fingerprint from certificate
            where account_id = {FIRST_ACCOUNT} and deleted_at is null order by created_ms, random limit 50001) as f;""".replace("\n", " ")
        messages = f"{self.postgres.directory}/lone.json"
        sides = [(name, lambda certkeep=certkeep: ghz(certkeep, messages, 1, ["-n", 100], 1)) for name, certkeep, _ in sites]
        sides.append(("pgbench, reading the fingerprints", lambda: pgbench(sites[0][1], aggregate, 1, self.options.seconds)))
        self.compare("lone upload, 10,000 fingerprints", sides, of="latency_ms", better="less")
        self.close(sites)

    def reads(self, figure, message, script):
        sites = self.open_sites()
        sides = [(name, lambda certkeep=certkeep, schema=schema: h2load(certkeep, message(schema), self.options.seconds)) for name, certkeep, schema in sites]
        sides.append(("pgbench", lambda: pgbench(sites[0][1], script(sites[0][2]), CLIENTS, self.options.seconds)))
        for _, certkeep, _ in sites:
            certkeep.sql("vacuum (analyze)")
        self.compare(figure, sides)

    def describe(self):
        text = lambda schema: schema.first_id().encode()
        # Field 2, server_certificate_id.
        self.reads("describe by id", lambda schema: b"\x12" + bytes([len(text(schema))]) + text(schema),
                   lambda schema: schema.describe_script(ACCOUNTS * PER_ACCOUNT, PER_ACCOUNT))

    def page(self):
        # Field 100, page_size.
        self.reads("page of 50", lambda _: b"\xa0\x06\x32", lambda schema: schema.page_script(50))

    def million(self):
        """The same with 1,000 and with 1,000,000 certificates in 1,000 accounts: how much slower certkeep is, and how much pgbench is."""
        few, many = {}, {}
        for kept, certificates in ((few, 1_000), (many, 1_000_000)):
            for name, certkeep, schema in self.sites(1000):
                say(f"stores {certificates:,} certificates")
                schema.fill(1000, certificates)
                kept[name] = (certkeep, schema)
        limit = ["-z", f"{self.options.seconds}s", "--duration-stop", "wait"]
        for name in self.binaries:
            (small, small_schema), (large, large_schema) = few[name], many[name]
            pause = lambda certkeep: certkeep.sql("vacuum (analyze)")
            for certkeep in (small, large):
                pause(certkeep)
            self.compare(f"{name}: uploads with 1,000,000 stored, against 1,000", [
                ("1,000,000", lambda: ghz(large, self.uploads, CALLERS, limit)), ("1,000", lambda: ghz(small, self.uploads, CALLERS, limit))])
            scripts = [schema.upload_script(1000) for schema in (large_schema, small_schema)]
            self.compare(f"{name}: pgbench's uploads with 1,000,000 stored, against 1,000", [
                ("1,000,000", lambda: pgbench(large, scripts[0], CLIENTS, self.options.seconds)),
                ("1,000", lambda: pgbench(small, scripts[1], CLIENTS, self.options.seconds))])
            message = lambda schema: b"\x12" + bytes([len(schema.first_id())]) + schema.first_id().encode()
            self.compare(f"{name}: describe with 1,000,000 stored, against 1,000", [
                ("1,000,000", lambda: h2load(large, message(large_schema), self.options.seconds)),
                ("1,000", lambda: h2load(small, message(small_schema), self.options.seconds))])
        self.close([(None, certkeep, None) for certkeep, _ in [*few.values(), *many.values()]])

    def watch(self):
        """Milliseconds from the answer of a rename to the message of a watch, on the replica that made the change and on another one."""
        import grpc
        say("from a commit to a watch")
        self.databases += 1
        certkeep = Certkeep(self.options.certkeep, self.postgres, f"watch_{self.databases}", 1)
        other = copy.copy(certkeep)
        other.start()
        metadata = [("authorization", f"Bearer ckbench{0:09d}.{SECRET}")]
        pair = pairs(f"{self.postgres.directory}/watch.json", 1, rsa=False)[0]
        with grpc.insecure_channel(certkeep.address) as here, grpc.insecure_channel(other.address) as there:
            call = lambda method, message: here.unary_unary(f"/{SERVICE}/{method}")(message, metadata=metadata)
            call("UploadServerCertificate", text(1, REGION) + text(2, pair["server_certificate"]) + text(4, pair["private_key"]))
            id = Schema.first_id_of(certkeep)
            watches = [channel.unary_stream("/certkeep.v1.DeliveryService/WatchServerCertificates")(b"", metadata=metadata) for channel in (here, there)]
            for watch in watches:
                # Field 1, kind: SYNCED.
                next(message for message in watch if message.startswith(b"\x08\x02"))
            times = [[], []]
            for number in range(100 * self.options.repeats):
                call("SetServerCertificateName", text(1, REGION) + text(2, id) + text(3, f"n{number}"))
                began = time.monotonic()
                for watch, taken in zip(watches, times):
                    next(watch)
                    taken.append(1000 * (time.monotonic() - began))
        for taken, replica in zip(times, ("the same replica", "another replica")):
            self.facts.append(f"from a commit to the message of a watch on {replica}: median {statistics.median(taken):.1f} ms, "
                              f"99th percentile {statistics.quantiles(taken, n=100)[98]:.1f} ms")
        self.close([(None, certkeep, None), (None, other, None)])

    def memory(self):
        """MiB of the process after its start, and at most under the load of the figures before; the time of a start."""
        for name, certkeep, _ in self.open_sites():
            peak = memory(certkeep.server.pid, "VmHWM")
            certkeep.stop()
            starts = []
            for _ in range(5):
                began = time.monotonic()
                certkeep.start()
                starts.append(1000 * (time.monotonic() - began))
                time.sleep(1)
                idle = memory(certkeep.server.pid, "VmRSS")
                certkeep.stop()
            certkeep.start()
            size = os.path.getsize(certkeep.binary) / 2**20
            self.facts.append(f"{name}: {idle:.0f} MiB idle, {peak:.0f} MiB at most; start {statistics.median(starts):.0f} ms; binary {size:.0f} MiB")

    def envoy(self):
        """From the event of a renewal until a client of Envoy has the new certificate. PostgreSQL and the client have the same clock."""
        path = f"{self.postgres.directory}/renewals.json"
        pairs(path, 101, rsa=False)
        with open(path) as file:
            messages = json.load(file)
        fingerprint = lambda message: hashlib.sha256(ssl.PEM_cert_to_DER_cert(message["server_certificate"].split("-----END")[0] + "-----END CERTIFICATE-----\n")).hexdigest()
        for name, certkeep, _ in self.open_sites():
            key = f"{certkeep.directory}/editor.key"
            with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(f"ckbench{0:09d}.{SECRET}\n")
            def change(message, *command):
                for field, suffix in (("server_certificate", "crt"), ("private_key", "key")):
                    with open(os.open(f"{certkeep.directory}/pair.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                        file.write(message[field])
                return run(certkeep.binary, *command, "--cert", f"{certkeep.directory}/pair.crt", "--key", f"{certkeep.directory}/pair.key",
                           "--endpoint", f"http://{certkeep.address}", "--access-key-file", key, "--output", "json")
            uploaded = json.loads(change(messages[0], "upload", "--region", REGION))
            identity = uploaded.get("serverCertificateId") or uploaded["server_certificate_id"]
            envoy, waits = Envoy(self.options.envoy, certkeep, identity), []
            envoy.until_served(fingerprint(messages[0]))
            for message in messages[1:]:
                change(message, "renew", identity, "--allow-lost-names")
                served = envoy.until_served(fingerprint(message))
                renewed = certkeep.sql("select extract(epoch from max(occurred_at)) from event where kind = 'renewed'")
                waits.append(1000 * (served - float(renewed)))
                time.sleep(0.05)
            envoy.stop()
            waits.sort()
            self.facts.append(f"{name}: a client of Envoy has a renewed certificate after {statistics.median(waits):.0f} ms (median), "
                              f"{waits[int(0.99 * len(waits)) - 1]:.0f} ms (99th percentile of {len(waits)})")
            say(self.facts[-1])

    @staticmethod
    def close(sites):
        for _, certkeep, _ in sites:
            certkeep.stop()

    def report(self):
        heads = ["figure", "side", "per second", "ms", "certkeep's µs", "Postgres's µs", "ratio of the first side to this one"]
        lines = ["# certkeep beside its ceilings", "", *[f"- {fact}" for fact in self.facts], "",
                 "Medians of interleaved repeats, with the smallest and largest ratio. Above 1 the first side is better.", "",
                 "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *["| " + " | ".join(row) + " |" for row in self.rows]]
        return "\n".join(lines) + "\n"


FIGURES = ["upload", "rsa", "one_account", "one_caller", "describe", "page", "watch", "memory", "envoy", "lone", "million"]
BEGAN = time.monotonic()


def main():
    global GHZ, H2LOAD
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"which figures: {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each side is measured each time")
    parser.add_argument("--repeats", type=int, default=3, help="how often the sides are measured in turn")
    parser.add_argument("--certkeep", required=True, help="the binary to measure")
    parser.add_argument("--before", help="another binary to measure in the same run")
    parser.add_argument("--ghz", required=True, help="the program ghz")
    parser.add_argument("--envoy", required=True, help="the program envoy")
    parser.add_argument("--report", required=True, help="where to write the report")
    options = parser.parse_args()
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"unknown figures: {', '.join(sorted(unknown))}")
    GHZ, H2LOAD = options.ghz, program("h2load", "apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="certkeep-bench-") as directory:
        postgres = Postgres(directory)
        bench = Bench(options, postgres)
        model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
        bench.facts = [f"{os.cpu_count()} cores, {model.group(1) if model else platform.processor()}; {options.repeats} repeats of {options.seconds} s",
                       postgres.sql("postgres", "select version()").split(",")[0] + ", " + ", ".join(f"{name} {value}" for name, value in POSTGRES.items() if name != "listen_addresses")]
        try:
            for figure in FIGURES:
                if not options.figures or figure in options.figures:
                    getattr(bench, figure)()
        finally:
            bench.close(getattr(bench, "opened", []))
            postgres.stop()
            report = bench.report()
            print(report)
            with open(options.report, "w") as file:
                file.write(report)


if __name__ == "__main__":
    main()
