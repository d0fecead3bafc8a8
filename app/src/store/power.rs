//! Power cuts, which a kill is not: a disk in memory that can stop before any call.
//!
//! What was synced stays. Of the rest, each write and each change of a name may have reached the disk or not, in
//! any combination, and the last write that did may have done so up to any of its bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::*;

/// A disk, and what the system holds of it in memory.
#[derive(Clone, Debug, Default)]
struct Machine {
    disk: Medium,
    memory: Medium,
    /// What is in memory and not yet on the disk, in its order.
    pending: Vec<Change>,
    /// The number of the newest file.
    files: usize,
    calls: usize,
    trouble: Trouble,
    /// A disk that says it has synced, and has not.
    forgetful: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Medium {
    names: BTreeMap<String, Node>,
    contents: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Debug)]
enum Change {
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Name(String, Node),
    /// The file, however it was called before, and the name that goes.
    Rename(String, String, Node),
    Remove(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    /// From this call on nothing works.
    CutAt(usize),
    /// This one call fails. When it is a sync, what it was for is lost, and the system takes it for clean.
    FailAt(usize),
}

impl Medium {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => {
                if self.contents.len() <= *file {
                    self.contents.resize(file + 1, Vec::new());
                }
                let content = &mut self.contents[*file];
                let end = offset + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(bytes);
            }
            Change::Name(name, node) => {
                self.names.insert(name.clone(), node.clone());
            }
            Change::Rename(from, to, node) => {
                self.names.remove(from);
                self.names.insert(to.clone(), node.clone());
            }
            Change::Remove(name) => {
                self.names.remove(name);
            }
        }
    }

    fn read(&self, name: &str) -> Option<&[u8]> {
        match self.names.get(name)? {
            Node::File(file) => Some(self.contents.get(*file).map_or(&[], Vec::as_slice)),
            Node::Folder => None,
        }
    }
}

impl Machine {
    fn with(visits: &str) -> Self {
        let mut disk = Medium::default();
        disk.apply(&Change::Write { file: 0, offset: 0, bytes: visits.as_bytes().to_vec() });
        disk.apply(&Change::Name(FILE.to_owned(), Node::File(0)));
        Self { memory: disk.clone(), disk, ..Self::default() }
    }

    fn found(disk: Medium) -> Self {
        let numbers = disk.names.values().filter_map(|node| match node {
            Node::File(file) => Some(*file),
            Node::Folder => None,
        });
        let files = numbers.max().unwrap_or(0).max(disk.contents.len());
        Self { memory: disk.clone(), disk, files, ..Self::default() }
    }

