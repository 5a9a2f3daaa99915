//! A case: one request, the same for both agents but for the words that name the amphora it goes to.

/// A request of the corpus and its name in the list of differences.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// As it is shown: method and path.
    pub(crate) shown: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) head_only: bool,
    /// Keys of the answer of which only the shape is compared: what they say differs from moment to moment.
    pub(crate) shapes: &'static [&'static str],
}

/// A request with header fields and a body; `name` says what is special about it.
pub(crate) fn request(name: &str, method: &str, path: &str, fields: &str, body: impl AsRef<[u8]>) -> Case {
    let body = body.as_ref();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: amphora\r\nConnection: close\r\n{fields}");
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        head += "Content-Length: {length}\r\n";
    }
    let mut bytes = (head + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Case { name: name.into(), shown: format!("{method} {path}"), bytes, head_only: method == "HEAD", shapes: &[] }
}

/// A request without a body.
pub(crate) fn ask(name: &str, method: &str, path: &str) -> Case {
    request(name, method, path, "", "")
}

/// A request with JSON, as the controller sends it.
pub(crate) fn json(name: &str, method: &str, path: &str, body: &str) -> Case {
    request(name, method, path, "Content-Type: application/json\r\n", body)
}

/// An upload.
pub(crate) fn upload(name: &str, path: &str, body: impl AsRef<[u8]>) -> Case {
    request(name, "PUT", path, "", body)
}

/// Bytes as they are, to show as `shown`.
pub(crate) fn bytes(name: &str, shown: &str, bytes: impl AsRef<[u8]>) -> Case {
    Case { name: name.into(), shown: shown.into(), bytes: bytes.as_ref().to_vec(), head_only: false, shapes: &[] }
}

impl Case {
    /// Compares only the shape of these keys of the answer.
    pub(crate) fn shapes(mut self, keys: &'static [&'static str]) -> Self {
        self.shapes = keys;
        self
    }
}

/// What a name in braces stands for at one amphora, such as `{nic}`. Replaced in what is sent, put back in what is
/// answered.
#[derive(Clone, Debug)]
pub(crate) struct Words(Vec<(&'static str, String)>);

impl Words {
    pub(crate) fn new(mut words: Vec<(&'static str, String)>) -> Self {
        words.sort_by_key(|(_, value)| std::cmp::Reverse(value.len())); // a word may be part of a longer one
        Self(words)
    }

    /// The bytes to send.
    pub(crate) fn fill(&self, bytes: &[u8]) -> Vec<u8> {
        // Latin-1 keeps every byte, so that what is not UTF-8 passes through.
        let mut text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        for (name, value) in &self.0 {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = body.chars().count().to_string();
            text = format!("{}\r\n\r\n{body}", head.replace("{length}", &length));
        }
        text.chars().map(|char| u8::try_from(u32::from(char)).expect("made of bytes")).collect()
    }

    /// An answer's text with the words in place of what they stand for.
    pub(crate) fn put_back(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.0.iter().filter(|(_, value)| !value.contains('\n')) {
            text = text.replace(value, &format!("{{{name}}}"));
        }
        text
    }
}
