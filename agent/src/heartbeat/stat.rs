//! haproxy's `show stat` (management.txt, 9.1 "CSV format"), read as upstream's `HAProxyQuery` does.

use super::message::{Frontend, Pool, Reading, Totals};

/// Frontends, backends and servers, of all proxies: 1 + 2 + 4 of haproxy's object types.
pub(super) const COMMAND: &str = "show stat -1 7 -1";

/// The answer is no statistics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoStatistics {
    /// It may be an error of haproxy's.
    #[error("the answer does not begin with a header of columns but with `{0}`")]
    Header(String),
    /// Another version of haproxy's might leave one out.
    #[error("there is no column `{0}`")]
    Column(&'static str),
}

/// Takes haproxy's answer apart. Octavia's own proxies for Prometheus are left out, for nobody is to be billed for them.
pub(super) fn reading(text: &str) -> Result<Reading, NoStatistics> {
    let begins = || NoStatistics::Header(text.chars().take(80).collect());
    let mut records = Records(text.strip_prefix("# ").ok_or_else(begins)?);
    let header = records.next().ok_or_else(begins)?;
    let column = |name| header.iter().position(|c| c == name).ok_or(NoStatistics::Column(name));
    let (proxy, service, status, weight) = (column("pxname")?, column("svname")?, column("status")?, column("weight")?);
    let (scur, stot, bin, bout, ereq) =
        (column("scur")?, column("stot")?, column("bin")?, column("bout")?, column("ereq")?);
    let mut reading = Reading::default();
    for row in records {
        let text = |column: usize| row.get(column).map_or("", String::as_str);
        let number = |column| text(column).parse().unwrap_or_default();
        let name = text(proxy);
        if name.is_empty() || name.contains("prometheus") {
            continue;
        }
        let status = text(status).to_owned();
        match text(service) {
            "FRONTEND" => {
                let totals = Totals { bin: number(bin), bout: number(bout), ereq: number(ereq), stot: number(stot) };
                let frontend = Frontend { status, current: number(scur), totals: Some(totals) };
                reading.listeners.insert(name.to_owned(), frontend);
            }
            "BACKEND" => pool(&mut reading, name).status = status,
            member => {
                // Some versions of haproxy say UP of a server that gets nothing new.
                let drains = status == "UP" && text(weight) == "0";
                let status = if drains { "DRAIN".to_owned() } else { status };
                pool(&mut reading, name).members.insert(member.to_owned(), status);
            }
        }
    }
    Ok(reading)
}

fn pool<'r>(reading: &'r mut Reading, name: &str) -> &'r mut Pool {
    reading.pools.entry(name.to_owned()).or_default()
}

/// The records of a CSV text as haproxy writes it: fields with commas, quotes or line ends are in quotes, and quotes
/// in them are doubled (RFC 4180).
struct Records<'t>(&'t str);

impl Iterator for Records<'_> {
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        let text = self.0;
        let (mut fields, mut field) = (Vec::new(), String::new());
        let (mut quoted, mut from) = (false, 0);
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'"' => {
                    field.push_str(&text[from..at]);
                    // A quote right after a closed one stands for itself.
                    if !quoted && at > 0 && text.as_bytes()[at - 1] == b'"' && from == at {
                        field.push('"');
                    }
                    quoted = !quoted;
                    from = at + 1;
                }
                b',' | b'\n' if !quoted => {
                    field.push_str(&text[from..at]);
                    fields.push(std::mem::take(&mut field));
                    from = at + 1;
                    if byte == b'\n' {
                        self.0 = &text[from..];
                        return Some(fields);
                    }
                }
                _ => {}
            }
        }
        self.0 = "";
        field.push_str(&text[from..]);
        let ended = fields.is_empty() && field.is_empty();
        fields.push(field);
        (!ended).then_some(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statistics_become_listeners_pools_and_members() {
        let text = "# pxname,svname,scur,bin,bout,ereq,status,weight,last_chk,stot,\n\
                    prometheus-exporter-internal-endpoint,FRONTEND,9,9,9,9,OPEN,,,9,\n\
                    l1,FRONTEND,3,10,20,1,OPEN,,,5,\n\
                    p1:l1,m1,0,1,1,,UP,1,\"a, \"\"b\"\"\nc\",1,\n\
                    p1:l1,m2,0,1,1,,UP,0,,1,\n\
                    p1:l1,m3,0,1,1,,UP 1/3,0,,1,\n\
                    p1:l1,BACKEND,0,1,1,,UP,1,,1,\n\n";
        let read = reading(text).unwrap();
        let totals = Totals { bin: 10, bout: 20, ereq: 1, stot: 5 };
        let l1 = Frontend { status: "OPEN".to_owned(), current: 3, totals: Some(totals) };
        assert_eq!(read.listeners, [("l1".to_owned(), l1)].into());
        let members = [("m1", "UP"), ("m2", "DRAIN"), ("m3", "UP 1/3")];
        let members = members.map(|(id, status)| (id.to_owned(), status.to_owned())).into();
        assert_eq!(read.pools, [("p1:l1".to_owned(), Pool { status: "UP".to_owned(), members })].into());
    }

    #[test]
    fn what_is_no_statistics_is_said_to_be_none() {
        let denied = "Permission denied\n";
        assert_eq!(reading(denied), Err(NoStatistics::Header(denied.to_owned())));
        assert_eq!(reading("# pxname,scur\n"), Err(NoStatistics::Column("svname")));
        assert!(reading("").is_err());
    }

    proptest! {
        #[test]
        fn records_are_what_was_written(
            rows in prop::collection::vec(prop::collection::vec("[a-c,\"\n ]{0,6}", 2..5), 1..5),
        ) {
            let field = |f: &String| format!("\"{}\"", f.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(field).collect::<Vec<_>>().join(",") + "\n";
            let text: String = rows.iter().map(line).collect();
            prop_assert_eq!(Records(&text).collect::<Vec<_>>(), rows);
        }

        #[test]
        fn no_answer_is_too_strange(text in "(# pxname,svname,status,weight,scur,stot,bin,bout,ereq\n)?[a-z,\"\n]{0,80}") {
            let _ = reading(&text);
        }
    }
}
