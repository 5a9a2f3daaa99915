//! The name of this amphora in haproxy's `peers` section.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Base64's digits as Octavia has them: `+` and `/` would not do in haproxy, so they are `_` and `-`, the reverse of
/// the URL-safe alphabet (`octavia/common/utils.py`, `base64_sha1_string`).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// What an amphora is called there: a hash of its id, for haproxy bounds the length. The controller writes the same
/// into every haproxy.cfg. It hides nothing. A leading `-` would be taken for an option
/// (<https://github.com/haproxy/haproxy/issues/644>).
#[must_use]
pub fn peer_name(amphora_id: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, amphora_id.as_bytes());
    let mut name = String::new();
    for triple in hash.as_ref().chunks(3) {
        let bits = triple.iter().chain([&0, &0]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        // Three bytes are four digits, two are three, one is two.
        name.extend((0..=triple.len()).map(|n| char::from(DIGITS[bits >> (18 - 6 * n) & 63])));
    }
    if name.starts_with('-') {
        name.replace_range(..1, "x");
    }
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn octavias_own_examples_come_out_the_same() {
        // octavia/tests/unit/common/test_utils.py, without the `=` at the end, as the agent has it
        for (id, name) in [
            ("77e7d60d-e137-4246-8a84-a25db33571cd", "iVZVQ5AKmk2Ae0uGLP0Ue4OseRM"),
            ("9c6e5f27-a0da-4ceb-afe5-5a81230be42e", "NjrNgt3Egl-H5ScbYM5ChtUH3M8"),
            ("4db4a3cf-9fef-4057-b1fd-b2afbf7a8a0f", "xxqntK8jJ_gE3QEmh-D1-XgCW_E"),
        ] {
            assert_eq!(super::peer_name(id), name);
        }
    }
}
