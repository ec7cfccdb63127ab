//! The descriptors of a process: what they refer to, and `fdinfo`.

use super::error::ProcfsError;
use super::text::{decimal, lines, octal};

/// An open descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub number: u32,
    /// What it refers to, as `/proc/PID/fd` names it: a path, `socket:[…]`, `anon_inode:…`, ….
    /// Bytes that are no UTF-8 are replaced.
    pub target: String,
}

/// What `/proc/PID/fdinfo/N` tells of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// The position in the file.
    pub position: u64,
    /// The `O_*` flags, in the kernel's numbers of this architecture.
    pub flags: u32,
    /// The inode; `None` where the kernel does not say (before 5.14).
    pub inode: Option<u64>,
    /// The lines that only this kind of file has.
    pub details: String,
}

impl FdInfo {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// [`ProcfsError::Malformed`] where position, flags or inode are not understood, or the
    /// flags are missing.
    pub fn parse(text: &[u8]) -> Result<Self, ProcfsError> {
        let malformed = |line| ProcfsError::Malformed {
            file: "fdinfo",
            line,
        };
        let mut info = Self::default();
        let mut flags = None;
        for (index, line) in lines(text).enumerate() {
            if let Some(value) = line.strip_prefix(b"pos:") {
                // A position may be negative: that of /dev/mem at high addresses.
                info.position = decimal(value.trim_ascii()).unwrap_or(0);
            } else if let Some(value) = line.strip_prefix(b"flags:") {
                let value = octal(value.trim_ascii()).and_then(|flags| flags.try_into().ok());
                flags = Some(value.ok_or(malformed(index + 1))?);
            } else if let Some(value) = line.strip_prefix(b"ino:") {
                info.inode = Some(decimal(value.trim_ascii()).ok_or(malformed(index + 1))?);
            } else if !line.starts_with(b"mnt_id:") {
                info.details.push_str(&String::from_utf8_lossy(line));
                info.details.push('\n');
            }
        }
        info.flags = flags.ok_or(malformed(1))?;
        Ok(info)
    }

    /// Tells whether it can be written through.
    pub(crate) fn is_writable(&self) -> bool {
        let access = self.flags & rustix::fs::OFlags::RWMODE.bits();
        access != rustix::fs::OFlags::RDONLY.bits()
    }

    /// Tells whether reads and writes go past the page cache (`O_DIRECT`).
    pub fn is_direct(&self) -> bool {
        self.flags & rustix::fs::OFlags::DIRECT.bits() != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flags_are_octal_and_details_are_kept() {
        let text =
            b"pos:\t7\nflags:\t02000002\nmnt_id:\t17\nino:\t28566\nSqMask:\t0x3\n    0: /a\n";
        let want = FdInfo {
            position: 7,
            flags: 0o2_000_002,
            inode: Some(28566),
            details: "SqMask:\t0x3\n    0: /a\n".into(),
        };
        assert_eq!(FdInfo::parse(text), Ok(want));
    }

    #[test]
    fn direct_is_seen() {
        let direct = format!("flags:\t0{:o}\n", rustix::fs::OFlags::DIRECT.bits());
        assert!(FdInfo::parse(direct.as_bytes()).unwrap().is_direct());
        assert!(!FdInfo::parse(b"flags:\t02\n").unwrap().is_direct());
        assert!(FdInfo::parse(b"").is_err());
        assert!(FdInfo::parse(b"flags:\t9\n").is_err());
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_not_panic(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = FdInfo::parse(&text);
        }
    }
}
