#!/bin/sh
# Signs a dump with a device's key and posts it: the smallest client there can be, for a shell with openssl and curl.
# Writes the same protected bytes as `overrun send` (test/device holds both to the same vectors).
#
#   overrun-send.sh -k key.pem -c chain.pem -u URL [options] DUMP
#   overrun-send.sh -k key.pem -c chain.pem -u URL [options] -H        say that the device is alive; there is no dump
#     -k FILE   private key in PEM: P-256, P-384 or Ed25519
#     -c FILE   certificates in PEM, leaf first, without the anchor
#     -u URL    base address of ingest, such as https://crash.example
#     -t TYPE   content type of the dump            (default application/x-minidump)
#     -b N      boot that crashed                   (default: that of the last report)
#     -s N      number of the report in that boot   (default: the next one)
#     -n NAME   swname     -v VERSION   swversion     -p NAME   compartment
#     -f HEX    fingerprint: what the device takes for the same crash; the crash is offered first, and where the server
#               knows it the dump stays here
#     -r        send in pieces that can be resumed, for slow and broken links and for dumps above 32 MiB
#     -o FILE   write the signed body to FILE instead of sending it (with -H: the manifest)
#
# The counter lies in KEY.counter and moves before anything is signed, so no pair is used for two dumps.
# Prints the server's answer. Exit: 0 accepted, 2 usage, 12 not authenticated, 20 key or chain, 21 counter, 30 refused, 32 network.
set -eu
LC_ALL=C
export LC_ALL
umask 077

fail() { code=$1; shift; echo "overrun-send: $*" >&2; exit "$code"; }

key= chain= url= type=application/x-minidump boot= seq= swname= swversion= compartment= fingerprint= resumable= output=
profile=tag:overrun.example,2026:crash-report/1 alive=
while getopts k:c:u:t:b:s:n:v:p:f:o:rH option; do
  case $option in
    k) key=$OPTARG ;; c) chain=$OPTARG ;; u) url=$OPTARG ;; t) type=$OPTARG ;; b) boot=$OPTARG ;; s) seq=$OPTARG ;;
    n) swname=$OPTARG ;; v) swversion=$OPTARG ;; p) compartment=$OPTARG ;; f) fingerprint=$OPTARG ;; o) output=$OPTARG ;;
    r) resumable=yes ;; H) alive=yes profile=tag:overrun.example,2026:heartbeat/1 type=text/plain ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ -z "$alive" ] || set -- /dev/null "$@"
