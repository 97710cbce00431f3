//! The machine of origins and leases, and that of a relay's readiness, under arbitrary orders of events.

use std::collections::HashMap;
use std::time::Duration;

use fibcast_sync_proto::origins::{MAX_ORIGINS, OriginState, Origins};
use fibcast_sync_proto::relay::{HOLD, Relay};
use fibcast_sync_proto::{OriginId, OriginValue};

use crate::Input;

const STEPS: usize = 400;

fn value(input: &mut Input<'_>) -> OriginValue {
    let flags = input.byte().unwrap_or(0);
    let number = input.number();
    OriginValue {
        name: format!("p{}", flags & 3),
        // Our own ones among them, and more than there is room for.
        server: match flags >> 2 & 3 {
            0 => "me".to_owned(),
            1 => format!("s{number}"),
            n => format!("s{n}"),
        },
        epoch: if flags & 16 == 0 { u64::from(number >> 12) } else { u64::MAX - u64::from(number >> 14) },
        sequence: u64::from(number & 0xfff),
        ready: flags & 32 == 0,
        lease_ms: if flags & 64 == 0 { 3_000 } else { u32::from(number) << 8 },
        stale: flags & 128 != 0,
    }
}

/// A server that hears anything of its own and of others' origins, in any order. No lease lasts longer than the last newer description
/// gave it, and what is kept is bounded.
pub fn origins(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Duration::from_secs(1);
    let mut origins = Origins::new("me", 9, Duration::from_secs(10));
    let own = origins.add(now, "p0", Duration::from_secs(3)).expect("a good name");
    // The newest description of each, and when it came.
    let mut newest: HashMap<OriginId, ((u64, u64), Duration)> = HashMap::new();
    let mut relay = Relay::default();
    // Whether a capable server fills the relay's table, and when it was last seen to do so no more.
    let (mut synced, mut lost_at) = (false, now);
    for _ in 0..STEPS {
        let Some(op) = input.byte() else { break };
        match op % 6 {
            0 => now += Duration::from_millis(u64::from(input.number())),
            1 => drop(origins.ready(now, own)),
            2 => {
                let value = value(&mut input);
                drop(origins.ready(now, OriginId::instance(&value.server, &value.name)));
            }
            3 => {
                if std::mem::replace(&mut synced, op & 64 == 0) {
                    lost_at = now;
                }
            }
            _ => {
                let value = value(&mut input);
                let id = OriginId::instance(&value.server, &value.name);
                let age = (value.epoch, value.sequence);
                origins.heard(now, &value).expect("a good description");
                if origins.describe(id).is_some_and(|known| (known.epoch, known.sequence) == age) {
                    let known = newest.entry(id).or_insert((age, now));
                    if age > known.0 {
                        *known = (age, now);
                    }
                }
            }
        }
        origins.handle_timeout(now).expect("own descriptions are good");
        while origins.poll_event().is_some() {}
        // One that was forgotten, long after it expired or for lack of room, may return.
        newest.retain(|id, _| origins.state(*id).is_some());
        relay.update(now, synced, vec![format!("s{}", op >> 6)]);
        assert_eq!(relay.is_stale(), !synced);
        assert!(!synced || relay.is_ready());
        assert!(
            synced || !relay.is_ready() || now < lost_at + HOLD,
            "a relay that lost its servers is ready"
        );
        assert!(origins.others().count() <= MAX_ORIGINS);
        for (_, value, state) in origins.others() {
            assert_ne!(value.server, "me", "an own origin is taken for another's");
            if let OriginState::Live { until } | OriginState::Loading { until } = state {
                assert!(
                    until > now && until <= now + Duration::from_secs(600),
                    "a lease of {until:?} at {now:?}"
                );
            }
        }
        assert!(origins.catalog().len() <= 1 + MAX_ORIGINS as u64);
    }
    for (id, (_, at)) in newest {
        if let Some(OriginState::Live { until }) = origins.state(id) {
            assert!(until <= at + Duration::from_secs(600), "relaying keeps an origin alive");
        }
    }
    assert!(origins.catalog().is_sound());
}
