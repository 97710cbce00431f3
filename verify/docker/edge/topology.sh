# The edge topology: configurations, start, and questions to its parts. What routing daemons read is in *.conf. Sourced by run-test here and in ../chaos.
# shellcheck shell=bash

edge=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$edge/.run
pps=${PPS:-4000}
settle_ms=${SETTLE_MS:-20000}
wait_limit=${WAIT_LIMIT:-150}
limit=${LIMIT:-1062046}     # prefixes of the table
nic_hosts=(nh-1 nh-2 nh-3)
copies=(rs-a rs-b nh-1 nh-2 nh-3)
. "$edge/../common.sh"

compose() { (cd "$edge" && docker-compose --project-name fibcast-edge "$@"); }
container() { echo "fibcast-edge-$1"; }

# Removes all that belongs to the topology. A container that is paused is not stopped by compose.
remove() {
    docker ps --quiet --filter name=^fibcast-edge- --filter status=paused | xargs --no-run-if-empty docker unpause >/dev/null 2>&1 || true
    compose kill >/dev/null 2>&1 || true
    compose down --volumes --timeout 3 >/dev/null 2>&1 || true
    rm -rf "$run"
}

protocol_source() { # origin distance; sections of a route server
    cat <<TOML
[rib]
ready_timeout_ms = 600000
origin_hold_ms = 300000          # no other server has this protocol: its routes outlive a server that is killed
[[source]]
origin = "$1"
distance = $2
kind = "fpm"
listen = "127.0.0.1:2620"
users = [0, $(docker run --rm fibcast-frr:latest id -u frr)]    # zebra's container has a list of users of its own
protocol = "$1"
end_of_table = "sentinel"
TOML
}
patient='heartbeat_ms = 500
failback_s = 2'

routing_daemons() {
    cp "$edge/frr-a.conf" "$edge/frr-b.conf" "$edge/inside.conf" "$run/"
    docker run --rm -v fibcast-edge-table:/out fibcast:latest cat /out/inside.conf >>"$run/inside.conf"
    upstream_configuration
}
# What the upstream announces at the moment.
away=disabled shared=enabled
upstream_configuration() {
    local away_off=off shared_off=off
    [ $away = enabled ] || away_off=on
    [ $shared = enabled ] || shared_off=on
    sed "s/@AWAY_OFF@/$away_off/; s/@SHARED_OFF@/$shared_off/" "$edge/upstream.conf" >"$run/upstream.conf"
}

# The table, the configurations, and all containers but the upstream: with it everything begins.
start_topology() {
    local begin=$SECONDS
    remove
    mkdir "$run"
    docker run --rm -v fibcast-edge-table:/out -v "$edge/plan.awk:/plan.awk:ro" fibcast:latest sh -c \
        'fibcast-tablegen --prefixes /usr/share/fibcast/full-table-2024.prefixes.txt.gz --limit '"$limit"' --table /out/table.txt && awk -v out=/out -f /plan.awk /out/table.txt'
    routing_daemons
    protocol_source bgp 20 | route_server rs-a 172.31.79.12:7830
    protocol_source ospf 110 | route_server rs-b 172.31.79.11:7830
    nic_host nh-1 0 172.31.79.11:7830 172.31.79.12:7830 <<<"$patient"
    nic_host nh-2 1 172.31.79.12:7830 172.31.79.11:7830 <<<"$patient"
    nic_host nh-3 0 172.31.79.21:7830 172.31.79.22:7830 <<<"$patient"
    local table=/var/lib/fibcast/table changes=() change
    for change in away home withdrawn announced; do changes+=(--change "$change=$table/$change.txt"); done
    generators nh-1:1 nh-2:0 nh-3:1 -- --table $table/expected.txt --coverage --window 768 --sizes 64-104 --rate "$pps" --settle-ms "$settle_ms" --outage-ms 200 "${changes[@]}"
    compose up --detach --no-color --scale upstream=0 2>&1 | grep -iv 'creating\|done' || true
    echo "configurations and containers: $((SECONDS - begin)) s"
}
start_upstream() { compose up --detach --no-color upstream 2>&1 | grep -iv 'creating\|done\|up-to-date' || true; }

