# The edge topology: configurations, start, and questions to its parts. Sourced by run-test here and in ../chaos.
# shellcheck shell=bash

edge=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$edge/.run
pps=${PPS:-4000}
settle_ms=${SETTLE_MS:-20000}
wait_limit=${WAIT_LIMIT:-150}
limit=${LIMIT:-1062046}     # prefixes of the table
nic_hosts=(nh-1 nh-2 nh-3)
copies=(rs-a rs-b nh-1 nh-2 nh-3)

compose() { (cd "$edge" && docker-compose --project-name fibcast-edge "$@"); }
container() { echo "fibcast-edge-$1"; }

# Removes all that belongs to the topology. A container that is paused is not stopped by compose.
remove() {
    docker ps --quiet --filter name=^fibcast-edge- --filter status=paused | xargs --no-run-if-empty docker unpause >/dev/null 2>&1 || true
    compose kill >/dev/null 2>&1 || true
    compose down --volumes --timeout 3 >/dev/null 2>&1 || true
    rm -rf "$run"
}

route_server() { # name origin distance peer
    cat >"$run/$1.toml" <<TOML
[node]
name = "$1"
listen = ["0.0.0.0:7830"]
control = "/run/fibcast/$1.sock"
[tls]
insecure = true
[rib]
ready_timeout_ms = 600000
origin_hold_ms = 300000          # no other server has this protocol: its routes outlive a server that is killed
[[source]]
origin = "$2"
distance = $3
kind = "fpm"
listen = "127.0.0.1:2620"
protocol = "$2"
end_of_table = "sentinel"
[[peer]]
address = "$4:7830"
TOML
}
nic_host() { # name core primary secondary
    cat >"$run/$1.toml" <<TOML
[node]
name = "$1"
listen = ["0.0.0.0:7830"]
control = "/run/fibcast/$1.sock"
[tls]
insecure = true
[sync]
servers = [
    { address = "$3:7830", role = "primary" },
    { address = "$4:7830", role = "secondary" },
]
heartbeat_ms = 500
failback_s = 2
[eal]
args = ["--no-pci", "--no-huge", "-m", "256", "--no-shconf", "--no-telemetry", "--file-prefix", "$1"]
[workers]
cores = [$2]
idle = "sleep"
[[port]]
name = "p0"
device = "net_virtio_user0,path=/run/links/$1-p0,queues=1,queue_size=1024,mac=02:fb:00:00:0${1#nh-}:00"
addresses = ["198.18.0.1/16", "2001:2::1/64"]
[[port]]
name = "p1"
device = "net_virtio_user1,path=/run/links/$1-p1,queues=1,queue_size=1024,mac=02:fb:00:00:0${1#nh-}:01"
addresses = ["198.19.0.1/16", "2001:2:0:1::1/64"]
${extra[$1]:-}
TOML
}
declare -A extra=()

# FRR's configurations begin as docs/frr/frr.conf does.
frr_configurations() {
    local fpm="frr defaults traditional
fpm address 127.0.0.1 port 2620
no fpm use-next-hop-groups"
    cat >"$run/frr-a.conf" <<CONF
hostname frr-a
$fpm
router bgp 65000
 bgp router-id 198.18.0.11
 no bgp default ipv4-unicast
 neighbor 198.18.0.2 remote-as 65001
 neighbor 198.18.0.2 timers 3 60
 neighbor 198.18.0.2 timers connect 2
 neighbor 198.18.0.2 advertisement-interval 0
 address-family ipv4 unicast
  neighbor 198.18.0.2 activate
  neighbor 198.18.0.2 route-map IN in
  neighbor 198.18.0.2 route-map NONE out
 exit-address-family
 address-family ipv6 unicast
  neighbor 198.18.0.2 activate
  neighbor 198.18.0.2 route-map IN in
  neighbor 198.18.0.2 route-map NONE out
 exit-address-family
exit
route-map IN permit 10
 set ipv6 next-hop prefer-global
route-map NONE deny 10
CONF
    cat >"$run/frr-b.conf" <<CONF
hostname frr-b
$fpm
interface @198.19.0.0/16@
 ip ospf hello-interval 1
 ip ospf dead-interval 10
exit
router ospf
 ospf router-id 198.19.0.12
 timers throttle spf 10 50 500
 network 198.19.0.0/16 area 0
exit
CONF
    # Forwarding addresses (RFC 2328 §2.3): the routes lead to the neighbors of the router, not to itself.
    cat >"$run/inside.conf" <<CONF
hostname inside
interface @198.19.0.0/16@
 ip ospf hello-interval 1
 ip ospf dead-interval 10
exit
router ospf
 ospf router-id 198.19.0.2
 network 198.19.0.0/16 area 0
 redistribute static
exit
CONF
    docker run --rm -v fibcast-edge-table:/out fibcast:latest cat /out/inside.conf >>"$run/inside.conf"
    upstream_configuration
}

