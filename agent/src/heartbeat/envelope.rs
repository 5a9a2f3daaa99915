//! The bytes on the wire: zlib of the JSON, then its HMAC-SHA256 in hex (Octavia's `status_message.py`).

use std::fmt::Write as _;

use aws_lc_rs::hmac;

use super::message::Message;
use crate::config::Secret;

/// zlib's best, as upstream.
const LEVEL: u8 = 9;

/// The datagram of a message.
///
/// # Panics
/// Never: a message has nothing JSON could not say.
#[must_use]
pub(super) fn seal(message: &Message, key: &Secret) -> Vec<u8> {
    wrap(&serde_json::to_vec(message).expect("keys are texts, and nothing in it fails"), key)
}

/// The envelope of any JSON text.
#[must_use]
pub fn wrap(json: &[u8], key: &Secret) -> Vec<u8> {
    let mut envelope = miniz_oxide::deflate::compress_to_vec_zlib(json, LEVEL);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.reveal().as_bytes());
    let tag = hmac::sign(&key, &envelope);
    let mut hex = String::with_capacity(64);
    for byte in tag.as_ref() {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
    }
    envelope.extend_from_slice(hex.as_bytes());
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Octavia's `wrap_envelope({"id": 1}, "key")`; zlib's bytes are not ours, the rest is.
    #[test]
    fn an_envelope_is_zlib_and_the_hex_hmac_of_it() {
        let key = Secret::new("key".to_owned());
        let envelope = wrap(br#"{"id": 1}"#, &key);
        let (zlib, tag) = envelope.split_at(envelope.len() - 64);
        assert_eq!(&zlib[..2], [0x78, 0xda], "zlib's header, best compression");
        assert_eq!(miniz_oxide::inflate::decompress_to_vec_zlib(zlib).unwrap(), br#"{"id": 1}"#);
        assert!(tag.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(tag, &wrap(br#"{"id": 1}"#, &Secret::new("other".to_owned()))[zlib.len()..]);
    }
}
