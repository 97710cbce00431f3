//! Certificates that expire.

use fibcast_testbed::{config, expiry};

#[test]
fn check_config_warns_of_certificates_that_expire_and_refuses_those_that_have() {
    let rest = config::sync(["127.0.0.1:1"], "")
        + &config::workers("fc-certificates", 64, "0", "")
        + &config::port("p0", "net_null0,no-rx=1", &["192.0.2.1/24"], "");
    expiry::check_config_tells_what_expires(env!("CARGO_BIN_EXE_fibcast-dataplane").as_ref(), &rest);
}