# BIRD's configuration says what it announces at the moment, so that a BIRD that is killed comes back with that.
away=disabled shared=enabled
upstream_configuration() {
    local off_away="" off_shared=""
    [ $away = enabled ] || off_away="disabled;"
    [ $shared = enabled ] || off_shared="disabled;"
    cat >"$run/upstream.conf" <<CONF
log stderr { warning, error, fatal };
router id 198.18.0.2;
protocol device { }
protocol static full_4 { ipv4;
    include "/var/lib/fibcast/table/full4.conf";
}
protocol static full_6 { ipv6;
    include "/var/lib/fibcast/table/full6.conf";
}
protocol static home_4 { ipv4;
    include "/var/lib/fibcast/table/home4.conf";
}
protocol static home_6 { ipv6;
    include "/var/lib/fibcast/table/home6.conf";
}
protocol static away_4 { $off_away ipv4 { preference 250; };
    include "/var/lib/fibcast/table/away4.conf";
}
protocol static away_6 { $off_away ipv6 { preference 250; };
    include "/var/lib/fibcast/table/away6.conf";
}
protocol static shared { $off_shared ipv4;
    include "/var/lib/fibcast/table/shared.conf";
}
protocol bgp route_server_a {
    local 198.18.0.2 as 65001;
    neighbor 198.18.0.11 as 65000;
    graceful restart on;
    ipv4 { import none; export all; next hop keep; };
    ipv6 { import none; export all; next hop keep; };
}
CONF
}

# One generator process for each NIC host, since all have the same neighbors.
generator() {
    cat >"$run/generate" <<SH
generate() {
    exec fibcast-pktgen --eal-args "-l \$2 --no-pci --no-huge -m 256 --no-shconf --no-telemetry --file-prefix gen-\$1" \\
        --table /var/lib/fibcast/table/expected.txt --coverage --pps $pps --settle-ms $settle_ms --outage-ms 200 --json \\
        --control /run/\$1.sock \\
        --change away=/var/lib/fibcast/table/away.txt --change home=/var/lib/fibcast/table/home.txt \\
        --change withdrawn=/var/lib/fibcast/table/withdrawn.txt --change announced=/var/lib/fibcast/table/announced.txt \\
        --port "name=p0,device=net_vhost0;iface=/run/links/\$1-p0;queues=1,subnet4=198.18.0.0/16,subnet6=2001:2::/64,peer4=198.18.0.1,peer6=2001:2::1" \\
        --port "name=p1,device=net_vhost1;iface=/run/links/\$1-p1;queues=1,subnet4=198.19.0.0/16,subnet6=2001:2:0:1::/64,peer4=198.19.0.1,peer6=2001:2:0:1::1" \\
        >/tmp/\$1.json
}
rm -f /run/links/*
processes=()
generate nh-1 1 & processes+=(\$!)
generate nh-2 0 & processes+=(\$!)
generate nh-3 1 & processes+=(\$!)
trap 'kill -TERM \${processes[*]}' TERM
for process in \${processes[*]}; do
    # A trapped signal interrupts wait; the process is still to be waited for.
    wait \$process
    while kill -0 \$process 2>/dev/null; do wait \$process; done
done
for host in ${nic_hosts[*]}; do echo "\$host \$(tail -n 1 /tmp/\$host.json)"; done
SH
}

# The table, the configurations, and all containers but the upstream: with it everything begins.
start_topology() {
    local begin=$SECONDS
    remove
    mkdir "$run"
    docker run --rm -v fibcast-edge-table:/out -v "$edge/plan.awk:/plan.awk:ro" fibcast:latest sh -c \
        'fibcast-tablegen --prefixes /usr/share/fibcast/full-table-2024.prefixes.txt.gz --limit '"$limit"' --table /out/table.txt && awk -v out=/out -f /plan.awk /out/table.txt'
    frr_configurations
    route_server rs-a bgp 20 172.31.79.12
    route_server rs-b ospf 110 172.31.79.11
    nic_host nh-1 0 172.31.79.11 172.31.79.12
    nic_host nh-2 1 172.31.79.12 172.31.79.11
    nic_host nh-3 0 172.31.79.21 172.31.79.22
    generator
    compose up --detach --no-color --scale upstream=0 2>&1 | grep -iv 'creating\|done' || true
    echo "configurations and containers: $((SECONDS - begin)) s"
}
start_upstream() { compose up --detach --no-color upstream 2>&1 | grep -iv 'creating\|done\|up-to-date' || true; }

# --- questions

# All control sockets are on one volume, so that one container can ask everybody at once: starting a program in a container takes long.
inside_generator() { timeout 60 docker exec "$(container generator)" "$@"; }
show() { inside_generator timeout 5 fibcast --socket "/run/fibcast/$1.sock" --json show "${@:2}" 2>/dev/null; }
field() { grep -oE "\"$1\":(\"[^\"]*\"|[^,}]*)" | head -n 1 | cut -d: -f2- | tr -d '"'; }
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
wait_for() { # what command...
    local what=$1 until=$((SECONDS + wait_limit)); shift
    until "$@"; do
        [ $SECONDS -lt $until ] || { echo "FAIL: waited $wait_limit s for $what"; exit 1; }
        sleep 0.3
    done
}

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