[ $# -eq 1 ] && [ -n "$key" ] && [ -n "$chain" ] && [ -n "$url$output" ] || fail 2 'give -k KEY, -c CHAIN, -u URL and one dump, or -H and none'
dump=$1
case $fingerprint in *[!0-9a-fA-F]*) fail 2 "not hexadecimal: $fingerprint" ;; esac
[ $((${#fingerprint} % 2)) -eq 0 ] && [ ${#fingerprint} -le 64 ] || fail 2 'a fingerprint has at most 32 whole bytes'
for file in "$key" "$chain" "$dump"; do [ -r "$file" ] || fail 23 "cannot read $file"; done
for number in "$boot" "$seq"; do case $number in *[!0-9]*) fail 2 "not a number: $number" ;; esac; done

work=$(mktemp -d)
locked=
cleanup() { rm -rf "$work"; [ -z "$locked" ] || rmdir "$locked"; }
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# --- CBOR ---------------------------------------------------------------------------------------------------------

# byte N...: writes bytes given as numbers.
byte() { for b; do printf "\\$(printf %03o "$b")"; done; }

# head MAJOR N: major type and argument in the shortest form (RFC 8949 3).
head() {
  m=$(($1 * 32)) n=$2
  if [ "$n" -lt 24 ]; then byte $((m + n))
  elif [ "$n" -lt 256 ]; then byte $((m + 24)) "$n"
  elif [ "$n" -lt 65536 ]; then byte $((m + 25)) $((n / 256)) $((n % 256))
  elif [ "$n" -lt 4294967296 ]; then byte $((m + 26)) $((n / 16777216)) $((n / 65536 % 256)) $((n / 256 % 256)) $((n % 256))
  else byte $((m + 27)) $((n / 72057594037927936)) $((n / 281474976710656 % 256)) $((n / 1099511627776 % 256)) \
    $((n / 4294967296 % 256)) $((n / 16777216 % 256)) $((n / 65536 % 256)) $((n / 256 % 256)) $((n % 256))
  fi
}
uint() { head 0 "$1"; }
nint() { head 1 $((-1 - $1)); } # a negative number
text() { head 3 ${#1}; printf %s "$1"; }
size() { wc -c < "$1" | tr -d ' '; }
bytes() { head 2 "$(size "$1")"; cat "$1"; } # a file as byte string

# --- The counter ---------------------------------------------------------------------------------------------------

tries=0
until mkdir "$key.counter.lock" 2>/dev/null; do
  tries=$((tries + 1))
  [ $tries -lt 10 ] || fail 20 "$key.counter.lock stays locked: remove it if no other sender is running"
  sleep 1
done
locked=$key.counter.lock
lastboot=0 lastseq=-1
if [ -e "$key.counter" ]; then read -r lastboot lastseq < "$key.counter" || fail 20 "$key.counter holds no counter"; fi
if [ -z "$boot" ]; then boot=$lastboot; [ "$lastseq" -ge 0 ] || boot=1; fi
if [ -z "$seq" ]; then seq=0; [ "$boot" -ne "$lastboot" ] || seq=$((lastseq + 1)); fi
if [ "$boot" -lt "$lastboot" ] || { [ "$boot" -eq "$lastboot" ] && [ "$seq" -le "$lastseq" ]; }; then
  fail 21 "boot $boot, report $seq was used before"
fi
echo "$boot $seq" > "$key.counter.new"
sync
mv "$key.counter.new" "$key.counter"
rmdir "$locked"
locked=

# --- The protected header: map keys in the order of their encoded bytes ---------------------------------------------

# Certificates of the chain as cert1.der, cert2.der ...
certificates=0 pem=
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    *'BEGIN CERTIFICATE'*) certificates=$((certificates + 1)); pem=$work/cert$certificates.pem; echo "$line" > "$pem" ;;
    *'END CERTIFICATE'*) echo "$line" >> "$pem"; openssl x509 -in "$pem" -outform DER -out "$work/cert$certificates.der" || fail 20 "$chain: a certificate is unreadable"; pem= ;;
    *) [ -z "$pem" ] || echo "$line" >> "$pem" ;;
  esac
done < "$chain"
[ $certificates -ge 1 ] || fail 20 "$chain: no certificate in PEM"

case $(openssl pkey -in "$key" -noout -text 2>/dev/null) in
  *ED25519*) alg=-8 ;;
  *prime256v1*) alg=-7 half=32 hash=-sha256 ;;
  *secp384r1*) alg=-35 half=48 hash=-sha384 ;;
  *) fail 20 "$key: a P-256, P-384 or Ed25519 key is needed" ;;
esac

