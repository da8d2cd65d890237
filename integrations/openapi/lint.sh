#!/usr/bin/env bash
# Checks internal/api/openapi.yaml: by two linters, and by compiling session.ts with the types made of it. Run `npm ci`
# here before. With a folder, `lint.sh folder`, the compiled session is left there: `node folder/session.js` runs it.
set -euo pipefail

folder=${1:+$(realpath -m "$1")}
cd "$(dirname "${BASH_SOURCE[0]}")"
description=../../internal/api/openapi.yaml
bin=node_modules/.bin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=${folder:-$scratch/session}
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true

if [[ ! -x $bin/spectral ]]; then
	echo "lint.sh: run npm ci in integrations/openapi first" >&2
	exit 1
fi

# check runs a command, shows what it says only if it fails, and then one line.
check() {
	local what=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "$what: nothing found"
		return
	fi
	printf '%s\n%s: findings\n' "$said" "$what" >&2
	return 1
}

# types has openapi-typescript describe the API to session.ts, and tsc compile both.
types() {
	mkdir -p "$folder"
	cp package.json tsconfig.json session.ts "$folder"
	ln -sfn "$PWD/node_modules" "$folder/node_modules"
	check "openapi-typescript" "$bin/openapi-typescript" "$description" --output "$folder/api.ts"
	check "tsc on session.ts" "$bin/tsc" --project "$folder"
}

check "spectral (spectral:oas)" "$bin/spectral" lint --fail-severity hint --ruleset .spectral.yaml "$description" &
jobs=($!)
check "redocly (recommended-strict)" "$bin/redocly" lint --config redocly.yaml "$description" &
jobs+=($!)
types &
jobs+=($!)
failed=0
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
exit "$failed"
