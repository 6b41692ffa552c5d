#!/bin/sh
# Verifies one receipt with its proof, with openssl and coreutils alone.
#
#   verify_receipt.sh RECEIPT PROOF KEYS_DIR TRUST
#
# RECEIPT is a compact JWS, PROOF a c2sp.org/tlog-proof@v1, KEYS_DIR holds keys.json and keys.json.sig
# as the gateway exports them, TRUST is the published fingerprint of the root key. Needs OpenSSL 3.
# It does not look at the key's index range; verify_receipt.py does.
set -eu

[ $# -eq 4 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 64; }
receipt=$1 proof=$2 keys=$3 trust=${4#sha256:}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

refuse() { echo "REFUSED: $1" >&2; exit 1; }

# The PEM of the first key whose record has this line, or of the $2nd. Records write kid, alg and use before it.
pem_where() {
    awk -v mark="$1" -v want="${2:-1}" 'index($0, mark) { found = 1 }
        found && /"spki_pem"/ { found = 0; if (++n == want) {
            sub(/.*"spki_pem": "/, ""); sub(/",?$/, ""); print; exit } }' \
        "$keys/keys.json" | sed 's/\\n/\n/g'
}
# Whether the signature in file $2 over file $3 is that of the key in file $1.
signed() { openssl pkeyutl -verify -pubin -inkey "$1" -rawin -in "$3" -sigfile "$2" >/dev/null 2>&1; }
# The same for an ECDSA signature of 64 bytes, which openssl wants as DER.
signed_es256() {
    hex=$(od -An -v -tx1 "$2" | tr -d ' \n')
    [ ${#hex} -eq 128 ] || return 1
    pair=$(integer "$(printf '%s' "$hex" | cut -c1-64)")$(integer "$(printf '%s' "$hex" | cut -c65-128)")
    printf '30%02x%s' $((${#pair} / 2)) "$pair" | unhex >"$2.der"
    openssl dgst -sha256 -verify "$1" -signature "$2.der" "$3" >/dev/null 2>&1
}
integer() { # DER of a number in hexadecimal: no leading zeros, but one where it would look negative
    value=$(printf '%s' "$1" | sed 's/^\(00\)*//')
    case $value in '' | [89a-f]*) value=00$value ;; esac
    printf '02%02x%s' $((${#value} / 2)) "$value"
}
base64url() { # decodes stdin
    text=$(cat)
    while [ $((${#text} % 4)) -ne 0 ]; do text="$text="; done
    printf '%s' "$text" | basenc --base64url -d
}
sha256() { openssl dgst -sha256 -r | cut -c1-64; } # of stdin, as hexadecimal
unhex() { tr a-f A-F | basenc --base16 -d; }
node() { printf '01%s%s' "$1" "$2" | unhex | sha256; }
tohex() { printf '%s' "$1" | base64 -d | od -An -v -tx1 | tr -d ' \n'; }

# 1. The register is the trusted root key's.
pem_where '"use": "root"' >"$work/root.pem"
fingerprint=$(openssl pkey -pubin -in "$work/root.pem" -outform DER | sha256)
[ "$fingerprint" = "$trust" ] || refuse "the root key has another fingerprint than the trusted one"
base64 -d "$keys/keys.json.sig" >"$work/keys.sig"
signed "$work/root.pem" "$work/keys.sig" "$keys/keys.json" || refuse "keys.json is not signed by the root key"

# 2. The receipt is its key's.
jws=$(cat "$receipt")
printf '%s' "${jws%.*}" >"$work/input"
printf '%s' "${jws##*.}" | base64url >"$work/receipt.sig"
header=$(printf '%s' "${jws%%.*}" | base64url)
kid=$(printf '%s' "$header" | sed -n 's/^{"alg":"[A-Za-z0-9]*","kid":"\([A-Za-z0-9._-]*\)","typ":"tulga-receipt+jwt"}$/\1/p')
[ -n "$kid" ] || refuse "the header is not that of a receipt"
pem_where "\"kid\": \"$kid\"" >"$work/receipt.pem"
# How the key signs is the register's to say, and the header must agree.
case $(grep -A1 -F "\"kid\": \"$kid\"" "$keys/keys.json")$header in
*'"alg": "EdDSA"'*'{"alg":"EdDSA"'* | *'"alg": "EdDSA"'*'{"alg":"Ed25519"'*) check=signed ;;
*'"alg": "ES256"'*'{"alg":"ES256"'*) check=signed_es256 ;;
*) refuse "the header names another algorithm than the key's" ;;
esac
"$check" "$work/receipt.pem" "$work/receipt.sig" "$work/input" || refuse "the receipt's signature does not verify"

# 3. The checkpoint is the ledger key's.
sed '1,/^$/d' "$proof" >"$work/note"
sed '/^$/,$d' "$work/note" >"$work/body"
origin=$(sed -n 1p "$work/body") size=$(sed -n 2p "$work/body") root=$(tohex "$(sed -n 3p "$work/body")")
awk -v origin="$origin" '$1 == "\342\200\224" && $2 == origin { print $3; exit }' "$work/note" |
    base64 -d | tail -c +5 >"$work/note.sig"
which=1
until pem_where '"use": "ledger"' $which >"$work/ledger.pem" &&
    signed "$work/ledger.pem" "$work/note.sig" "$work/body"; do
    [ -s "$work/ledger.pem" ] || refuse "the checkpoint's signature does not verify"
    which=$((which + 1))
done

# 4. The receipt is in the ledger, at the index that it names itself (RFC 9162, 2.1.3.2).
index=$(sed -n '2s/^index //p' "$proof")
payload=${jws#*.}
printf '%s' "${payload%%.*}" | base64url | grep -qF "\"log\":{\"origin\":\"$origin\",\"index\":$index," ||
    refuse "the proof is of another place than the receipt's"
[ "$index" -lt "$size" ] || refuse "the index lies outside the checkpoint"
entry=$(printf 'tulga-receipt-v1\n' | od -An -v -tx1 | tr -d ' \n')$(printf '%s' "$jws" | sha256)
hash=$(printf '00%s' "$entry" | unhex | sha256)
at=$index last=$((size - 1))
for line in $(sed -n '3,/^$/p' "$proof"); do
    [ "$last" -gt 0 ] || refuse "the path is too long"
    sibling=$(tohex "$line")
    if [ $((at % 2)) -eq 1 ] || [ "$at" -eq "$last" ]; then
        hash=$(node "$sibling" "$hash")
        while [ $((at % 2)) -eq 0 ] && [ "$at" -ne 0 ]; do at=$((at / 2)) last=$((last / 2)); done
    else
        hash=$(node "$hash" "$sibling")
    fi
    at=$((at / 2)) last=$((last / 2))
done
{ [ "$last" -eq 0 ] && [ "$hash" = "$root" ]; } || refuse "the receipt is not in the ledger at that place"
echo "ok: the receipt is entry $index of $size"
