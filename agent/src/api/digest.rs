//! MD5, with which both ends of the Amphora API tell whether they have the same file. It protects nothing.

use md5::{Digest as _, Md5};

/// The digest of some bytes in hexadecimal, as Octavia's agent puts it into an `ETag` (without quotes).
#[must_use]
pub(super) fn md5_hex(bytes: &[u8]) -> String {
    format!("{:032x}", u128::from_be_bytes(Md5::digest(bytes).into()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_rfc_1321_has_it() {
        assert_eq!(super::md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(super::md5_hex(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    }
}
