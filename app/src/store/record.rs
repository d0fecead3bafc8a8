//! The record beside the number: which number is on disk, in a form in which a torn write is seen.
//!
//! The file has a head for people and two places, each in a block of the disk of its own. Writes go to them by
//! turns, so the write before the last is never touched by a torn one. What is written is one line, twice: when a
//! write is torn, one of the two lines is whole still, and the other differs from it.

/// The file.
pub(super) const FILE: &str = "visits.log";

/// Blocks and pages are seldom larger; where they are, a torn write has to hit more than the sector it was for.
const BLOCK: usize = 4096;
/// A file of exactly this length is whole.
pub(super) const LENGTH: usize = 3 * BLOCK;

/// The first line. An older counter than the one that wrote it refuses a form it does not know.
const FORM: &str = "form 1";
const HEAD: &str = "\
The counter keeps this file while it runs and removes it when it is stopped.
After a power cut `visits` may be a moment behind; this file is not, and the next start puts that right.
Below stand two records, each twice: its turn, the number of visits, the least that `visits` shows then.
";

const DIGITS: usize = 20;
/// Three numbers, two spaces, one line end.
const LINE: usize = 3 * DIGITS + 3;

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// One more than that of the write before.
    pub(super) turn: u64,
    /// The number that is on disk.
    pub(super) visits: u64,
    /// What `visits` shows after a power cut is this number or a larger one: it is synced less often.
    pub(super) shown: u64,
}

/// What is wrong with a file of this name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A later counter wrote it.
    Form(String),
    /// No write of ours, whole or torn, leaves this.
    Damaged,
}

impl Record {
    /// Where in the file it stands.
    pub(super) fn offset(self) -> u64 {
        (1 + self.turn % 2) * BLOCK as u64
    }

    /// What stands there.
    pub(super) fn text(self) -> [u8; 2 * LINE] {
        let mut text = [b' '; 2 * LINE];
        for (place, number) in [self.turn, self.visits, self.shown].into_iter().enumerate() {
            digits(number, &mut text[place * (DIGITS + 1)..][..DIGITS]);
        }
        text[LINE - 1] = b'\n';
        text.copy_within(..LINE, LINE);
        text
    }

    /// A whole file that ends with this record.
    pub(super) fn file(self) -> Vec<u8> {
        let mut file = vec![b'\n'; LENGTH];
        let head = format!("{FORM}\n{HEAD}");
        file[..head.len()].copy_from_slice(head.as_bytes());
        let before = Self { turn: self.turn - 1, ..self };
        for record in [before, self] {
            let text = record.text();
            let offset = record.offset() as usize;
            file[offset..offset + text.len()].copy_from_slice(&text);
        }
        file
    }

    /// The last record in a file.
    pub(super) fn last(file: &[u8]) -> Result<Self, Fault> {
        let form = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if form != FORM.as_bytes() {
            let later = form.strip_prefix(b"form ").filter(|number| number.iter().all(u8::is_ascii_digit));
            return Err(later.map_or(Fault::Damaged, |_| Fault::Form(form.escape_ascii().to_string())));
        }
        if file.len() != LENGTH {
            return Err(Fault::Damaged);
        }
        let place = |number: usize| {
            let text = &file[number * BLOCK..][..2 * LINE];
            (Self::line(&text[..LINE]), Self::line(&text[LINE..]))
        };
        let (one, two) = (place(1), place(2));
        let whole = |(first, second): (Option<Self>, Option<Self>)| first.filter(|_| first == second);
        match (whole(one), whole(two)) {
            (Some(one), Some(two)) if one.turn.abs_diff(two.turn) % 2 == 1 => {
                Ok(if one.turn > two.turn { one } else { two })
            }
            (Some(last), None) if torn_after(two, last) => Ok(last),
            (None, Some(last)) if torn_after(one, last) => Ok(last),
            _ => Err(Fault::Damaged),
        }
    }

    fn line(line: &[u8]) -> Option<Self> {
        let number = |place: usize| parse_digits(&line[place * (DIGITS + 1)..][..DIGITS]);
        let separated = line[DIGITS] == b' ' && line[2 * DIGITS + 1] == b' ' && line[LINE - 1] == b'\n';
        separated.then_some(Self { turn: number(0)?, visits: number(1)?, shown: number(2)? })
    }
}

/// Whether the two lines are what an interrupted write leaves, if `last` was the write before it.
/// A place that was damaged by something else may have held what was answered: nobody can tell.
fn torn_after((first, second): (Option<Record>, Option<Record>), last: Record) -> bool {
    let began = first.is_some_and(|new| new.turn == last.turn + 1 && new.visits >= last.visits);
    // Some turns apart where a write before it was lost.
    let not_ended = second.is_some_and(|old| old.turn < last.turn && old.visits <= last.visits);
    began || not_ended
}

fn digits(mut number: u64, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn parse_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(turn: u64, visits: u64) -> Record {
        Record { turn, visits, shown: visits.saturating_sub(3) }
    }

    fn with(mut file: Vec<u8>, record: Record, bytes: usize) -> Vec<u8> {
        let offset = record.offset() as usize;
        file[offset..offset + bytes].copy_from_slice(&record.text()[..bytes]);
        file
    }

    #[test]
    fn the_last_of_two_records_is_found_whichever_place_it_has() {
        let file = record(1, 7).file();
        assert_eq!(Record::last(&file), Ok(record(1, 7)));
        let file = with(file, record(2, 8), 2 * LINE);
        assert_eq!(Record::last(&file), Ok(record(2, 8)));
        let file = with(file, record(3, u64::MAX), 2 * LINE);
        assert_eq!(Record::last(&file), Ok(record(3, u64::MAX)));
    }

    #[test]
    fn a_write_torn_at_any_byte_is_the_one_before_until_it_is_whole() {
        // A carry through all digits of all three numbers, and a step that changes one byte of each.
        let pairs =
            [(record(9, 9), record(10, 10)), (record(19_999, 199_999_999), record(20_000, 200_000_001))];
        for (old, new) in pairs.into_iter().chain([(record(4, 125), record(5, 132))]) {
            let file = with(record(old.turn - 1, old.visits - 3).file(), old, 2 * LINE);
            for bytes in 0..=2 * LINE {
                let torn = with(file.clone(), new, bytes);
                let whole = torn == with(file.clone(), new, 2 * LINE);
                let expected = if whole { new } else { old };
                assert_eq!(Record::last(&torn), Ok(expected), "{new:?} after {old:?}, torn at {bytes}");
            }
        }
    }

    #[test]
    fn what_no_write_of_ours_leaves_is_damage() {
        let good = with(record(7, 40).file(), record(8, 41), 2 * LINE);
        assert_eq!(Record::last(&good), Ok(record(8, 41)));
        for place in [1, 2] {
            for fill in [0, b' ', b'0', 0xff] {
                let mut file = good.clone();
                file[place * BLOCK..(place + 1) * BLOCK].fill(fill);
                assert_eq!(Record::last(&file), Err(Fault::Damaged), "place {place} filled with {fill}");
            }
        }
        assert_eq!(Record::last(&good[..LENGTH - 1]), Err(Fault::Damaged));
        assert_eq!(Record::last(b""), Err(Fault::Damaged));
        assert_eq!(Record::last(b"form x\n"), Err(Fault::Damaged));
    }

    #[test]
    fn a_later_form_is_told_from_damage() {
        assert_eq!(Record::last(b"form 2\nwhatever"), Err(Fault::Form("form 2".to_owned())));
    }
}
