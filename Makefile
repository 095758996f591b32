# `make run` and `make test` do everything on a fresh machine: see README.md.

TOOLS := target/tools
GRPCURL_VERSION := v1.9.4
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
# That of the library in Cargo.toml: the two speak to each other.
GUNGRAUN_VERSION := 0.20.0
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/corpus/*)))
# How long each target runs.
FUZZ_SECONDS ?= 60
PROTOS := $(wildcard proto/certkeep/v1/*.proto)
# protoc comes with Python's grpcio-tools.
PROTOC := $(TOOLS)/python/bin/python -m grpc_tools.protoc -I proto
BUF := $(TOOLS)/buf/node_modules/.bin/buf
# The schema as it was accepted last.
ACCEPTED := proto/certkeep.v1.binpb

# What the benchmark measures and for how long: all of it, as cargo bench --bench ceilings -- --help says.
BENCH_ARGS ?=

.PHONY: run test bench check-build-tools postgres test-tools schema schema-accept alerts deny check-openssl bench-instructions fuzz fuzz-build $(addprefix fuzz-,$(FUZZ_TARGETS))

run: check-build-tools postgres
	cargo run --locked --bin certkeep -- serve $(ARGS)

test: check-build-tools postgres test-tools schema alerts
	cargo test --locked

# certkeep beside the ceilings of what it stands on, in under ten minutes once it is built. Nothing else should be at work.
bench: check-build-tools postgres
	cargo bench --locked --bench ceilings -- $(BENCH_ARGS)

# proto/ is well formed, breaks no client of the accepted schema, and is accepted.
schema: $(TOOLS)/buf/.made
	$(BUF) lint proto
	$(BUF) breaking proto --against $(ACCEPTED)
	@$(BUF) build proto --exclude-source-info --output $(TOOLS)/buf/now.binpb
	@cmp -s $(TOOLS)/buf/now.binpb $(ACCEPTED) || { echo "proto/ has grown beyond $(ACCEPTED): run make schema-accept, and commit the file" >&2; exit 1; }

schema-accept: $(TOOLS)/buf/.made
	$(BUF) lint proto
	$(BUF) breaking proto --against $(ACCEPTED)
	$(BUF) build proto --exclude-source-info --output $(ACCEPTED)

# The alert rules are well formed, and raise what they should.
alerts:
	@command -v promtool >/dev/null || { echo "promtool is missing, and the alert rules are tested with it: apt-get install prometheus, dnf install golang-github-prometheus, or brew install prometheus" >&2; exit 1; }
	promtool check rules packaging/prometheus/alerts.yml
	promtool test rules packaging/prometheus/alerts_test.yml

$(TOOLS)/buf/.made: tools/buf/package-lock.json
	@{ command -v node && command -v npm; } >/dev/null || { echo "Node or npm is missing, and buf checks the schema with it: install Node 20 or newer (nodejs.org/download)" >&2; exit 1; }
	rm -rf $(@D) && mkdir -p $(@D) && cp tools/buf/*.json $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

# Licences, sources and bans of all dependencies: deny.toml.
deny: $(TOOLS)/deny/bin/cargo-deny
	$< check bans licenses sources

$(TOOLS)/deny/bin/cargo-deny:
	cargo install --locked --quiet --root $(TOOLS)/deny cargo-deny@$(CARGO_DENY_VERSION)

# How many instructions the steps of an upload take, beside those of the run before: benches/instructions.rs says in which profile.
bench-instructions: check-build-tools
	@command -v valgrind >/dev/null || { echo "valgrind is missing, and it counts the instructions: apt-get install valgrind, or dnf install valgrind" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(TOOLS)/gungraun/$(GUNGRAUN_VERSION)/bin/gungraun-runner
	PATH="$(CURDIR)/$(TOOLS)/gungraun/$(GUNGRAUN_VERSION)/bin:$$PATH" cargo bench --locked --profile dev --bench instructions

# Unoptimized, which is built sooner: it starts valgrind, and is not measured.
$(TOOLS)/gungraun/$(GUNGRAUN_VERSION)/bin/gungraun-runner:
	cargo install --locked --quiet --debug --root $(TOOLS)/gungraun/$(GUNGRAUN_VERSION) gungraun-runner@$(GUNGRAUN_VERSION)

# Every fuzz target for FUZZ_SECONDS; `make fuzz-chain` is one of them. What it finds is in target/fuzz/artifacts: fuzz/README.md.
fuzz: $(addprefix fuzz-,$(FUZZ_TARGETS))

# Without a sanitizer: certkeep has no unsafe code, OpenSSL's C is not instrumented, and what an input costs would be the sanitizer's
# cost. The limit of memory finds leaks too, since one process does all the inputs.
CARGO_FUZZ := PATH="$(CURDIR)/$(TOOLS)/fuzz/bin:$$PATH" rustup run nightly cargo fuzz
FUZZ_BUILD := --sanitizer none --target-dir $(CURDIR)/target/fuzz

fuzz-build: check-build-tools
	@rustup run nightly rustc --version >/dev/null 2>&1 || { echo "Rust's nightly toolchain is missing, and only it builds fuzz targets: rustup toolchain install nightly --profile minimal" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing, and libFuzzer is built with it: apt-get install g++, dnf install gcc-c++, or xcode-select --install" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(TOOLS)/fuzz/bin/cargo-fuzz
	rustup run nightly cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
	$(CARGO_FUZZ) build $(FUZZ_BUILD)

# What is new is kept beside the corpus, not in it. The longest input is a request's longest certificate and key.
$(addprefix fuzz-,$(FUZZ_TARGETS)): fuzz-%: fuzz-build
	@mkdir -p target/fuzz/corpus/$* target/fuzz/artifacts/$*
	$(CARGO_FUZZ) run $(FUZZ_BUILD) $* target/fuzz/corpus/$* fuzz/corpus/$* -- -artifact_prefix=target/fuzz/artifacts/$*/ \
		-max_total_time=$(FUZZ_SECONDS) -max_len=327680 -timeout=10 -rss_limit_mb=256 -verbosity=0 -print_final_stats=1 \
		$(addprefix -dict=,$(wildcard fuzz/$*.dict))

