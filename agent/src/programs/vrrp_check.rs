//! `haproxy-vrrp-check SOCKET...`: whether every haproxy answers on its stats socket (`octavia/cmd/haproxy_vrrp_check.py`).
//! keepalived runs it every few seconds; an amphora where it fails gives the VIP away.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long one haproxy may take to say its first byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a haproxy is asked: for nothing much, its answer is enough. As Octavia asks.
const QUESTION: &[u8] = b"show stat -1 -1 -1\n";

/// 0 when every haproxy answers, else how many do not; 1 when one cannot be asked at all.
pub(super) fn main(sockets: &[OsString]) -> ExitCode {
    let mut silent = 0_u8;
    for socket in sockets {
        match answers(socket) {
            Ok(true) => {}
            // Never round to 0, which an exit code of 256 would be.
            Ok(false) => silent = silent.saturating_add(1),
            Err(error) => {
                eprintln!("{}: {error}", socket.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::from(silent)
}

fn answers(socket: &OsString) -> io::Result<bool> {
    let start = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(QUESTION)?;
    // Whatever it says first is an answer; the rest of a long one is of no interest.
    let left = PATIENCE.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    Ok(stream.read(&mut [0; 1024])? > 0)
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead as _, os::unix::net::UnixListener, thread};

    use super::*;

    fn haproxy(path: &std::path::Path, answer: &'static [u8]) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut question = String::new();
            io::BufReader::new(&stream).read_line(&mut question).unwrap();
            assert_eq!(question.as_bytes(), QUESTION);
            (&stream).write_all(answer).unwrap();
        });
    }

    #[test]
    fn an_answer_is_health_and_silence_or_nobody_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let socket = |name: &str| directory.path().join(name);
        let check = |names: &[&str]| {
            let sockets: Vec<OsString> = names.iter().map(|name| socket(name).into_os_string()).collect();
            main(&sockets)
        };
        assert_eq!(check(&[]), ExitCode::SUCCESS);
        haproxy(&socket("good"), b"# pxname\n");
        assert_eq!(check(&["good"]), ExitCode::SUCCESS);
        haproxy(&socket("a"), b"# pxname\n");
        haproxy(&socket("b"), b"");
        haproxy(&socket("c"), b"");
        assert_eq!(check(&["a", "b", "c"]), ExitCode::from(2), "how many said nothing");
        assert_eq!(check(&["absent"]), ExitCode::FAILURE);
    }
}
