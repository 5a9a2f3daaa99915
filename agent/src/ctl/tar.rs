//! A `.tar.gz` of a few texts: POSIX ustar (pax(1)), one gzip member (RFC 1952).

use miniz_oxide::deflate::compress_to_vec;

/// The unit of a tar file in bytes.
const BLOCK: usize = 512;
/// zlib's default level.
const LEVEL: u8 = 6;

/// The longest name ustar has room for in the field of that name, in bytes.
const NAME: usize = 100;

/// A name that does not fit: a part of it would be another file's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is longer than {NAME} bytes")]
pub(super) struct TooLong;

/// The archive being made.
#[derive(Debug, Default)]
pub(super) struct Archive(Vec<u8>);

impl Archive {
    /// Adds a file of mode 0600 and root's.
    pub(super) fn add(&mut self, name: &str, contents: &[u8], modified: u64) -> Result<(), TooLong> {
        if name.len() > NAME {
            return Err(TooLong);
        }
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", contents.len()).as_bytes());
        put(136, format!("{modified:011o}\0").as_bytes());
        put(148, b"        "); // the checksum counts as blanks
        put(156, b"0");
        put(257, b"ustar\x0000");
        put(265, b"root\0");
        put(297, b"root\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// The whole, compressed.
    pub(super) fn gzip(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0); // two empty blocks are the end
        // No name, no time, made by UNIX.
        let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        file.extend(compress_to_vec(&self.0, LEVEL));
        file.extend(crc32fast::hash(&self.0).to_le_bytes());
        // The length modulo 2^32.
        file.extend(self.0.len().to_le_bytes().iter().take(4));
        file
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        let longest = format!("b/{}", "n".repeat(NAME - 2));
        archive.add("b/one", b"first\n", 1_700_000_000).unwrap();
        archive.add("b/empty", b"", 0).unwrap();
        archive.add("b/two", &[b'x'; 1_024], 1).unwrap();
        archive.add(&longest, b"whole", 1).unwrap();
        assert_eq!(archive.add(&format!("{longest}n"), b"cut", 1), Err(TooLong));
        std::fs::write(directory.path().join("b.tar.gz"), archive.gzip()).unwrap();
        let done = Command::new("tar").current_dir(&directory).args(["-xzpf", "b.tar.gz"]).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        let read = |name| std::fs::read(directory.path().join("b").join(name)).unwrap();
        assert_eq!((read("one"), read("empty"), read("two")), (b"first\n".to_vec(), vec![], vec![b'x'; 1_024]));
        assert_eq!(read(&longest[2..]), b"whole");
    }
}
