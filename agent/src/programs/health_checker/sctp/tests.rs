use super::*;

fn hexadecimal(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn packets_are_those_of_octavias_checker() {
    // From `_sctp_build_init_packet` and `_sctp_build_abort_packet` of octavia 19.0.0 with these numbers.
    let expected = "0fa0270f00000000f4ea9c3e01000014deadbeef0001a000000affff01020304";
    assert_eq!(init((4000, 9999), 0xdead_beef, 0x0102_0304), hexadecimal(expected));
    assert_eq!(abort((4000, 9999), 0xdead_beef), hexadecimal("0fa0270fdeadbeef71eecd1606010004"));
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn an_answer_is_one_that_has_our_tag_and_a_chunk() {
    let member = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 9999);
    let answer = packet((9999, 4000), 7, [INIT_ACK, 0], &[0, 0, 0, 9, 1, 2]);
    let expected = Some(INIT_ACK);
    assert_eq!(reply(&answer, member("2001:db8::1"), 7), expected);
    assert_eq!(reply(&answer, member("2001:db8::1"), 8), None, "another's");
    // An IPv4 header of five words, and one with options.
    for words in [5_u8, 7] {
        let with_header: Vec<u8> = [&[0x40 | words], &vec![0; usize::from(words) * 4 - 1][..], &answer].concat();
        assert_eq!(reply(&with_header, member("192.0.2.1"), 7), expected);
    }
    for short in 0..HEADER + 4 {
        assert_eq!(reply(&answer[..short], member("2001:db8::1"), 7), None, "{short} bytes");
    }
    assert_eq!(reply(&abort((1, 2), 7), member("::1"), 7), Some(ABORT));
}