    /// Every call comes through here: `Err` when it is one that does not work.
    fn call(&mut self) -> Result<(), Errno> {
        self.calls += 1;
        match self.trouble {
            Trouble::CutAt(call) if self.calls >= call => Err(Errno::IO),
            Trouble::FailAt(call) if self.calls == call => Err(Errno::IO),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: Change) -> Result<(), Errno> {
        self.call()?;
        self.memory.apply(&change);
        self.pending.push(change);
        Ok(())
    }

    fn sync(&mut self, synced: impl Fn(&Change) -> bool) -> Result<(), Errno> {
        let done = self.call();
        if self.forgetful || matches!(self.trouble, Trouble::CutAt(_)) && done.is_err() {
            return done;
        }
        for change in self.pending.extract_if(.., |change| synced(change)) {
            if done.is_ok() {
                self.disk.apply(&change);
            }
        }
        done
    }

    /// Everything the disk may hold when the power goes now.
    fn after_a_cut(&self) -> Vec<Medium> {
        // Of a whole new file some of the padding will do.
        self.after_a_cut_torn_at(|bytes, length| {
            !bytes[length..].starts_with(&[b'\n'; 64]) || length % 64 == 0
        })
    }

    /// Some of it.
    fn a_few_after_a_cut(&self, number: usize) -> Vec<Medium> {
        let all =
            self.after_a_cut_torn_at(|bytes, length| [0, bytes.len() / 2, bytes.len()].contains(&length));
        all.iter().step_by(all.len().div_ceil(number)).cloned().collect()
    }

    fn after_a_cut_torn_at(&self, tears: impl Fn(&[u8], usize) -> bool) -> Vec<Medium> {
        let number = self.pending.len();
        let all = (1u64 << number) - 1;
        let subsets: Vec<u64> = match number {
            0..=5 => (0..=all).collect(),
            // Too many to try them all: none, all, one, all but one, the first of them, the last of them.
            _ => {
                let one = (0..number).map(|place| 1u64 << place);
                let but_one = one.clone().map(|bit| all ^ bit);
                let first = one.clone().map(|bit| bit - 1);
                let last = first.clone().map(|bits| all ^ bits);
                [0, all].into_iter().chain(one).chain(but_one).chain(first).chain(last).collect()
            }
        };
        let mut found = Vec::new();
        for subset in subsets {
            let kept: Vec<&Change> = (0..number)
                .filter(|place| subset >> place & 1 == 1)
                .map(|place| &self.pending[place])
                .collect();
            let torn = kept.iter().rposition(|change| matches!(change, Change::Write { .. }));
            let Some(torn) = torn else {
                found.push(self.disk_with(&kept, None));
                continue;
            };
            let Change::Write { bytes, .. } = kept[torn] else { unreachable!("it was looked for") };
            let lengths = (0..=bytes.len()).filter(|length| tears(bytes, *length));
            found.extend(lengths.map(|length| self.disk_with(&kept, Some((torn, length)))));
        }
        found.sort_by(|one, other| {
            one.names.cmp(&other.names).then_with(|| one.contents.cmp(&other.contents))
        });
        found.dedup();
        found
    }

    fn disk_with(&self, kept: &[&Change], torn: Option<(usize, usize)>) -> Medium {
        let mut disk = self.disk.clone();
        for (place, change) in kept.iter().enumerate() {
            match (change, torn) {
                (Change::Write { file, offset, bytes }, Some((torn, length))) if torn == place => {
                    let bytes = bytes[..length].to_vec();
                    disk.apply(&Change::Write { file: *file, offset: *offset, bytes });
                }
                (change, _) => disk.apply(change),
            }
        }
        disk
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Node {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let number = |node: &Self| match node {
            Self::File(file) => Some(*file),
            Self::Folder => None,
        };
        number(self).cmp(&number(other))
    }
}

#[derive(Clone, Debug)]
struct Simulated(Arc<Mutex<Machine>>);

impl Simulated {
    fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<(Store, u64), StoreError> {
        Store::on(Box::new(self.clone()))
    }

    /// What `cat` shows.
    fn shown(&self) -> String {
        let machine = self.machine();
        String::from_utf8_lossy(machine.memory.read(FILE).unwrap_or(b"nothing")).into_owned()
    }
}

impl Disk for Simulated {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/data").join(name)
    }

    fn read(&self, name: &str, at_most: usize) -> Result<Option<Found>, Errno> {
        let mut machine = self.machine();
        machine.call()?;
        let found = |bytes: &[u8]| Found {
            bytes: bytes[..bytes.len().min(at_most)].to_vec(),
            is_file: true,
            owner: 0,
        };
        Ok(machine.memory.read(name).map(found))
    }

    fn create(&self, name: &str) -> Result<Box<dyn File>, Errno> {
        let mut machine = self.machine();
        if machine.memory.names.contains_key(name) {
            return machine.call().and(Err(Errno::EXIST));
        }
        let file = machine.files + 1;
        machine.files = file;
        // An empty write: there is a file now, with nothing in it.
        machine.memory.apply(&Change::Write { file, offset: 0, bytes: Vec::new() });
        machine.change(Change::Name(name.to_owned(), Node::File(file)))?;
        Ok(Box::new(Open { machine: self.clone(), file }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn File>, Errno> {
        let mut machine = self.machine();
        machine.call()?;
        match machine.memory.names.get(name) {
            Some(Node::File(file)) => Ok(Box::new(Open { machine: self.clone(), file: *file })),
            Some(Node::Folder) => Err(Errno::ISDIR),
            None => Err(Errno::NOENT),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let mut machine = self.machine();
        let Some(node) = machine.memory.names.get(from).cloned() else {
            return machine.call().and(Err(Errno::NOENT));
        };
        machine.change(Change::Rename(from.to_owned(), to.to_owned(), node))
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        let mut machine = self.machine();
        match machine.memory.names.get(name) {
            Some(Node::File(_)) => machine.change(Change::Remove(name.to_owned())),
            Some(Node::Folder) => machine.call().and(Err(Errno::ISDIR)),
            None => machine.call().and(Err(Errno::NOENT)),
        }
    }

    fn make_folder(&self, name: &str) -> Result<(), Errno> {
        let mut machine = self.machine();
        match machine.memory.names.contains_key(name) {
            true => machine.call().and(Err(Errno::EXIST)),
            false => machine.change(Change::Name(name.to_owned(), Node::Folder)),
        }
    }

    fn remove_folder(&self, name: &str) -> Result<(), Errno> {
        self.machine().change(Change::Remove(name.to_owned()))
    }

    fn sync(&self) -> Result<(), Errno> {
        self.machine().sync(|change| !matches!(change, Change::Write { .. }))
    }
}

#[derive(Debug)]
struct Open {
    machine: Simulated,
    file: usize,
}

impl File for Open {
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        let change = Change::Write { file: self.file, offset: offset as usize, bytes: bytes.to_vec() };
        self.machine.machine().change(change)
    }

    fn sync(&self) -> Result<(), Errno> {
        let ours = self.file;
        self.machine.machine().sync(|change| matches!(change, Change::Write { file, .. } if *file == ours))
    }

    fn status(&self) -> Result<Status, Errno> {
        let mut machine = self.machine.machine();
        machine.call()?;
        let length = machine.memory.contents.get(self.file).map_or(0, Vec::len) as u64;
        Ok(Status { owner: 0, length })
    }
}

/// What was answered, and what was asked for.
#[derive(Clone, Copy, Debug)]
struct Count {
    answered: u64,
    asked: u64,
}

impl Count {
    fn check(self, what: &str, visits: u64) -> Result<(), String> {
        let Self { answered, asked } = self;
        match (answered..=asked).contains(&visits) {
            true => Ok(()),
            false => Err(format!("{what}: {visits}, with {answered} answered and {asked} asked for")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// So many visits share a write.
    Visits(u64),
    Show,
    Rest,
    Close,
}

use Act::{Close, Rest, Show, Visits};

/// Plays it until the end or until the power goes. What fails is tried again, as the counter does.
fn play(disk: &Simulated, started_with: u64, acts: &[Act]) -> Result<Count, String> {
    let mut count = Count { answered: started_with, asked: started_with };
    let off = || {
        let machine = disk.machine();
        matches!(machine.trouble, Trouble::CutAt(call) if machine.calls >= call)
    };
    let mut store = loop {
        match disk.open() {
            Ok((store, visits)) => {
                count.check("at the start", visits)?;
                break Some(store);
            }
            Err(_) if off() => return Ok(count),
            Err(StoreError::Io { .. }) => {}
            Err(error) => return Err(format!("refused: {error}")),
        }
    };
    for act in acts {
        let mut open = store.take().ok_or("closed")?;
        let done = match act {
            Visits(number) => {
                count.asked = count.asked.max(count.answered + number);
                let mut done = open.write(count.answered + number);
                // Refused, and the disk tried again until it takes what was answered.
                if done.is_err() && !off() {
                    done = open.write(count.answered);
                } else if done.is_ok() {
                    count.answered += number;
                }
                done.map(|_| ())
            }
            Show => open.show(),
            Rest => open.rest(),
            Close => {
                let closed = open.close();
                if !off() {
                    count.check(
                        "shown by a counter that was stopped",
                        parse(disk.shown().as_bytes()).unwrap_or(0),
                    )?;
                }
                closed.err();
                return Ok(count);
            }
        };
        if off() {
            return Ok(count);
        }
        match (act, done) {
            (Show | Rest, Err(_)) => {
                open.write(count.answered).map(|_| ()).map_err(|error| error.to_string())?
            }
            (_, done) => done.map_err(|error| error.to_string())?,
        }
        let shown = disk.shown();
        if !shown.ends_with('\n') {
            return Err(format!("after {act:?} `visits` shows {shown:?}"));
        }
        count.check("shown while running", parse(shown.as_bytes()).ok_or(shown)?)?;
        store = Some(open);
    }
    Ok(count)
}

/// Opens what a cut left, and looks at the number.
fn reopen(found: Medium, count: Count) -> Result<(), String> {
    let disk = Simulated::new(Machine::found(found));
    let (_, visits) = disk.open().map_err(|error| format!("refused after a cut: {error}"))?;
    count.check("after a cut", visits)?;
    let shown = disk.shown();
    match shown == format!("{visits}\n") {
        true => Ok(()),
        false => Err(format!("`visits` shows {shown:?} and the counter {visits}")),
    }
}

/// Cuts the power before every call, and opens everything that may be left.
fn survey(machine: &Machine, started_with: u64, acts: &[Act]) -> Result<usize, String> {
    let mut states = 0;
    for call in 1.. {
        let disk = Simulated::new(Machine { trouble: Trouble::CutAt(call), ..machine.clone() });
        let count = play(&disk, started_with, acts).map_err(|error| format!("call {call}: {error}"))?;
        let machine = disk.machine();
        for found in machine.after_a_cut() {
            states += 1;
            reopen(found, count).map_err(|error| format!("cut before call {call}: {error}"))?;
        }
        if machine.calls < call {
            return Ok(states);
        }
    }
    unreachable!("there is an end to calls")
}

/// Steps that change one digit and many; a number that gets longer twice; syncs of `visits` now and then.
const STORY: [Act; 14] = [
    Visits(1),
    Visits(1),
    Visits(5),
    Show,
    Visits(90),
    Visits(3),
    Rest,
    Visits(21),
    Visits(7),
    Visits(68),
    Visits(1),
    Show,
    Visits(2),
    Close,
];

#[test]
fn a_power_cut_before_any_call_loses_no_answered_visit_and_invents_none() {
    for start in ["0\n", "093", "1999\n"] {
        let states = survey(&Machine::with(start), start.trim().parse().unwrap(), &STORY).unwrap();
        assert!(states > 3_000, "only {states} states were tried");
    }
    survey(&Machine::default(), 0, &STORY).unwrap();
}

#[test]
fn a_power_cut_while_the_counter_starts_after_a_power_cut_loses_nothing_either() {
    for call in 1.. {
        let disk = Simulated::new(Machine { trouble: Trouble::CutAt(call), ..Machine::with("123\n") });
        let count = play(&disk, 123, &[Visits(1), Visits(7), Visits(69), Show, Visits(800)]).unwrap();
        let machine = disk.machine();
        for first in machine.a_few_after_a_cut(12) {
            for second in 1.. {
                let trouble = Trouble::CutAt(second);
                let disk = Simulated::new(Machine { trouble, ..Machine::found(first.clone()) });
                let opened = disk.open();
                let machine = disk.machine();
                for left in machine.a_few_after_a_cut(12) {
                    reopen(left, count).unwrap_or_else(|error| panic!("cut at {call} and {second}: {error}"));
                }
                if opened.is_ok() {
                    break;
                }
            }
        }
        if machine.calls < call {
            break;
        }
    }
}

#[test]
fn a_call_that_fails_once_loses_no_answered_visit_whatever_is_cut_off_afterwards() {
    let machine = Machine::with("7\n");
    for call in 1.. {
        let disk = Simulated::new(Machine { trouble: Trouble::FailAt(call), ..machine.clone() });
        // Not to the end: a counter that was stopped has synced everything once more.
        let count =
            play(&disk, 7, &STORY[..STORY.len() - 1]).unwrap_or_else(|error| panic!("call {call}: {error}"));
        let machine = disk.machine();
        for found in machine.after_a_cut() {
            reopen(found, count).unwrap_or_else(|error| panic!("call {call} failed: {error}"));
        }
        if machine.calls < call {
            break;
        }
    }
}

#[test]
fn a_disk_that_only_says_it_has_synced_is_found_out_by_these_tests() {
    let forgetful = Machine { forgetful: true, ..Machine::with("7\n") };
    let error = survey(&forgetful, 7, &STORY).unwrap_err();
    assert!(error.contains("after a cut"), "{error}");
}

#[test]
fn a_counter_that_was_stopped_leaves_the_number_alone_and_nothing_else() {
    let disk = Simulated::new(Machine::with("7\n"));
    play(&disk, 7, &STORY).unwrap();
    let machine = disk.machine();
    assert_eq!(machine.disk.names.keys().collect::<Vec<_>>(), [FILE]);
    assert_eq!(machine.disk.read(FILE), Some(&b"206\n"[..]));
}
