# What the topologies have in common: the configurations of their nodes, and questions. Sourced by their scripts, which set `run` (the folder that
# containers see as /etc/fibcast) and `wait_limit` (seconds).
# shellcheck shell=bash

docker=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config() { (cd "$docker/../.." && exec "${CARGO_TARGET_DIR:-target}/release/fibcast-nodeconfig" "$@"); }

# Further sections come on the standard input.
route_server() { config route-server "$1" --peer "$2" >"$run/$1.toml"; } # name peer
# Further keys of [sync] come on the standard input.
nic_host() { config nic-host "$1" "$2" --server "$3" --server "$4" >"$run/$1.toml"; } # name core primary secondary
# A fibcast-pktgen for each NIC host, in one container.
generators() { # name:core... -- arguments of fibcast-pktgen
    local hosts=()
    while [ "$1" != -- ]; do
        config generator "${1%:*}" "${1#*:}" >"$run/${1%:*}.generator"
        hosts+=("${1%:*}")
        shift
    done
    cp "$docker/generate" "$run/"
    { printf 'exec '; printf '%q ' bash /etc/fibcast/generate "${hosts[@]}" "$@"; } >"$run/start-generators"
}

field() { grep -oE "\"$1\":(\"[^\"]*\"|[^,}]*)" | head -n 1 | cut -d: -f2- | tr -d '"'; }
wait_for() { # what command...
    local what=$1 until=$((SECONDS + wait_limit)); shift
    until "$@"; do
        [ $SECONDS -lt $until ] || { echo "FAIL: waited $wait_limit s for $what"; exit 1; }
        sleep 0.3
    done
}
