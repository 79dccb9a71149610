//! Response frames from a socket that does not block.

use std::io::{self, Read};
use std::net::TcpStream;

use anyhow::{Result, bail, ensure};

const PREFIX_BYTES: usize = 4;

/// Reads frames of at most a fixed size into one buffer that is used over and over.
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// What was read and not yet given out.
    held: std::ops::Range<usize>,
}

impl FrameBuffer {
    /// Frames of at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            bytes: vec![0; limit_bytes + PREFIX_BYTES],
            held: 0..0,
        }
    }

    /// Reads what is there, once. The end of the stream is an error: brokers do not end it.
    pub fn fill(&mut self, mut socket: &TcpStream) -> Result<()> {
        if self.held.start > 0 {
            self.bytes.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        match socket.read(&mut self.bytes[self.held.end..]) {
            Ok(0) => bail!("the broker has closed a connection"),
            Ok(count) => self.held.end += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The next frame that is there whole, without its prefix.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        let held = &self.bytes[self.held.clone()];
        let Some((prefix, rest)) = held.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let frame_bytes = u32::from_be_bytes(*prefix) as usize;
        ensure!(
            frame_bytes + PREFIX_BYTES <= self.bytes.len(),
            "a frame of {frame_bytes} bytes"
        );
        if rest.len() < frame_bytes {
            return Ok(None);
        }
        let start = self.held.start + PREFIX_BYTES;
        self.held.start = start + frame_bytes;
        Ok(Some(&self.bytes[start..self.held.start]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn frames_come_whole_however_they_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let mut frames = FrameBuffer::new(8);
        sender.write_all(&[0, 0, 0, 2, 7, 8, 0, 0, 0]).unwrap();
        frames.fill(&receiver).unwrap();
        assert_eq!(frames.next().unwrap(), Some(&[7, 8][..]));
        assert_eq!(frames.next().unwrap(), None);
        sender.write_all(&[0, 0, 0, 0, 9]).unwrap();
        frames.fill(&receiver).unwrap();
        assert_eq!(frames.next().unwrap(), Some(&[][..]));
        sender.write_all(&[0, 0, 1]).unwrap();
        frames.fill(&receiver).unwrap();
        assert!(
            frames.next().is_err(),
            "0x09000001 bytes are beyond the limit"
        );
        drop(sender);
        assert!(frames.fill(&receiver).is_err());
    }
}