$(TOOLS)/fuzz/bin/cargo-fuzz:
	cargo install --locked --quiet --root $(TOOLS)/fuzz cargo-fuzz@$(CARGO_FUZZ_VERSION)

# What cargo and OpenSSL's own build need.
check-build-tools:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup (rust-lang.org/tools/install)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc, dnf install gcc, or xcode-select --install" >&2; exit 1; }
	@perl -MIPC::Cmd -MFindBin -e 1 2>/dev/null || { echo "perl with its core modules is missing, and OpenSSL is built with it: apt-get install perl, or dnf install perl-core" >&2; exit 1; }

postgres:
	@tools/install-postgres

# What the tests compare with, and the clients that they speak through: grpcurl, and one generated from proto/ in each language, whole in
# its folder there.
test-tools: check-openssl $(TOOLS)/bin/grpcurl-$(GRPCURL_VERSION) $(addprefix $(TOOLS)/,python/gen/.made go/.made java/.made typescript/.made)

$(TOOLS)/bin/grpcurl-$(GRPCURL_VERSION):
	@command -v go >/dev/null || { echo "Go is missing, and the tests call through grpcurl: install Go 1.24 or newer (go.dev/doc/install)" >&2; exit 1; }
	GOBIN="$(CURDIR)/$(TOOLS)/bin" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	mv $(TOOLS)/bin/grpcurl $@

check-openssl:
	@command -v openssl >/dev/null || { echo "openssl is missing, and the tests compare certkeep with it: apt-get install openssl, dnf install openssl, or brew install openssl" >&2; exit 1; }

$(TOOLS)/python/.made: examples/python/requirements.txt tools/cryptography/requirements.txt
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "Python 3 with venv is missing, and the tests call through a generated Python client: apt-get install python3-venv, dnf install python3, or brew install python" >&2; exit 1; }
	python3 -m venv --clear $(TOOLS)/python
	$(TOOLS)/python/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$^)
	touch $@

$(TOOLS)/python/gen/.made: $(TOOLS)/python/.made $(PROTOS)
	rm -rf $(@D) && mkdir -p $(@D)
	$(PROTOC) --python_out=$(@D) --grpc_python_out=$(@D) $(PROTOS)
	touch $@

$(TOOLS)/go/.made: $(TOOLS)/python/.made $(PROTOS) $(wildcard examples/go/*.*)
	@command -v go >/dev/null || { echo "Go is missing, and the tests call through a generated Go client: install Go 1.24 or newer (go.dev/doc/install)" >&2; exit 1; }
	rm -rf $(@D) && mkdir -p $(@D) && cp examples/go/*.* $(@D)
	cd $(@D) && GOBIN="$$PWD/bin" go install tool
	PATH="$(CURDIR)/$(@D)/bin:$$PATH" $(PROTOC) --go_out=$(@D) --go_opt=module=certkeep \
		--go-grpc_out=$(@D) --go-grpc_opt=module=certkeep $(PROTOS)
	cd $(@D) && go build -buildvcs=false -o upload .
	touch $@

$(TOOLS)/java/.made: $(PROTOS) examples/java/pom.xml $(wildcard examples/java/src/main/java/io/certkeep/examples/*.java)
	@{ command -v javac && command -v mvn; } >/dev/null || { echo "a JDK or Maven is missing, and the tests call through a generated Java client: apt-get install default-jdk-headless maven, dnf install java-devel maven, or brew install openjdk maven (JDK 17 or newer)" >&2; exit 1; }
	rm -rf $(@D)
	mvn --quiet --batch-mode --file examples/java compile dependency:copy-dependencies
	touch $@

$(TOOLS)/typescript/.made: $(TOOLS)/python/.made $(PROTOS) $(wildcard examples/typescript/*.*)
	@{ command -v node && command -v npm; } >/dev/null || { echo "Node or npm is missing, and the tests call through a generated TypeScript client: install Node 20 or newer (nodejs.org/download)" >&2; exit 1; }
	rm -rf $(@D) && mkdir -p $(@D)/gen && cp examples/typescript/*.* $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	$(PROTOC) -I $(TOOLS)/python/lib/python3*/site-packages --plugin=$(@D)/node_modules/.bin/protoc-gen-es \
		--es_out=$(@D)/gen --es_opt=target=ts,import_extension=js $(PROTOS) google/rpc/error_details.proto
	cd $(@D) && npm run --silent build
	touch $@
