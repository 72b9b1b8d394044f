#!/bin/sh
# Makes the secrets of compose.yaml, once: what is there stays. sh infra/compose/secrets.sh [FOLDER]
# The files are readable by any user, because each container has its own; the folder is entered by its owner only.
set -eu
folder=${1:-"$(dirname "$0")/secrets"}
mkdir -p "$folder"
chmod 700 "$folder"
hex() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
make() { if [ ! -s "$folder/$1" ]; then printf '%s\n' "$2" > "$folder/$1"; chmod 444 "$folder/$1"; fi; }
make clickhouse_password "$(hex 24)"
make s3_secret "$(hex 32)"
make garage_rpc_secret "$(hex 32)"
make token "$(hex 24)"
make garage.env "GARAGE_DEFAULT_SECRET_KEY=$(cat "$folder/s3_secret")"
