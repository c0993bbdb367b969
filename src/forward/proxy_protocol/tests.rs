use proptest::prelude::*;

use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    match Header::parse(bytes)? {
        Parsed::Done { header, length } => {
            assert_eq!(length, bytes.len());
            Ok(header)
        }
        Parsed::More(missing) => panic!("{missing} bytes more after {bytes:?}"),
    }
}

fn tcp(source: &str, destination: &str) -> Header {
    Header::tcp(addr(source), addr(destination))
}

/// A version 2 header from its 13th byte on.
fn binary(rest: &[u8]) -> Vec<u8> {
    [b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a", rest].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

/// A header for TCP over IPv4 with these TLVs.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes();
    binary(&[&[0x21, 0x11], &length[..], &FOUR, tlvs].concat())
}

#[test]
fn lines_of_the_specification_are_read() {
    let web = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n\r\n";
    let header = tcp("192.168.0.1:56324", "192.168.0.11:443");
    assert_eq!(Header::parse(web), Ok(Parsed::Done { header, length: 47 }));
    let longest = b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
    assert_eq!(parse(longest), Ok(tcp("255.255.255.255:65535", "255.255.255.255:65535")));
    let ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff FFFF:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), 104);
    assert_eq!(parse(longest.as_bytes()), Ok(tcp(ones, ones)));
    assert_eq!(parse(b"PROXY TCP6 :: ::1 0 0\r\n"), Ok(tcp("[::]:0", "[::1]:0")));
    assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Ok(Header::unknown()));
    let worst = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(worst.len(), 107);
    assert_eq!(parse(worst.as_bytes()), Ok(Header::unknown()));
    assert_eq!(parse(b"PROXY UNKNOWN any\nthing \xff\r\n"), Ok(Header::unknown()));
}

#[test]
fn a_line_that_is_not_exact_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 080 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 00 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +80 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80  443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 443 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 \r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 80 443\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 80 443\r\n",
        "PROXY TCP4 ::1 ::1 80 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 80 443\r\n",
        "PROXY TCP6 1::2::3 ::1 80 443\r\n",
        "PROXY TCP6 12345::1 ::1 80 443\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 443\r \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 443\n\r\n",
        "PROXY\tTCP4 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY unknown\r\n",
        "PROXY \r\nPROXY \r\n",
    ] {
        assert!(Header::parse(line.as_bytes()).is_err(), "{line:?}");
    }
    // A line feed alone ends no line, and a line without an end is not waited for.
    let endless = [b"PROXY UNKNOWN \n".as_slice(), &[b'x'; 92]].concat();
    assert_eq!(Header::parse(&endless[..105]), Ok(Parsed::More(2)));
    assert_eq!(Header::parse(&endless[..106]), Err(HeaderError::Line));
    assert_eq!(Header::parse(&endless), Err(HeaderError::Line));
    let late = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
    assert_eq!((late.len(), Header::parse(&late)), (108, Err(HeaderError::Line)));
}

#[test]
fn what_is_no_header_is_refused_at_the_first_byte_that_differs() {
    for (bytes, fits) in [
        (&b"GET / HTTP/1.1\r\n"[..], 0),
        (b"PROXI TCP4", 4),
        (b"\x16\x03\x01\x02\x00", 0),
        (b"\r\n\r\nGET / HTTP/1.1", 4),
        (b"\r\n\r\n\0\r\nQUIT\r", 11),
        (b"SSH-2.0-OpenSSH", 0),
    ] {
        assert!(matches!(Header::parse(&bytes[..fits]), Ok(Parsed::More(_))), "{bytes:?}");
        assert_eq!(Header::parse(&bytes[..=fits]), Err(HeaderError::NoHeader), "{bytes:?}");
    }
}

#[test]
fn binary_headers_of_the_specification_are_read() {
    let header = tcp("192.0.2.1:56324", "198.51.100.7:443");
    assert_eq!(parse(&with_tlvs(&[])), Ok(header.clone()));
    assert_eq!(header.encode(Version::V2), with_tlvs(&[]));

    let mut six = vec![0x21, 0x21, 0, 36];
    six.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    six.extend([0; 15]);
    six.extend([1, 0, 0, 0xff, 0xff]);
    let header = tcp("[2001:db8::1]:0", "[::1]:65535");
    assert_eq!(parse(&binary(&six)), Ok(header.clone()));
    assert_eq!(header.encode(Version::V2), binary(&six));

    assert_eq!(Header::local().encode(Version::V2), binary(&[0x20, 0, 0, 0]));
    assert_eq!(Header::unknown().encode(Version::V2), binary(&[0x21, 0, 0, 0]));
}

