//! From haproxy's metrics to Octavia's, line by line as they arrive (the Prometheus text format 0.0.4).

use super::names;

/// Lines of what only the proxy itself is behind: Octavia's internal endpoint.
const INTERNAL: &str = "prometheus-exporter";
/// The longest line, in bytes; haproxy's have some 300. What is longer is dropped.
const LONGEST: usize = 64 * 1024;

/// The lines so far.
#[derive(Debug, Default)]
pub(super) struct Rewriter {
    line: Vec<u8>,
    too_long: bool,
    print_rejected: bool,
}

impl Rewriter {
    /// Lines that are not shown are printed, if wanted, for whoever looks after the table.
    pub(super) fn new(print_rejected: bool) -> Self {
        Self { print_rejected, ..Self::default() }
    }

    /// Takes a piece of haproxy's text; what is complete comes out.
    pub(super) fn push(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            self.keep(&text[..end]);
            self.end(out);
            text = &text[end + 1..];
        }
        self.keep(text);
    }

    /// The text is over: a last line may lack its end.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() || std::mem::take(&mut self.too_long) {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        match rewritten(&line) {
            Some(line) => {
                out.extend_from_slice(line.as_bytes());
                out.push(b'\n');
            }
            None if self.print_rejected && !line.contains(INTERNAL) => println!("REJECTED: {line}"),
            None => {}
        }
    }

    fn keep(&mut self, part: &[u8]) {
        self.too_long |= self.line.len() + part.len() > LONGEST;
        if !self.too_long {
            self.line.extend_from_slice(part);
        } else if self.line.is_empty() {
            self.line.push(b' '); // there was a line
        }
    }
}

/// A line in Octavia's words; `None` for one that is not shown.
fn rewritten(line: &str) -> Option<String> {
    if line.contains(INTERNAL) {
        return None;
    }
    let about = ["# HELP ", "# TYPE "].into_iter().find(|start| line.starts_with(start)).unwrap_or_default();
    let text = &line[about.len()..];
    let (haproxy, rest) = text.split_at(text.find([' ', '{'])?);
    let (name, class) = names::of(haproxy)?;
    if let ("# HELP ", Some(help)) = (about, names::help(&name)) {
        return Some(format!("{about}{name} {help}"));
    }
    if rest.starts_with('{') {
        if class.labels.is_empty() {
            return None;
        }
        let rename = |rest: String, (from, to): &(&str, &str)| rest.replace(from, to);
        return Some(name + &class.labels.iter().fold(rest.to_owned(), rename));
    }
    Some(format!("{about}{name}{rest}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HAPROXY: &str = "# HELP haproxy_process_nbthread Number of started threads.\n\
# TYPE haproxy_process_nbthread gauge\n\
haproxy_process_nbthread 2\n\
# HELP haproxy_process_current_connections Current number of connections.\n\
# TYPE haproxy_process_current_connections gauge\n\
haproxy_process_current_connections 3\n\
# HELP haproxy_frontend_status Current status of the service.\n\
# TYPE haproxy_frontend_status gauge\n\
haproxy_frontend_status{proxy=\"prometheus-exporter-internal-endpoint\",state=\"UP\"} 1\n\
haproxy_frontend_status{proxy=\"l1\",state=\"UP\"} 1\n\
haproxy_server_server_aborts_total{proxy=\"p1:l1\",server=\"m1\"} 0";

    const OCTAVIA: &str = "# HELP octavia_loadbalancer_current_connections Current number of connections.\n\
# TYPE octavia_loadbalancer_current_connections gauge\n\
octavia_loadbalancer_current_connections 3\n\
# HELP octavia_listener_status Current status of the listener.\n\
# TYPE octavia_listener_status gauge\n\
octavia_listener_status{listener=\"l1\",state=\"UP\"} 1\n\
octavia_member_server_aborts_total{pool=\"p1:l1\",member=\"m1\"} 0\n";

    fn rewrite<'t>(parts: impl IntoIterator<Item = &'t [u8]>) -> String {
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        parts.into_iter().for_each(|part| rewriter.push(part, &mut out));
        rewriter.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn haproxys_metrics_become_octavias() {
        assert_eq!(rewrite([HAPROXY.as_bytes()]), OCTAVIA);
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let long = "haproxy_process_current_connections ".to_owned() + &"1".repeat(LONGEST);
        let text = format!("{long}{long}\nhaproxy_process_current_connections 1\n");
        assert_eq!(rewrite(text.as_bytes().chunks(1000)), "octavia_loadbalancer_current_connections 1\n");
        let mut rewriter = Rewriter::default();
        for _ in 0..100 {
            rewriter.push(long.as_bytes(), &mut Vec::new());
        }
        assert!(rewriter.line.capacity() <= 2 * LONGEST);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_text_is_cut(size in 1..80_usize) {
            prop_assert_eq!(rewrite(HAPROXY.as_bytes().chunks(size)), OCTAVIA);
        }

        #[test]
        fn no_text_is_too_strange(text in "(# HELP |# TYPE |# )?(haproxy_server_status)?[ {}a-z=\"\n]{0,60}") {
            let _ = rewrite([text.as_bytes()]);
        }
    }
}
