//! Clients that would keep others waiting, and the end.

use std::time::{Duration, Instant};

use amphora_agent::server::serve::{self, Limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::front::{Client, Front, ask, status_of};

const SECOND: Duration = Duration::from_secs(1);

fn hasty() -> Limits {
    Limits { handshake: SECOND, head: SECOND, body: SECOND, stalled_write: SECOND, grace: SECOND, ..Limits::default() }
}

/// The slowest of ten requests.
async fn slowest(front: &Front, client: &Client) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let start = Instant::now();
        assert!(front.get(client, "/").await.unwrap().ends_with("root"));
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

/// Without tickets nothing of ours follows the client's last handshake message, and Nagle's algorithm at its side would
/// wait for our delayed ACK: 40 ms for every new connection.
#[tokio::test]
async fn a_new_connection_does_not_wait_for_a_delayed_ack() {
    let front = Front::start(Limits::default());
    let client = front.client();
    let mut quickest = SECOND;
    for _ in 0..20 {
        let start = Instant::now();
        front.get(&client, "/").await.unwrap();
        quickest = quickest.min(start.elapsed());
    }
    assert!(quickest < Duration::from_millis(30), "{quickest:?}");
}

#[tokio::test]
async fn those_who_drip_delay_nobody_and_are_ended() {
    let front = Front::start(hasty());
    let client = front.client();
    let (mut silent, mut dripping) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        silent.push(TcpStream::connect(front.address).await.unwrap());
    }
    for _ in 0..25 {
        for start in [
            "",
            "GET /",
            "PUT /body HTTP/1.1\r\ncontent-length: 100\r\n\r\n",
            "PUT /body HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            let mut tls = front.connect(&client).await.unwrap();
            tls.write_all(start.as_bytes()).await.unwrap();
            dripping.push((start, tls));
        }
    }
    let worst = slowest(&front, &client).await;
    assert!(worst < SECOND / 2, "{worst:?} with 200 connections held");
    let drips = dripping.into_iter().map(async |(start, mut tls)| {
        let begun = Instant::now();
        let mut answer = Vec::new();
        while begun.elapsed() < 5 * SECOND {
            if !start.is_empty() {
                let _ = tls.write_all(if start.ends_with("chunked\r\n\r\n") { b"1\r\nx\r\n" } else { b"x" }).await;
            }
            let read = timeout(Duration::from_millis(100), tls.read_buf(&mut answer)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
        (start, begun.elapsed(), String::from_utf8(answer).unwrap())
    });
    for (start, took, answer) in futures_util::future::join_all(drips).await {
        assert!(took < 4 * SECOND, "{start:?} lived {took:?}");
        let expected = if start.starts_with("PUT") { 400 } else { 0 }; // a head that drips gets no answer
        assert_eq!(status_of(&answer), expected, "{start:?}: {answer}");
    }
    for mut tcp in silent {
        assert_eq!(timeout(4 * SECOND, tcp.read(&mut [0])).await.expect("closed").unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn when_full_the_longest_idle_makes_room_and_work_in_hand_stays() {
    let front = Front::start(Limits { connections: 8, ..Limits::default() });
    let client = front.client();
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut tls = front.connect(&client).await.unwrap();
        ask(&mut tls, "/").await.unwrap();
        idle.push(tls);
    }
    let worst = slowest(&front, &client).await; // the first takes a slot; each frees it again
    assert!(worst < SECOND / 2, "{worst:?}");
    ask(&mut idle.remove(0), "/").await.unwrap_err();
    for tls in &mut idle {
        assert!(ask(tls, "/").await.unwrap().ends_with("root"));
    }
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(front.address).await.unwrap());
        sleep(Duration::from_millis(50)).await;
    }
    for mut tls in idle.drain(..3) {
        ask(&mut tls, "/").await.unwrap_err();
    }
    for tls in &mut idle {
        assert!(ask(tls, "/").await.unwrap().ends_with("root"));
    }

    let slow: Vec<_> = (0..8).map(|_| front.get(&client, "/slow")).collect();
    let (slow, quick) = tokio::join!(futures_util::future::join_all(slow), async {
        sleep(Duration::from_millis(300)).await;
        front.get(&client, "/").await.unwrap()
    });
    assert!(slow.iter().all(|answer| answer.as_ref().unwrap().ends_with("slow")), "{slow:?}");
    assert!(quick.ends_with("root"));
}

#[tokio::test]
async fn an_answer_nobody_reads_is_given_up() {
    let front = Front::start(Limits { connections: 1, ..hasty() });
    let client = front.client();
    let mut deaf = front.connect(&client).await.unwrap();
    deaf.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while front.calls() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    assert!(front.get(&client, "/").await.unwrap().ends_with("root"));
    assert!(start.elapsed() < 3 * SECOND && start.elapsed() > SECOND / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn stopping_lets_requests_in_hand_finish() {
    let front = Front::start(Limits { grace: 5 * SECOND, ..Limits::default() });
    let client = front.client();
    let mut idle = front.connect(&client).await.unwrap();
    ask(&mut idle, "/").await.unwrap();
    let stop = async {
        while front.calls() < 2 {
            sleep(Duration::from_millis(5)).await;
        }
        front.stop.cancel();
    };
    let (answer, ()) = tokio::join!(front.get(&client, "/slow"), stop);
    assert!(answer.unwrap().ends_with("slow"));
    assert_eq!(timeout(SECOND, idle.read(&mut [0])).await.expect("closed").unwrap_or(0), 0);
    TcpStream::connect(front.address).await.unwrap_err();
    timeout(2 * SECOND, front.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn stopping_waits_no_longer_than_the_grace_period() {
    let front = Front::start(Limits { grace: Duration::from_millis(200), ..Limits::default() });
    let mut tls = front.connect(&front.client()).await.unwrap();
    tls.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while front.calls() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    front.stop.cancel();
    let start = Instant::now();
    front.task.await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_unspecified_address_is_both_families() {
    let listener = serve::listen("[::]:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if listener.local_addr().unwrap().is_ipv6() {
        TcpStream::connect(("::1", port)).await.unwrap();
    }
    let again = serve::listen(listener.local_addr().unwrap());
    assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
