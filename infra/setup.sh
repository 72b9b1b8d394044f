#!/bin/sh
# Makes a fresh machine ready: needs Node 20 or newer and npm, fetches the rest. Every npm script calls it, so it is
# quick when there is nothing to do.
#
#   sh infra/setup.sh         packages and web pages
#   sh infra/setup.sh test    and what the tests need: servers, browsers, compilers and debuggers to compare with
#   sh infra/setup.sh helm    Helm, from its source: for the long form of the test of the chart
#
# What it says goes to standard error; standard output belongs to the command that comes after it.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
newer_than() { reference=$1; shift; [ -n "$(find "$@" -type f -newer "$reference" 2>/dev/null | head -n 1)" ]; }

check_node() {
  has node || die 'Node.js 20 or newer is needed: https://nodejs.org'
  has npm || die 'npm is needed, it comes with Node.js'
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 20 ] || die "Node.js 20 or newer is needed, this is $(node --version)"
}

# npm writes node_modules/.package-lock.json last: an install that was cut short is done again.
install_packages() {
  installed=node_modules/.package-lock.json
  if [ ! -f "$installed" ] || newer_than "$installed" package-lock.json; then
    say 'installing packages (npm ci)'
    npm ci --no-audit --no-fund --loglevel=error >&2 || die 'npm ci failed; the reason is above'
  fi
  PATH="$PWD/node_modules/.bin:$PATH"
  export PATH
  case $(node --version) in
    v24.*) ;;
    *) die "the npm package node@24 is not installed (found $(node --version)): install scripts must run, then remove node_modules and try again" ;;
  esac
}

build_pages() {
  web=dashboard/web
  ls "$web"/vite.config.* >/dev/null 2>&1 || return 0
  built=$web/dist/index.html
  if [ -f "$built" ] && ! newer_than "$built" package-lock.json dashboard/api/*contract.ts && ! page_sources_newer; then return 0; fi
  say 'building the web pages (vite)'
  vite build "$web" --logLevel warn >&2 || die 'the web pages were not built; the reason is above'
}
page_sources_newer() { [ -n "$(find "$web" \( -name dist -o -name node_modules \) -prune -o -type f -newer "$built" -print | head -n 1)" ]; }

java_17() { has java && [ "$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)" -ge 17 ] 2>/dev/null; }

install_test_tools() {
  packages=
  java_17 || packages="$packages default-jre-headless"
  has mvn || packages="$packages maven"
  has chromium || packages="$packages chromium"
  for tool in openssl zstd curl strace faketime gcc g++ gdb-multiarch docker-compose; do has "$tool" || packages="$packages $tool"; done
  has addr2line || packages="$packages binutils"
  has llvm-symbolizer || packages="$packages llvm"
  [ -n "$packages" ] || return 0
  if [ "$(id -u)" -eq 0 ] && has apt-get; then
    say "installing$packages (apt-get)"
    # shellcheck disable=SC2086 # a list of words
    if (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages) >&2; then return 0; fi
  fi
  say "not installed:$packages"
  java_17 && has mvn || say '  without Java 17 and Maven the tests on a real Kafka and a real S3 server are skipped'
  has chromium || say '  without chromium the tests of the pages in a browser are skipped'
  has openssl && has zstd && has curl || say '  without openssl, zstd and curl the tests of the shell signer are skipped'
  has strace && has faketime || say '  without strace and faketime the faults of disks and clocks are skipped'
  has gcc && has g++ && has addr2line && has llvm-symbolizer && has gdb-multiarch || say '  without gcc, g++, binutils, llvm and gdb-multiarch the comparisons with them are skipped'
  has docker-compose || say '  without docker-compose infra/compose.yaml is not checked'
}

# A network that can be hurt, for test/faults. Only where Go is.
build_toxiproxy() {
  built=.cache/bin/toxiproxy-server
  [ ! -x "$built" ] && has go || return 0
  say 'building toxiproxy (Go)'
  mkdir -p .cache/bin
  if GOBIN="$PWD/.cache/bin" go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0 >/dev/null 2>&1; then
    mv .cache/bin/server "$built"
  else
    say '  the faults of the network are skipped: it could not be built'
  fi
}

# The pom is copied last: a folder with the same pom is complete.
fetch_jars() {
  pom=test/system/$1.pom.xml
  jars=.cache/$1
  if cmp -s "$pom" "$jars/pom.xml"; then return 0; fi
  has mvn || return 0
  say "fetching the jars of $1 (Maven)"
  fetched=.cache/$1.$$
  mkdir -p "$fetched"
  if mvn -B -q -f "$pom" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$PWD/$fetched" >&2; then
    rm -rf "$jars"
    mv "$fetched" "$jars"
    cp "$pom" "$jars/pom.xml"
  else
    rm -rf "$fetched"
    say "  the tests on a real $1 are skipped: Maven could not fetch it"
  fi
}

build_helm() {
  if [ -x .cache/bin/helm ]; then return 0; fi
  has go || die 'Go is needed to build Helm'
  mkdir -p .cache/bin
  say 'building Helm (some minutes)'
  GOBIN="$PWD/.cache/bin" go install helm.sh/helm/v3/cmd/helm@v3.19.0 >&2 || die 'Helm was not built; the reason is above'
}

check_node
install_packages
build_pages
if [ "${1:-}" = helm ]; then build_helm; fi
if [ "${1:-}" = test ]; then
  install_test_tools
  fetch_jars kafka
  fetch_jars s3proxy
  build_toxiproxy
fi