unhex() { rest=$1; while [ -n "$rest" ]; do tail=${rest#??}; byte $((0x${rest%"$tail"})); rest=$tail; done; }

claims=4
for optional in "$swname" "$swversion" "$compartment" "$fingerprint"; do [ -z "$optional" ] || claims=$((claims + 1)); done
{
  head 5 5
  uint 1; nint $alg
  uint 15; head 5 $claims
  uint 265; text "$profile"
  uint 267; uint "$boot"
  [ -z "$swname" ] || { uint 270; text "$swname"; }
  [ -z "$swversion" ] || { uint 271; head 4 1; text "$swversion"; }
  nint -65537; uint "$seq"
  nint -65538; uint "$(size "$dump")"
  [ -z "$compartment" ] || { nint -65542; text "$compartment"; }
  [ -z "$fingerprint" ] || { nint -65546; head 2 $((${#fingerprint} / 2)); unhex "$fingerprint"; }
  uint 33
  [ $certificates -eq 1 ] || head 4 $certificates
  i=1
  while [ $i -le $certificates ]; do bytes "$work/cert$i.der"; i=$((i + 1)); done
  uint 258; nint -16
  uint 259; text "$type"
} > "$work/protected"

# --- Sign (RFC 9052 4.4) and put together ---------------------------------------------------------------------------

openssl dgst -sha256 -binary "$dump" > "$work/digest"
{ head 4 4; text Signature1; bytes "$work/protected"; head 2 0; bytes "$work/digest"; } > "$work/tbs"

# raw HEX WIDTH: a number as WIDTH bytes, zeros first.
raw() {
  hex=$1 digits=$((2 * $2))
  while [ ${#hex} -lt $digits ]; do hex=0$hex; done
  while [ -n "$hex" ]; do rest=${hex#??}; byte $((0x${hex%"$rest"})); hex=$rest; done
}

if [ $alg -eq -8 ]; then
  openssl pkeyutl -sign -rawin -inkey "$key" -in "$work/tbs" -out "$work/signature"
else
  # ECDSA comes as SEQUENCE { INTEGER r, INTEGER s }; COSE wants r || s. An INTEGER is printed without leading zeros.
  openssl dgst $hash -sign "$key" -out "$work/signature.der" "$work/tbs"
  for integer in $(openssl asn1parse -inform DER -in "$work/signature.der" | sed -n 's/.*INTEGER *://p'); do raw "$integer" $half; done > "$work/signature"
fi

{
  byte 210 # tag 18, COSE_Sign1
  head 4 4; bytes "$work/protected"; byte 160; bytes "$work/digest"; bytes "$work/signature"
} > "$work/manifest"

if [ -n "$output" ]; then
  { cat "$work/manifest"; [ -n "$alive" ] || bytes "$dump"; } > "$output"
  exit 0
fi

# --- Send: again after 408, 429, 5xx and network errors, never after another 4xx -------------------------------------

base=${url%/} attempt=1

# ask CURL-ARGUMENTS...: one request; the status in $status (000: none), the answer and its headers in $work.
ask() {
  status=$(curl --silent --show-error --max-time 60 --output "$work/answer" --dump-header "$work/headers" --write-out '%{http_code}' --header 'Expect:' "$@") || status=000
}
answered() { case $status in 000 | 408 | 429 | 5??) return 1 ;; esac; }
# Full jitter: up to 2^attempt seconds, so that a fleet does not come back in step.
later() {
  [ $attempt -lt 6 ] || { [ "$status" = 000 ] && fail 32 'no answer'; fail 30 "answer $status"; }
  random=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')
  sleep $((random % (1 << attempt) + 1))
  attempt=$((attempt + 1))
}
until_answered() { ask "$@"; while ! answered; do later; ask "$@"; done; }
refused() { cat "$work/answer" >&2; case $status in 401 | 403) fail 12 "answer $status" ;; *) fail 30 "answer $status" ;; esac; }
end() {
  case $status in
    200 | 202) cat "$work/answer"; echo; exit 0 ;;
    *) refused ;;
  esac
}

if [ -n "$alive" ]; then
  until_answered --header 'Content-Type: application/cose' --data-binary "@$work/manifest" "$base/v1/heartbeats"
  end
fi

# Offered first, a crash that the server knows costs no dump; whatever else it says, the report itself decides.
if [ -n "$fingerprint" ]; then
  until_answered --header 'Content-Type: application/cose' --data-binary "@$work/manifest" "$base/v1/crashes/offer"
  case $status in
    202) end ;;
    200) case $(cat "$work/answer") in *'"status":"duplicate"'*) end ;; esac ;;
    *) refused ;;
  esac
fi

if [ -z "$resumable" ]; then
  { cat "$work/manifest"; bytes "$dump"; } > "$work/body"
  until_answered --header 'Content-Type: application/cbor-seq' --data-binary "@$work/body" "$base/v1/crashes"
  end
fi

# In pieces: the manifest opens an upload; after each break the server is asked how far it came.
piece=1048576 total=$(size "$dump") location=
header() { awk -v name="$1:" 'index(tolower($0), name) == 1 { sub(/^[^:]*: */, ""); sub(/\r$/, ""); value = $0 } END { print value }' "$work/headers"; }
while :; do
  if [ -z "$location" ]; then
    until_answered --request POST --header "Crash-Manifest: :$(openssl base64 -A -in "$work/manifest"):" --header 'Upload-Complete: ?0' --header 'Content-Length: 0' "$base/v1/uploads"
    [ "$status" = 201 ] || end
    location=$(header location) offset=0
    case $location in http*) ;; *) location=$base$location ;; esac
  else
    until_answered --head "$location"
    case $status in
      204) offset=$(header upload-offset) ;;
      404) location=; later; continue ;; # forgotten: begin again
      *) refused ;;
    esac
  fi
  while answered; do
    rest=$((total - offset)) last='?0'
    if [ $rest -le $piece ]; then last='?1'; else rest=$piece; fi
    tail -c +$((offset + 1)) "$dump" | command head -c $rest > "$work/piece" # `head` above writes CBOR
    ask --request PATCH --header 'Content-Type: application/partial-upload' --header "Upload-Offset: $offset" --header "Upload-Complete: $last" --data-binary "@$work/piece" "$location"
    case $status in
      204) offset=$((offset + rest)) attempt=1 ;;
      404 | 409) break ;; # an offset that is not the server's, or no such upload: ask
      *) ! answered || end ;;
    esac
  done
  later
done
