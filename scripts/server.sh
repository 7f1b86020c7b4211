# shellcheck shell=bash
# Sourced by dev and demo, which set $vault: a Vault in dev mode on a free
# loopback port, with the engine registered and mounted and a file audit device.
# Everything it writes is below $work, which cleanup removes.

: "${vault:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/agentchains.XXXXXX")
export HOME=$work

# cleanup ends what runs in the background: the server, which ends its plugin.
cleanup() {
	trap - EXIT
	trap '' HUP INT TERM
	local pids tries=0
	mapfile -t pids < <(jobs -p)
	if ((${#pids[@]})); then
		kill "${pids[@]}" 2>/dev/null || true
		while kill -0 "${pids[@]}" 2>/dev/null && ((tries++ < 100)); do sleep 0.1; done
		kill -KILL "${pids[@]}" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# free_port stays below the ports that the kernel gives to outgoing connections.
free_port() {
	local port
	while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
	echo "$port"
}

# start_server starts Vault, waits for it, and mounts the engine at agentchains/.
# The audit log shows what never holds a value in clear: errors, and the labels
# and ids of executions.
start_server() {
	mkdir "$work/plugins"
	cp bin/vault-plugin-secrets-agentchains "$work/plugins/"
	echo "plugin_directory = \"$(cd "$work/plugins" && pwd -P)\"" >"$work/vault.hcl"
	local port
	port=$(free_port)
	export VAULT_ADDR=http://127.0.0.1:$port VAULT_TOKEN=root
	"$vault" server -dev -dev-no-store-token -dev-root-token-id=root \
		-dev-listen-address="127.0.0.1:$port" -config="$work/vault.hcl" >"$work/vault.log" 2>&1 &
	server=$!
	local tries=0
	until "$vault" status >/dev/null 2>&1; do
		if ! kill -0 "$server" 2>/dev/null || ((tries++ == 100)); then
			echo "Vault does not start; the end of its log:" >&2
			tail -n 20 "$work/vault.log" >&2
			exit 1
		fi
		sleep 0.1
	done
	local sum
	sum=$(sha256sum "$work/plugins/vault-plugin-secrets-agentchains")
	"$vault" audit enable file "file_path=$work/audit.log" >/dev/null
	"$vault" plugin register -sha256="${sum%% *}" -command=vault-plugin-secrets-agentchains secret agentchains >/dev/null
	"$vault" secrets enable -audit-non-hmac-request-keys=workspace -audit-non-hmac-request-keys=run -audit-non-hmac-request-keys=user \
		-audit-non-hmac-response-keys=error -audit-non-hmac-response-keys=execution_id agentchains >/dev/null
}