#[test]
fn a_local_header_is_skipped_whatever_it_holds() {
    for block in [&[][..], &FOUR, &[0xff; 300]] {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        for family in [0x00, 0x11, 0xff] {
            let bytes = binary(&[&[0x20, family], &length[..], block].concat());
            assert_eq!(parse(&bytes), Ok(Header::local()), "{family:#x}");
        }
    }
}

#[test]
fn families_that_are_not_tcp_leave_the_client_unknown() {
    for (family, length) in
        [(0x00, 0), (0x00, 3), (0x01, 5), (0x10, 2), (0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216)]
    {
        let block = vec![1; length];
        let length = u16::try_from(length).unwrap().to_be_bytes();
        let header = parse(&binary(&[&[0x21, family], &length[..], &block].concat())).unwrap();
        assert_eq!((header.endpoints(), header.source()), (Endpoints::Unknown, None), "{family:#x}");
    }
    // What follows the names of Unix sockets is known to be TLVs.
    let sockets = [&[0x21, 0x31, 0, 216 + 5][..], &[b'/'; 216], &[0x02, 0, 2, b'a', b'b']].concat();
    assert_eq!(parse(&binary(&sockets)).unwrap().authority(), Some("ab"));
}

#[test]
fn what_does_not_exist_is_refused() {
    let refused = |rest: &[u8]| Header::parse(&binary(rest)).unwrap_err();
    let unsupported = |what, value| HeaderError::Unsupported { what, value };
    assert_eq!(refused(&[0x11]), unsupported("version", 1));
    assert_eq!(refused(&[0x31, 0x11]), unsupported("version", 3));
    assert_eq!(refused(&[0x22]), unsupported("command", 2));
    assert_eq!(refused(&[0x2f]), unsupported("command", 15));
    assert_eq!(refused(&[0x21, 0x41, 0, 0]), unsupported("address family", 4));
    assert_eq!(refused(&[0x21, 0x13, 0, 0]), unsupported("transport protocol", 3));
    for (family, length) in [(0x11, 11), (0x12, 0), (0x21, 35), (0x31, 215)] {
        let block = vec![0; usize::from(length)];
        assert_eq!(refused(&[&[0x21, family, 0, length], &block[..]].concat()), HeaderError::TooShort);
    }
    // 4096 bytes in all, and one more.
    assert_eq!(Header::parse(&binary(&[0x21, 0x11, 0x0f, 0xf0])), Ok(Parsed::More(0x0ff0)));
    assert_eq!(refused(&[0x21, 0x11, 0x0f, 0xf1]), HeaderError::TooLong);
    assert_eq!(refused(&[0x20, 0x00, 0xff, 0xff]), HeaderError::TooLong);
}

#[test]
fn tlvs_are_kept_and_padding_is_not() {
    let tlvs = b"\x01\x00\x02h2\x04\x00\x03xxx\x02\x00\x0bexample.com\x05\x00\x02\x07\xff\xe0\x00\x00";
    let header = parse(&with_tlvs(tlvs)).unwrap();
    assert_eq!(header.tlv(Header::ALPN), Some(&b"h2"[..]));
    assert_eq!(header.authority(), Some("example.com"));
    assert_eq!(header.tlv(Header::UNIQUE_ID), Some(&[7, 0xff][..]));
    assert_eq!(header.tlvs().map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 2, 5, 0xe0]);
    assert_eq!(header.tlv(0x20), None);
    assert_eq!(parse(&with_tlvs(b"\x02\x00\x01\xff")).unwrap().authority(), None, "not UTF-8");
    for cut in [&b"\x01"[..], b"\x01\x00", b"\x01\x00\x02h", b"\x01\xff\xffh2", b"\x01\x00\x02h2\x02\x00"] {
        assert_eq!(parse(&with_tlvs(cut)), Err(HeaderError::Tlv), "{cut:?}");
    }
    let long = |length: u8| [&[5, 0, length][..], &vec![7; usize::from(length)]].concat();
    assert!(parse(&with_tlvs(&long(128))).is_ok());
    assert_eq!(parse(&with_tlvs(&long(129))), Err(HeaderError::Tlv));
}

/// Puts the right checksum into a header whose TLVs end with an empty one.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum::crc32c(&[&bytes]).to_be_bytes();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum);
    bytes
}

