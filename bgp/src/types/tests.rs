use super::*;

#[test]
fn what_gobgpd_would_take_and_break_on_is_refused() {
    assert_eq!(HoldTime::try_from(2), Err(Invalid::HoldTime(2)));
    assert_eq!(HoldTime::try_from(1), Err(Invalid::HoldTime(1)));
    assert_eq!(HoldTime::try_from(65_536), Err(Invalid::HoldTime(65_536)));
    assert_eq!(HoldTime::try_from(0), Err(Invalid::HoldTime(0)));
    assert_eq!(HoldTime::try_from(3).map(HoldTime::seconds), Ok(3));
    assert_eq!(RestartTime::try_from(0), Err(Invalid::RestartTime(0)));
    assert_eq!(RestartTime::try_from(4096), Err(Invalid::RestartTime(4096)));
    assert_eq!("x".repeat(81).parse::<Md5Password>(), Err(Invalid::Md5Length(81)));
    assert!("x".repeat(80).parse::<Md5Password>().is_ok());
    assert_eq!("pass\u{e9}".parse::<Md5Password>(), Err(Invalid::Md5Character));
    for asn in ["0", "4294967295", "65535", "-1", "x"] {
        assert_eq!(asn.parse::<Asn>(), Err(Invalid::Asn), "{asn}");
    }
    for ip in ["0.0.0.0", "::", "127.0.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "::ffff:192.0.2.1", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        assert!(Prefix::try_from(ip).is_err(), "{ip}");
        assert!(NextHop::try_from(ip).is_err(), "{ip}");
    }
}

#[test]
fn a_password_is_never_printed() {
    let password: Md5Password = "canary".parse().unwrap();
    assert!(!format!("{password:?}").contains("canary"));
}

#[test]
fn a_community_reads_back_as_written() {
    assert_eq!("64512:100".parse::<Community>().unwrap().to_string(), "64512:100");
    assert!("64512".parse::<Community>().is_err());
    assert!("65536:1".parse::<Community>().is_err());
}
