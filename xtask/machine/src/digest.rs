//! SHA-256 as images and file names write it: 64 hexadecimal digits.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The digest of something that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Pieces(Sha256);

impl Pieces {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn add(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }

    /// Adds a part by itself: with its length before it, it can't pass for one with its neighbour.
    pub fn add_part(&mut self, part: impl AsRef<[u8]>) {
        self.add((part.as_ref().len() as u64).to_le_bytes());
        self.add(part);
    }

    /// The digest of all that came.
    pub fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

/// Passes on what is written into it, and takes the digest of it.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    /// Nothing has passed through yet.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Where it was written to, and the digest of all that was.
    pub fn finish(self) -> (W, String) {
        (self.inner, format!("{:x}", self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_through_has_the_digest_of_the_whole() {
        let mut hashing = Hashing::new(Vec::new());
        hashing.write_all(b"a").unwrap();
        hashing.write_all(b"bc").unwrap();
        let (written, digest) = hashing.finish();
        assert_eq!((written.as_slice(), digest), (b"abc".as_slice(), sha256(b"abc")));
        // Of FIPS 180-2, appendix B.1.
        assert!(sha256(b"abc").starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }
}
