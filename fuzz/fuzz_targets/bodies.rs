//! Request bodies of any bytes: reading and checking them must not panic, and whatever is refused is refused with a
//! status that the controller knows.
#![no_main]

use amphora_agent::{
    api::{
        body,
        distributor::{amphorae::Register, vips::RegisterVip},
        error::{ApiError, Status},
        plug::request,
    },
    resolve::Policy,
    state::VipMode,
};
use libfuzzer_sys::fuzz_target;

fn policy() -> Policy {
    Policy { allowed_prefixes: vec!["203.0.113.0/24".parse().expect("a prefix")], ..Policy::default() }
}

fn refused_as_bad_request<T>(result: Result<T, ApiError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(ApiError::Fault(status, _) | ApiError::Http(status, _)) => {
            assert_eq!(status, Status::BadRequest);
            None
        }
    }
}

fuzz_target!(|input: (String, &[u8])| {
    let (vip, bytes) = input;
    if let Some((mac, plug)) = refused_as_bad_request(request::parse(bytes)) {
        for mode in [VipMode::Interface, VipMode::Anycast] {
            // Read anew, for checking takes it.
            let (_, plug) = request::parse(bytes).expect("it was read before");
            if let Some(wanted) = refused_as_bad_request(plug.check(&vip, mac, mode, &policy())) {
                assert!(!wanted.vips.is_empty());
            }
        }
        drop(plug);
    }
    if let Some(register) = refused_as_bad_request(body::parse::<Register>(bytes)) {
        refused_as_bad_request(register.check(&policy()));
    }
    refused_as_bad_request(body::parse::<RegisterVip>(bytes));
});
