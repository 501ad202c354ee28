#!/bin/sh
# Makes the secrets of the profile "cluster" in deploy/compose/secrets, once; those that exist stay.
set -eu
umask 077
folder="$(dirname "$0")/secrets"
mkdir -p "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # keep NAME VALUE
    [ -e "$folder/$1" ] || printf '%s\n' "$2" > "$folder/$1"
    # Containers read them as users of their own; the folder is closed to all others of this machine.
    chmod 0644 "$folder/$1"
}

keep postgres_password "$(random)"
keep database_url "postgresql://normgauge:$(cat "$folder/postgres_password")@database/normgauge"
keep store_access_key_id normgauge
keep store_secret_access_key "$(random)"
# The store's image reads them from its environment only.
keep store.env "ROOT_ACCESS_KEY=$(cat "$folder/store_access_key_id")
ROOT_SECRET_KEY=$(cat "$folder/store_secret_access_key")"
