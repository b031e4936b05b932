#!/usr/bin/env bash
# Makes sure that the servers which the tests start are there: PostgreSQL, MariaDB and the openssl that makes their
# certificates from Debian, an S3 server built from crates.io.
# Installs only what is missing and starts nothing: the tests run their own instances on free ports, in
# scratch folders. May be run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
has_mariadb() { command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ]; }
has_openssl() { command -v openssl >/dev/null; }

install_packages() {
  if [ "$(id -u)" -ne 0 ]; then
    echo "the tests need $*; install it once, as root: apt-get install $*" >&2
    exit 1
  fi
  if ! command -v apt-get >/dev/null; then
    echo "the tests need $*; install it with the package manager of this system" >&2
    exit 1
  fi

  # While this file says 101, Debian's packages do not start their services.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  # No cluster of its own for PostgreSQL either.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  fi

  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold "$@")
  "${install[@]}" || { apt-get update -q && "${install[@]}"; }
}

missing=()
has_postgres || missing+=(postgresql)
has_mariadb || missing+=(mariadb-server)
has_openssl || missing+=(openssl)
if [ ${#missing[@]} -gt 0 ]; then
  install_packages "${missing[@]}"
  has_postgres && has_mariadb && has_openssl
fi

# Below the folder of the tests' own programs, which is where they look for it.
cargo build --quiet --locked --manifest-path sql-tests/s3-server/Cargo.toml \
  --target-dir "${CARGO_TARGET_DIR:-target}/s3-server"
