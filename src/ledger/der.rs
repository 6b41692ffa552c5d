//! A reader of DER (X.690): definite, shortest lengths; nothing is read beyond its bounds.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(&'a [u8]);

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub tag: u8,
    /// The value's bytes.
    pub content: &'a [u8],
    /// The same behind its tag and length.
    pub whole: &'a [u8],
}

/// Not DER, or not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotDer;

impl<'a> Der<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value, whatever it is.
    pub(super) fn next(&mut self) -> Result<Item<'a>, NotDer> {
        let (tag, rest) = self.0.split_first().ok_or(NotDer)?;
        // Tags of several bytes stand in nothing that is read here.
        if tag & 0x1f == 0x1f {
            return Err(NotDer);
        }
        let (first, rest) = rest.split_first().ok_or(NotDer)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let (bytes, rest) = rest.split_at_checked(count).ok_or(NotDer)?;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                let is_shortest = length > 0x7f && bytes.first() != Some(&0);
                if !is_shortest {
                    return Err(NotDer);
                }
                (length, rest)
            }
            _ => return Err(NotDer),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(NotDer)?;
        let whole = self.0.get(..self.0.len() - rest.len()).ok_or(NotDer)?;
        self.0 = rest;
        Ok(Item { tag: *tag, content, whole })
    }

    /// The content of the next value, which has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        let item = self.next()?;
        if item.tag == tag { Ok(item.content) } else { Err(NotDer) }
    }

    /// The same where the value may be missing.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, NotDer> {
        if self.0.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The values in the next value, which has this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Self, NotDer> {
        self.expect(tag).map(Self)
    }

    /// That nothing is left.
    pub(super) const fn end(&self) -> Result<(), NotDer> {
        if self.0.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// A value behind its tag and length.
pub(super) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    let short = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    let length = length.get(short..).unwrap_or_default();
    if content.len() > 0x7f {
        bytes.push(0x80 | u8::try_from(length.len()).unwrap_or(0x7f));
    }
    bytes.extend_from_slice(length);
    bytes.extend_from_slice(content);
    bytes
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_bytes() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let bytes = [encode(OCTETS, &content), vec![9]].concat();
            let mut der = Der::new(&bytes);
            let item = der.next().unwrap();
            assert_eq!(
                (item.tag, item.content, item.whole.len()),
                (OCTETS, &*content, bytes.len() - 1)
            );
            assert_eq!(der.end(), Err(NotDer));
            for cut in 0..item.whole.len().min(8) {
                assert!(Der::new(&item.whole[..cut]).next().is_err(), "{length}, {cut}");
            }
        }
    }

    #[test]
    fn other_lengths_than_the_shortest_are_refused() {
        let bad: [&[u8]; 7] = [
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x01, 0],
            &[],
        ];
        for bytes in bad {
            assert!(Der::new(bytes).next().is_err(), "{bytes:02x?}");
        }
    }
}