# --- questions

# All control sockets are on one volume, so that one container can ask everybody at once: starting a program in a container takes long.
inside_generator() { timeout 60 docker exec "$(container generator)" "$@"; }
show() { inside_generator timeout 5 fibcast --socket "/run/fibcast/$1.sock" --json show "${@:2}" 2>/dev/null; }
# A field of the status of each of these, one on a line; an empty line where there is no answer.
each() { # field name...
    inside_generator sh -c 'field=$1; shift
        for name; do timeout 5 fibcast --socket /run/fibcast/$name.sock --json show status 2>/dev/null |
            grep -oE "\"$field\":(\"[^\"]*\"|[^,}]*)" | head -n 1 | cut -d: -f2- | tr -d "\"" | grep . || echo; done' sh "$@"
}
lines() { inside_generator sh -c "wc -l < /var/lib/fibcast/table/$1"; }
internal=300
# Sets: expected (prefixes in all), table (by BGP), shared_count (of these, OSPF has them too).
count_table() { expected=$(lines expected.txt) shared_count=$(lines withdrawn.txt); table=$((expected - internal)); }
bgpd_has() { # prefixes
    [ "$(vtysh frr-a -d bgpd -c 'show bgp summary json' | grep -oE '"pfxRcd":[0-9]+' | awk -F: '{ n += $2 } END { print n + 0 }')" = "$1" ]
}
# Has all that the upstream announces at the moment.
bgpd_is_whole() { if [ $shared = enabled ]; then bgpd_has "$table"; else bgpd_has $((table - shared_count)); fi; }
digest() { each digest "$1"; }
active() { each active "$1"; }
vtysh() { timeout 20 docker exec "$(container "$1")" vtysh "${@:2}" 2>/dev/null; }
birdc() { docker exec "$(container upstream)" birdc "$@"; }
# A request to a generator over its control socket.
tell() { # host line
    inside_generator perl -MIO::Socket::UNIX -e \
        'my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1; print $s "$ARGV[1]\n"; $s->flush; print scalar <$s>' "/run/$1.sock" "$2"
}
figures() { tell "$1" '{"show":"pktgen"}'; }

routes_of() { show "$1" status | awk '{ match($0, /"ipv4_routes":[0-9]+/); four = substr($0, RSTART + 14, RLENGTH - 14); match($0, /"ipv6_routes":[0-9]+/); print four + substr($0, RSTART + 14, RLENGTH - 14) }'; }
all_equal() { [ "$(each digest "$@" | sort | uniq -c | awk '{ print $1, NF }')" = "$# 2" ]; }
as_configured() { [ "$(each active "${nic_hosts[@]}" | grep -c primary)" = ${#nic_hosts[@]} ]; }
both_ready() { [ "$(each ready rs-a rs-b | grep -c true)" = 2 ]; }

# A change of the upstream: the generators hear of it first, then it happens.
change() { # away | home | withdrawn | announced
    local host reply
    for host in "${nic_hosts[@]}"; do
        reply=$(tell "$host" "{\"change\":\"$1\"}" || true)
        [[ $reply = *routes* ]] || { echo "FAIL: the generator of $host does not take the change $1: ${reply:-no answer}"; exit 1; }
    done
    case $1 in
    away) away=enabled; birdc enable '"away_*"' ;;
    home) away=disabled; birdc disable '"away_*"' ;;
    withdrawn) shared=disabled; birdc disable shared ;;
    announced) shared=enabled; birdc enable shared ;;
    esac >/dev/null
    upstream_configuration
}
# The next hop that a copy has for each of these prefixes, one on a line.
vias() { # name prefix...
    inside_generator sh -c 'socket=/run/fibcast/$1.sock; shift
        for prefix; do fibcast --socket $socket --json show routes $prefix | grep -oE "\"via\":\[\"[^\"]*" | head -n 1 | sed "s/.*\"//" | grep . || echo nothing; done' sh "$@"
}
