# Who announces what, from lines PREFIX via GATEWAY of the whole table: writes what BIRD and FRR read, and what the generator expects.
#
#   full4.conf full6.conf      most of the table, by BGP
#   home4.conf away4.conf …    every 250th prefix by BGP; "away" are the same by the same gateway on the other LAN
#   shared.conf                some IPv4 prefixes that BGP and OSPF announce; OSPF counts where BGP has withdrawn them
#   inside.conf                what the OSPF router has: the shared prefixes and internal ones, by its neighbors 198.19.2.1 to .8
#   expected.txt away.txt home.txt withdrawn.txt announced.txt   for the generator
function bird(file, prefix, gateway) { print "route " prefix " blackhole { bgp_next_hop = " gateway "; };" >(out "/" file) }
function expect(file, prefix, gateway) { print prefix " via " gateway >(out "/" file) }
function on_other_lan(gateway) {
    if (gateway ~ /^198\.18\./) return "198.19." substr(gateway, 8)
    if (gateway ~ /^198\.19\./) return "198.18." substr(gateway, 8)
    if (gateway ~ /^2001:2:0:1::/) return "2001:2::" substr(gateway, 13)
    return "2001:2:0:1::" substr(gateway, 9)
}
function inside(prefix) {
    hop = "198.19.2." (1 + inside_count++ % 8)
    print "ip route " prefix " " hop >(out "/inside.conf")
    return hop
}
{
    prefix = $1; gateway = $3
    family = prefix ~ /:/ ? 6 : 4
    expect("expected.txt", prefix, gateway)
    if (NR % 250 == 0) {
        bird("home" family ".conf", prefix, gateway)
        bird("away" family ".conf", prefix, on_other_lan(gateway))
        expect("home.txt", prefix, gateway)
        expect("away.txt", prefix, on_other_lan(gateway))
    } else if (family == 4 && NR % 5000 == 1) {
        bird("shared.conf", prefix, gateway)
        expect("announced.txt", prefix, gateway)
        expect("withdrawn.txt", prefix, inside(prefix))
    } else {
        bird("full" family ".conf", prefix, gateway)
    }
}
END {
    for (i = 0; i < 300; i++) {
        prefix = "10." (100 + int(i / 100)) "." (i % 100) ".0/24"
        expect("expected.txt", prefix, inside(prefix))
    }
}
