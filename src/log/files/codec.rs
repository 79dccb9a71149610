//! Little-endian fields of the files that only we read.

const CHECKSUM_BYTES: usize = 4;

/// Takes fields off the front of a slice; nothing when too little is left.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}

/// Ends a header, which begins with magic and version, with the checksum over all before it.
pub(in crate::log) fn seal_header(header: &mut [u8]) {
    let (body, checksum) = header.split_at_mut(header.len() - CHECKSUM_BYTES);
    checksum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// The fields of a sealed header behind its magic and version. None when it is not whole or is
/// something else; the version when it is an unknown one.
pub(in crate::log) fn open_header(
    block: &[u8],
    header_bytes: usize,
    magic: u32,
    version: u32,
) -> Result<Option<Fields<'_>>, u32> {
    let header = block.get(..header_bytes);
    let Some((body, checksum)) = header.map(|h| h.split_at(header_bytes - CHECKSUM_BYTES)) else {
        return Ok(None);
    };
    let mut fields = Fields(body);
    if Fields(checksum).u32() != Some(crc32c::crc32c(body)) || fields.u32() != Some(magic) {
        return Ok(None);
    }
    match fields.u32() {
        Some(found) if found == version => Ok(Some(fields)),
        other => Err(other.unwrap_or_default()),
    }
}
