//! `prometheus-proxy` beside Octavia's, on the same text of a real haproxy's; and what tenants may do to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use lab::octavia::environment;
use lab::workdir::built_program;
use lab::{Place, Proc, command, wait_for};
use nix::sys::signal::Signal;

use crate::site::{PATIENCE, Site};

const HAPROXY: &str = "127.0.0.1:9101";
const PROXY: &str = "127.0.0.1:9102";

/// What an HTTP server answers: status, headers in lower case, body.
#[derive(Debug)]
struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One request by HTTP/1.0, so that the body ends with the connection.
fn ask(place: &Place, to: &str, method: &str, path: &str) -> lab::Result<Answer> {
    let mut stream = place.connect(to.parse().unwrap(), PATIENCE)?;
    let io = |source| lab::Error::Io { what: format!("{method} {path}"), source };
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {to}\r\n\r\n").map_err(io)?;
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(io)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let mut body = String::new();
    reader.read_to_string(&mut body).map_err(io)?;
    let headers = head.iter().skip(1).filter_map(|line| line.split_once(':'));
    Ok(Answer {
        status: head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned(),
        headers: headers.map(|(key, value)| (key.to_lowercase(), value.trim().to_owned())).collect(),
        body,
    })
}

/// In haproxy's place: answers everybody with the same.
fn serve(place: &Place, response: Vec<u8>) {
    let listener = place.within(|| TcpListener::bind(HAPROXY)).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let response = response.clone();
            thread::spawn(move || {
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    line.clear();
                }
                let _ = stream.write_all(&response); // the proxy may have had enough
            });
        }
    });
}

