# `make run` and `make test` do everything on a fresh machine: see README.md.

TOOLS := target/tools
GRPCURL_VERSION := v1.9.4

.PHONY: run test check-build-tools postgres test-tools

run: check-build-tools postgres
	cargo run --locked --bin certkeep -- serve $(ARGS)

test: check-build-tools postgres test-tools
	cargo test --locked

# What cargo and OpenSSL's own build need.
check-build-tools:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup (rust-lang.org/tools/install)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc, dnf install gcc, or xcode-select --install" >&2; exit 1; }
	@perl -MIPC::Cmd -MFindBin -e 1 2>/dev/null || { echo "perl with its core modules is missing, and OpenSSL is built with it: apt-get install perl, or dnf install perl-core" >&2; exit 1; }

postgres:
	@tools/install-postgres

# Clients that the tests speak through.
test-tools: $(TOOLS)/bin/grpcurl-$(GRPCURL_VERSION) $(TOOLS)/python/.made

$(TOOLS)/bin/grpcurl-$(GRPCURL_VERSION):
	@command -v go >/dev/null || { echo "Go is missing, and the tests call through grpcurl: install Go 1.24 or newer (go.dev/doc/install)" >&2; exit 1; }
	GOBIN="$(CURDIR)/$(TOOLS)/bin" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	mv $(TOOLS)/bin/grpcurl $@

$(TOOLS)/python/.made: examples/python/requirements.txt
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "Python 3 with venv is missing, and the tests call through a generated Python client: apt-get install python3-venv, dnf install python3, or brew install python" >&2; exit 1; }
	python3 -m venv --clear $(TOOLS)/python
	$(TOOLS)/python/bin/pip install --quiet --disable-pip-version-check --requirement examples/python/requirements.txt
	touch $@
