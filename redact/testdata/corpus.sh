#!/usr/bin/env bash
# Prints how real programs show each value of values/: sections that begin with
# "== NAME program". corpus.txt is its output on one machine, kept so that the
# tests need none of the programs:
#   testdata/corpus.sh > testdata/corpus.txt
set -euo pipefail
cd "$(dirname "$0")/values"
export LC_ALL=C.UTF-8

# A server that says nothing but ok, for what curl -v shows of a request.
coproc server { exec python3 -u -c '
import http.server
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok\n")
    do_POST = do_GET
    def log_message(self, *_): pass
s = http.server.HTTPServer(("127.0.0.1", 0), Ok)
print(s.server_port)
s.serve_forever()'; }
pid=$server_PID
trap 'kill "$pid"' EXIT
read -r port <&"${server[0]}"
url=http://127.0.0.1:$port/

show() {
	printf '== %s %s\n' "$NAME" "$1"
	shift
	"$@" 2>&1 | sed "s/127.0.0.1:$port/127.0.0.1:8080/g; s/port $port/port 8080/" | grep -av '^\* \|Date: \|% Total\|Dload\|--:--' || true
	echo
}

for NAME in *; do
	export NAME VALUE
	VALUE=$(cat "$NAME")
	show 'cat' cat "$NAME"
	show 'bash -x' bash -xc 'echo "$VALUE" >/dev/null; curl() { :; }; curl -H "Authorization: Bearer $VALUE"'
	show 'printf %q' printf '%q\n' "$VALUE"
	show 'declare -p' bash -c 'declare -p VALUE; export -p | grep -a -A9 VALUE; set | grep -a -A9 ^VALUE'
	show '${VALUE@Q}' bash -c 'echo "${VALUE@Q} ${VALUE@E}"'
	show 'dash -x' dash -xc ': "$VALUE"'
	show 'jq' jq -n '{value: env.VALUE, again: {value: env.VALUE} | tojson}'
	show 'jq -a' jq -na 'env.VALUE'
	show 'jq @sh @uri @html @base64 @csv' jq -nr 'env.VALUE | (@sh, @uri, @html, @base64, ([.] | @csv, @tsv))'
	show 'jq -C' jq -nC '[env.VALUE]'
	show 'base64' base64 "$NAME"
	show 'base64 -w64' base64 -w64 "$NAME"
	for before in '' a ab 'user:' 'a much longer text that stands before it, so that lines wrap in other places: '; do
		show "base64 after ${#before} bytes" bash -c 'printf "%s%s" "$1" "$VALUE" | base64' - "$before"
		show "base64 between ${#before} bytes" bash -c 'printf "%s%s%s" "$1" "$VALUE" "$1" | base64 -w0' - "$before"
	done
	show 'basenc --base64url' bash -c 'printf %s "$VALUE" | basenc --base64url -w0'
	show 'basenc --base16' bash -c 'printf %s "$VALUE" | basenc --base16 -w0'
	show 'openssl base64' openssl base64 -in "$NAME"
	show 'openssl base64 -A' openssl base64 -A -in "$NAME"
	show 'xxd' xxd "$NAME"
	show 'xxd -p' xxd -p "$NAME"
	show 'xxd -u -g1' xxd -u -g1 "$NAME"
	show 'xxd -i' xxd -i "$NAME"
	show 'od -tx1' od -An -tx1 "$NAME"
	show 'hexdump -C' hexdump -C "$NAME"
	show 'fold -w 20' fold -w 20 "$NAME"
	show 'fold -w 11' fold -w 11 "$NAME"
	show 'sed indented' sed 's/^/    /' "$NAME"
	show 'grep --color' bash -c 'echo "value=$VALUE" | grep -a --color=always "[a-z]"'
	show 'curl -v -u' curl -sv -u "user:${VALUE//$'\n'/}" "$url"
	show 'curl -v --data-urlencode' curl -svG --data-urlencode "value=$VALUE" "$url"
	show 'curl --trace-ascii' curl -s --trace-ascii - --data-urlencode "value=$VALUE" "$url"
	show 'python3' python3 -c '
import os, json, urllib.parse, html, shlex, base64, pprint, logging
from xml.sax import saxutils
from email.message import EmailMessage
v = os.environ["VALUE"]; b = v.encode()
print(repr(v), [v], {"v": b}, ascii(v))
print(json.dumps(v), json.dumps(v, ensure_ascii=False), json.dumps(json.dumps(v)))
print(urllib.parse.quote(v), urllib.parse.quote(v, safe=""), urllib.parse.quote_plus(v), urllib.parse.urlencode({"v": v}))
print(html.escape(v), saxutils.escape(v), saxutils.quoteattr(v))
print(shlex.quote(v))
print(base64.encodebytes(b), base64.urlsafe_b64encode(b), b.hex(), b.hex(":"), b.hex(" "))
pprint.pprint({"value": v}, width=40)
'
	show 'python3 Traceback' python3 -c '
import os
def connect(value): raise ValueError(f"cannot connect with {value!r}")
connect(os.environ["VALUE"])'
	show 'node' node -e '
const v = process.env.VALUE
console.log(JSON.stringify({v}), JSON.stringify(JSON.stringify(v)))
console.log(encodeURIComponent(v), encodeURI(v), escape(v), new URLSearchParams({v}).toString())
console.log([v], Buffer.from(v).toString("base64"), Buffer.from(v).toString("base64url"), Buffer.from(v).toString("hex"))
console.log(Buffer.from(v))'
	show 'awk' awk 'BEGIN { printf "value=%s\n", ENVIRON["VALUE"] }'
	show 'perl' perl -MData::Dumper -e '$Data::Dumper::Useqq = $_, print Dumper($ENV{VALUE}) for 0, 1'
done