fn response(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// Starts it outside: it finds its way into the namespace, as in the image.
fn start_ours(node: &Place) -> Proc {
    let mut ours = command([built_program("amphora-agent").unwrap()]);
    node.spawn("prometheus-proxy", ours.arg("prometheus-proxy")).unwrap()
}

fn wait_listening(place: &Place) {
    let to: SocketAddr = PROXY.parse().unwrap();
    wait_for("a proxy listens", PATIENCE, || place.connect(to, PATIENCE)).unwrap();
}

/// The body without the values that are about the machine and the moment.
fn steady(answer: &Answer) -> Vec<String> {
    let machine = ["octavia_loadbalancer_cpu ", "octavia_loadbalancer_memory "];
    let line = |line: &str| machine.iter().find(|name| line.starts_with(**name)).map_or(line, |name| name).to_owned();
    answer.body.lines().map(line).collect()
}

#[test]
fn metrics_are_what_octavias_proxy_makes_of_the_same_haproxy() {
    let site = Site::new("prometheus");
    let (node, inside) = (site.amphora().node(), site.inside());
    site.traffic(3);
    wait_listening(&inside); // the agent has started it
    let through = wait_for("the tenant's listener leads to it", PATIENCE, || {
        let answer = ask(&inside, "127.0.0.1:8082", "GET", "/metrics").map_err(|error| error.to_string())?;
        if answer.status == "200" { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    let (through, _) = through.unwrap();
    assert!(through.body.contains("octavia_listener_sessions_total{listener=\"exporter\"} "), "{}", through.body);

    // From here on haproxy says the same to both.
    let text = ask(&inside, HAPROXY, "GET", "/metrics").unwrap().body;
    site.haproxy.kill(Signal::SIGTERM).unwrap();
    site.haproxy.wait(PATIENCE).unwrap();
    serve(&inside, response("200 OK", &text));
    let mine = ask(&inside, PROXY, "GET", "/metrics").unwrap();
    let anything = ask(&inside, PROXY, "GET", "/any/path?at=all").unwrap();
    assert_eq!((mine.status.as_str(), steady(&anything)), ("200", steady(&mine)));
    assert_eq!(mine.header("content-type"), Some("text/plain; version=0.0.4"));
    assert_eq!(mine.header("cache-control"), Some("no-cache"));
    site.amphora().kill_agent().unwrap();
    assert_eq!(ask(&inside, PROXY, "GET", "/").unwrap().status, "200", "it outlives the agent");
    assert_eq!(site.amphora().kill_program("amphora-agent", Signal::SIGKILL).unwrap(), 1);
    wait_for("it is gone", PATIENCE, || match inside.connect(PROXY.parse().unwrap(), PATIENCE) {
        Err(_) => Ok(()),
        Ok(_) => Err("it listens"),
    })
    .unwrap();

    if let Err(error) = environment() {
        lab::skipped("metrics_are_what_octavias_proxy_makes_of_the_same_haproxy", &error.to_string());
        return;
    }
    let mut python = command([environment().unwrap().join("bin/python")]);
    python.args(["-c", "from octavia.cmd import prometheus_proxy; prometheus_proxy.main()"]);
    let python = node.spawn("octavia-proxy", &mut python).unwrap();
    wait_listening(&inside);
    let theirs = ask(&inside, PROXY, "GET", "/metrics").unwrap();
    python.kill_and_wait().unwrap();
    assert_eq!(steady(&mine), steady(&theirs));
    for header in ["content-type", "cache-control", "connection"] {
        let of = |answer: &Answer| answer.header(header).map(ToOwned::to_owned);
        // By HTTP/1.0 a connection ends anyway, and ours does not say so.
        assert!(of(&mine) == of(&theirs) || header == "connection", "{header}: {mine:?} {theirs:?}");
    }
    // Both could be empty.
    for metric in ["octavia_pool_status{pool=\"dead:tcp\",state=\"DOWN\"} 1", "octavia_loadbalancer_cpu "] {
        assert!(mine.body.lines().any(|line| line.starts_with(metric)), "{metric}: {}", mine.body);
    }
    assert!(mine.body.contains("octavia_member_status{pool=\"dead:tcp\",member=\"down\",state=\"DOWN\"} 1"));
}

#[test]
fn the_proxy_survives_its_clients_and_its_haproxy() {
    let workdir = lab::Workdir::new("proxy").unwrap();
    let node = lab::Node::new(&workdir, "node").unwrap();
    node.run(["ip", "netns", "add", "amphora-haproxy"]).unwrap();
    let inside = node.in_netns("amphora-haproxy").unwrap();
    let ours = start_ours(&node);
    inside.ip("link set lo up").unwrap(); // it waits for that, too
    wait_listening(&inside);

    let without = ask(&inside, PROXY, "GET", "/metrics").unwrap();
    assert_eq!((without.status.as_str(), without.body.as_str()), ("502", ""), "no haproxy");
    assert_eq!(ask(&inside, PROXY, "POST", "/metrics").unwrap().status, "501");

    // A load balancer with very many members: 20 MB of lines.
    let line = "haproxy_server_bytes_in_total{proxy=\"p:l\",server=\"00000000-4a4e-4c1b-9f0a-0d3b7a1c2d3e\"} 1\n";
    let many = 20 * 1024 * 1024 / line.len();
    serve(&inside, response("200 OK", &line.repeat(many)));
    let idle: Vec<TcpStream> = (0..10).map(|_| inside.connect(PROXY.parse().unwrap(), PATIENCE).unwrap()).collect();
    let peak = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = peak(ours.pid());
    let answer = ask(&inside, PROXY, "GET", "/metrics").unwrap();
    assert_eq!(
        answer.body.lines().filter(|line| line.starts_with("octavia_member_bytes_in_total{pool=")).count(),
        many
    );
    let grown = peak(ours.pid()) - before;
    assert!(grown < 10 * 1024, "{grown} kB for 20 MB of metrics");
    drop(idle);

    // More idle clients than it serves at once only wait for their own deadline.
    let idle: Vec<TcpStream> = (0..40).map(|_| inside.connect(PROXY.parse().unwrap(), PATIENCE).unwrap()).collect();
    assert_eq!(ask(&inside, PROXY, "GET", "/metrics").unwrap().status, "200");
    drop(idle);
    assert!(ours.is_running());
    ours.kill(Signal::SIGTERM).unwrap();
    ours.wait(Duration::from_secs(10)).unwrap();
}
