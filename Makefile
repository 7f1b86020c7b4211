# Each target is one script. scripts/vault builds the Vault that test, hostile, soak,
# demo, dev and bench run against, once, unless VAULT_BIN or PATH has one.

.PHONY: build
build:
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: build
	scripts/test

.PHONY: hostile
hostile: build
	scripts/hostile

.PHONY: demo
demo: build
	scripts/demo

.PHONY: dev
dev: build
	scripts/dev

.PHONY: bench
bench: build
	scripts/bench

.PHONY: soak
soak: build
	scripts/soak

.PHONY: release
release:
	scripts/release