#[test]
fn a_checksum_is_verified() {
    let whole = seal(with_tlvs(b"\x02\x00\x01a\x03\x00\x04\0\0\0\0"));
    let header = parse(&whole).unwrap();
    assert_eq!(header.tlvs().collect::<Vec<_>>(), [(Header::AUTHORITY, &b"a"[..])], "and not kept");
    // The type and the length of the checksum itself aside, where a change makes it something else.
    for at in (16..whole.len()).filter(|at| !(32..35).contains(at)) {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(parse(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
    assert_eq!(parse(&with_tlvs(b"\x03\x00\x03\0\0\0")), Err(HeaderError::Tlv), "three bytes");
    let twice = seal(with_tlvs(b"\x03\x00\x04\0\0\0\0\x03\x00\x04\0\0\0\0"));
    assert_eq!(parse(&twice), Err(HeaderError::Tlv));
}

#[test]
fn families_are_never_mixed() {
    let mixed = tcp("192.0.2.1:1", "[2001:db8::1]:2");
    assert_eq!(mixed.encode(Version::V1), b"PROXY TCP6 ::ffff:c000:201 2001:db8::1 1 2\r\n");
    assert_eq!(parse(&mixed.encode(Version::V1)), Ok(mixed.clone()));
    assert_eq!(parse(&mixed.encode(Version::V2)), Ok(mixed));
    let mapped = tcp("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2");
    assert_eq!(mapped.source(), Some(addr("192.0.2.1:1")));
    assert_eq!(mapped.encode(Version::V1), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    // HAProxy writes mapped addresses with dots.
    assert_eq!(parse(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n"), Ok(mapped));
}

#[test]
fn a_tlv_that_cannot_be_sent_is_refused() {
    let header = || tcp("192.0.2.1:1", "192.0.2.2:2");
    assert_eq!(header().with_tlv(Header::UNIQUE_ID, &[0; 129]), Err(HeaderError::Tlv));
    assert_eq!(header().with_tlv(3, &[0; 4]), Err(HeaderError::Tlv));
    assert_eq!(header().with_tlv(4, &[]), Err(HeaderError::Tlv));
    assert_eq!(header().with_tlv(0xe0, &vec![0; 70_000]), Err(HeaderError::TooLong));
    let full = header().with_tlv(0xe0, &[0; 4096 - 16 - 36 - 3]).unwrap();
    assert_eq!(full.clone().with_tlv(0xe1, &[]), Err(HeaderError::TooLong));
    assert_eq!(parse(&full.encode(Version::V2)), Ok(full));
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        any::<u32>().prop_map(|bits| IpAddr::V6(std::net::Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
        (0_u128..70_000).prop_map(|bits| IpAddr::V6(bits.into())),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_header() -> impl Strategy<Value = Header> {
    let tlv = (prop_oneof![Just(1), Just(2), Just(5), 6_u8..], prop::collection::vec(any::<u8>(), 0..40));
    prop_oneof![
        4 => (any_addr(), any_addr(), prop::collection::vec(tlv, 0..4)).prop_map(|(source, destination, tlvs)| {
            let header = Header::tcp(source, destination);
            tlvs.iter().fold(header, |header, (kind, value)| header.with_tlv(*kind, value).unwrap())
        }),
        1 => Just(Header::local()),
        1 => Just(Header::unknown()),
    ]
}

/// What version 1 can say of a header.
fn in_text(header: &Header) -> Header {
    let endpoints = match header.endpoints {
        Endpoints::Local => Endpoints::Unknown,
        endpoints => endpoints,
    };
    Header { endpoints, tlvs: Vec::new() }
}

proptest! {
    #[test]
    fn what_is_written_is_read(header in any_header(), after: [u8; 4]) {
        for version in [Version::V1, Version::V2] {
            let bytes = header.encode(version);
            let expected = if version == Version::V1 { in_text(&header) } else { header.clone() };
            let followed = [&bytes[..], &after].concat();
            let parsed = Header::parse(&followed);
            prop_assert_eq!(parsed, Ok(Parsed::Done { header: expected, length: bytes.len() }));
        }
    }

    /// Reading as much as is asked for, however it arrives, never takes a byte of what follows.
    #[test]
    fn every_beginning_asks_for_more_and_not_for_too_much(header in any_header()) {
        for version in [Version::V1, Version::V2] {
            let bytes = header.encode(version);
            for known in 0..bytes.len() {
                let Ok(Parsed::More(missing)) = Header::parse(&bytes[..known]) else {
                    return Err(TestCaseError::fail(format!("{known} of {bytes:?}")));
                };
                prop_assert!((1..=bytes.len() - known).contains(&missing), "{missing} at {known} of {bytes:?}");
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::parse(&bytes);
    }

    #[test]
    fn no_bytes_after_a_signature_panic(rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::parse(&[b"PROXY ", &rest[..]].concat());
        let _ = Header::parse(&[b"PROXY TCP6 ", &rest[..]].concat());
        let _ = Header::parse(&binary(&rest));
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        for family in [0x11, 0x21, 0x31] {
            let bytes = binary(&[&[0x21, family], &length[..], &rest].concat());
            if let Ok(Parsed::Done { header, .. }) = Header::parse(&bytes) {
                let again = header.encode(Version::V2);
                if header.source().is_some() {
                    prop_assert_eq!(Header::parse(&again), Ok(Parsed::Done { header, length: again.len() }));
                }
            }
        }
    }

    #[test]
    fn a_line_of_words_is_read_only_if_it_is_exact(
        words in prop::collection::vec("(TCP4|TCP6|UNKNOWN|[0-9.]{1,9}|[0-9a-f:]{1,9}|[0-9]{1,5}|1\\.2\\.3\\.4|::1|80)", 0..7),
    ) {
        let line = format!("PROXY {}\r\n", words.join(" "));
        if let Ok(Parsed::Done { header, .. }) = Header::parse(line.as_bytes())
            && let Endpoints::Tcp { source, destination } = header.endpoints()
        {
            prop_assert_eq!(words.len(), 5);
            prop_assert_eq!(&words[3], &source.port().to_string());
            prop_assert_eq!(&words[4], &destination.port().to_string());
        }
    }
}

mod receiving {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::forward::TrustedProxies;

    fn receiver() -> Receiver {
        Receiver::new(TrustedProxies::parse(["10.0.0.0/8"]).unwrap())
    }

    #[tokio::test]
    async fn nothing_is_read_beyond_the_header_whatever_the_pieces() {
        let header =
            tcp("[2001:db8::7]:4711", "[2001:db8::1]:443").with_tlv(Header::AUTHORITY, b"a").unwrap();
        for version in [Version::V1, Version::V2] {
            for piece in [1, 2, 7, 1000] {
                let (mut proxy, mut server) = duplex(64);
                let bytes = [&header.encode(version)[..], b"payload"].concat();
                let write = async move {
                    for piece in bytes.chunks(piece) {
                        proxy.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let read = async {
                    let received = receiver().receive(&mut server, addr("10.0.0.1:5")).await.unwrap();
                    assert_eq!(received.client, addr("[2001:db8::7]:4711"));
                    let mut rest = String::new();
                    server.read_to_string(&mut rest).await.unwrap();
                    assert_eq!(rest, "payload");
                };
                tokio::join!(write, read);
            }
        }
    }

    #[tokio::test]
    async fn a_header_that_names_nobody_leaves_the_peer() {
        for (header, version) in [
            (Header::local(), Version::V2),
            (Header::unknown(), Version::V2),
            (Header::unknown(), Version::V1),
        ] {
            let bytes = header.encode(version);
            let received = receiver().receive(&mut &bytes[..], addr("[::ffff:10.0.0.1]:5")).await.unwrap();
            assert_eq!(received.client, addr("10.0.0.1:5"));
            assert_eq!(received.header, Some(header));
        }
    }

    #[tokio::test]
    async fn whoever_is_not_trusted_is_never_believed() {
        let spoofed = tcp("10.0.0.9:1", "10.0.0.1:2").encode(Version::V1);
        let stranger = addr("192.0.2.1:5");
        let mut stream = &spoofed[..];
        let refused = receiver().receive(&mut stream, stranger).await.unwrap_err();
        assert!(matches!(refused, ReceiveError::Untrusted(ip) if ip == stranger.ip()), "{refused}");
        let received = receiver().allow_direct(true).receive(&mut stream, stranger).await.unwrap();
        assert_eq!((received.client, received.header), (stranger, None));
        assert_eq!(stream, spoofed, "it is payload");
    }

    #[tokio::test]
    async fn a_trusted_peer_must_send_a_header() {
        let receiver = receiver().allow_direct(true);
        let missing = receiver.receive(&mut &b"GET / HTTP/1.1\r\n\r\n"[..], addr("10.0.0.1:5")).await;
        assert!(matches!(missing, Err(ReceiveError::Header(HeaderError::NoHeader))), "{missing:?}");
        let cut = receiver.receive(&mut &b"PROXY TCP4 192"[..], addr("10.0.0.1:5")).await;
        assert!(matches!(cut, Err(ReceiveError::Io(_))), "{cut:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_is_not_waited_for() {
        let (mut proxy, mut server) = duplex(64);
        proxy.write_all(b"PROXY").await.unwrap();
        let receiver = receiver().timeout(Duration::from_secs(3));
        let outcome = receiver.receive(&mut server, addr("10.0.0.1:5")).await;
        assert!(matches!(outcome, Err(ReceiveError::Timeout(limit)) if limit.as_secs() == 3), "{outcome:?}");
    }
}
