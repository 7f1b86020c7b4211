#!/usr/bin/env python3
"""Run one agent as an execution, through Vault's API alone.

    orchestrator.py ENVIRONMENT/CHAIN/AGENT KEY COMMAND [ARGUMENT...]

KEY names this attempt, such as run-42/deploy/1. A start that is repeated with
it, because its answer was lost, gives the same execution, and no second one.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

MOUNT = os.environ.get("AGENTCHAINS_MOUNT", "agentchains")
GRACE = 10  # seconds between SIGTERM and SIGKILL
STOPPED = 75  # exit code after an order to stop


class Refused(Exception):
    """Vault or the engine said no: asking again changes nothing."""


class Away(Exception):
    """Vault gave no answer, or none that says something."""


def ask(method, path, body=None, patience=0, timeout=15):
    """Ask Vault, again while it is away and patience, in seconds, lasts."""
    give_up = time.monotonic() + patience
    request = urllib.request.Request(
        f"{os.environ['VAULT_ADDR']}/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Vault-Token": os.environ["VAULT_TOKEN"]},
        method=method,
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise Refused(f"{error.code} {error.read().decode()}") from None
            away = Away(f"status {error.code}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            away = Away(str(error))
        if time.monotonic() >= give_up:
            raise away
        time.sleep(0.5)


class Execution:
    def __init__(self, agent, key):
        sent = time.monotonic()
        fields = {"idempotency_key": key, "run": key.split("/")[0], "workspace": "python-orchestrator"}
        answer = ask("POST", f"{MOUNT}/executions/{agent}", fields, patience=30)
        self.path = f"{MOUNT}/execution/{answer['data']['execution_id']}"
        self.env = answer["data"]["env"]
        self.lease = answer["lease_id"]
        self.generation = 1
        self.extend(sent, answer)
        self.renew()  # at once: Vault keeps a copy of env in the lease until then

    def extend(self, sent, answer):
        self.renew_at = sent + answer["lease_duration"] / 3
        self.over_at = sent + answer["lease_duration"]

    def ask(self, method, path, body=None):
        """Ask Vault, not longer than the lease lasts."""
        left = self.over_at - time.monotonic()
        return ask(method, path, body, timeout=max(0.1, min(15, left)))

    def renew(self):
        """Renew the lease. When that fails, watch says why, or the next try helps."""
        sent = time.monotonic()
        try:
            self.extend(sent, self.ask("POST", "sys/leases/renew", {"lease_id": self.lease}))
        except (Refused, Away):
            self.renew_at = sent + 1

    def watch(self):
        """Renew, and wait until the execution is no longer active."""
        while time.monotonic() < self.over_at:
            if time.monotonic() >= self.renew_at:
                self.renew()
            wait = max(1, min(5, int(self.renew_at - time.monotonic())))
            try:
                answer = self.ask("GET", f"{self.path}/watch?generation={self.generation}&wait={wait}")["data"]
            except Refused as error:
                return {"state": "refused", "reason": str(error)}
            except Away:
                time.sleep(1)
                continue
            if answer["state"] != "active":
                return answer
            self.generation = answer["generation"]
            time.sleep(0.2)
        return {"state": "expired", "reason": "the lease is over"}

    def tell(self, verb, fields):
        try:
            ask("POST", f"{self.path}/{verb}", fields, patience=30)
        except (Refused, Away) as error:
            print(f"{verb}: {error}", file=sys.stderr)


def kill(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def run(agent, key, command):
    execution = Execution(agent, key)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        process = subprocess.Popen(command, env=kept | execution.env, start_new_session=True)
    except OSError as error:
        print(error, file=sys.stderr)
        execution.tell("finish", {"exit_code": 127})
        return 127

    orders = []

    def obey():
        orders.append(execution.watch())
        kill(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            kill(process, signal.SIGKILL)

    threading.Thread(target=obey, daemon=True).start()
    code = process.wait()
    kill(process, signal.SIGKILL)  # what it left behind in its process group
    name = signal.Signals(-code).name if code < 0 else ""
    code = 128 - code if code < 0 else code
    if not orders:
        execution.tell("finish", {"exit_code": code})
        return code
    print(f"stopped: {orders[0]['reason']}", file=sys.stderr)
    if orders[0]["state"] == "terminating":
        execution.tell("ack", {"pid": process.pid, "signal": name, "exit_code": code})
    return STOPPED


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except (Refused, Away) as error:
        sys.exit(str(error))
