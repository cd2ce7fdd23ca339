#!/bin/bash
# Runs suites with the newest version of Middy above those that the package takes, prereleases too; or with the one that is
# named. It replaces the installed one in node_modules until the next `npm ci`.
#
#   bash scripts/try-middy.sh [VERSION]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${1:-$(npm view @middy/core versions --json | node -e '
  const [, major] = /\^(\d+)/.exec(require("./package.json").peerDependencies["@middy/core"])
  const versions = [JSON.parse(require("node:fs").readFileSync(0, "utf8"))].flat() // in their order
  console.log(versions.findLast(version => Number.parseInt(version, 10) > major) ?? "")
')}
if [[ -z $version ]]; then
  echo 'There is no newer Middy.' | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"
  exit
fi
echo "Middy $version" | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"
npm install --no-save --legacy-peer-deps --ignore-scripts "@middy/core@$version" "@middy/util@$version"
npm run build
npm run jest -- --selectProjects unit sandbox companions
